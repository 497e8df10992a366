"""What a caller may watch of a run, and how it asks a run to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloister.errors import CloisterError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cloister.training.planning import RunPlan
    from cloister.training.trainer import StepReport

__all__ = ["Interrupted", "Observer"]


class Interrupted(CloisterError):  # noqa: N818 - says what happened
    """The run was asked to stop; a checkpoint has been written."""


class Observer:
    """What a caller may watch of a run; override what is of interest."""

    def planned(self, plan: RunPlan) -> None:
        """The plan is made; no row has been read."""

    def note(self, text: str) -> None:
        """Something the reader should know."""

    def started(self, step: int, steps: int) -> None:
        """The steps begin, or go on after `step`."""

    def stepped(self, report: StepReport) -> None:
        """A step is done; its report is raw and not private."""

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """The model was evaluated on the test set."""

    def should_stop(self) -> bool:
        """Whether to stop after the present step."""
        return False
