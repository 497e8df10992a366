"""Examples as tensors, a batch at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from cloister.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = [
    "ArrayExamples",
    "DataSpec",
    "DatasetExamples",
    "Examples",
    "InputTransform",
    "Loaded",
    "Numbers",
    "Pixels",
    "TokenExamples",
    "Tokens",
]

IGNORED_TARGET = -100
"""Target of a padding token: it has no loss (the default `ignore_index` of torch's cross entropy)."""


class Examples(Protocol):
    """A fixed sequence of examples."""

    def __len__(self) -> int:
        """Number of examples."""

    def batch(self, indices: NDArray[np.int64]) -> tuple[Tensor, ...]:
        """Inputs and targets of some examples; leading dimension ``len(indices)``, which may be 0."""


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """What a model must know about the data; all of it public.

    Attributes:
        task: "classification", "regression" or "language_modeling".
        input_shape: Shape of one input.
        num_outputs: Classes; 1 for regression; vocabulary for language modeling.
        classes: Class names in the order of the outputs.
        vocab_size: Number of tokens, end of text and padding included; None where the input is not text.
        context: Tokens in one input.
        padding: The padding token.
        target_scale: Regression targets were divided by this; a model's error times it is in the target's unit.
    """

    task: str
    input_shape: tuple[int, ...]
    num_outputs: int
    classes: tuple[str, ...] | None = None
    vocab_size: int | None = None
    context: int | None = None
    padding: int | None = None
    target_scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Examples ready for training.

    Attributes:
        train: Training examples. PRIVATE.
        test: Test examples, if the recipe names any.
        spec: What a model must know.
        preprocessing: JSON with which new rows are encoded in the same way (`encode_rows`); public.
        notes: What was taken as public without having been declared.
        units: For each training example the number of its client or user; None for the unit "example". PRIVATE.
    """

    train: Examples
    test: Examples | None
    spec: DataSpec
    preprocessing: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    units: NDArray[np.int64] | None = None


class InputTransform(Protocol):
    """Turns stored rows into model inputs."""

    def __call__(self, rows: NDArray[Any]) -> Tensor:
        """Inputs, ``(rows, *input_shape)``."""


@dataclass(frozen=True)
class Numbers:
    """Numbers as float32, optionally ``(x - center) / scale`` clamped to ``[-limit, limit]``."""

    center: float = 0.0
    scale: float = 1.0
    limit: float = float("inf")

    def __call__(self, rows: NDArray[Any]) -> Tensor:
        """Inputs, ``(rows, *input_shape)``, float32."""
        if self == Numbers():
            return torch.from_numpy(rows.astype(np.float32, copy=False))
        scaled = np.clip((rows.astype(np.float64) - self.center) / self.scale, -self.limit, self.limit)
        return torch.from_numpy(scaled.astype(np.float32))


@dataclass(frozen=True)
class Pixels:
    """Bytes as float32 in [0, 1], optionally standardized by a public mean and deviation of each channel."""

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __call__(self, rows: NDArray[Any]) -> Tensor:
        """Images, ``(rows, channels, height, width)``, float32."""
        images_BCHW = torch.from_numpy(rows.astype(np.float32, order="C")).div_(255.0)
        if self.mean is not None and self.std is not None:
            images_BCHW.sub_(_per_channel(self.mean)).div_(_per_channel(self.std))
        return images_BCHW


@dataclass(frozen=True)
class Tokens:
    """Token numbers as int64."""

    def __call__(self, rows: NDArray[Any]) -> Tensor:
        """Tokens, ``(rows, context)``, int64."""
        return torch.from_numpy(rows.astype(np.int64))


class ArrayExamples:
    """Inputs and targets in two arrays, in memory or memory-mapped.

    Args:
        inputs: ``(examples, ...)``.
        targets: ``(examples,)``, class numbers (int64) or scaled regression targets (float32).
        transform: Applied to the inputs of each batch.
    """

    def __init__(self, inputs: NDArray[Any], targets: NDArray[Any], transform: InputTransform) -> None:
        self._inputs = inputs
        self._targets = targets
        self._transform = transform

    def __len__(self) -> int:
        return len(self._targets)

    def batch(self, indices: NDArray[np.int64]) -> tuple[Tensor, ...]:
        """Inputs ``(rows, *input_shape)`` and targets ``(rows,)``."""
        return self._transform(self._inputs[indices]), torch.from_numpy(self._targets[indices])


class TokenExamples:
    """Documents for language modeling.

    Args:
        tokens: ``(examples, context + 1)``.
        padding: The padding token, which is never a target.
    """

    def __init__(self, tokens: NDArray[Any], padding: int) -> None:
        self._tokens = tokens
        self._padding = padding

    def __len__(self) -> int:
        return len(self._tokens)

    def batch(self, indices: NDArray[np.int64]) -> tuple[Tensor, ...]:
        """Tokens ``(rows, context)`` and, for each, the next one or -100 where that is padding."""
        tokens_BS = torch.from_numpy(self._tokens[indices].astype(np.int64))
        targets_BT = tokens_BS[:, 1:].masked_fill(tokens_BS[:, 1:] == self._padding, IGNORED_TARGET)
        return tokens_BS[:, :-1].contiguous(), targets_BT


class DatasetExamples:
    """Examples of a torch Dataset, fetched one by one.

    Args:
        dataset: Map-style; each item is an input tensor and a target.
        target_dtype: Type of the targets.
    """

    def __init__(self, dataset: Any, target_dtype: torch.dtype) -> None:
        self._dataset = dataset
        self._target_dtype = target_dtype
        self._first = self._item(0)

    def __len__(self) -> int:
        return len(self._dataset)

    def batch(self, indices: NDArray[np.int64]) -> tuple[Tensor, ...]:
        """Inputs ``(rows, *input_shape)`` and targets ``(rows, ...)``."""
        if not len(indices):
            return tuple(part.new_zeros((0, *part.shape)) for part in self._first)
        items = [self._item(int(index)) for index in indices]
        try:
            return torch.stack([item[0] for item in items]), torch.stack([item[1] for item in items])
        except RuntimeError as error:
            raise InputError("the Dataset's items differ in shape", hint="pad or crop them in __getitem__") from error

    def _item(self, index: int) -> tuple[Tensor, Tensor]:
        item = self._dataset[index]
        if not isinstance(item, (tuple, list)) or len(item) != 2 or not isinstance(item[0], Tensor):
            raise InputError(f"item {index} of the Dataset is not a pair of an input tensor and a target")
        inputs = item[0] if not item[0].is_floating_point() else item[0].to(torch.float32)
        return inputs, torch.as_tensor(item[1]).to(self._target_dtype)


def _per_channel(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)
