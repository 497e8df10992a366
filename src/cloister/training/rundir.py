"""The run directory: what is in it, and who may go on with it."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from cloister._canonical import canonical_json
from cloister._files import atomic_write, make_directory
from cloister.errors import InputError, PlanMismatch

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["RunState", "abandon_run", "claim_run", "new_run_id", "read_state", "write_state"]

_SCHEMA = "cloister.run/1"
_NAME = "state.json"


@dataclass(frozen=True, kw_only=True)
class RunState:
    """What must not change between the parts of an interrupted run.

    Attributes:
        run: Identifier of the run, in the ledger too.
        recipe: Digest of the recipe.
        content: Digest of the training data.
        event: Digest of the planned event.
        encodings: Column encodings that were bought, None until they are.
        ended: Why the run ended before its last step, if it did.
    """

    run: str
    recipe: str
    content: str
    event: str
    encodings: dict[str, Any] | None = None
    ended: str | None = None


def claim_run(run: Path, planned: RunState, *, resume: bool) -> RunState:
    """Start a run in an empty place, or go on with the one that is there.

    Raises:
        InputError: There is a run already and `resume` is false, or none and `resume` is true.
        PlanMismatch: Recipe, data or plan are not those of the interrupted run.
    """
    found = read_state(run)
    if not resume:
        if found is not None or (run / "record.json").exists() or (run / "checkpoints").exists():
            raise InputError(f"{run} holds a run already", hint="choose another --out, or go on with it: --resume")
        make_directory(run)
        state = planned
        write_state(run, state)
        return state
    if (run / "record.json").exists():
        raise InputError(f"the run in {run} is complete", hint=f"see it with: cloister report {run}")
    if found is None:
        raise InputError(f"there is no interrupted run in {run}", hint="start it without --resume")
    if found.ended is not None:
        raise InputError(f"the run in {run} has ended: {found.ended}", hint="start a new run in another directory")
    for part, hint in (
        ("recipe", "use the recipe that the run was started with"),
        ("content", "a run can only go on with the same training data"),
        ("event", "the plan depends on recipe, data and version of cloister; start a new run"),
    ):
        if getattr(found, part) != getattr(planned, part):
            raise PlanMismatch(f"the {_WORDS[part]} changed since run {found.run} was interrupted", hint=hint)
    return found


_WORDS = {"recipe": "recipe has", "content": "training data have", "event": "plan has"}


def new_run_id() -> str:
    """An identifier for a run: 80 random bits."""
    return "run-" + secrets.token_hex(10)


def abandon_run(run: Path) -> None:
    """Forget a run in which nothing was released, so that the directory can be used again."""
    (run / _NAME).unlink(missing_ok=True)


def read_state(run: Path) -> RunState | None:
    """The state of a run directory, or None where there is none."""
    path = run / _NAME
    if not path.exists():
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored.pop("schema") != _SCHEMA:
            raise InputError(f"{path} was written by another version of cloister")
        return RunState(**stored)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged: {error}", hint="start again in another directory") from error


def write_state(run: Path, state: RunState) -> None:
    """Replace the state of a run directory."""
    atomic_write(run / _NAME, canonical_json({"schema": _SCHEMA, **asdict(state)}), mode=0o600)
