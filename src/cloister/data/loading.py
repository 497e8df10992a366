"""The second stage of loading: private rows become tensors. Call it only after the ledger has reserved."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from cloister.data.documents import TextFiles
from cloister.data.loading_arrays import load_arrays
from cloister.data.loading_datasets import load_dataset
from cloister.data.loading_tables import load_features, user_numbers
from cloister.data.loading_text import load_text
from cloister.data.readers import DatasetFunction, Reader
from cloister.data.source import text_column
from cloister.data.storage import MEMORY_LIMIT_BYTES, Storage
from cloister.data.tables import TableFiles
from cloister.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from cloister.data.encodings import ColumnEncoding
    from cloister.data.examples import Loaded
    from cloister.data.source import Source

__all__ = ["load"]


def load(
    source: Source,
    encodings: Mapping[str, ColumnEncoding] | None = None,
    *,
    scratch: Path | None = None,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
) -> Loaded:
    """Read and encode the examples of a source.

    Args:
        source: What `open_source` returned.
        encodings: An encoding for each of ``source.needs_statistics``, from noisy histograms.
        scratch: Folder for arrays above the memory limit; see `Storage`.
        memory_limit_bytes: Larger arrays are memory-mapped, and files are read in blocks.

    Raises:
        InputError: A cell, label or file is not what it must be (named by file, row and column; no value is
            shown), there are fewer than two classes, or the number of rows is not the declared one.
    """
    bought = dict(encodings or {})
    absent = [name for name in source.needs_statistics if name not in bought]
    if absent:
        raise InputError(
            f"no statistics for {len(absent)} of {len(source.input_columns)} columns: {', '.join(absent)}",
            hint="declare them in [data.columns], or set aside a share of epsilon in [data.statistics]",
        )
    _check_rows(source.train, source.settings.examples)
    if source.test is not None:
        _check_rows(source.test, None)
    storage = Storage(scratch=scratch, memory_limit_bytes=memory_limit_bytes)
    loaded = _load(source, bought, storage)
    return replace(loaded, units=_units(source))


def _load(source: Source, bought: Mapping[str, ColumnEncoding], storage: Storage) -> Loaded:
    if isinstance(source.train, DatasetFunction):
        return load_dataset(source)
    if isinstance(source.train, TextFiles):
        return load_text(source, storage)
    if not isinstance(source.train, TableFiles):
        return load_arrays(source, storage)
    if text_column(source.settings, source.train) is not None:
        return load_text(source, storage)
    return load_features(source, bought, storage)


def _check_rows(reader: Reader, declared: int | None) -> None:
    rows = sum(reader.rows_per_file)
    name = reader.name if isinstance(reader, DatasetFunction) else str(reader.paths[0])
    if rows == 0:
        raise InputError(f"{name} holds no examples")
    if declared is not None and rows != declared:
        raise InputError(f"{name} holds {rows} examples; the recipe declares {declared}")


def _units(source: Source) -> NDArray[np.int64] | None:
    if source.settings.unit == "client":
        rows = source.train.rows_per_file
        return np.repeat(np.arange(len(rows), dtype=np.int64), rows)
    if isinstance(source.train, TableFiles) and source.settings.user_column is not None:
        return user_numbers(source.train, source.settings.user_column)
    return None
