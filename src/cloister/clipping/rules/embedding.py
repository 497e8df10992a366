"""The rule for embedding tables.

Shape suffixes: B examples, T tokens of an example, U different tokens of an example, over all examples, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from cloister.clipping.tape import Use
from cloister.errors import UnsupportedLayer

if TYPE_CHECKING:
    from torch import Tensor

    from cloister.clipping.tape import Recorder

__all__ = ["embedding"]


def embedding(  # noqa: PLR0917 - the signature of torch.nn.functional.embedding
    recorder: Recorder,
    input: Tensor,  # noqa: A002 - the name in the signature it stands for
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,  # noqa: ARG001 - of max_norm
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """`torch.nn.functional.embedding`, recorded."""
    settings = {"max_norm": max_norm is not None, "scale_grad_by_freq": scale_grad_by_freq, "sparse": sparse}
    for setting, present in settings.items():
        if present:
            raise UnsupportedLayer(
                f"embedding with parameter {recorder.name_of(weight)} uses {setting}", hint=f"leave out {setting}"
            )
    return recorder.record(_Embedding(weight, padding_idx), "embedding", input, weight=weight)


class _Embedding(Use):
    def __init__(self, weight: Tensor, padding_idx: int | None) -> None:
        self.weight = weight.detach()
        self.padding_idx = None if padding_idx is None else padding_idx % len(weight)
        self._segments: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        return F.embedding(x, self.weight)

    def input_grad(self, x: Tensor, grad: Tensor) -> Tensor:  # noqa: ARG002
        raise AssertionError("token numbers have no gradient")

    def squared_norms(self, slot: str) -> Tensor:  # noqa: ARG002
        keys_U, sums_UD = self._sums()
        squares_U = sums_UD.square().sum(dim=1)
        return squares_U.new_zeros(self.examples).index_add_(0, keys_U // len(self.weight), squares_U)

    def per_example(self, slot: str, start: int, stop: int) -> Tensor:  # noqa: ARG002
        keys_U, sums_UD = self._sums()
        rows, width = self.weight.shape
        inside = (keys_U >= start * rows) & (keys_U < stop * rows)
        flat = sums_UD.new_zeros((stop - start) * rows, width)
        return flat.index_copy_(0, keys_U[inside] - start * rows, sums_UD[inside]).view(-1, rows, width)

    def weighted_sum(self, slot: str, factors_B: Tensor) -> Tensor:  # noqa: ARG002
        keys_U, sums_UD = self._sums()
        rows = len(self.weight)
        scaled = sums_UD * factors_B[keys_U // rows, None]
        return torch.zeros_like(self.weight, dtype=self.dtype).index_add_(0, keys_U % rows, scaled)

    def drop(self, lost_B: Tensor) -> None:
        super().drop(lost_B)
        self._segments = None

    def _sums(self) -> tuple[Tensor, Tensor]:
        """For each token of each example its gradient: keys (example * rows + token) and sums over its places."""
        if self._segments is None:
            tokens_BT = self.input.reshape(self.examples, -1).long()
            example_B = torch.arange(self.examples, device=tokens_BT.device)
            keys = (example_B[:, None] * len(self.weight) + tokens_BT).flatten()
            grads = self.grad.reshape(len(keys), -1).to(self.dtype)
            if self.padding_idx is not None:
                kept = tokens_BT.flatten() != self.padding_idx
                keys, grads = keys[kept], grads[kept]
            keys_U, place = torch.unique(keys, return_inverse=True)
            sums_UD = grads.new_zeros(len(keys_U), grads.shape[1]).index_add_(0, place, grads)
            self._segments = keys_U, sums_UD
        return self._segments
