"""What the command line prints: documents on stdout, notes and errors on stderr."""

from __future__ import annotations

import json
import sys

import click

__all__ = ["emit_json", "note", "print_error"]


def emit_json(document: object) -> None:
    """Print one JSON document on stdout."""
    click.echo(json.dumps(document, indent=2, sort_keys=False, ensure_ascii=False, allow_nan=False))


def note(text: str) -> None:
    """Print a line for people, on stderr."""
    click.echo(text, err=True)


def print_error(fact: str, *, hint: str | None = None) -> None:
    """Print an error: the fact, and below it what to do."""
    click.echo(f"cloister: {fact}", file=sys.stderr)
    if hint:
        click.echo(f"hint: {hint}", file=sys.stderr)
