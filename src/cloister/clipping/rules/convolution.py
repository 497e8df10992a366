"""The rule for convolutions in one, two and three dimensions.

The patches of the input are the factors of a contraction, with one term for each place of the output. (Bu, Mao,
Xu 2022, "Scalable and efficient training of large convolutional neural networks with DP", arXiv:2205.10683.)

Shape suffixes: B examples, R rows, K groups, C channels of a group, L places of the output, d patch, p outputs.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from cloister.clipping.rules.contraction import Contraction
from cloister.errors import UnsupportedLayer

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from cloister.clipping.tape import Recorder

__all__ = ["convolution"]

Sizes = int | tuple[int, ...]


def convolution(operation: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`torch.nn.functional.conv1d`, `conv2d` or `conv3d`, recorded."""

    def recorded(  # noqa: PLR0917 - the signature of torch.nn.functional.conv2d
        recorder: Recorder,
        input: Tensor,  # noqa: A002 - the name in the signature it stands for
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Sizes = 1,
        padding: Sizes | str = 0,
        dilation: Sizes = 1,
        groups: int = 1,
    ) -> Tensor:
        dims = weight.dim() - 2
        dilation = _each(dilation, dims)
        x, padding = _numeric_padding(input, weight.shape[2:], dilation, padding)
        use = _Convolution(
            weight=weight, bias=bias, stride=_each(stride, dims), padding=padding, dilation=dilation, groups=groups
        )
        if input.dim() != weight.dim():
            name = recorder.name_of(weight) or recorder.name_of(bias)
            raise UnsupportedLayer(
                f"{operation.__name__} with parameter {name} got an input of shape {tuple(input.shape)}; "
                f"expected {weight.dim()} dimensions",
                hint="keep the rows of the batch in the leading dimension",
            )
        return recorder.record(use, operation.__name__, x, weight=weight, bias=bias)

    return recorded


class _Convolution(Contraction):
    def __init__(
        self,
        *,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        dilation: tuple[int, ...],
        groups: int,
    ) -> None:
        self.weight = weight.detach()
        self.bias = None if bias is None else bias.detach()
        self.shape = weight.shape
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    def forward(self, x: Tensor) -> Tensor:
        settings = (self.stride, self.padding, self.dilation, False, (0,) * len(self.stride), self.groups)
        return torch.convolution(x, self.weight, self.bias, *settings)

    def input_grad(self, x: Tensor, grad: Tensor) -> Tensor:
        return self._backward(grad, x.to(grad.dtype), [True, False, False])[0].to(x.dtype)

    def sizes(self) -> tuple[int, int, int, int]:
        outputs, *patch = self.shape
        terms = self.grad[0, 0].numel() * (len(self.grad) // self.examples)
        return self.groups, terms, torch.Size(patch).numel(), outputs // self.groups

    def factors(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        views = len(self.grad) // self.examples
        rows = slice(start * views, stop * views)
        a_RKLd = self._patches(self.input[rows].to(self.dtype))
        g_RKpL = self.grad[rows].to(self.dtype).reshape(len(a_RKLd), self.groups, -1, a_RKLd.shape[2])
        return _join(a_RKLd, views), _join(g_RKpL.transpose(2, 3), views)

    def arrange(self, products_bKpd: Tensor) -> Tensor:
        outputs, channels, *kernel = self.shape
        return products_bKpd.reshape(-1, outputs, *kernel, channels).movedim(-1, 2)

    def folded_sum(self, factors_B: Tensor) -> Tensor:
        factors_R = factors_B.repeat_interleave(len(self.grad) // self.examples)
        scaled = self.grad * factors_R.view(-1, *[1] * (self.grad.dim() - 1))
        return self._backward(scaled.to(self.dtype), self.input.to(self.dtype), [False, True, False])[1]

    def bias_grads(self) -> Tensor:
        sums = self.grad.flatten(2).sum(dim=2, dtype=self.dtype)
        return sums.view(self.examples, -1, self.shape[0]).sum(dim=1)

    def _patches(self, x: Tensor) -> Tensor:
        """Input patches, (rows, K, L, d) with the channel last in d, so that the one copy moves long runs."""
        if any(self.padding):
            x = F.pad(x, [side for pad in reversed(self.padding) for side in (pad, pad)])
        kernel = self.shape[2:]
        dims = len(kernel)
        x = x.movedim(1, -1).contiguous()
        for axis, (size, stride, dilation) in enumerate(zip(kernel, self.stride, self.dilation, strict=True), start=1):
            x = x.unfold(axis, dilation * (size - 1) + 1, stride)[..., ::dilation]
        x = x.reshape(*x.shape[: 1 + dims], self.groups, -1, *kernel)  # rows, places..., K, C, kernel...
        places, offsets = range(1, 1 + dims), range(3 + dims, 3 + 2 * dims)
        x = x.permute(0, 1 + dims, *places, *offsets, 2 + dims)
        return x.reshape(*x.shape[:2], x.shape[2 : 2 + dims].numel(), self.shape[1:].numel())

    def _backward(self, grad: Tensor, x: Tensor, mask: list[bool]) -> tuple[Tensor, Tensor, Tensor]:
        settings: tuple[Any, ...] = (self.stride, self.padding, self.dilation, False, (0,) * len(self.stride))
        gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
            grad, x, self.weight.to(grad.dtype), None, *settings, self.groups, mask
        )
        return gradients


def _join(values: Tensor, views: int) -> Tensor:
    """Make the terms of all views of an example terms of the example: (R, K, L, n) to (B, K, views * L, n)."""
    if views == 1:
        return values
    return values.view(-1, views, *values.shape[1:]).transpose(1, 2).flatten(2, 3)


def _numeric_padding(
    x: Tensor, kernel: torch.Size, dilation: tuple[int, ...], padding: Sizes | str
) -> tuple[Tensor, tuple[int, ...]]:
    """Padding as numbers; what cannot be equal on both sides is padded to the input here."""
    if padding == "valid":
        return x, (0,) * len(kernel)
    if padding != "same":
        return x, _each(padding, len(kernel))  # type: ignore[arg-type]
    totals = [d * (size - 1) for d, size in zip(dilation, kernel, strict=True)]
    odd = [total % 2 for total in totals]
    if any(odd):
        x = F.pad(x, list(itertools.chain.from_iterable((0, extra) for extra in reversed(odd))))
    return x, tuple(total // 2 for total in totals)


def _each(value: Sizes, dims: int) -> tuple[int, ...]:
    sizes = (value,) if isinstance(value, int) else tuple(value)
    return sizes * dims if len(sizes) == 1 else sizes
