"""Checks before anything runs: what mixes examples is refused, by name where it has one.

Shape suffixes: B examples. A batch has rows = B * views.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.overrides import TorchFunctionMode

from cloister.clipping.base import own_buffers, trainable_parameters
from cloister.clipping.materialized import clip_and_sum
from cloister.errors import InputError, PrivacyError, UnsupportedLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    from cloister.clipping.base import Batch, ClippingEngine, LossFn
    from cloister.mechanisms.clip import Clip

__all__ = ["check_independence", "check_model", "check_one_example"]

_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
_TOLERANCE_HALF = 5e-2


def check_model(model: nn.Module) -> None:
    """Refuse modules known to mix examples, by name and with the replacement that works.

    Refused are batch norm of every kind, in training mode or not, since training would switch it on; instance
    norm with running statistics; and spectral norm, whose power iteration rewrites buffers in every forward pass.

    Raises:
        UnsupportedLayer: Naming the module, its class and the replacement.
    """
    for name, module in model.named_modules():
        replacement = _replacement(module)
        if replacement:
            raise UnsupportedLayer(
                f"module {name or 'model'} ({type(module).__name__}) mixes examples or rewrites its buffers",
                hint=f"use {replacement}",
            )


def check_independence(model: nn.Module, loss_fn: LossFn, batch: Batch) -> None:
    """Check that the loss of each row is the same alone, in the batch, and in other company.

    It catches custom modules and losses that look at the whole batch: its mean, its maximum, its number of
    tokens. Parameters are moved a little for the check, since a freshly initialized last layer of zeros would
    hide everything before it. Dropout is off; a model that is random in another way is checked in eval mode.
    The batch may be synthetic. The model is left as it is.

    Args:
        model: To be trained.
        loss_fn: Gives one loss for each row.
        batch: At least two rows, better four; each is run on its own.

    Raises:
        InputError: Fewer than two rows.
        UnsupportedLayer: A row's loss depends on other rows.
    """
    rows = len(batch[0])
    if rows < 2:
        raise InputError(f"the batch has {rows} rows; expected at least 2 to compare")
    modes = [(module, module.training) for module in model.modules()]
    try:
        losses = _nearby_losses(model, loss_fn)
        if not torch.equal(losses(batch), losses(batch)):
            model.eval()
        together = losses(batch)
        alone = torch.cat([losses(tuple(t[i : i + 1] for t in batch)) for i in range(rows)])
        backward = losses(tuple(t.flip(0) for t in batch)).flip(0)
    finally:
        for module, mode in modes:
            module.training = mode
    for other, company in ((alone, "alone"), (backward, "in another order")):
        _refuse_difference(together, other, company)


def check_one_example(engine: ClippingEngine, model: nn.Module, loss_fn: LossFn, batch: Batch, clip: Clip) -> None:
    """Check an engine against plain autograd: the clipped gradient of the batch's first row.

    Dropout is off for the check.

    Raises:
        PrivacyError: The two differ, with the name of the parameter where they differ most.
    """
    row = tuple(t[:1] for t in batch)
    parameters = trainable_parameters(model)
    with _NoDropout():
        result = engine.clipped_sum(model, loss_fn, row, clip)
        buffers = own_buffers(model)
        losses = loss_fn(lambda *args, **kwargs: functional_call(model, buffers, args, kwargs), row)
        grads = torch.autograd.grad(losses.sum(), list(parameters.values()), allow_unused=True)
    plain = {
        name: torch.zeros_like(p)[None] if grad is None else grad[None]
        for (name, p), grad in zip(parameters.items(), grads, strict=True)
    }
    expected, _ = clip_and_sum(clip, plain, losses.detach().isfinite())
    scale = max(float(g.abs().max()) for g in expected.values() if g.numel())
    errors = {name: float((result.grads[name] - g).abs().max()) for name, g in expected.items() if g.numel()}
    worst = max(errors, key=lambda name: errors[name])
    if not errors[worst] <= _tolerance(*(p.dtype for p in parameters.values())) * scale:
        raise PrivacyError(
            f"engine {engine.name} and plain autograd differ for parameter {worst} by {errors[worst]:.3g}, "
            f"where the largest entry is {scale:.3g}",
            hint='engine = "materialized"',
        )


class _NoDropout(TorchFunctionMode):
    """While active, dropout does nothing."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _DROPOUTS:
            return args[0] if args else kwargs["input"]
        if func is F.scaled_dot_product_attention:
            if len(args) > 4:
                args = (*args[:4], 0.0, *args[5:])
            else:
                kwargs["dropout_p"] = 0.0
        return func(*args, **kwargs)


_DROPOUTS = {
    F.alpha_dropout,
    F.dropout,
    F.dropout1d,
    F.dropout2d,
    F.dropout3d,
    F.feature_alpha_dropout,
    torch.dropout,
    torch.dropout_,
}


def _replacement(module: nn.Module) -> str | None:
    if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 - the class all batch norms share
        channels = getattr(module, "num_features", 0)
        return f"torch.nn.GroupNorm({_group_count(channels)}, {channels})" if channels else "torch.nn.GroupNorm"
    if isinstance(module, nn.modules.instancenorm._InstanceNorm) and module.track_running_stats:  # noqa: SLF001
        return f"torch.nn.{type(module).__name__}({module.num_features}, track_running_stats=False)"
    if isinstance(module, parametrizations._SpectralNorm):  # noqa: SLF001
        return "the layer without spectral_norm, or torch.nn.utils.parametrizations.weight_norm"
    return None


def _group_count(channels: int) -> int:
    """The largest number of groups up to 32 that divides the channels."""
    return max(count for count in range(1, min(32, channels) + 1) if channels % count == 0)


def _nearby_losses(model: nn.Module, loss_fn: LossFn) -> Callable[[Batch], Tensor]:
    """The loss function at parameters a tenth of their scale away, without gradient and without dropout."""
    generator = torch.Generator().manual_seed(0)
    values = dict(_moved(dict(model.named_parameters()), generator))

    def losses(batch: Batch) -> Tensor:
        state = {**values, **own_buffers(model)}
        with torch.no_grad(), _NoDropout():
            return loss_fn(lambda *args, **kwargs: functional_call(model, state, args, kwargs), batch)

    return losses


def _moved(parameters: Mapping[str, Tensor], generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
    for name, p in parameters.items():
        direction = torch.randn(p.shape, generator=generator, dtype=torch.float32).to(p)
        scale = float(p.detach().float().square().mean().sqrt()) if p.numel() else 0.0
        yield name, p.detach() + 0.1 * (scale or 0.1) * direction


def _refuse_difference(together: Tensor, other: Tensor, company: str) -> None:
    error = ((together - other).abs() / together.abs().clamp(min=1.0)).nan_to_num(nan=float("inf"))
    error[(together == other) | (together.isnan() & other.isnan())] = 0.0
    worst = int(error.argmax())
    if error[worst] > _tolerance(together.dtype):
        raise UnsupportedLayer(
            f"the model or its loss mixes examples: row {worst} has loss {float(together[worst]):.6g} in the batch "
            f"and {float(other[worst]):.6g} {company}",
            hint="compute every example's loss from that example alone, and divide by its own number of tokens",
        )


def _tolerance(*dtypes: torch.dtype) -> float:
    return max(_TOLERANCE.get(dtype, _TOLERANCE_HALF) for dtype in dtypes)
