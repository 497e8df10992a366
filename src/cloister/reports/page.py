"""One self-contained page for one record: no script, nothing from elsewhere, nothing that runs."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloister._files import atomic_write
from cloister.errors import MissingExtra
from cloister.records import read_record
from cloister.reports import figures, numbers, wording
from cloister.reports.odds import Ceiling, ceiling_of

if TYPE_CHECKING:
    from jinja2 import Environment

    from cloister.records import SpendingRecord, TrainingRecord

__all__ = ["report", "write_report"]

_FALSE_ALARMS = (0.01, 0.001)
_LARGEST_FACTOR = 1e4  # above it the number says nothing


def report(record: TrainingRecord) -> str:
    """The record as one HTML page.

    The claim is checked before a word is written about it. The page depends on the record alone: the same record
    gives the same bytes.

    Raises:
        PlanMismatch: The record's event does not cover its plan.
        DigestMismatch: The record's event does not give the claimed epsilon.
        MissingExtra: Jinja2 is not installed.
    """
    environment = _environment()
    record.check()
    style = environment.get_template("report.css").render()
    page: str = environment.get_template("report.html.j2").render(
        record=record,
        policy=_content_security_policy(style),
        recipe=_toml(record.recipe),
        tree=wording.event_tree(record.event),
        protected=wording.protected(record),
        not_protected=wording.not_protected(record),
        seeded=wording.is_seeded(record),
        alerts=wording.alerts(record),
        notes=wording.notes(record),
        glossary=wording.GLOSSARY,
        utility=figures.utility_charts(record),
        privacy=figures.privacy_chart(record),
        course=figures.course(record),
        **_claim(record),
        **_spending(record, record.spending),
    )
    return page


def write_report(run_dir: str | Path, out: str | Path | None = None) -> Path:
    """Write the report of a run directory to `out` (default: ``report.html`` in it) and return its path.

    Raises:
        InputError: There is no record, or it cannot be read.
        TrustError: As `report`.
        PrivacyError: As `report`.
    """
    target = Path(run_dir) / "report.html" if out is None else Path(out)
    atomic_write(target, report(read_record(run_dir)).encode())
    return target


def _claim(record: TrainingRecord) -> dict[str, Any]:
    """What is said about the guarantee; without one, nothing."""
    claim = record.guarantee
    if claim is None:
        return {"verdict": wording.verdict(None, None, seeded=False), "odds": (), "attack": None}
    quoted, exact = Ceiling(((claim.epsilon, claim.delta),)), ceiling_of(record.event, claim)
    percent = numbers.percent_at_most
    rows = [("right answers at even odds", "50%", percent(quoted.accuracy()), percent(exact.accuracy()))]
    rows += [
        (
            f"members recognized at {rate * 100:g}% false alarms",
            f"{rate * 100:g}%",
            percent(quoted.true_positive_rate(rate)),
            percent(exact.true_positive_rate(rate)),
        )
        for rate in _FALSE_ALARMS
    ]
    return {
        "verdict": wording.verdict(claim, exact.accuracy(), seeded=wording.is_seeded(record)),
        "odds": rows,
        "factor": numbers.at_most(quoted.odds_factor()) if quoted.odds_factor() <= _LARGEST_FACTOR else "",
        "attack": figures.attack_chart(exact),
        "thing": wording.UNITS[claim.unit],
        "other_world": wording.OTHER_WORLDS[claim.relation],
    }


def _spending(record: TrainingRecord, spending: SpendingRecord | None) -> dict[str, Any]:
    if spending is None:
        return {"budget": None, "bars": (), "over": False}
    alone = [line.epsilon for line in figures.counted(spending)]
    total = None if None in alone else sum(value for value in alone if value is not None)
    return {
        "budget": figures.budget_text(spending),
        "bars": figures.bars(record, spending),
        "sum_of_runs": total,
        "over": wording.is_overspent(spending),
    }


@functools.cache
def _environment() -> Environment:
    try:
        import jinja2  # noqa: PLC0415 - belongs to the extra
    except ImportError:
        raise MissingExtra("jinja2", extra="report") from None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(numbers, name) for name in numbers.__all__}
    return environment


def _content_security_policy(style: str) -> str:
    """Nothing may be loaded or run; the only style is the page's own, named by its hash."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _toml(table: Mapping[str, Any], prefix: str = "") -> str:
    """A recipe as it would be written: values first, then tables."""
    lines = [f"{_key(name)} = {_value(item)}" for name, item in table.items() if not isinstance(item, Mapping)]
    for name, item in table.items():
        if isinstance(item, Mapping):
            path = prefix + _key(name)
            lines += ["", f"[{path}]", _toml(item, path + ".")]
    return "\n".join(lines).strip("\n")


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else _value(name)


def _value(item: Any) -> str:
    if isinstance(item, Mapping):
        return "{ " + ", ".join(f"{_key(name)} = {_value(part)}" for name, part in item.items()) + " }"
    if isinstance(item, list):
        return "[" + ", ".join(_value(part) for part in item) + "]"
    return json.dumps(item, ensure_ascii=False)
