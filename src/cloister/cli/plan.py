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
    """Show what RECIPE would cost; reads no rows.

    Epsilon, noise, batch, steps, memory, and what is left in the ledger. Nothing is spent.
    """
    from cloister.data import open_source, outline
    from cloister.training import Recipe, estimate_memory, plan_run

    settings = Recipe.load(recipe)
    source = open_source(settings.data, settings.base)
    run = plan_run(settings, source)
    spec = outline(source)
    memory = estimate_memory(settings, spec) if spec else None
    for text in run.notes:
        note(f"note: {text}")
    document = run.to_json() | {
        "parameters": memory.parameters if memory else None,
        "memory_bytes": memory.total if memory else None,
        "ledger": _left(settings.data.dataset, home),
    }
    if as_json:
        emit_json(document)
        return
    click.echo(run.describe())
    for name, value in document.items():
        if name == "memory_bytes" and isinstance(value, int):
            click.echo(f"  {'memory':28} {value / 1e6:.1f} MB, besides data and program")
        elif value is not None and not isinstance(value, (dict, list)):
            click.echo(f"  {name.replace('_', ' '):28} {value}")
    left = document["ledger"]
    if isinstance(left, dict) and left["epsilon_remaining"] is not None:
        click.echo(f"  {'budget':28} epsilon {left['epsilon_remaining']:.4g} of {left['budget']['epsilon']:g} left")
    if memory is None:
        note("note: the model's size is known once classes are declared and statistics are declared or bought")


def _left(dataset: str | None, home: Path) -> dict[str, object] | None:
    """What the ledger says of the data set, if there is a ledger and the recipe names one."""
    from cloister.ledger import Ledger, ledger_location

    if dataset is None:
        return None
    with Ledger.open(ledger_location(home)) as ledger:
        if dataset not in ledger.datasets():
            return None
        statement: dict[str, object] = ledger.statement(dataset).to_json()
        return statement
