"""Records in run directories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cloister._files import atomic_write
from cloister.errors import InputError
from cloister.records.training import TrainingRecord

__all__ = ["read_record", "write_record"]

RECORD_FILE = "record.json"


def read_record(run_dir: str | Path) -> TrainingRecord:
    """The record of a run directory.

    Raises:
        InputError: The file is missing, is not JSON or is not a record; names the file.
    """
    path = Path(run_dir) / RECORD_FILE
    try:
        stored = json.loads(path.read_bytes(), object_pairs_hook=_unique, parse_constant=_refuse_constant)
        return TrainingRecord.from_json(stored)
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {(error.strerror or str(error)).lower()}",
            hint="a run directory is what `cloister train RECIPE --out RUN` writes",
        ) from error
    except InputError as error:
        raise InputError(f"{path}: {error}", hint=error.hint) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {error}") from error


def write_record(run_dir: str | Path, record: TrainingRecord) -> Path:
    """Write ``record.json`` into a run directory, wholly or not at all, and return its path."""
    path = Path(run_dir) / RECORD_FILE
    atomic_write(path, record.to_bytes())
    return path


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise InputError(f"a field is given twice among {', '.join(sorted(table))}")
    return table


def _refuse_constant(constant: str) -> None:
    raise InputError(f"{constant} is not a number that JSON can hold")
