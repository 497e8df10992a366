"""What a table's cells say: missing, a number, or text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from cloister.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cloister.data.tables import TableBatch

__all__ = ["MISSING_TEXTS", "Cells", "label_texts", "read_cells", "read_texts"]

MISSING_TEXTS = frozenset({"", "?", "na", "n/a", "nan"})
"""Texts that mean a missing cell, without regard to case."""


@dataclass(frozen=True, kw_only=True)
class Cells:
    """The cells of one column of one batch. Equal cells share a code.

    Attributes:
        column: Name of the column.
        source: Where the rows come from, for errors.
        first_row: Number of the first row there, counted from 1.
        codes: For each row the position of its value in the arrays below.
        texts: The different values, stripped of spaces; "" where missing.
        numbers: Their numeric value; NaN where missing or text.
    """

    column: str
    source: str
    first_row: int
    codes: NDArray[np.int64]
    texts: tuple[str, ...]
    numbers: NDArray[np.float64]

    @property
    def is_missing(self) -> NDArray[np.bool_]:
        """For each value, whether it stands for a missing cell."""
        return np.array([text == "" for text in self.texts], dtype=bool)

    def first_row_where(self, condition: NDArray[np.bool_]) -> int | None:
        """Number of the first row whose value meets a condition given for each value."""
        rows = np.flatnonzero(condition[self.codes])
        return self.first_row + int(rows[0]) if len(rows) else None

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """One entry for each row from one entry for each value."""
        return values[self.codes]


def read_cells(batch: TableBatch, name: str) -> Cells:
    """Interpret one column of a batch.

    Raises:
        InputError: A cell is infinite (named by row), or the column holds neither numbers nor text.
    """
    codes, texts = _coded_texts(batch.columns[name], f"{batch.path} column {name!r}")
    stripped = tuple("" if text.casefold() in MISSING_TEXTS else text for text in map(str.strip, texts))
    cells = Cells(
        column=name,
        source=str(batch.path),
        first_row=batch.first_row,
        codes=codes,
        texts=stripped,
        numbers=np.array([_number(text) for text in stripped], dtype=np.float64),
    )
    row = cells.first_row_where(np.isinf(cells.numbers))
    if row is not None:
        raise InputError(
            f"{batch.path} row {row}, column {name!r} is infinite", hint="leave the cell empty or clamp it"
        )
    return cells


def label_texts(batch: TableBatch, name: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Codes and different values of a label column, stripped of spaces.

    Raises:
        InputError: A label is missing (named by row).
    """
    codes, texts = _coded_texts(batch.columns[name], f"{batch.path} column {name!r}")
    stripped = tuple(text.strip() for text in texts)
    empty = np.array([text == "" for text in stripped], dtype=bool)
    if empty.any() and empty[codes].any():
        row = batch.first_row + int(np.flatnonzero(empty[codes])[0])
        raise InputError(f"{batch.path} row {row} has no label in column {name!r}")
    return codes, stripped


def read_texts(batch: TableBatch, name: str) -> list[str]:
    """Whole texts of a column, one for each row; missing ones are empty."""
    array = batch.columns[name]
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return [_text(value) for value in array.to_pylist()]


def _coded_texts(array: Any, where: str) -> tuple[NDArray[np.int64], list[str]]:
    """Dictionary coding: each different value is interpreted once."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_null(array.type):
        array = array.cast(pa.string())
    if pa.types.is_floating(array.type):
        array = array.cast(pa.float64())
    elif not _is_plain(array.type):
        raise InputError(f"{where} holds {array.type}; expected numbers or text")
    coded = array.dictionary_encode(null_encoding="encode")
    codes = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, [_text(value) for value in coded.dictionary.to_pylist()]


def _is_plain(kind: Any) -> bool:
    types = pa.types
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
        or types.is_integer(kind)
        or types.is_decimal(kind)
        or types.is_boolean(kind)
    )


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _number(text: str) -> float:
    if not text or "_" in text:  # Python reads 1_000 as a number; a column of codes may mean something else
        return math.nan
    try:
        return float(text)
    except ValueError:
        return math.nan
