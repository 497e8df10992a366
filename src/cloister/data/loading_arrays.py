"""Arrays, images and torch Datasets to examples."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cloister.data.arrays import read_idx, read_npz_array
from cloister.data.encodings import Scaled, declared_encoding
from cloister.data.examples import (
    ArrayExamples,
    DataSpec,
    InputTransform,
    Loaded,
    Numbers,
    Pixels,
)
from cloister.data.labels import array_labels, find_classes, scale_targets
from cloister.data.loading_tables import target_json
from cloister.data.readers import ImagePair, NpzFile
from cloister.data.scattering import ScatteringFeatures
from cloister.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from cloister.data.labels import ClassTable, LabelBlock
    from cloister.data.readers import Reader
    from cloister.data.settings import DataSettings
    from cloister.data.source import Source
    from cloister.data.storage import Storage

__all__ = ["channels_first", "compute_features", "load_arrays"]

_CHECKED_ROWS = 4096
_TRANSFORMED_ROWS = 64
_CHANNELS = (1, 3, 4)


def load_arrays(source: Source, storage: Storage) -> Loaded:
    """An .npz file or a pair of IDX files."""
    settings = source.settings
    inputs, labels, where = _read(source.train, storage)
    tested = _read(source.test, storage) if source.test is not None else None
    if tested is not None and tested[0].shape[1:] != inputs.shape[1:]:
        raise InputError(f"train inputs have shape {inputs.shape[1:]} and test inputs {tested[0].shape[1:]}")
    transform, described = _transform(inputs, source)
    classes, notes = _classes(settings, labels, where, tested)
    shape, transform, inputs, test_inputs = _featured(
        settings, transform, storage, inputs, tested[0] if tested else None
    )
    spec = DataSpec(
        task=str(settings.task),
        input_shape=shape,
        num_outputs=len(classes.names) if classes else 1,
        classes=classes.names if classes else None,
        target_scale=(settings.target.high - settings.target.low) / 2 if settings.target else 1.0,
    )
    test = None
    if tested is not None and test_inputs is not None:
        test = ArrayExamples(test_inputs, _targets(settings, classes, tested[1], tested[2], clamp=False), transform)
    return Loaded(
        train=ArrayExamples(inputs, _targets(settings, classes, labels, where, clamp=True), transform),
        test=test,
        spec=spec,
        preprocessing=described | target_json(settings, classes),
        notes=notes,
    )


def channels_first(images: NDArray[Any]) -> NDArray[Any]:
    """Images as ``(rows, channels, height, width)``; the last axis is taken for channels only if it must be."""
    if images.ndim == 3:
        return images[:, None]
    if images.shape[1] not in _CHANNELS and images.shape[3] in _CHANNELS:
        return np.moveaxis(images, 3, 1)
    return images


def is_image(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Whether an array ``(rows, ...)`` holds images: bytes with at least height and width."""
    return dtype == np.uint8 and len(shape) in (3, 4)


def compute_features(images: NDArray[Any], transform: InputTransform, storage: Storage) -> NDArray[Any]:
    """Scattering features of stored images, ``(rows, features, height / 4, width / 4)``, float32.

    The transform is fixed and treats each example alone, so it is computed once and the privacy of training on
    the result is that of training on the images.
    """
    _, channels, height, width = images.shape
    features = ScatteringFeatures(height=height, width=width)
    shape = (channels * features.num_paths, height // 4, width // 4)
    writer = storage.writer(len(images), shape, np.float32)
    with torch.no_grad():
        for start in range(0, len(images), _TRANSFORMED_ROWS):
            writer.append(features(transform(images[start : start + _TRANSFORMED_ROWS])).numpy())
    return writer.finish()


def _read(reader: Reader, storage: Storage) -> tuple[NDArray[Any], NDArray[Any], str]:
    """Inputs, labels and a name for the labels in errors."""
    if isinstance(reader, ImagePair):
        images = read_idx(reader.images, storage).view(np.uint8)
        return channels_first(images), read_idx(reader.labels, storage), str(reader.labels)
    if not isinstance(reader, NpzFile):
        raise InputError(f"{type(reader).__name__} holds no arrays")
    name, label = reader.names
    inputs = read_npz_array(reader.path, name, storage)
    _check_finite(inputs, f"{reader.path} array {name!r}")
    if is_image(inputs.shape, inputs.dtype):
        inputs = channels_first(inputs)
    elif inputs.ndim == 1:
        inputs = inputs[:, None]
    return inputs, read_npz_array(reader.path, label, storage), f"{reader.path} array {label!r}"


def _check_finite(array: NDArray[Any], where: str) -> None:
    if array.dtype.kind != "f":
        return
    for start in range(0, len(array), _CHECKED_ROWS):
        block = array[start : start + _CHECKED_ROWS].reshape(len(array[start : start + _CHECKED_ROWS]), -1)
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            row = start + 1 + int(np.flatnonzero(~finite)[0])
            raise InputError(f"{where} row {row} holds NaN or infinity", hint="fill or drop such rows before")


def _transform(inputs: NDArray[Any], source: Source) -> tuple[InputTransform, dict[str, Any]]:
    """How stored inputs become tensors, and its description for `encode_rows`."""
    settings = source.settings
    shape = list(inputs.shape[1:])
    if isinstance(source.train, ImagePair) or is_image(inputs.shape, inputs.dtype):
        mean, std = settings.image_mean, settings.image_std
        for values in filter(None, (mean, std)):
            if len(values) != shape[0]:
                raise InputError(f"image_mean and image_std need {shape[0]} numbers, one for each channel")
        described = {"kind": "image", "shape": shape, "mean": mean and list(mean), "std": std and list(std)}
        return Pixels(mean, std), described | {"features": settings.features}
    name = source.train.names[0] if isinstance(source.train, NpzFile) else ""
    numbers = _numbers(settings, name)
    scaling = None if numbers == Numbers() else asdict(numbers)
    return numbers, {"kind": "array", "name": name, "shape": shape, "scaling": scaling}


def _numbers(settings: DataSettings, name: str) -> Numbers:
    if name not in settings.columns:
        return Numbers()
    encoding = declared_encoding(settings.columns[name])
    if not isinstance(encoding, Scaled):
        raise InputError(f"array {name!r} is declared {settings.columns[name].kind}; expected numeric")
    return Numbers(encoding.center, encoding.scale, encoding.limit)


def _featured(
    settings: DataSettings,
    transform: InputTransform,
    storage: Storage,
    train: NDArray[Any],
    test: NDArray[Any] | None,
) -> tuple[tuple[int, ...], InputTransform, NDArray[Any], NDArray[Any] | None]:
    """Inputs replaced by their features, where the recipe asks for features."""
    if settings.features is None:
        return train.shape[1:], transform, train, test
    if not isinstance(transform, Pixels):
        raise InputError(f"features = {settings.features!r} needs images")
    train = compute_features(train, transform, storage)
    test = None if test is None else compute_features(test, transform, storage)
    return train.shape[1:], Numbers(), train, test


def _classes(
    settings: DataSettings,
    labels: NDArray[Any],
    where: str,
    tested: tuple[NDArray[Any], NDArray[Any], str] | None,
) -> tuple[ClassTable | None, tuple[str, ...]]:
    if settings.task != "classification":
        return None, ()

    def test_labels() -> Iterator[LabelBlock]:
        return array_labels(tested[1], settings, tested[2]) if tested is not None else iter(())

    numbered = labels.dtype.kind in "iu"
    named_by_test = test_labels if tested is not None else None
    return find_classes(settings, lambda: array_labels(labels, settings, where), named_by_test, numbered=numbered)


def _targets(
    settings: DataSettings, classes: ClassTable | None, labels: NDArray[Any], where: str, *, clamp: bool
) -> NDArray[Any]:
    if classes is not None:
        return np.concatenate([classes.encode(block) for block in array_labels(labels, settings, where)])
    if settings.target is None or labels.dtype.kind not in "biuf":
        raise InputError(f"{where} holds {labels.dtype}; expected numbers", hint="and [data.target] declares a range")
    _check_finite(labels, where)
    return scale_targets(labels.astype(np.float64), settings.target, clamp=clamp)
