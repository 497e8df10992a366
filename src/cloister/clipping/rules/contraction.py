"""Per-example gradients that are products: the gradient of example i is sum_t g_it a_it^T.

Linear layers and convolutions have this form; t runs over tokens, pixels and views. Three ways lead to the norm,
and which is cheapest is a matter of sizes (T terms, d inputs, p outputs):

    gram      <A A^T, G G^T>, T x T matrices (Goodfellow 2015, arXiv:1510.01799; Li et al. 2022,
              arXiv:2110.05679, section 4). The weighted sum is one product over all examples.
    keep      the gradients themselves, p x d. The weighted sum is taken from them, so the product over all
              examples is saved.
    discard   the same a few examples at a time, keeping only the norms; for products too large to keep.

Shape suffixes: B examples (b some of them), K groups of a convolution, T terms, d inputs, p outputs,
N entries of an example's Gram matrices.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Literal

import torch

from cloister.clipping.base import row_norms
from cloister.clipping.tape import Use, unit_roundoff

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

__all__ = ["Contraction"]

# Costs in multiply-adds for each number of a product: written, read for the norm and read for the sum (keep), or used
# at once while it is in the cache (discard). Measured on a CPU; they only decide which way is taken.
_KEEP_COST = 35
_DISCARD_COST = 16
# Products up to this many numbers (16 MiB) are kept whatever the layer itself holds.
_KEEP_ALWAYS = 2**22
# Examples are worked on in chunks of about this many numbers, so that a chunk stays in the cache.
_CHUNK = 2**19

Way = Literal["gram", "keep", "discard"]


class Contraction(Use):
    """The rule for weights whose gradient is a product of inputs and output gradients, and for their biases."""

    shape: torch.Size
    _kept: Tensor | None = None
    _bias: Tensor | None = None

    @abstractmethod
    def sizes(self) -> tuple[int, int, int, int]:
        """K, T, d, p: groups, terms of each example, inputs and outputs of each group."""

    @abstractmethod
    def factors(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """a_bKTd and g_bKTp of examples start to stop - 1."""

    @abstractmethod
    def arrange(self, products_bKpd: Tensor) -> Tensor:
        """Products in the shape of the parameter, (b, *shape)."""

    @abstractmethod
    def folded_sum(self, factors_B: Tensor) -> Tensor:
        """The weighted sum as one product over all examples."""

    @abstractmethod
    def bias_grads(self) -> Tensor:
        """Gradients of the bias, shape (B, p)."""

    def squared_norms(self, slot: str) -> Tensor:  # noqa: D102
        if slot == "bias":
            return self._bias_grads().square().sum(dim=1)
        way = self.way()
        if way == "keep":
            self._kept = torch.cat([self._products(i, j) for i, j in self._chunks()])
            return row_norms(self._kept).square()
        some = self._gram_norms if way == "gram" else self._product_norms
        return torch.cat([some(i, j) for i, j in self._chunks()])

    def per_example(self, slot: str, start: int, stop: int) -> Tensor:  # noqa: D102
        if slot == "bias":
            return self._bias_grads()[start:stop]
        return self.arrange(self._products(start, stop))

    def weighted_sum(self, slot: str, factors_B: Tensor) -> Tensor:  # noqa: D102
        if slot == "bias":
            return factors_B @ self._bias_grads()
        if self._kept is not None:
            return self.arrange((factors_B @ self._kept.flatten(1)).view(1, *self._kept.shape[1:]))[0]
        return self.folded_sum(factors_B)

    def rounding(self, slot: str, grads: Tensor, start: int, stop: int) -> Tensor:  # noqa: D102
        if slot == "bias":
            return super().rounding(slot, grads, start, stop)
        return self._rounding(*self.factors(start, stop))

    def drop(self, lost_B: Tensor) -> None:  # noqa: D102
        super().drop(lost_B)
        self._bias = None
        if self._kept is not None:
            self._kept = self._kept.masked_fill(lost_B[:, None, None, None], 0)

    def way(self) -> Way:
        """The cheapest way to the norm, counted in multiply-adds beyond those of an ordinary backward pass."""
        groups, terms, inputs, outputs = self.sizes()
        gram = groups * terms * terms * (inputs + outputs + 3)
        product = groups * inputs * outputs
        room = max(_KEEP_ALWAYS, 2 * (self.input.numel() + self.grad.numel()))
        costs: dict[Way, int] = {"gram": gram, "discard": (terms + _DISCARD_COST) * product}
        if self.examples * product <= room:
            costs["keep"] = _KEEP_COST * product
        return min(costs, key=lambda way: costs[way])

    def _gram_norms(self, start: int, stop: int) -> Tensor:
        a_bKTd, g_bKTp = self.factors(start, stop)
        aa_bN = (a_bKTd @ a_bKTd.transpose(-1, -2)).flatten(1)
        gg_bN = (g_bKTp @ g_bKTp.transpose(-1, -2)).flatten(1)
        # Where the terms cancel, rounding in the Gram matrices can exceed the result. Counting the rounding on top
        # keeps the factor from ever being too large.
        scale_b = row_norms(aa_bN) * row_norms(gg_bN)
        exact_b = aa_bN.mul_(gg_bN).sum(dim=1)
        return exact_b.clamp(min=0) + 16 * unit_roundoff(self.dtype) * scale_b

    def _product_norms(self, start: int, stop: int) -> Tensor:
        a_bKTd, g_bKTp = self.factors(start, stop)
        return (row_norms(_product(a_bKTd, g_bKTp)) + self._rounding(a_bKTd, g_bKTp)).square()

    def _rounding(self, a_bKTd: Tensor, g_bKTp: Tensor) -> Tensor:
        terms_bKT: Tensor = a_bKTd.norm(dim=3) * g_bKTp.norm(dim=3)
        return 2 * unit_roundoff(self.dtype) * terms_bKT.sum(dim=(1, 2))

    def _products(self, start: int, stop: int) -> Tensor:
        return _product(*self.factors(start, stop))

    def _chunks(self) -> Iterator[tuple[int, int]]:
        groups, terms, inputs, outputs = self.sizes()
        largest = groups * max(terms * inputs, inputs * outputs, 1)
        size = max(1, math.ceil(_CHUNK / largest))
        return ((i, min(i + size, self.examples)) for i in range(0, self.examples, size))

    def _bias_grads(self) -> Tensor:
        if self._bias is None:
            self._bias = self.bias_grads()
        return self._bias


def _product(a_bKTd: Tensor, g_bKTp: Tensor) -> Tensor:
    return g_bKTp.transpose(-1, -2) @ a_bKTd
