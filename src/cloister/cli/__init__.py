"""The command line: one thin file for each verb, loaded when it is called."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import click

from cloister._version import __version__
from cloister.cli._output import print_error
from cloister.errors import CloisterError, MissingExtra

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["cli", "main"]

_VERBS = ("budget", "demo", "doctor", "plan", "report", "train")


class _Verbs(click.Group):
    """A group that imports the file of a verb only when the verb is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _VERBS:
            return None
        command: click.Command = getattr(importlib.import_module(f"cloister.cli.{cmd_name}"), cmd_name)
        return command


@click.command(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="cloister")
def cli() -> None:
    """Train models on private data, account for every release, and show what was promised.

    Exit codes: 0 done, 1 failed, 2 usage, 3 claim refused.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Errors of cloister go to stderr as a fact and a hint; anything else is a defect and keeps its traceback.
    """
    try:
        result = cli.main(args=arguments, prog_name="cloister", standalone_mode=False)
    except CloisterError as error:
        print_error(str(error), hint=error.hint)
        return error.exit_code
    except ModuleNotFoundError as error:
        missing = MissingExtra.of(error)
        if missing is None:
            raise
        print_error(str(missing), hint=missing.hint)
        return missing.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        print_error("interrupted")
        return 1
    return result if isinstance(result, int) else 0
