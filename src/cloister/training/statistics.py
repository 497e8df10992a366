"""Column statistics bought from the budget, for columns about which nothing public is declared."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from cloister.accounting import Budget, Event, Gaussian, NonPrivate, NoOp, noise_for
from cloister.mechanisms import add_gaussian_noise

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cloister._rng import SecureStream
    from cloister.data import Source
    from cloister.training.recipe import Recipe

__all__ = ["Purchase", "plan_statistics"]

_DEFAULT_NOISE_MULTIPLIER = 15.0  # about epsilon 0.25 at delta 1e-5


@dataclass(frozen=True, kw_only=True)
class Purchase:
    """One Gaussian release of the histograms of some columns.

    Attributes:
        columns: Names of the columns.
        noise_multiplier: Noise relative to sensitivity; None where nothing is bought or the run is not private.
        private: False takes exact statistics.
    """

    columns: tuple[str, ...]
    noise_multiplier: float | None
    private: bool

    @property
    def event(self) -> Event:
        """What the release costs."""
        if not self.columns:
            return NoOp()
        return Gaussian(self.noise_multiplier) if self.noise_multiplier else NonPrivate()

    def run(self, source: Source, stream: SecureStream) -> Mapping[str, Any]:
        """Count, add noise, and turn the noisy histograms into encodings (post-processing).

        A row falls into exactly one bin of each column, so its contribution has an L2 norm of
        sqrt(number of columns): the sensitivity.
        """
        from cloister.data import columns_from_histograms  # noqa: PLC0415

        if not self.columns:
            return {}
        counts = torch.from_numpy(source.count_bins(self.columns)).double()
        stddev = (self.noise_multiplier or 0.0) * math.sqrt(len(self.columns))
        if stddev:
            add_gaussian_noise({"counts": counts}, stream.derive("statistics"), 0, stddev=stddev)
        return columns_from_histograms(
            self.columns, counts.numpy(), noise_stddev=stddev, num_examples=source.num_examples
        )


def plan_statistics(recipe: Recipe, columns: tuple[str, ...]) -> Purchase:
    """How much noise the statistics of `columns` get: their share of epsilon decides."""
    privacy = recipe.privacy
    noise = None
    if columns and privacy.private:
        noise = _DEFAULT_NOISE_MULTIPLIER
        if privacy.epsilon is not None and privacy.delta is not None:
            share = Budget(epsilon=privacy.epsilon * recipe.data.statistics.share, delta=privacy.delta)
            noise = noise_for(Gaussian, share)
    return Purchase(columns=columns, noise_multiplier=noise, private=privacy.private)
