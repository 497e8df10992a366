"""Optimizer, schedule and weight average: all of them post-processing of noisy gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from cloister.training.recipe import Training

__all__ = ["WeightAverage", "learning_rate_at", "make_optimizer"]


def make_optimizer(weights: Mapping[str, Tensor], training: Training) -> torch.optim.Optimizer:
    """SGD, Adam or AdamW over float32 weights."""
    tensors = list(weights.values())
    if training.optimizer == "sgd":
        return torch.optim.SGD(
            tensors, lr=training.learning_rate, momentum=training.momentum, weight_decay=training.weight_decay
        )
    kind = torch.optim.Adam if training.optimizer == "adam" else torch.optim.AdamW
    return kind(tensors, lr=training.learning_rate, weight_decay=training.weight_decay)


def learning_rate_at(step: int, steps: int, training: Training) -> float:
    """The learning rate of step number `step` (from 0) of `steps`."""
    warmup = min(1.0, (step + 1) / training.warmup_steps) if training.warmup_steps else 1.0
    if training.schedule == "constant":
        return training.learning_rate * warmup
    return training.learning_rate * warmup * 0.5 * (1.0 + math.cos(math.pi * step / steps))


@dataclass
class WeightAverage:
    """Exponential moving average of the weights (Polyak and Juditsky 1992; De et al. 2022, arXiv:2204.13650).

    Early steps use a smaller decay, (1 + t) / (10 + t), so that the random start is forgotten.
    """

    decay: float
    values: dict[str, Tensor]

    @classmethod
    def of(cls, weights: Mapping[str, Tensor], decay: float) -> WeightAverage:
        """Start from the present weights."""
        return cls(decay, {name: tensor.detach().clone() for name, tensor in weights.items()})

    @torch.no_grad()
    def update(self, weights: Mapping[str, Tensor], step: int) -> None:
        """Move toward the weights after step number `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, tensor in weights.items():
            self.values[name].lerp_(tensor.detach(), 1.0 - decay)
