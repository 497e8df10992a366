"""``cloister train``: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cloister.cli._options import home_option, json_option
from cloister.cli._output import emit_json, note

if TYPE_CHECKING:
    from cloister.records import TrainingRecord

__all__ = ["train"]


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="The run directory.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run in --out.")
@home_option
@json_option
def train(recipe: Path, out: Path, home: Path, *, resume: bool, as_json: bool) -> None:
    """Train the model of RECIPE under its budget.

    The ledger reserves the cost before the first row is read, and refuses what is over budget (exit code 3).
    Ctrl-C leaves a checkpoint for --resume.
    """
    from cloister.cli._progress import TerminalObserver
    from cloister.ledger import Ledger, ledger_location
    from cloister.training import train as run_training

    with Ledger.open(ledger_location(home)) as ledger, TerminalObserver() as observer:
        record = run_training(recipe, out=out, ledger=ledger, resume=resume, observer=observer)
    if as_json:
        emit_json(record.to_json())
    else:
        _print(record, out)


def _print(record: TrainingRecord, out: Path) -> None:
    click.echo(f"trained {record.steps} steps on {record.examples} examples in {record.seconds:.1f} s")
    if record.test:
        measured = [f"{name} {value:.4g}" for name, value in record.test.items() if value is not None]
        click.echo("test: " + ", ".join(measured))
    if record.guarantee:
        click.echo(f"guarantee: {record.guarantee.describe()}")
    else:
        click.echo("guarantee: none, the run is not private")
    spending = record.spending
    if spending and spending.epsilon_remaining is not None and spending.budget is not None:
        left = f"epsilon {spending.epsilon_remaining:.4g} of {spending.budget.epsilon:g} left"
        click.echo(f"budget of {record.dataset.name!r}: {left}")
    click.echo(f"model and record: {out}")
    note(f"a page for people: cloister report {out}")
