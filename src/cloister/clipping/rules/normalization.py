"""The rule for the scale and shift that follow a normalization.

The normalization itself has no parameters and stays with autograd. Layer, group, RMS and instance norm differ in
it, and in the axis along which scale and shift lie.

Shape suffixes: B examples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional as F

from cloister.clipping.tape import Use

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from cloister.clipping.tape import Recorder

__all__ = ["group_norm", "instance_norm", "layer_norm", "rms_norm"]


def layer_norm(  # noqa: PLR0917 - the signature it stands for
    recorder: Recorder,
    input: Tensor,  # noqa: A002 - here and below: the name in the signature it stands for
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """`torch.nn.functional.layer_norm`, recorded."""
    normalized = F.layer_norm(input, normalized_shape, eps=eps)
    use = _ScaleShift(weight, bias, first_axis=input.dim() - len(normalized_shape))
    return recorder.record(use, "layer_norm", normalized, weight=weight, bias=bias)


def rms_norm(
    recorder: Recorder,
    input: Tensor,  # noqa: A002
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """`torch.nn.functional.rms_norm`, recorded."""
    normalized = F.rms_norm(input, normalized_shape, eps=eps)
    use = _ScaleShift(weight, None, first_axis=input.dim() - len(normalized_shape))
    return recorder.record(use, "rms_norm", normalized, weight=weight)


def group_norm(  # noqa: PLR0917 - the signature it stands for
    recorder: Recorder,
    input: Tensor,  # noqa: A002
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """`torch.nn.functional.group_norm`, recorded."""
    normalized = F.group_norm(input, num_groups, eps=eps)
    return recorder.record(_ScaleShift(weight, bias, first_axis=1), "group_norm", normalized, weight=weight, bias=bias)


def instance_norm(  # noqa: PLR0917 - the signature it stands for
    recorder: Recorder,
    input: Tensor,  # noqa: A002
    running_mean: None = None,  # noqa: ARG001 - refused before this rule is asked
    running_var: None = None,  # noqa: ARG001
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,  # noqa: ARG001 - always, without running statistics
    momentum: float = 0.1,  # noqa: ARG001 - of the running statistics
    eps: float = 1e-5,
) -> Tensor:
    """`torch.nn.functional.instance_norm` without running statistics, recorded."""
    normalized = F.instance_norm(input, eps=eps)
    use = _ScaleShift(weight, bias, first_axis=1)
    return recorder.record(use, "instance_norm", normalized, weight=weight, bias=bias)


class _ScaleShift(Use):
    """y = x * weight + bias, with weight and bias along consecutive axes of x from `first_axis`."""

    def __init__(self, weight: Tensor | None, bias: Tensor | None, first_axis: int) -> None:
        self.weight = None if weight is None else weight.detach()
        self.bias = None if bias is None else bias.detach()
        self.first_axis = first_axis
        self._grads: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.weight is None else x * self._along(self.weight, x)
        return y if self.bias is None else y + self._along(self.bias, y)

    def input_grad(self, x: Tensor, grad: Tensor) -> Tensor:
        return (grad if self.weight is None else grad * self._along(self.weight, x)).to(x.dtype)

    def squared_norms(self, slot: str) -> Tensor:
        return self._all(slot).flatten(1).square().sum(dim=1)

    def per_example(self, slot: str, start: int, stop: int) -> Tensor:
        return self._all(slot)[start:stop]

    def weighted_sum(self, slot: str, factors_B: Tensor) -> Tensor:
        return (factors_B @ self._all(slot).flatten(1)).view(self._all(slot).shape[1:])

    def drop(self, lost_B: Tensor) -> None:
        super().drop(lost_B)
        self._grads = {}

    def _all(self, slot: str) -> Tensor:
        """Gradients of all examples, shape (B, *parameter): sums over every other axis, and over the views."""
        if slot not in self._grads:
            products = self.grad.to(self.dtype)
            if slot == "weight":
                products = products * self.input.to(self.dtype)
            parameter = self.weight if slot == "weight" else self.bias
            assert parameter is not None
            last = self.first_axis + parameter.dim()
            axes = [axis for axis in range(1, products.dim()) if not self.first_axis <= axis < last]
            rows = products.sum(dim=axes) if axes else products
            self._grads[slot] = rows.reshape(self.examples, -1, *parameter.shape).sum(dim=1)
        return self._grads[slot]

    def _along(self, parameter: Tensor, x: Tensor) -> Tensor:
        return parameter.view(*parameter.shape, *[1] * (x.dim() - self.first_axis - parameter.dim()))
