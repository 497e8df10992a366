"""What every clipping engine takes and gives.

Shape suffixes: B examples, G groups of parameters. A batch has rows = B * views.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import torch
from torch import Tensor

from cloister._validate import check_count
from cloister.errors import InputError, UnsupportedLayer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

    from cloister.mechanisms.clip import Clip

__all__ = ["Batch", "ClippedSum", "ClippingEngine", "LossFn"]

Batch: TypeAlias = tuple[Tensor, ...]
"""Tensors with equal leading dimension; the rows of example i are i * views to (i + 1) * views - 1."""

LossFn: TypeAlias = Callable[[Callable[..., Tensor], Batch], Tensor]
"""``loss_fn(forward, batch)`` gives one loss for each row; `forward` is the model or a stand-in for it."""


@dataclass(frozen=True, kw_only=True)
class ClippedSum:
    """The sum over examples of clipped gradients, and how much one example can change it.

    Attributes:
        grads: By parameter name (`named_parameters`, trainable ones, tied ones once); float32 or wider. A sum,
            never a mean.
        sensitivity: L2 bound of one example's contribution to all of `grads` together.
        norms_B: Norm of each example's whole gradient before clipping; diagnostics, private.
        losses_B: Loss of each example; diagnostics, private.
    """

    grads: dict[str, Tensor]
    sensitivity: float
    norms_B: Tensor  # noqa: N815 - the shape suffix
    losses_B: Tensor  # noqa: N815


class ClippingEngine(Protocol):
    """Computes sums of per-example clipped gradients and leaves no trace on the model."""

    @property
    def name(self) -> str:
        """As written in a recipe."""

    def clipped_sum(self, model: nn.Module, loss_fn: LossFn, batch: Batch, clip: Clip, *, views: int = 1) -> ClippedSum:
        """The sum over the examples of `batch` of their clipped gradients.

        The loss of an example is the mean over its views, and its gradient is clipped once (De et al. 2022,
        arXiv:2204.13650, section 3). An example whose loss or gradient norm is not finite contributes exactly
        zero. A batch without rows gives zeros. The model keeps its mode, its state and its `.grad`.

        Args:
            model: All its trainable parameters are covered; frozen ones cost nothing and get no entry.
            loss_fn: Gives one loss for each row, from that row alone.
            batch: Tensors of leading dimension examples * views.
            clip: Bounds each example's contribution.
            views: Rows for each example.

        Raises:
            InputError: The batch, the losses or the number of views do not fit together.
            UnsupportedLayer: Some operation has no per-example gradient that this engine can prove.
        """


def trainable_parameters(model: nn.Module) -> dict[str, Tensor]:
    """Parameters that get a gradient, by name; a tied one once, under its first name."""
    parameters: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not parameters:
        raise InputError("the model has no trainable parameter", hint="set requires_grad on what is to be trained")
    return parameters


def count_examples(batch: Batch, views: int) -> int:
    """How many examples the batch has, after checking its shape."""
    check_count(views=views)
    if not batch or any(t.dim() == 0 for t in batch) or len({len(t) for t in batch}) != 1:
        raise InputError(f"the batch has shapes {_shapes(batch)}; expected tensors with one leading dimension")
    if len(batch[0]) % views:
        raise InputError(f"the batch has {len(batch[0])} rows; expected a multiple of views = {views}")
    return len(batch[0]) // views


def example_losses(losses: Tensor, examples: int, views: int) -> Tensor:
    """Mean over the views of each example, shape (B,), after checking that there is one loss for each row."""
    if losses.shape != (examples * views,):
        raise InputError(
            f"the loss function gave shape {tuple(losses.shape)}; "
            f"expected one loss for each of {examples * views} rows",
            hint="reduction='none', then the mean over everything but the first dimension",
        )
    return losses.reshape(examples, views).mean(dim=1)


def wide(dtypes: Iterable[torch.dtype]) -> torch.dtype:
    """The type norms and sums are accumulated in: float64 if any of `dtypes` is, float32 otherwise."""
    return torch.float64 if torch.float64 in set(dtypes) else torch.float32


def empty_sum(parameters: dict[str, Tensor], clip: Clip) -> ClippedSum:
    """What a batch without examples gives."""
    dtype = wide(p.dtype for p in parameters.values())
    device = next(iter(parameters.values())).device
    nothing = torch.zeros(0, dtype=dtype, device=device)
    return ClippedSum(
        grads={name: torch.zeros_like(p, dtype=dtype, requires_grad=False) for name, p in parameters.items()},
        sensitivity=sensitivity_of(clip, parameters),
        norms_B=nothing,
        losses_B=nothing,
    )


def sensitivity_of(clip: Clip, parameters: dict[str, Tensor]) -> float:
    """The sensitivity of a sum of gradients of these parameters."""
    return clip.sensitivity(sum(p.numel() for p in parameters.values()))


def own_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the model's buffers, for a forward pass that must not change the originals."""
    return {name: buffer.detach().clone() for name, buffer in model.named_buffers()}


def refuse_changed(buffers: dict[str, Tensor]) -> None:
    """Raise `UnsupportedLayer` if a forward pass wrote into these copies of a model's buffers."""
    for name, buffer in buffers.items():
        if buffer._version:  # noqa: SLF001 - counts in-place changes; the only record of them there is
            raise UnsupportedLayer(
                f"buffer {name} is changed by the forward pass; what private examples leave there is not protected",
                hint="use a layer without running statistics",
            )


def sum_of(tensors: Iterable[Tensor]) -> Tensor:
    """Sum of at least one tensor."""
    first, *rest = tensors
    return sum(rest, start=first)


def row_norms(values: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    """Norm of everything in each entry of the leading dimension."""
    norms: Tensor = torch.linalg.vector_norm(values.flatten(1), dim=1, dtype=dtype)
    return norms


def whole_norms(norms_BG: Tensor) -> Tensor:
    """Norms of the whole gradients from those of its groups."""
    return norms_BG[:, 0] if norms_BG.shape[1] == 1 else row_norms(norms_BG)


def _shapes(batch: Batch) -> str:
    return ", ".join(str(tuple(t.shape)) for t in batch) or "none"
