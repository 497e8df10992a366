"""How good a model is on a set of examples."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from cloister._validate import check_choice, check_count
from cloister.errors import InputError
from cloister.models.losses import IGNORED_TARGET

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from cloister.models.losses import LossFn

__all__ = ["Examples", "evaluate"]

_TASKS = ("classification", "language_modeling", "regression")


class Examples(Protocol):
    """A fixed sequence of examples."""

    def __len__(self) -> int:
        """Number of examples."""

    def batch(self, indices: NDArray[np.int64]) -> tuple[Tensor, ...]:
        """Inputs and targets of some examples."""


def evaluate(
    model: nn.Module,
    loss_fn: LossFn,
    examples: Examples,
    *,
    task: str,
    batch_size: int = 512,
    device: torch.device | None = None,
    target_scale: float = 1.0,
) -> dict[str, float]:
    """Exact results on all examples; a release without noise, so the examples must not be private.

    The model is in evaluation mode meanwhile and returned to the mode it was in; no gradient is recorded.

    Args:
        model: What is evaluated.
        loss_fn: Per-example losses.
        examples: At least one.
        task: "classification" gives accuracy and mean loss; "regression" the root of the mean squared error, times
            `target_scale`, and the mean loss; "language_modeling" the mean loss of a token and its exponential,
            the perplexity.
        batch_size: Examples at once; changes the result by rounding only.
        device: Where batches are put; left out, where the model's first parameter is.
        target_scale: Unit of regression targets, from the data's spec.
    """
    check_choice(_TASKS, task=task)
    check_count(batch_size=batch_size)
    if not len(examples):
        raise InputError("there are no examples to evaluate on")
    if device is None:
        device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    loss, weight, correct = 0.0, 0, 0
    with _evaluation_mode(model), torch.no_grad():
        for start in range(0, len(examples), batch_size):
            indices = np.arange(start, min(start + batch_size, len(examples)))
            batch = tuple(part.to(device) for part in examples.batch(indices))
            losses, outputs = _losses_and_outputs(model, loss_fn, batch)
            weights = _weights(batch[1], task)
            loss += float((losses.double() * weights).sum())
            weight += int(weights.sum())
            if task == "classification":
                correct += int((outputs.argmax(dim=-1) == batch[1]).sum())
    mean = loss / max(weight, 1)
    if task == "classification":
        return {"accuracy": correct / len(examples), "loss": mean}
    if task == "regression":
        return {"rmse": math.sqrt(mean) * target_scale, "loss": mean}
    return {"perplexity": math.exp(min(mean, 700.0)), "loss": mean}


def _losses_and_outputs(model: nn.Module, loss_fn: LossFn, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    outputs: list[Tensor] = []

    def forward(*inputs: Tensor) -> Tensor:
        outputs.append(model(*inputs))
        return outputs[-1]

    return loss_fn(forward, batch), outputs[-1]


def _weights(targets: Tensor, task: str) -> Tensor:
    """How many predictions each example's loss is the mean of."""
    if task == "language_modeling":
        return (targets != IGNORED_TARGET).sum(dim=1)
    return torch.ones(len(targets), dtype=torch.int64, device=targets.device)


@contextlib.contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
