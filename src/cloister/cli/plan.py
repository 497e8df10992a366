"""``cloister plan``: what a recipe would cost, before any data is touched."""

from __future__ import annotations

from pathlib import Path

import click

from cloister.cli._options import home_option, json_option
from cloister.cli._output import emit_json, note

__all__ = ["plan"]


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@home_option
@json_option
def plan(recipe: Path, home: Path, *, as_json: bool) -> None:
    """Show epsilon, noise, batch, steps and memory of RECIPE; reads no rows and spends nothing."""
    from cloister.data import open_source
    from cloister.training import Recipe, plan_run

    settings = Recipe.load(recipe)
    run = plan_run(settings, open_source(settings.data, settings.base))
    for text in run.notes:
        note(f"note: {text}")
    document = run.to_json() | {"ledger": _left(settings.data.dataset, home)}
    if as_json:
        emit_json(document)
        return
    click.echo(run.describe())
    for name, value in document.items():
        if value is not None and not isinstance(value, (dict, list)):
            click.echo(f"  {name.replace('_', ' '):24} {value}")


def _left(dataset: str | None, home: Path) -> dict[str, object] | None:
    """What the ledger says of the data set, if there is a ledger and the recipe names one."""
    from cloister.ledger import Ledger, ledger_location

    if dataset is None or not home.exists():
        return None
    with Ledger.open(ledger_location(home)) as ledger:
        if dataset not in ledger.datasets():
            return None
        statement: dict[str, object] = ledger.statement(dataset).to_json()
        return statement
