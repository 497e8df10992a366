"""Clipping: how the contribution of one example to a sum of gradients is bounded.

Shape suffixes: B examples, G groups of parameters.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cloister._validate import check_count, check_positive
from cloister.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["Automatic", "Clip", "Flat", "PerLayer", "Value"]

# Factors are this much smaller than the formula says, so that float32 rounding in the norms and in the weighted
# sums cannot lift a contribution over the bound that noise is computed from.
_ROUNDING_MARGIN = 1.0 - 1e-5


class Clip(ABC):
    """A bound on the L2 norm of what one example adds to the sum of gradients.

    A clip that works on norms multiplies the gradient of each group of parameters by a factor computed from
    that group's norm. `Value` works on single entries instead.
    """

    def groups(self, names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """Which parameters share a norm; one group of all of them unless a subclass says otherwise."""
        return (tuple(names),)

    @abstractmethod
    def coefficients(self, norms_BG: Tensor) -> Tensor:
        """Factors in [0, inf), shape (B, G), for the gradients of each example and group.

        The factor is 0 where a norm is not finite, or so large that the factor would be subnormal.
        """

    @abstractmethod
    def sensitivity(self, num_parameters: int) -> float:
        """L2 bound of one unit's whole contribution; what noise is computed from.

        Args:
            num_parameters: How many trainable numbers the gradient has.
        """


@dataclass(frozen=True, kw_only=True)
class Flat(Clip):
    """Scale the whole gradient down to `clip_norm` where it is longer (Abadi et al. 2016, Algorithm 1).

    >>> Flat(clip_norm=1.0).coefficients(torch.tensor([[4.0], [0.5], [float("nan")]])).flatten()
    tensor([0.2500, 1.0000, 0.0000])
    """

    clip_norm: float

    def __post_init__(self) -> None:
        check_positive(clip_norm=self.clip_norm)

    def coefficients(self, norms_BG: Tensor) -> Tensor:  # noqa: D102
        return _shrink(norms_BG, self.clip_norm)

    def sensitivity(self, num_parameters: int) -> float:  # noqa: ARG002, D102
        return self.clip_norm


@dataclass(frozen=True, kw_only=True)
class PerLayer(Clip):
    """Scale each layer's gradient down to ``clip_norm / sqrt(layers)``; together they have at most `clip_norm`.

    The parameters that one module holds directly (weight and bias) are one layer (McMahan et al. 2018, section
    3.1). A tied parameter belongs to the module that names it first.

    >>> PerLayer(clip_norm=1.0).groups(["a.weight", "a.bias", "b.weight"])
    (('a.weight', 'a.bias'), ('b.weight',))
    """

    clip_norm: float

    def __post_init__(self) -> None:
        check_positive(clip_norm=self.clip_norm)

    def groups(self, names: Sequence[str]) -> tuple[tuple[str, ...], ...]:  # noqa: D102
        layers: dict[str, list[str]] = {}
        for name in names:
            layers.setdefault(name.rpartition(".")[0], []).append(name)
        return tuple(tuple(layer) for layer in layers.values())

    def coefficients(self, norms_BG: Tensor) -> Tensor:  # noqa: D102
        return _shrink(norms_BG, self.clip_norm / math.sqrt(norms_BG.shape[1]))

    def sensitivity(self, num_parameters: int) -> float:  # noqa: ARG002, D102
        return self.clip_norm


@dataclass(frozen=True, kw_only=True)
class Automatic(Clip):
    """Scale each gradient by ``clip_norm / (norm + stability)``, whatever its norm.

    Every example then contributes nearly `clip_norm`, never more, and there is no clip norm to tune apart from
    the learning rate (Bu, Wang, Zha, Karypis 2022, "Automatic clipping", AUTO-S; arXiv:2206.07136).
    """

    clip_norm: float = 1.0
    stability: float = 0.01

    def __post_init__(self) -> None:
        check_positive(clip_norm=self.clip_norm, stability=self.stability)

    def coefficients(self, norms_BG: Tensor) -> Tensor:  # noqa: D102
        factors = self.clip_norm / (norms_BG + self.stability) * _ROUNDING_MARGIN
        return _sound(factors, norms_BG)

    def sensitivity(self, num_parameters: int) -> float:  # noqa: ARG002, D102
        return self.clip_norm


@dataclass(frozen=True, kw_only=True)
class Value(Clip):
    """Clamp each entry of each example's gradient to [`low`, `high`].

    One example's contribution to d parameters has L2 norm up to ``sqrt(d) * max(|low|, |high|)``, and that is
    what noise is computed from: for all but tiny models much more noise than a bound on the norm needs.

    >>> Value(low=-0.5, high=0.25).sensitivity(400)
    10.0
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise InputError(f"low is {self.low!r} and high is {self.high!r}; expected finite numbers, low < high")

    def coefficients(self, norms_BG: Tensor) -> Tensor:  # noqa: ARG002, D102
        raise InputError("value clipping clamps single entries and has no factors", hint='engine = "materialized"')

    def sensitivity(self, num_parameters: int) -> float:  # noqa: D102
        check_count(num_parameters=num_parameters)
        return math.sqrt(num_parameters) * max(abs(self.low), abs(self.high))


def _shrink(norms_BG: Tensor, clip_norm: float) -> Tensor:
    return _sound((clip_norm / norms_BG).clamp(max=1.0) * _ROUNDING_MARGIN, norms_BG)


def _sound(factors_BG: Tensor, norms_BG: Tensor) -> Tensor:
    """Factor 0 where the norm is not finite, and where the factor is too small to be rounded well."""
    normal = factors_BG >= torch.finfo(factors_BG.dtype).tiny
    return torch.where(norms_BG.isfinite() & normal, factors_BG, 0.0)
