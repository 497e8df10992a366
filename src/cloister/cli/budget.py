"""``cloister budget``: what may be spent on a data set, what was spent, and on what."""

from __future__ import annotations

import difflib
import math
from typing import TYPE_CHECKING

import click

from cloister.cli._options import home_option, json_option
from cloister.cli._output import emit_json, note
from cloister.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cloister.ledger import Entry, Ledger, Statement

__all__ = ["RELATIONS", "UNITS", "budget"]

# As in cloister.accounting, which is not imported for a help text; a test holds them together.
UNITS = ("example", "user", "client")
RELATIONS = ("add_or_remove_one", "replace_one", "replace_special")


@click.group()
def budget() -> None:
    """Set, show and verify privacy budgets.

    The ledger lies in the home folder, or in the PostgreSQL database that CLOISTER_LEDGER names.
    """


@budget.command("set")
@click.argument("dataset")
@click.option("--epsilon", type=float, required=True, help="The most that may ever be spent.")
@click.option("--delta", type=float, required=True, help="Far below one over the number of units.")
@click.option(
    "--unit",
    type=click.Choice(UNITS),
    default=UNITS[0],
    show_default=True,
    help="What is protected.",
)
@click.option(
    "--relation",
    type=click.Choice(RELATIONS),
    default=RELATIONS[0],
    show_default=True,
    help="Which data sets are neighbors.",
)
@home_option
@json_option
def set_budget(
    *, dataset: str, epsilon: float, delta: float, unit: str, relation: str, home: Path, as_json: bool
) -> None:
    """Set, raise or lower the budget of DATASET.

    Lowering it below what is spent is possible; then nothing more fits.
    """
    from cloister.accounting import Budget, Relation, Unit

    limit = Budget(epsilon=epsilon, delta=delta, unit=Unit(unit), relation=Relation(relation))
    with _ledger(home) as ledger:
        entry = ledger.set_budget(dataset, limit)
        statement = ledger.statement(dataset)
    if as_json:
        emit_json({"statement": statement.to_json(), "entry": entry.to_json()})
    else:
        click.echo("\n".join(_summary(statement)))


@budget.command()
@click.argument("dataset", required=False)
@home_option
@json_option
def show(*, dataset: str | None, home: Path, as_json: bool) -> None:
    """Show budget, spending and runs of DATASET, or of all data sets."""
    with _ledger(home) as ledger:
        statements = [ledger.statement(name) for name in _names(ledger, dataset)]
    if as_json:
        emit_json({"statements": [statement.to_json() for statement in statements]})
    elif statements:
        click.echo("\n\n".join("\n".join(_summary(one) + _runs(one)) for one in statements))
    else:
        note("the ledger is empty")


@budget.command()
@click.argument("dataset", required=False)
@home_option
@json_option
def history(*, dataset: str | None, home: Path, as_json: bool) -> None:
    """Verify the whole chain of entries and print it, or what it says of DATASET.

    A changed, missing or reordered entry is named, with exit code 3.
    """
    from cloister.ledger import ORIGIN

    with _ledger(home) as ledger:
        _names(ledger, dataset)
        book = ledger.history()
    head = book[-1].digest if book else ORIGIN
    entries = [entry for entry in book if dataset in (None, entry.dataset)]
    if as_json:
        emit_json({"verified": True, "head": head, "entries": [entry.to_json() for entry in entries]})
    else:
        click.echo("\n".join(_table([_entry_cells(entry) for entry in entries], right=(0,))))
        note(f"the chain holds; its head is {head}")


def _ledger(home: Path) -> Ledger:
    from cloister.ledger import Ledger, ledger_location

    return Ledger.open(ledger_location(home))


def _names(ledger: Ledger, dataset: str | None) -> Sequence[str]:
    known = ledger.datasets()
    if dataset is None:
        return known
    if dataset not in known:
        near = difflib.get_close_matches(dataset, known, n=1)
        raise InputError(
            f"the ledger has no data set {dataset!r}",
            hint=f"did you mean {near[0]!r}?" if near else "`cloister budget show` lists all",
        )
    return (dataset,)


def _summary(statement: Statement) -> list[str]:
    limit = statement.budget
    lines = [
        statement.dataset,
        f"  budget   {_up(limit.epsilon) if limit else 'none set: nothing is refused'}",
    ]
    if math.isfinite(statement.spent):
        lines.append(f"  spent    {_up(statement.spent)}")
    else:
        lines.append("  spent    without bound: something was released without any guarantee")
    if limit and statement.remaining is not None:
        used = round(20 * min(1.0, statement.spent / limit.epsilon))
        lines.append(f"  left     {_down(statement.remaining)}  [{'#' * used:.<20}]")
    if statement.delta and statement.unit and statement.relation:
        relation = statement.relation.replace("_", "-")
        lines.append(f"  epsilon  at delta {_delta(statement.delta)}, {relation}, per {statement.unit}")
    return lines + [f"  warning  {warning}" for warning in statement.warnings]


def _runs(statement: Statement) -> list[str]:
    if not statement.lines:
        return ["", "  no runs yet"]
    rows = [["run", "status", "epsilon alone", "since (UTC)"]]
    rows += [[line.run, line.status.value, _up(line.epsilon), _time(line.time)] for line in statement.lines]
    statuses = [line.status.value for line in statement.lines]
    notes = []
    if len(statuses) - statuses.count("released") > 1:
        notes.append("  spent is what the runs cost together, composed; it is not the sum of the column")
    if "reserved" in statuses:
        notes.append("  a reserved run counts in full until it is committed or released")
    if "released" in statuses:
        notes.append("  a released run does not count: nothing private came out")
    return ["", *(f"  {line}" for line in _table(rows, right=(2,))), *([""] if notes else []), *notes]


def _entry_cells(entry: Entry) -> list[str]:
    return [
        str(entry.sequence),
        _time(entry.time),
        entry.dataset,
        entry.kind.value,
        _essence(entry),
        entry.digest.removeprefix("sha256:")[:12],
    ]


def _essence(entry: Entry) -> str:
    """What an entry says, in a few words."""
    body = entry.body
    if entry.kind == "budget_set":
        return f"epsilon {body['epsilon']:g} at delta {_delta(body['delta'])}"
    if entry.kind == "reserve":
        return f"run {body['run']}"
    reason = f": {body['reason']}" if entry.kind == "release" else ""
    return f"{body['reservation'].removeprefix('sha256:')[:12]}, attempt {body['attempt']}{reason}"


def _table(rows: Sequence[Sequence[str]], *, right: tuple[int, ...] = ()) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _up(epsilon: float) -> str:
    """Spending, never shown as less than it is."""
    return f"{math.ceil(round(epsilon * 1000, 6)) / 1000:.3f}" if math.isfinite(epsilon) else "without bound"


def _down(epsilon: float) -> str:
    """What is left, never shown as more than it is."""
    return f"{math.floor(round(epsilon * 1000, 6)) / 1000:.3f}"


def _delta(delta: float) -> str:
    return f"{delta:.3g}".replace("e-0", "e-")


def _time(text: str) -> str:
    return text[:16].replace("T", " ")
