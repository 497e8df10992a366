"""What a person sees while a run is under way."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any, Self

from cloister.cli._output import note
from cloister.training import Observer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType, TracebackType

    from cloister.training import RunPlan, StepReport

__all__ = ["TerminalObserver"]


class TerminalObserver(Observer):
    """A progress bar on a terminal, notes on stderr, and Ctrl-C as a wish to stop after the present step.

    A second Ctrl-C stops at once, at the price of the steps since the last checkpoint.
    """

    def __init__(self) -> None:
        self._bar: Any = None
        self._plan: RunPlan | None = None
        self._stop = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def planned(self, plan: RunPlan) -> None:
        """Say what will happen."""
        self._plan = plan
        note(plan.describe())

    def note(self, text: str) -> None:
        """Print a note on stderr."""
        note(f"note: {text}")

    def started(self, step: int, steps: int) -> None:
        """Open the progress bar, on a terminal."""
        if not sys.stderr.isatty():
            return
        from tqdm import tqdm

        self._bar = tqdm(total=steps, initial=step, unit="step", dynamic_ncols=True, smoothing=0.05)

    def stepped(self, report: StepReport) -> None:
        """Move the bar: step, raw loss, epsilon so far."""
        if self._bar is None or self._plan is None:
            return
        values = {"loss": f"{report.loss:.3f}"}
        epsilon = self._plan.epsilon_so_far(report.step)
        if epsilon is not None:
            values["epsilon"] = f"{epsilon:.2f}"
        self._bar.set_postfix(values, refresh=False)
        self._bar.update(1)

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Print test metrics."""
        text = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        if self._bar is None:
            note(f"step {step}: test {text}")
        else:
            self._bar.write(f"step {step}: test {text}", file=sys.stderr)

    def should_stop(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self._stop

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the system's signature
        if self._stop:
            raise KeyboardInterrupt
        self._stop = True
        note("stopping after this step; once more stops at once")
