"""Tables on disk, read a bounded number of rows at a time: CSV, TSV, Parquet and JSON lines."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as arrow_parquet

from cloister.data._nearest import nearest_hint
from cloister.data.delimited import first_record, read_delimited, undecodable
from cloister.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["TABLE_FORMATS", "TableBatch", "TableFiles", "cell_text"]

TABLE_FORMATS = ("csv", "jsonl", "parquet", "tsv")
_BLOCK_BYTES = 1 << 20
_BATCH_ROWS = 8192


@dataclass(frozen=True, kw_only=True)
class TableBatch:
    """Consecutive rows of one file.

    Attributes:
        path: The file.
        file_index: Its position among the files of the table.
        first_row: Number of the first row within the file, counted from 1.
        num_rows: How many rows.
        columns: The requested columns, each with `num_rows` cells.
    """

    path: Path
    file_index: int
    first_row: int
    num_rows: int
    columns: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class TableFiles:
    """One table in one or more files with the same columns.

    Attributes:
        paths: The files; rows follow one another in this order.
        format: One of `TABLE_FORMATS`.
        header: Column names where the files have no header line (CSV and TSV only).
    """

    paths: tuple[Path, ...]
    format: str
    header: tuple[str, ...] | None = None

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Column names; every file has them.

        Raises:
            InputError: A file is empty, repeats a column name or has other columns than the first.
        """
        first = _columns(self.paths[0], self.format, self.header)
        if len(set(first)) != len(first):
            twice = next(name for name in first if first.count(name) > 1)
            raise InputError(f"{self.paths[0]} has two columns named {twice!r}")
        for path in self.paths[1:]:
            other = _columns(path, self.format, self.header)
            if set(other) != set(first):
                raise InputError(f"{path} has columns {list(other)}; expected {list(first)} as in {self.paths[0]}")
        return first

    @cached_property
    def rows_per_file(self) -> tuple[int, ...]:
        """Number of rows of each file, counted without interpreting a cell."""
        return tuple(self._count(path) for path in self.paths)

    def require(self, column: str, *, role: str) -> None:
        """Raise `InputError` unless the table has this column."""
        if column not in self.columns:
            raise InputError(f"{self.paths[0]} has no column {column!r} ({role})", hint=self._hint(column))

    def _hint(self, column: str) -> str:
        """What was probably meant; a first line that is no header is a row, and is not shown."""
        if all(re.match(r"[^\W\d]", name) for name in self.columns):
            return nearest_hint(column, self.columns)
        return "the first line does not look like a header: name the columns with header = [...] in [data]"

    def batches(self, columns: Sequence[str]) -> Iterator[TableBatch]:
        """The named columns of all rows, in order; memory is bounded by a block, not by the file."""
        for index, path in enumerate(self.paths):
            row = 1
            for cells in self._read(path, tuple(columns)):
                num_rows = len(next(iter(cells.values()))) if cells else 0
                yield TableBatch(path=path, file_index=index, first_row=row, num_rows=num_rows, columns=cells)
                row += num_rows

    def _count(self, path: Path) -> int:
        if self.format == "parquet":
            return int(_open_parquet(path).metadata.num_rows)
        if self.format == "jsonl":
            with path.open("rb") as file:
                return sum(1 for line in file if line.strip())
        first = self.columns[0]
        return sum(len(cells[first]) for cells in self._read(path, (first,)))

    def _read(self, path: Path, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        if self.format == "parquet":
            for batch in _open_parquet(path).iter_batches(batch_size=_BATCH_ROWS, columns=list(columns)):
                yield {name: batch.column(name) for name in columns}
        elif self.format == "jsonl":
            yield from _read_json(path, columns)
        else:
            # A file of a directory may order the same columns differently.
            names = _columns(path, self.format, self.header)
            yield from read_delimited(path, self.format, names, columns, has_header=self.header is None)


def _columns(path: Path, file_format: str, header: tuple[str, ...] | None) -> tuple[str, ...]:
    if file_format == "parquet":
        return tuple(_open_parquet(path).schema_arrow.names)
    if file_format == "jsonl":
        first = next(_json_objects(path), None)
        if first is None:
            raise InputError(f"{path} is empty")
        return tuple(first)
    found, _ = first_record(path, file_format)
    if header is None:
        return tuple(name.strip() for name in found)
    if len(header) != len(found):
        raise InputError(f"header names {len(header)} columns and {path} has {len(found)}")
    return header


# Parquet and JSON lines.


def _open_parquet(path: Path) -> Any:
    try:
        return arrow_parquet.ParquetFile(path, memory_map=True)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path} is not a Parquet file or is damaged") from error


def _json_objects(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except UnicodeDecodeError as error:
                raise undecodable(path) from error
            except ValueError as error:
                raise InputError(f"{path} line {number} is not JSON") from error
            if not isinstance(value, dict):
                raise InputError(f"{path} line {number} is not a JSON object")
            yield value


def _read_json(path: Path, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    cells: dict[str, list[str | None]] = {name: [] for name in columns}
    row = 0
    for row, value in enumerate(_json_objects(path), start=1):
        for name, column in cells.items():
            column.append(cell_text(value.get(name), path, row, name))
        if row % _BATCH_ROWS == 0:
            yield {name: pa.array(column, pa.string()) for name, column in cells.items()}
            cells = {name: [] for name in columns}
    if row % _BATCH_ROWS:
        yield {name: pa.array(column, pa.string()) for name, column in cells.items()}


def cell_text(value: object, path: Path, row: int, name: str) -> str | None:
    """A JSON value as a cell: text, or None where missing."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)
    raise InputError(f"{path} row {row}, column {name!r} holds a {type(value).__name__}; expected a number or text")
