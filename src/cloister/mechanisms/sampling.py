"""Poisson sampling: every example is in the batch independently of all others.

The batch of a step is a function of (stream, step, record) alone, so that every process of a distributed run
draws the same batch without talking. It may be empty; an empty batch is a step like any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from cloister._validate import check_count
from cloister.accounting import Event, Gaussian, PoissonSampled, TruncatedPoissonGaussian
from cloister.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cloister._rng import SecureStream

__all__ = ["PoissonSampler", "Sampler", "TruncatedPoissonSampler"]


class Sampler(Protocol):
    """Draws the batch of a step and says what one noisy release of its sum is."""

    def sample(self, stream: SecureStream, step: int, num_examples: int) -> NDArray[np.int64]:
        """Record numbers of the batch, ascending; possibly none."""
        ...

    def event(self, noise_multiplier: float) -> Event:
        """One release of the batch's clipped sum under Gaussian noise."""
        ...


@dataclass(frozen=True, kw_only=True)
class PoissonSampler:
    """Each of the examples with probability `sampling_prob`, independently.

    >>> from cloister._rng import SecureStream
    >>> sampler = PoissonSampler(sampling_prob=0.5)
    >>> batch = sampler.sample(SecureStream(bytes(32)), step=0, num_examples=10)
    >>> batch.tolist() == sampler.sample(SecureStream(bytes(32)), step=0, num_examples=10).tolist()
    True
    """

    sampling_prob: float

    def __post_init__(self) -> None:
        _check_sampling_prob(self.sampling_prob)

    def sample(self, stream: SecureStream, step: int, num_examples: int) -> NDArray[np.int64]:
        """Record numbers of the batch of `step`, ascending; possibly none."""
        draws = stream.uint64(step, num_examples)
        return np.flatnonzero(_below(draws, self.sampling_prob)).astype(np.int64)

    def event(self, noise_multiplier: float) -> Event:
        """The Poisson-sampled Gaussian mechanism."""
        return PoissonSampled(self.sampling_prob, Gaussian(noise_multiplier))


@dataclass(frozen=True, kw_only=True)
class TruncatedPoissonSampler:
    """A Poisson sample of which at most `max_batch_size` records are kept, chosen uniformly at random.

    Shapes are bounded, which compiled code and accelerators like. Source: arXiv:2508.15089. The number of
    examples enters the accounting, so the guarantee is under REPLACE_ONE or REPLACE_SPECIAL.
    """

    sampling_prob: float
    max_batch_size: int
    num_examples: int

    def __post_init__(self) -> None:
        _check_sampling_prob(self.sampling_prob)
        check_count(max_batch_size=self.max_batch_size, num_examples=self.num_examples)

    def sample(self, stream: SecureStream, step: int, num_examples: int) -> NDArray[np.int64]:
        """Record numbers of the batch of `step`, ascending; possibly none.

        Given that they are in the sample, the draws of its records are independent and uniform, so the
        records with the smallest draws are a uniformly random choice among them.
        """
        if num_examples != self.num_examples:
            raise InputError(f"the data has {num_examples} examples; the sampler was planned for {self.num_examples}")
        draws = stream.uint64(step, num_examples)
        chosen = np.flatnonzero(_below(draws, self.sampling_prob))
        if len(chosen) > self.max_batch_size:
            smallest = np.argpartition(draws[chosen], self.max_batch_size)[: self.max_batch_size]
            chosen = np.sort(chosen[smallest])
        return chosen.astype(np.int64)

    def event(self, noise_multiplier: float) -> Event:
        """The truncated Poisson-sampled Gaussian mechanism."""
        return TruncatedPoissonGaussian(self.num_examples, self.sampling_prob, self.max_batch_size, noise_multiplier)


def _below(draws: NDArray[np.uint64], probability: float) -> NDArray[np.bool_]:
    # probability * 2**64 is exact; rounding down makes inclusion at most `probability` (off by < 2**-64).
    threshold = int(probability * 2.0**64)
    if threshold >= 2**64:
        return np.ones(len(draws), dtype=np.bool_)
    return draws < np.uint64(threshold)


def _check_sampling_prob(sampling_prob: float) -> None:
    if not 0 < sampling_prob <= 1:
        raise InputError(
            f"sampling_prob is {sampling_prob!r}; expected a number above 0, at most 1",
            hint="expected_batch_size must not exceed the number of examples",
        )
