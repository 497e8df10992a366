"""Tables of numbers and categories to features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cloister.data.cells import label_texts, read_cells
from cloister.data.encodings import declared_encoding, encoding_to_json
from cloister.data.examples import ArrayExamples, DataSpec, Loaded, Numbers
from cloister.data.labels import ClassTable, find_classes, scale_targets, table_labels, table_targets
from cloister.data.tables import TableBatch, TableFiles
from cloister.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from numpy.typing import NDArray

    from cloister.data.encodings import ColumnEncoding
    from cloister.data.readers import Reader
    from cloister.data.settings import DataSettings
    from cloister.data.source import Source
    from cloister.data.storage import Storage

__all__ = ["as_table", "encode_batch", "load_features", "read_targets", "table_classes", "target_json", "user_numbers"]


def load_features(source: Source, bought: Mapping[str, ColumnEncoding], storage: Storage) -> Loaded:
    """A table whose columns are numbers and categories."""
    settings = source.settings
    encodings = {
        name: declared_encoding(settings.columns[name]) if name in settings.columns else bought[name]
        for name in source.input_columns
    }
    width = sum(encoding.width for encoding in encodings.values())
    if width == 0:
        raise InputError(
            "no column yields a feature",
            hint="declare columns in [data.columns], or raise share in [data.statistics]",
        )
    classes, notes = table_classes(source)
    spec = DataSpec(
        task=str(settings.task),
        input_shape=(width,),
        num_outputs=len(classes.names) if classes else 1,
        classes=classes.names if classes else None,
        target_scale=(settings.target.high - settings.target.low) / 2 if settings.target else 1.0,
    )
    columns = [{"name": name, **encoding_to_json(encoding)} for name, encoding in encodings.items()]
    return Loaded(
        train=_examples(source.train, encodings, settings, classes, storage, clamp=True),
        test=None
        if source.test is None
        else _examples(source.test, encodings, settings, classes, storage, clamp=False),
        spec=spec,
        preprocessing={"kind": "table", "columns": columns, **target_json(settings, classes)},
        notes=notes,
    )


def encode_batch(batch: TableBatch, encodings: Mapping[str, ColumnEncoding]) -> NDArray[np.float32]:
    """Features of a batch, ``(rows, width)``, columns in the order of `encodings`."""
    return np.concatenate([encoding.encode(read_cells(batch, name)) for name, encoding in encodings.items()], axis=1)


def table_classes(source: Source) -> tuple[ClassTable | None, tuple[str, ...]]:
    """Classes of a table's labels, and notes; None for regression."""
    settings = source.settings
    if settings.task != "classification":
        return None, ()
    train = as_table(source.train)
    test = as_table(source.test) if source.test is not None else None
    named_by_test = (lambda: table_labels(test, settings)) if test is not None else None
    return find_classes(settings, lambda: table_labels(train, settings), named_by_test, numbered=False)


def as_table(reader: Reader) -> TableFiles:
    """The reader, which must be that of a table."""
    if not isinstance(reader, TableFiles):
        raise InputError(f"{type(reader).__name__} is not a table")
    return reader


def read_targets(
    table: TableFiles, settings: DataSettings, classes: ClassTable | None, storage: Storage, *, clamp: bool
) -> NDArray[Any]:
    """Class numbers (int64) or scaled regression targets (float32) of all rows."""
    rows = sum(table.rows_per_file)
    if classes is not None:
        writer = storage.writer(rows, (), np.int64)
        for block in table_labels(table, settings):
            writer.append(classes.encode(block))
        return writer.finish()
    if settings.target is None:
        raise InputError("a regression target needs a public range", hint="add [data.target] with low and high")
    writer = storage.writer(rows, (), np.float32)
    for values in table_targets(table, str(settings.label)):
        writer.append(scale_targets(values, settings.target, clamp=clamp))
    return writer.finish()


def target_json(settings: DataSettings, classes: ClassTable | None) -> dict[str, Any]:
    """What outputs mean: class names, or the range of a regression target."""
    target = None if settings.target is None else {"low": settings.target.low, "high": settings.target.high}
    return {"task": settings.task, "classes": list(classes.names) if classes else None, "target": target}


def user_numbers(table: TableFiles, column: str) -> NDArray[np.int64]:
    """A number for each row, equal where the cells of `column` are: users in order of appearance."""
    users: dict[str, int] = {}
    blocks = []
    for batch in table.batches((column,)):
        codes, texts = label_texts(batch, column)
        numbers = np.array([users.setdefault(text, len(users)) for text in texts], dtype=np.int64)
        blocks.append(numbers[codes])
    return np.concatenate(blocks)


def _examples(
    reader: Reader,
    encodings: Mapping[str, ColumnEncoding],
    settings: DataSettings,
    classes: ClassTable | None,
    storage: Storage,
    *,
    clamp: bool,
) -> ArrayExamples:
    table = as_table(reader)
    used = {name: encoding for name, encoding in encodings.items() if encoding.width}
    width = sum(encoding.width for encoding in used.values())
    writer = storage.writer(sum(table.rows_per_file), (width,), np.float32)
    for batch in table.batches(tuple(used)):
        writer.append(encode_batch(batch, used))
    targets = read_targets(table, settings, classes, storage, clamp=clamp)
    return ArrayExamples(writer.finish(), targets, Numbers())
