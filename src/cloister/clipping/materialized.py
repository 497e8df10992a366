"""The oracle: every example's gradient, materialized with `torch.func`, then clipped and summed.

Slow and hungry (B gradients at once), and right for every model that `torch.func.vmap` can run.

Shape suffixes: B examples, G groups of parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from cloister._validate import check_count
from cloister.clipping.base import (
    ClippedSum,
    count_examples,
    empty_sum,
    example_losses,
    own_buffers,
    refuse_changed,
    row_norms,
    sensitivity_of,
    sum_of,
    trainable_parameters,
    whole_norms,
    wide,
)
from cloister.clipping.mixing import RefuseMixing
from cloister.mechanisms.clip import Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from cloister.clipping.base import Batch, LossFn
    from cloister.mechanisms.clip import Clip

__all__ = ["Materialized"]


@dataclass(frozen=True, kw_only=True)
class Materialized:
    """Per-example gradients by `torch.func.vmap` over `torch.func.grad`; takes every kind of clipping.

    Attributes:
        chunk_size: How many examples' gradients exist at once; all of the batch's if None. Memory against
            speed, no change of the result.
    """

    chunk_size: int | None = None
    name = "materialized"

    def __post_init__(self) -> None:
        if self.chunk_size is not None:
            check_count(chunk_size=self.chunk_size)

    def clipped_sum(self, model: nn.Module, loss_fn: LossFn, batch: Batch, clip: Clip, *, views: int = 1) -> ClippedSum:
        """See `ClippingEngine.clipped_sum`. Dropout draws anew for every example."""
        parameters = trainable_parameters(model)
        examples = count_examples(batch, views)
        total = empty_sum(parameters, clip)
        if not examples:
            return total
        gradients, buffers = _gradients(model, loss_fn, views), own_buffers(model)
        values = {name: p.detach() for name, p in parameters.items()}
        size = self.chunk_size or examples
        norms, losses = [], []
        for start in range(0, examples, size):
            rows = tuple(t[start * views : (start + size) * views] for t in batch)
            with RefuseMixing(), sdpa_kernel(SDPBackend.MATH):  # the fused kernels cannot be vectorized
                grads_B, losses_B = gradients(values, buffers, tuple(t.reshape(-1, views, *t.shape[1:]) for t in rows))
            refuse_changed(buffers)
            sums, norms_B = clip_and_sum(clip, grads_B, losses_B.isfinite())
            for name, part in sums.items():
                total.grads[name].add_(part)
            norms.append(norms_B)
            losses.append(losses_B.to(norms_B.dtype))
        return ClippedSum(
            grads=total.grads,
            sensitivity=sensitivity_of(clip, parameters),
            norms_B=torch.cat(norms),
            losses_B=torch.cat(losses),
        )


def clip_and_sum(clip: Clip, grads_B: dict[str, Tensor], usable_B: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Clip materialized gradients and sum them over the examples.

    Args:
        clip: Of any kind.
        grads_B: By parameter name, shape (B, ...).
        usable_B: False for examples that contribute nothing whatever their gradient is.

    Returns:
        The sums by parameter name, and the norms of the whole gradients before clipping.
    """
    dtype = wide(g.dtype for g in grads_B.values())
    flat = {name: g.reshape(len(g), -1).to(dtype) for name, g in grads_B.items()}
    squares = {name: row_norms(g).square() for name, g in flat.items()}
    groups = clip.groups(list(grads_B))
    norms_BG = torch.stack([sum_of(squares[name] for name in group) for group in groups], dim=1).sqrt()
    norms_B = whole_norms(norms_BG)
    usable_B = usable_B & norms_B.isfinite()
    if isinstance(clip, Value):
        flat = {name: g.clamp(clip.low, clip.high) for name, g in flat.items()}
        factors_BG = torch.ones_like(norms_BG)
    else:
        factors_BG = clip.coefficients(norms_BG)
    column = {name: factors_BG[:, i] for i, group in enumerate(groups) for name in group}
    # A factor of 0 is not enough: 0 * inf is nan.
    kept = {name: torch.where(usable_B[:, None], g * column[name][:, None], 0.0) for name, g in flat.items()}
    sums = {name: g.sum(dim=0) for name, g in kept.items()}
    return {name: s.reshape(grads_B[name].shape[1:]) for name, s in sums.items()}, norms_B


def _gradients(
    model: nn.Module, loss_fn: LossFn, views: int
) -> Callable[[dict[str, Tensor], dict[str, Tensor], Batch], tuple[dict[str, Tensor], Tensor]]:
    """From parameters, buffers and a batch (B, views, ...) to the gradient and the loss of each example."""

    def example_loss(values: dict[str, Tensor], buffers: dict[str, Tensor], rows: Batch) -> Tensor:
        def forward(*args: object, **kwargs: object) -> Tensor:
            output: Tensor = functional_call(model, (values, buffers), args, kwargs)
            return output

        return example_losses(loss_fn(forward, rows), 1, views)[0]

    return vmap(grad_and_value(example_loss), in_dims=(None, None, 0), randomness="different")
