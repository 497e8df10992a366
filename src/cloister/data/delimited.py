"""CSV and TSV: read in blocks, with errors that say where and never what.

CSV quotes with ``"`` (RFC 4180); TSV has no quoting (IANA text/tab-separated-values).
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv as arrow_csv

from cloister.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["first_record", "read_delimited", "undecodable"]

_BLOCK_BYTES = 1 << 20


def read_delimited(
    path: Path, file_format: str, names: tuple[str, ...], columns: tuple[str, ...], *, has_header: bool
) -> Iterator[dict[str, Any]]:
    """Some columns of a file, block by block, every cell as text.

    Args:
        path: The file.
        file_format: "csv" or "tsv".
        names: Names of all columns in the order of the file.
        columns: Names of the columns to read.
        has_header: Whether the first line holds names.

    Raises:
        InputError: A row has too many or too few cells (named by line), or is not UTF-8.
    """
    skipped = 0
    if has_header:
        records = _records(path, file_format)
        _, skipped = next(records)
        if next(records, None) is None:
            return
    try:
        reader = arrow_csv.open_csv(
            path,
            read_options=arrow_csv.ReadOptions(
                use_threads=False, block_size=_BLOCK_BYTES, column_names=list(names), skip_rows=skipped
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter="\t" if file_format == "tsv" else ",",
                quote_char=False if file_format == "tsv" else '"',
                newlines_in_values=file_format == "csv",
            ),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=list(columns),
                column_types=dict.fromkeys(names, pa.string()),
                strings_can_be_null=False,
            ),
        )
        for batch in reader:
            if batch.num_rows:
                yield {name: batch.column(name) for name in columns}
    except pa.ArrowInvalid:
        # Arrow's message quotes the row, which is private: say where it is, and do not chain the message.
        raise _locate_fault(path, file_format, len(names)) from None


def first_record(path: Path, file_format: str) -> tuple[list[str], int]:
    """The first record that is not blank, and the number of the line on which it ends."""
    for record, line in _records(path, file_format):
        return record, line
    raise InputError(f"{path} is empty")


def undecodable(path: Path) -> InputError:
    """The error for a file that is not UTF-8; names the line, shows no content."""
    where = str(path)
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                where = f"{path} line {number}"
                break
    return InputError(f"{where} is not UTF-8 text", hint="convert the file to UTF-8")


def _records(path: Path, file_format: str) -> Iterator[tuple[list[str], int]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if file_format == "tsv":
                reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            else:
                reader = csv.reader(file)
            for record in reader:
                if record:
                    yield record, reader.line_num
    except UnicodeDecodeError:
        raise undecodable(path) from None
    except csv.Error as error:
        raise InputError(f"{path} is not {file_format.upper()}: {error}") from error


def _locate_fault(path: Path, file_format: str, num_columns: int) -> InputError:
    try:
        for record, line in _records(path, file_format):
            if len(record) != num_columns:
                return InputError(
                    f"{path} line {line} has {len(record)} cells; expected {num_columns}",
                    hint="quote cells that hold the separator, or name the columns with header",
                )
    except InputError as error:
        return error
    return InputError(
        f"{path} cannot be read as {file_format.upper()}",
        hint=f"a quote may never be closed, or a row may be longer than {_BLOCK_BYTES} bytes",
    )
