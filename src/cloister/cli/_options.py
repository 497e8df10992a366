"""Options that every verb has."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["home_option", "json_option"]

home_option = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="CLOISTER_HOME",
    default=lambda: Path.home() / ".cloister",
    show_default="~/.cloister",
    show_envvar=True,
    help="Where ledger and keys are kept.",
)

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on stdout, and nothing else there."
)
