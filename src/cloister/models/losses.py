"""Losses, one number for each example. None of them looks across examples.

Shapes: B examples, T tokens, V vocabulary, K outputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from torch.nn import functional

from cloister._validate import check_choice

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

__all__ = ["IGNORED_TARGET", "LossFn", "cross_entropy", "loss_for", "squared_error", "token_cross_entropy"]

IGNORED_TARGET = -100


class LossFn(Protocol):
    """Per-example losses of a batch."""

    def __call__(self, forward: Callable[..., Tensor], batch: tuple[Tensor, ...], /) -> Tensor:
        """Losses ``(B,)`` of ``batch = (inputs, targets)``, where `forward` turns inputs into outputs."""


def cross_entropy(forward: Callable[..., Tensor], batch: tuple[Tensor, ...]) -> Tensor:
    """Cross entropy of logits ``(B, K)`` and classes ``(B,)``: losses ``(B,)``."""
    inputs, targets = batch
    return functional.cross_entropy(forward(inputs), targets, reduction="none")


def squared_error(forward: Callable[..., Tensor], batch: tuple[Tensor, ...]) -> Tensor:
    """Squared error of outputs ``(B, 1)`` and targets ``(B,)``: losses ``(B,)``."""
    inputs, targets = batch
    return (forward(inputs).squeeze(-1) - targets).square()


def token_cross_entropy(forward: Callable[..., Tensor], batch: tuple[Tensor, ...]) -> Tensor:
    """Mean cross entropy over an example's own tokens: losses ``(B,)``.

    Targets of -100 have no loss. The divisor is the example's own number of tokens, never that of the batch,
    which would let one example change the gradient of another. An example without tokens has loss 0.
    """
    inputs, targets_BT = batch
    logits_BTV = forward(inputs)
    losses = functional.cross_entropy(
        logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction="none", ignore_index=IGNORED_TARGET
    )
    counts_B = (targets_BT != IGNORED_TARGET).sum(dim=1).clamp(min=1)
    return losses.view_as(targets_BT).sum(dim=1) / counts_B


_LOSSES: dict[str, LossFn] = {
    "classification": cross_entropy,
    "language_modeling": token_cross_entropy,
    "regression": squared_error,
}


def loss_for(task: str) -> LossFn:
    """The loss of a task.

    >>> loss_for("classification").__name__
    'cross_entropy'
    """
    check_choice(_LOSSES, task=task)
    return _LOSSES[task]
