"""One forward and one backward pass in which operations with trainable parameters are recorded.

Shape suffixes: B examples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.func import functional_call
from torch.overrides import TorchFunctionMode, resolve_name

from cloister.clipping.base import example_losses, own_buffers, refuse_changed
from cloister.clipping.mixing import refuse_mixing
from cloister.clipping.rules import RULES
from cloister.errors import UnsupportedLayer

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from cloister.clipping.base import Batch, LossFn
    from cloister.clipping.tape import Recorder

__all__ = ["recorded_pass"]

_READS = (
    "data",
    "device",
    "dtype",
    "grad",
    "grad_fn",
    "is_cuda",
    "is_leaf",
    "is_sparse",
    "layout",
    "ndim",
    "requires_grad",
    "shape",
)
_METHODS = (
    "__len__",
    "detach",
    "dim",
    "element_size",
    "is_complex",
    "is_contiguous",
    "is_floating_point",
    "ndimension",
    "nelement",
    "numel",
    "size",
    "stride",
)

# What reads a parameter's form, or its value without its gradient: allowed on every parameter.
_HARMLESS: frozenset[Any] = frozenset(
    [getattr(torch.Tensor, name).__get__ for name in _READS] + [getattr(torch.Tensor, name) for name in _METHODS]
)


def recorded_pass(
    recorder: Recorder, model: nn.Module, loss_fn: LossFn, batch: Batch, *, weights_B: Tensor | None
) -> Tensor:
    """Run the model forward and backward, and fill the recorder's tape.

    Args:
        recorder: Its tape is filled.
        model: Left as it is.
        loss_fn: Gives one loss for each row.
        batch: Rows are examples * views.
        weights_B: What each example's loss counts; 1 if None.

    Returns:
        The loss of each example, detached.

    Raises:
        UnsupportedLayer: A trainable parameter was used in a way that no rule covers.
    """
    buffers = own_buffers(model)
    with torch.enable_grad():
        with _Interception(recorder):
            losses_B = example_losses(loss_fn(_forward(model, buffers), batch), recorder.examples, recorder.views)
            total = losses_B.sum() if weights_B is None else (losses_B * weights_B).sum()
        refuse_changed(buffers)
        if total.requires_grad:
            _backward(total, recorder)
    return losses_B.detach()


def _backward(total: Tensor, recorder: Recorder) -> None:
    leaves = [recorder.anchor, *recorder.parameters.values()]
    _, *grads = torch.autograd.grad(total, leaves, allow_unused=True)
    for name, grad in zip(recorder.parameters, grads, strict=True):
        if grad is not None:
            raise UnsupportedLayer(
                f"parameter {name} is used in a way that the engine cannot see",
                hint='views made before the call and custom autograd functions need engine = "materialized"',
            )


def _forward(model: nn.Module, buffers: dict[str, Tensor]) -> Callable[..., Tensor]:
    if not buffers:
        return model

    def forward(*args: Any, **kwargs: Any) -> Tensor:
        output: Tensor = functional_call(model, buffers, args, kwargs)
        return output

    return forward


class _Interception(TorchFunctionMode):
    """Sends operations on trainable parameters to their rules; refuses those without one."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        refuse_mixing(func, args, kwargs)
        names = self.recorder.names_in((args, kwargs))
        if not names or func in _HARMLESS:
            return func(*args, **kwargs)
        rule = RULES.get(func)
        if rule is None:
            raise UnsupportedLayer(
                f"{resolve_name(func) or func.__name__} has no rule and is given the trainable parameter {names[0]}",
                hint='engine = "materialized", or freeze the parameter',
            )
        if not torch.is_grad_enabled():
            return func(*args, **kwargs)
        inputs = self.recorder.names_in((args[:1], kwargs.get("input")))
        if inputs:
            raise UnsupportedLayer(
                f"{func.__name__} is given the trainable parameter {inputs[0]} as its input",
                hint='engine = "materialized", or freeze the parameter',
            )
        return rule(self.recorder, *args, **kwargs)
