"""The first stage of loading: what can be known before any private value is interpreted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cloister._canonical import digest_file, digest_json
from cloister.data.cells import read_cells
from cloister.data.documents import TextFiles
from cloister.data.histograms import bin_cells, histogram_domain
from cloister.data.readers import DatasetFunction, NpzFile, Reader, open_reader
from cloister.data.tables import TableFiles
from cloister.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cloister.data.settings import DataSettings

__all__ = ["Source", "open_source", "text_column"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Files that exist and have the right columns. Nothing private has been interpreted.

    Attributes:
        settings: The recipe's [data].
        base: Folder where relative paths start.
        train: Reader of the training examples.
        test: Reader of the test examples.
    """

    settings: DataSettings
    base: Path
    train: Reader
    test: Reader | None

    @cached_property
    def num_examples(self) -> int:
        """Public number of training examples: as declared, otherwise counted without interpreting values."""
        declared = self.settings.examples
        return sum(self.train.rows_per_file) if declared is None else declared

    @property
    def num_clients(self) -> int | None:
        """Number of client files; None where the unit is not "client"."""
        return len(self.train.paths) if self.settings.unit == "client" else None

    def digest(self) -> str:
        """SHA-256 of the training file; of several files, the digest of the sorted list of theirs.

        A Dataset that a function returns has no files; its digest is that of the function's name.
        """
        if isinstance(self.train, DatasetFunction):
            return digest_json({"dataset_function": self.train.name})
        digests = sorted(digest_file(path) for path in self.train.paths)
        return digests[0] if len(digests) == 1 else digest_json(digests)

    @property
    def input_columns(self) -> tuple[str, ...]:
        """Columns of a table that become features, in the order of the file."""
        if not isinstance(self.train, TableFiles) or text_column(self.settings, self.train) is not None:
            return ()
        ignored = {name for name, column in self.settings.columns.items() if column.kind == "ignore"}
        ignored |= {str(self.settings.label), str(self.settings.user_column)}
        return tuple(name for name in self.train.columns if name not in ignored)

    @property
    def needs_statistics(self) -> tuple[str, ...]:
        """Columns for which the recipe declares nothing, so that statistics must be bought."""
        return tuple(name for name in self.input_columns if name not in self.settings.columns)

    def count_bins(self, columns: Sequence[str]) -> NDArray[np.int64]:
        """Exact histograms of some columns of the training rows, ``(columns, bins)``. PRIVATE.

        Only with noise added, and paid for from the budget, may anything that depends on the result be kept.
        One row adds one to exactly one bin of each column, so it moves the result by sqrt(columns) in L2 norm.
        """
        counts = np.zeros((len(columns), histogram_domain().num_bins), dtype=np.int64)
        if not columns:
            return counts
        if not isinstance(self.train, TableFiles):
            raise InputError("only tables have columns")
        for batch in self.train.batches(columns):
            for row, name in enumerate(columns):
                bins = bin_cells(read_cells(batch, name))
                counts[row] += np.bincount(bins, minlength=histogram_domain().num_bins)
        return counts


def open_source(settings: DataSettings, base: Path) -> Source:
    """Check what can be checked without interpreting a private value.

    Args:
        settings: The recipe's [data].
        base: Folder of the recipe.

    Raises:
        InputError: A file is missing, empty or of no known kind; a column or array is missing; a combination of
            settings has no meaning.
    """
    base = Path(base)
    train = open_reader(settings.train, settings, base)
    test = open_reader(settings.test, settings, base) if settings.test is not None else None
    source = Source(settings=settings, base=base, train=train, test=test)
    _check_settings(source)
    if settings.user_column is not None and isinstance(train, TableFiles):
        train.require(settings.user_column, role="user_column")
    _check_reader(train, settings)
    if test is not None:
        if type(test) is not type(train):
            raise InputError("train and test are of different kinds")
        _check_reader(test, settings)
    if isinstance(train, TableFiles) and isinstance(test, TableFiles):
        for name in source.input_columns:
            test.require(name, role="a column of the training file")
    return source


def text_column(settings: DataSettings, table: TableFiles) -> str | None:
    """The column that holds text, if the inputs of this table are text.

    They are where [data.text] is given, for language modeling, and where the only input column is named "text".
    """
    others = set(table.columns) - {settings.label, settings.user_column}
    if settings.text is not None:
        return settings.text.column
    return "text" if settings.task == "language_modeling" or others == {"text"} else None


def _check_settings(source: Source) -> None:
    settings, train = source.settings, source.train
    if isinstance(train, DatasetFunction) and settings.dataset is None:
        raise InputError(
            f"{settings.train} has no file whose digest could name the data set", hint="set dataset in [data]"
        )
    if settings.unit == "client" and not (isinstance(settings.train, str) and _is_directory(source)):
        raise InputError('unit is "client" and train is one file', hint="name a directory with a file per client")
    if settings.user_column is not None and not isinstance(train, TableFiles):
        raise InputError("user_column is given and train is not a table")
    if settings.columns and not isinstance(train, (TableFiles, NpzFile)):
        raise InputError("[data.columns] is given and train has no columns")
    if settings.task == "language_modeling" and isinstance(train, NpzFile):
        raise InputError("language modeling needs text and train is an .npz file")
    if settings.task != "language_modeling" and isinstance(train, TextFiles):
        raise InputError(
            f"{settings.task} needs labels and a .txt file has none", hint="use .jsonl or .tsv with a label column"
        )


def _is_directory(source: Source) -> bool:
    return isinstance(source.settings.train, str) and (source.base / source.settings.train).is_dir()


def _check_reader(reader: Reader, settings: DataSettings) -> None:
    if isinstance(reader, TableFiles):
        _check_table(reader, settings)
    elif isinstance(reader, NpzFile):
        known = (reader.names[0],)
        _check_declared(settings, known, str(reader.path))
    # Rows are counted here unless the number is declared, and an empty set is an error either way.
    if settings.examples is None and sum(reader.rows_per_file) == 0:
        raise InputError(f"{_named(reader)} holds no examples")


def _check_table(table: TableFiles, settings: DataSettings) -> None:
    if settings.task != "language_modeling":
        if settings.label is None:
            raise InputError("label is not set", hint=f"columns are {', '.join(table.columns)}")
        table.require(settings.label, role="label")
    text = text_column(settings, table)
    if text is not None:
        table.require(text, role="text")
    _check_declared(settings, table.columns, str(table.paths[0]))


def _check_declared(settings: DataSettings, known: Sequence[str], where: str) -> None:
    for name in settings.columns:
        if name not in known:
            raise InputError(
                f"[data.columns] names {name!r}, which {where} does not have", hint=f"there is {', '.join(known)}"
            )


def _named(reader: Reader) -> str:
    return reader.name if isinstance(reader, DatasetFunction) else str(reader.paths[0])
