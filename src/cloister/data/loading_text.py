"""Text to tokens: for language modeling, and for classification."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cloister.data.cells import read_texts
from cloister.data.documents import TextFiles
from cloister.data.examples import ArrayExamples, DataSpec, Examples, Loaded, TokenExamples, Tokens
from cloister.data.loading_tables import as_table, read_targets, table_classes, target_json
from cloister.data.settings import TextSettings
from cloister.data.source import text_column
from cloister.data.tokens import Tokenizer, load_tokenizer, token_row
from cloister.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from cloister.data.readers import Reader
    from cloister.data.source import Source
    from cloister.data.storage import Storage

__all__ = ["load_text"]


def load_text(source: Source, storage: Storage) -> Loaded:
    """Documents, one per example, cut or padded to the context."""
    settings = source.settings
    text = settings.text or TextSettings()
    tokenizer = load_tokenizer(text.tokenizer, source.base)
    modeling = settings.task == "language_modeling"
    if settings.task == "regression":
        raise InputError("regression on text is not supported", hint="use classification or numeric columns")
    classes, notes = (None, ()) if modeling else table_classes(source)

    def examples(reader: Reader, *, clamp: bool) -> Examples:
        tokens = _read_tokens(source, reader, tokenizer, text.context, storage)
        if modeling:
            return TokenExamples(tokens, tokenizer.padding)
        targets = read_targets(as_table(reader), settings, classes, storage, clamp=clamp)
        return ArrayExamples(tokens, targets, Tokens())

    spec = DataSpec(
        task=str(settings.task),
        input_shape=(text.context,),
        num_outputs=len(classes.names) if classes else tokenizer.vocab_size,
        classes=classes.names if classes else None,
        vocab_size=tokenizer.vocab_size,
        context=text.context,
        padding=tokenizer.padding,
    )
    preprocessing = {
        "kind": "text",
        "column": text.column,
        "context": text.context,
        "tokenizer": tokenizer.to_json(),
        **target_json(settings, classes),
    }
    return Loaded(
        train=examples(source.train, clamp=True),
        test=examples(source.test, clamp=False) if source.test is not None else None,
        spec=spec,
        preprocessing=preprocessing,
        notes=notes,
    )


def _read_tokens(source: Source, reader: Reader, tokenizer: Tokenizer, context: int, storage: Storage) -> NDArray[Any]:
    """Token rows: ``(examples, context + 1)`` for language modeling, ``(examples, context)`` otherwise."""
    modeling = source.settings.task == "language_modeling"
    dtype = np.uint16 if tokenizer.vocab_size <= 2**16 else np.int32
    length = context + 1 if modeling else context
    writer = storage.writer(sum(reader.rows_per_file), (length,), dtype)
    for document in _texts(source, reader):
        row = token_row(document, tokenizer, context, modeling=modeling)
        writer.append(row[None].astype(dtype))
    return writer.finish()


def _texts(source: Source, reader: Reader) -> Iterator[str]:
    if isinstance(reader, TextFiles):
        for _, document in reader.documents():
            yield document
        return
    table = as_table(reader)
    column = str(text_column(source.settings, table))
    for batch in table.batches((column,)):
        yield from read_texts(batch, column)
