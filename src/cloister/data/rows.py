"""New rows, encoded as the training rows were; used wherever a trained model answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from cloister.data.encodings import encoding_from_json
from cloister.data.examples import Numbers, Pixels
from cloister.data.loading_arrays import channels_first, compute_features
from cloister.data.loading_tables import encode_batch
from cloister.data.storage import Storage
from cloister.data.tables import TableBatch, cell_text
from cloister.data.tokens import token_row, tokenizer_from_json
from cloister.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

__all__ = ["encode_rows"]

_ROWS = Path("rows")


def encode_rows(preprocessing: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Tensor:
    """Model inputs for new rows.

    Args:
        preprocessing: ``Loaded.preprocessing``, or the same read back from a run's config.json.
        rows: For tables a mapping from column to cell; for text one with the text column; for images
            ``{"image": bytes 0..255 as nested lists or array}``; for arrays one with the array's name.

    Returns:
        Inputs, ``(rows, *input_shape)``, the same as those of the training examples with the same content.

    Raises:
        InputError: A row lacks a column, or a value is not what it must be (named by row, counted from 1).
    """
    encoders = {"array": _arrays, "image": _images, "table": _features, "text": _tokens}
    encode = encoders.get(str(preprocessing.get("kind")))
    if encode is None:
        raise InputError(f"rows of kind {preprocessing.get('kind')!r} cannot be encoded")
    return encode(preprocessing, rows)


def _features(preprocessing: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Tensor:
    stored = [dict(column) for column in preprocessing["columns"]]
    encodings = {column.pop("name"): encoding_from_json(column) for column in stored}
    used = {name: encoding for name, encoding in encodings.items() if encoding.width}
    cells = {
        name: pa.array([cell_text(value, _ROWS, row, name) for row, value in _cells(rows, name)], pa.string())
        for name in used
    }
    batch = TableBatch(path=_ROWS, file_index=0, first_row=1, num_rows=len(rows), columns=cells)
    return torch.from_numpy(encode_batch(batch, used))


def _tokens(preprocessing: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Tensor:
    tokenizer = tokenizer_from_json(preprocessing["tokenizer"])
    context = int(preprocessing["context"])
    modeling = preprocessing["task"] == "language_modeling"
    tokens = np.full((len(rows), context), tokenizer.padding, dtype=np.int64)
    for row, text in _cells(rows, preprocessing["column"]):
        tokens[row - 1] = token_row(str(text), tokenizer, context, modeling=modeling)[:context]
    return torch.from_numpy(tokens)


def _images(preprocessing: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Tensor:
    shape = tuple(preprocessing["shape"])
    images = np.zeros((len(rows), *shape), dtype=np.uint8)
    for row, value in _cells(rows, "image"):
        image = _array(value, row, "image")
        if not np.array_equal(image, image.astype(np.uint8)):
            raise InputError(f"row {row}: pixels are not whole numbers from 0 to 255")
        images[row - 1] = _shaped(channels_first(image[None])[0] if image.ndim in (2, 3) else image, shape, row)
    mean, std = preprocessing["mean"], preprocessing["std"]
    transform = Pixels(mean and tuple(mean), std and tuple(std))
    if preprocessing["features"] is None:
        return transform(images)
    return torch.from_numpy(compute_features(images, transform, Storage()))


def _arrays(preprocessing: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Tensor:
    name, shape = preprocessing["name"], tuple(preprocessing["shape"])
    arrays = np.zeros((len(rows), *shape), dtype=np.float64)
    for row, value in _cells(rows, name):
        array = np.atleast_1d(_array(value, row, name))
        if not np.isfinite(array).all():
            raise InputError(f"row {row}: {name!r} holds NaN or infinity")
        arrays[row - 1] = _shaped(array, shape, row)
    scaling = preprocessing["scaling"]
    return (Numbers(**scaling) if scaling else Numbers())(arrays)


def _cells(rows: Sequence[Mapping[str, Any]], name: str) -> list[tuple[int, Any]]:
    for row, cells in enumerate(rows, start=1):
        if name not in cells:
            raise InputError(f"row {row} has no {name!r}", hint="a missing cell is given as null")
    return [(row, cells[name]) for row, cells in enumerate(rows, start=1)]


def _array(value: object, row: int, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"row {row}: {name!r} is not an array of numbers") from error


def _shaped(array: np.ndarray[Any, Any], shape: tuple[int, ...], row: int) -> np.ndarray[Any, Any]:
    if array.shape != shape:
        raise InputError(f"row {row} has shape {array.shape}; expected {shape}")
    return array
