"""Labels: class names to class numbers, and regression targets to a public range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cloister.data.cells import Cells, label_texts, read_cells
from cloister.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from cloister.data.settings import DataSettings, TargetSettings
    from cloister.data.tables import TableFiles

__all__ = ["ClassTable", "LabelBlock", "array_labels", "find_classes", "scale_targets", "table_labels", "table_targets"]

_BLOCK_ROWS = 1 << 16
_FEWEST_CLASSES = 2


@dataclass(frozen=True, kw_only=True)
class LabelBlock:
    """Labels of consecutive rows.

    Attributes:
        source: Where they come from, for errors.
        first_row: Number of the first row there, counted from 1.
        codes: For each row the position of its label in `texts`.
        texts: The different labels.
    """

    source: str
    first_row: int
    codes: NDArray[np.int64]
    texts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ClassTable:
    """Class names in the order of the model's outputs.

    Attributes:
        names: The classes.
        numbered: Whether the labels in the files are the class numbers 0, 1, 2, ... that the names stand for.
    """

    names: tuple[str, ...]
    numbered: bool = False

    def encode(self, block: LabelBlock) -> NDArray[np.int64]:
        """Class number of each row.

        Raises:
            InputError: A label is not a class (named by row).
        """
        known = [str(index) for index in range(len(self.names))] if self.numbered else self.names
        index = {name: position for position, name in enumerate(known)}
        numbers = np.array([index.get(text, -1) for text in block.texts], dtype=np.int64)[block.codes]
        if (numbers < 0).any():
            row = block.first_row + int(np.flatnonzero(numbers < 0)[0])
            raise InputError(
                f"{block.source} row {row} has a label that is not one of the {len(known)} classes",
                hint=f"classes are {', '.join(known[:12])}; label_map can rename labels",
            )
        return numbers


def table_labels(table: TableFiles, settings: DataSettings) -> Iterator[LabelBlock]:
    """Class names of a table's rows."""
    for batch in table.batches((str(settings.label),)):
        codes, texts = label_texts(batch, str(settings.label))
        names = _class_names(texts, settings)
        yield LabelBlock(source=str(batch.path), first_row=batch.first_row, codes=codes, texts=names)


def array_labels(labels: NDArray[Any], settings: DataSettings, source: str) -> Iterator[LabelBlock]:
    """Class names of an array of numbers or fixed-length text."""
    for start in range(0, len(labels), _BLOCK_ROWS):
        values, codes = np.unique(labels[start : start + _BLOCK_ROWS], return_inverse=True)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            row = start + 1 + int(np.flatnonzero(~np.isfinite(values)[codes])[0])
            raise InputError(f"{source} row {row} is not a finite number")
        names = _class_names([_label_text(value) for value in values.tolist()], settings)
        yield LabelBlock(source=source, first_row=start + 1, codes=codes, texts=names)


def find_classes(
    settings: DataSettings,
    train: Callable[[], Iterator[LabelBlock]],
    test: Callable[[], Iterator[LabelBlock]] | None,
    *,
    numbered: bool,
) -> tuple[ClassTable, tuple[str, ...]]:
    """The classes, and a note where they were not declared.

    Declared classes are used as they are. Otherwise the test file names them, whose results are released exactly
    anyway; without one the training labels do, and the note says that their names are then taken as public.

    Raises:
        InputError: There is only one class.
    """
    if settings.classes is not None:
        names_numbers = numbered and not any(_is_whole(name) for name in settings.classes)
        return ClassTable(names=settings.classes, numbered=names_numbers), ()
    role, blocks = ("test", test) if test is not None else ("training", train)
    names = sorted({text for block in blocks() for text in block.texts}, key=_class_order)
    if len(names) < _FEWEST_CLASSES:
        raise InputError(
            f"the {role} labels hold {len(names)} class; expected at least {_FEWEST_CLASSES}",
            hint="check label, or declare classes in [data]",
        )
    note = f"class names were taken from the {role} labels and are treated as public: declare classes to avoid this"
    return ClassTable(names=tuple(names)), (note,)


def scale_targets(values: NDArray[np.float64], target: TargetSettings, *, clamp: bool) -> NDArray[np.float32]:
    """Targets moved from ``[low, high]`` to ``[-1, 1]``; clamped to it only where `clamp` says so (training)."""
    scaled = (values - (target.low + target.high) / 2) / ((target.high - target.low) / 2)
    return (np.clip(scaled, -1.0, 1.0) if clamp else scaled).astype(np.float32)


def table_targets(table: TableFiles, label: str) -> Iterator[NDArray[np.float64]]:
    """Numbers of the label column.

    Raises:
        InputError: A target is missing or not a number (named by row).
    """
    for batch in table.batches((label,)):
        cells: Cells = read_cells(batch, label)
        row = cells.first_row_where(np.isnan(cells.numbers))
        if row is not None:
            raise InputError(f"{batch.path} row {row}, column {label!r} is not a number")
        yield cells.spread(cells.numbers)


def _class_names(texts: Iterable[str], settings: DataSettings) -> tuple[str, ...]:
    """Labels renamed by `label_map`, without a full stop at the end: UCI writes ``>50K`` and ``>50K.`` for one class.

    A full stop that belongs to a declared class stays.
    """
    renamed = [settings.label_map.get(text, text) for text in texts]
    declared = settings.classes or ()
    return tuple(name if name in declared else name.removesuffix(".") or name for name in renamed)


def _label_text(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value).strip()


def _is_whole(text: str) -> bool:
    return text.lstrip("-").isdigit()


def _class_order(name: str) -> tuple[int, int, str]:
    """Numbers first and by value, then text."""
    return (0, int(name), name) if _is_whole(name) else (1, 0, name)
