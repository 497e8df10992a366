"""Raw values seen while training: for whoever may see the data, never for a record or a seal."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from cloister.training.trainer import StepReport

__all__ = ["DiagnosticsFile"]


class DiagnosticsFile:
    """``diagnostics.jsonl``: one line for each step. Readable by its owner only.

    A resumed run cuts the lines of the steps that were lost.
    """

    def __init__(self, run: Path, *, after_step: int) -> None:
        self._path = run / "diagnostics.jsonl"
        self._after_step = after_step

    def __enter__(self) -> Self:
        kept = self._kept_lines()
        self._file = self._path.open("w", encoding="utf-8")
        self._path.chmod(0o600)
        self._file.writelines(kept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, report: StepReport) -> None:
        """Add the line of one step."""
        values = {name: _finite(value) for name, value in asdict(report).items()}
        self._file.write(json.dumps(values) + "\n")

    def flush(self) -> None:
        """Hand the lines to the system, at checkpoints."""
        self._file.flush()

    def _kept_lines(self) -> list[str]:
        if not self._after_step or not self._path.exists():
            return []
        lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
        return lines[: self._after_step]


def _finite(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None
