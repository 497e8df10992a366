"""The rule for linear layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from cloister.clipping.base import row_norms
from cloister.clipping.rules.contraction import Contraction

if TYPE_CHECKING:
    from torch import Tensor

    from cloister.clipping.tape import Recorder

__all__ = ["linear"]


def linear(recorder: Recorder, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:  # noqa: A002
    """`torch.nn.functional.linear`, recorded."""
    return recorder.record(_Linear(weight, bias), "linear", input, weight=weight, bias=bias)


class _Linear(Contraction):
    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight = weight.detach()
        self.bias = None if bias is None else bias.detach()
        self.shape = weight.shape

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def input_grad(self, x: Tensor, grad: Tensor) -> Tensor:
        return (grad @ self.weight.to(grad.dtype)).to(x.dtype)

    def sizes(self) -> tuple[int, int, int, int]:
        outputs, inputs = self.shape
        return 1, self.input.numel() // max(1, self.examples * inputs), inputs, outputs

    def factors(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        return self._split(self.input)[start:stop, None], self._split(self.grad)[start:stop, None]

    def squared_norms(self, slot: str) -> Tensor:
        if slot == "bias" or self.sizes()[1] != 1:
            return super().squared_norms(slot)
        # One term: the norm of an outer product. In float64, which neither overflows nor underflows here.
        a_B = row_norms(self._split(self.input), dtype=torch.float64)
        g_B = row_norms(self._split(self.grad), dtype=torch.float64)
        return (a_B * g_B).square().to(self.dtype)

    def arrange(self, products_bKpd: Tensor) -> Tensor:
        return products_bKpd[:, 0]

    def folded_sum(self, factors_B: Tensor) -> Tensor:
        scaled = self._split(self.grad) * factors_B[:, None, None]
        return scaled.flatten(0, 1).T @ self._split(self.input).flatten(0, 1)

    def bias_grads(self) -> Tensor:
        return self._split(self.grad).sum(dim=1)

    def _split(self, values: Tensor) -> Tensor:
        return values.reshape(self.examples, -1, values.shape[-1]).to(self.dtype)
