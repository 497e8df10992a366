"""``cloister report``: what a run promised and what it cost, as one page."""

from __future__ import annotations

from pathlib import Path

import click

from cloister.cli._options import home_option, json_option
from cloister.cli._output import emit_json, note

__all__ = ["report"]


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Where to write; default RUN/report.html.")
@home_option
@json_option
def report(run: Path, *, out: Path | None, home: Path, as_json: bool) -> None:  # noqa: ARG001 - every verb has --home
    """Write the privacy report of RUN as one self-contained HTML page.

    The claimed epsilon is computed again from the recorded event first; a record that claims more privacy than
    its event gives is refused.
    """
    from cloister.records import read_record
    from cloister.reports import write_report

    record = read_record(run)
    path = write_report(run, out)
    claim = record.to_json()["guarantee"]
    if as_json:
        emit_json({"report": str(path), "record": record.digest, "guarantee": claim})
        return
    note(record.guarantee.describe() if record.guarantee else "no privacy guarantee: the run was not private")
    click.echo(str(path))
