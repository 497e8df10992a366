"""One private gradient: the step of the paper, and the only place where its private parts meet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cloister.mechanisms import Flat, add_gaussian_noise, standard_normal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn

    from cloister._rng import SecureStream
    from cloister.clipping import Batch, ClippingEngine, LossFn
    from cloister.mechanisms import Clip
    from cloister.training.dpsgd import Plan

__all__ = ["NoisyGradient", "noisy_gradient", "plain_gradient"]


@dataclass(frozen=True, kw_only=True)
class NoisyGradient:
    """A gradient that may be applied, and the private values seen on the way.

    Attributes:
        grads: By parameter name, float32; already divided by the expected batch size. Private in the sense of
            the event: it may be released.
        next_clip: Clipping of the next step.
        loss: Mean loss over the batch; raw, for diagnostics only.
        batch_size: How many examples the batch had; raw.
        clipped_share: Share of the batch whose gradient exceeded the clip norm; raw.
    """

    grads: dict[str, Tensor]
    next_clip: Clip
    loss: float
    batch_size: int
    clipped_share: float


def noisy_gradient(
    model: nn.Module,
    loss_fn: LossFn,
    batches: Iterable[Batch],
    *,
    plan: Plan,
    clip: Clip,
    engine: ClippingEngine,
    noise: SecureStream,
    step: int,
    views: int = 1,
) -> NoisyGradient:
    """Release one noisy gradient of a Poisson sample that arrives in pieces.

    The clipped gradients of all pieces are summed, then noise is added once, then the sum is divided by the
    public expected batch size. The partial sum lives in this call alone: should a piece fail, it is gone with
    the call. An empty sample is one piece with no rows, and its result is pure noise.

    Args:
        model: Its trainable parameters are covered, all of them.
        loss_fn: Gives one loss for each row of a piece.
        batches: The pieces, at least one; every tensor has leading dimension examples * views.
        plan: Sampler, clipping, noise and event, bound together.
        clip: Clipping of this step; `plan.first_clip` or the previous step's `next_clip`.
        engine: Computes sums of clipped gradients.
        noise: The run's noise stream; its numbers of `step` are used up by this call.
        step: Number of the step, from 0.
        views: Augmented views of each example; their mean gradient is clipped once.
    """
    sums = {name: torch.zeros_like(p, dtype=_wide(p.dtype)) for name, p in model.named_parameters() if p.requires_grad}
    norms, losses, sensitivity = [], [], 0.0
    for batch in batches:
        clipped = engine.clipped_sum(model, loss_fn, batch, clip, views=views)
        for name, values in clipped.grads.items():
            sums[name] += values
        sensitivity = max(sensitivity, clipped.sensitivity)
        norms.append(clipped.norms_B)
        losses.append(clipped.losses_B)
    add_gaussian_noise(sums, noise.derive("gradient"), step, stddev=plan.gradient_noise_multiplier * sensitivity)
    for values in sums.values():
        values.div_(plan.dpsgd.expected_batch_size)
    norms_B = torch.cat(norms)
    return NoisyGradient(
        grads=sums,
        next_clip=_next_clip(plan, clip, norms_B, noise, step),
        loss=float(torch.cat(losses).mean()),
        batch_size=len(norms_B),
        clipped_share=_clipped_share(clip, norms_B),
    )


def plain_gradient(model: nn.Module, loss_fn: LossFn, batches: Iterable[Batch], *, views: int = 1) -> NoisyGradient:
    """The ordinary mean gradient, without clipping and without noise: not private, for comparison."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    sums = {name: torch.zeros_like(p, dtype=_wide(p.dtype)) for name, p in named.items()}
    total, rows = 0.0, 0
    for batch in batches:
        losses = loss_fn(model, batch)
        grads = torch.autograd.grad(losses.sum(), list(named.values()), allow_unused=True)
        for name, grad in zip(named, grads, strict=True):
            if grad is not None:
                sums[name] += grad
        total, rows = total + float(losses.detach().sum()), rows + len(losses)
    for values in sums.values():
        values.div_(max(rows, 1))
    return NoisyGradient(
        grads=sums,
        next_clip=Flat(clip_norm=1.0),
        loss=total / rows if rows else float("nan"),
        batch_size=rows // views,
        clipped_share=0.0,
    )


def _next_clip(plan: Plan, clip: Clip, norms_B: Tensor, noise: SecureStream, step: int) -> Clip:
    adaptive = plan.adaptive
    if adaptive is None or not isinstance(clip, Flat):
        return clip
    expected = plan.dpsgd.expected_batch_size
    centered = float((norms_B <= clip.clip_norm).sum()) - 0.5 * len(norms_B)
    draw = float(standard_normal(noise.derive("count"), step, 1)[0])
    noisy = centered + adaptive.count_stddev(expected) * draw
    return Flat(clip_norm=adaptive.next_clip_norm(clip.clip_norm, noisy, expected))


def _clipped_share(clip: Clip, norms_B: Tensor) -> float:
    if not isinstance(clip, Flat) or not len(norms_B):
        return 0.0
    return float((norms_B > clip.clip_norm).float().mean())


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32
