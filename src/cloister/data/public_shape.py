"""The shape of the data from public information alone: file headers and the recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloister.data.encodings import declared_encoding
from cloister.data.examples import DataSpec
from cloister.data.readers import ImagePair, NpzFile
from cloister.data.settings import TextSettings
from cloister.data.source import text_column
from cloister.data.tables import TableFiles
from cloister.data.tokens import load_tokenizer

if TYPE_CHECKING:
    from cloister.data.source import Source

__all__ = ["outline"]

_SCATTERING_PATHS = 81


def outline(source: Source) -> DataSpec | None:
    """What a model must know, before any row is read; None where that is not public.

    It is not where statistics of columns have yet to be bought or class names have not been declared.
    """
    settings = source.settings
    modeling = settings.task == "language_modeling"
    if settings.task == "classification" and settings.classes is None:
        return None
    if isinstance(source.train, TableFiles) and text_column(settings, source.train) is None and not modeling:
        shape = _table_shape(source)
    elif isinstance(source.train, (ImagePair, NpzFile)):
        shape = _array_shape(source.train, scattering=settings.features == "scattering")
    else:
        return _text(source, modeling=modeling)
    if shape is None:
        return None
    outputs = len(settings.classes) if settings.classes else 1
    return DataSpec(task=str(settings.task), input_shape=shape, num_outputs=outputs, classes=settings.classes)


def _table_shape(source: Source) -> tuple[int, ...] | None:
    if source.needs_statistics:
        return None
    return (sum(declared_encoding(source.settings.columns[name]).width for name in source.input_columns),)


def _array_shape(reader: ImagePair | NpzFile, *, scattering: bool) -> tuple[int, ...]:
    shape = (reader.header if isinstance(reader, ImagePair) else reader.inputs).shape[1:] or (1,)
    if isinstance(reader, NpzFile) and reader.inputs.dtype.kind == "f":
        return shape
    shape = (1, *shape) if len(shape) == 2 else shape
    if scattering and len(shape) == 3:
        return (_SCATTERING_PATHS * shape[0], shape[1] // 4, shape[2] // 4)
    return shape


def _text(source: Source, *, modeling: bool) -> DataSpec | None:
    settings = source.settings
    if not modeling and settings.classes is None:
        return None
    text = settings.text or TextSettings()
    tokenizer = load_tokenizer(text.tokenizer, source.base)
    return DataSpec(
        task=str(settings.task),
        input_shape=(text.context,),
        num_outputs=tokenizer.vocab_size if modeling else len(settings.classes or ()),
        classes=settings.classes,
        vocab_size=tokenizer.vocab_size,
        context=text.context,
        padding=tokenizer.padding,
    )
