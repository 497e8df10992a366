"""Epsilon by privacy loss distributions: tight, and the default.

Connect-the-dots distributions (Doroshenko, Ghazi, Kamath, Kumar, Manurangsi 2022) of single releases,
composed by FFT. Both come from dp_accounting; here it is decided how fine the grid is and how much of delta
floating point may have cost.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dp_accounting.pld import privacy_loss_distribution as pld

from cloister.accounting._dp_events import to_dp_relation
from cloister.accounting._parts import Parts, release_of
from cloister.accounting.events import Event, Gaussian, Laplace, PoissonSampled, TruncatedPoissonGaussian
from cloister.accounting.guarantee import Relation
from cloister.errors import PrivacyError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["pld_epsilon", "pld_excess", "pld_supports"]

_ROUNDING = 2.0**-52
"""Delta that floating point may hide, for each release that went through the FFT.

The n-th power of a transform loses about n units in the last place. Against compositions of Gaussians whose
delta is known exactly, n from 1 to 10^6, the loss was never above a tenth of ``n * 2^-52``
(tests/statistical).
"""

_TAIL = 1e-15
"""Probability that one composition may move to an infinite loss, to keep its grid short."""

_LONG, _SHORT_GRID, _BLOCK = 10**5, 10**4, 1024
"""More repetitions than this, of a loss on fewer points than this, are composed in blocks of this many."""

_WIDEST = 1e6
"""Privacy losses beyond this count as infinite."""

_NOT_REPLACE_ONE = frozenset({Relation.ADD_OR_REMOVE_ONE, Relation.REPLACE_SPECIAL})


@dataclass(frozen=True)
class _Mechanism:
    build: Callable[[Any, Relation, float], Any]
    """Release, relation and grid interval to the distribution of its privacy loss."""
    relations: frozenset[Relation]


def _gaussian(noise: float, sampling_prob: float, relation: Relation, interval: float) -> Any:
    return pld.from_gaussian_mechanism(
        noise,
        sampling_prob=sampling_prob,
        value_discretization_interval=interval,
        neighboring_relation=to_dp_relation(relation),  # doubles the distance under REPLACE_ONE by itself
    )


def _laplace(noise: float, sampling_prob: float, relation: Relation, interval: float) -> Any:
    return pld.from_laplace_mechanism(
        noise,
        sensitivity=2.0 if relation is Relation.REPLACE_ONE else 1.0,
        sampling_prob=sampling_prob,
        value_discretization_interval=interval,
    )


def _truncated(event: TruncatedPoissonGaussian, relation: Relation, interval: float) -> Any:
    return pld.from_truncated_subsampled_gaussian_mechanism(
        dataset_size=event.num_examples,
        sampling_probability=event.sampling_prob,
        truncated_batch_size=event.max_batch_size,
        noise_multiplier=event.noise_multiplier,
        value_discretization_interval=interval,
        neighboring_relation=to_dp_relation(relation),
    )


_MECHANISMS: dict[tuple[type[Event], ...], _Mechanism] = {
    (Gaussian,): _Mechanism(lambda e, r, h: _gaussian(e.noise_multiplier, 1.0, r, h), frozenset(Relation)),
    (Laplace,): _Mechanism(lambda e, r, h: _laplace(e.noise_multiplier, 1.0, r, h), frozenset(Relation)),
    (PoissonSampled, Gaussian): _Mechanism(
        lambda e, r, h: _gaussian(e.event.noise_multiplier, e.sampling_prob, r, h), frozenset(Relation)
    ),
    (PoissonSampled, Laplace): _Mechanism(
        lambda e, r, h: _laplace(e.event.noise_multiplier, e.sampling_prob, r, h), _NOT_REPLACE_ONE
    ),
    (TruncatedPoissonGaussian,): _Mechanism(_truncated, frozenset({Relation.REPLACE_ONE, Relation.REPLACE_SPECIAL})),
}


def pld_supports(part: Event, relation: Relation) -> bool:
    """Whether there is a privacy loss distribution for this release under this relation."""
    mechanism = _MECHANISMS.get(_kind(part))
    return mechanism is not None and relation in mechanism.relations


def pld_epsilon(parts: Parts, delta: float, relation: Relation) -> float:
    """Upper bound on epsilon at `delta` for `parts`, all of which must be supported.

    Raises:
        PrivacyError: `delta` is so small that floating point no longer resolves it after so many releases.
    """
    if math.isinf(_interval(parts, relation)):
        return math.inf
    releases = sum(count for _, count in parts)
    rounding = _ROUNDING * releases
    epsilon = math.inf
    if delta >= 2 * rounding:
        epsilon = float(_composed(parts, relation).get_epsilon_for_delta(delta - rounding))
    if math.isinf(epsilon):
        raise PrivacyError(
            f"delta {delta:.3g} is too small for the pld accountant after {releases} releases",
            hint=f"a delta well above {max(2 * rounding, 1e-14):.1g}, or the accountant rdp",
        )
    return epsilon


def pld_excess(parts: Parts, delta: float, relation: Relation) -> float:
    """Bound on the part of `pld_epsilon` that the grid alone adds.

    Moving a loss to its neighbors on a grid of interval h, with its exponential kept in the mean, adds at
    most h^2/8 to the mean of the loss and a deviation of at most h. Over n releases that is n h^2/8, and by
    Hoeffding's inequality h sqrt(n log(1/delta) / 2) with probability 1 - delta.
    """
    interval, releases = _interval(parts, relation), sum(count for _, count in parts)
    return interval * math.sqrt(releases * math.log(1 / delta) / 2) + releases * interval**2 / 8


def _kind(part: Event) -> tuple[type[Event], ...]:
    return (PoissonSampled, type(part.event)) if isinstance(part, PoissonSampled) else (type(part),)


def _composed(parts: Parts, relation: Relation) -> Any:
    interval = _interval(parts, relation)
    distributions = [_repeated(part, count, relation, interval) for part, count in parts]
    while len(distributions) > 1:  # in pairs, so that large distributions meet late and seldom
        pairs = zip(distributions[::2], distributions[1::2], strict=False)
        odd = distributions[len(distributions) // 2 * 2 :]
        distributions = [first.compose(second) for first, second in pairs] + odd
    return distributions[0]


@functools.lru_cache(maxsize=64)
def _repeated(part: Event, count: int, relation: Relation, interval: float) -> Any:
    single = _single(part, relation, interval)
    if count <= _LONG or _scale(part, relation)[1] > _SHORT_GRID * interval:
        return single.self_compose(count)
    # dp_accounting computes size**count as an exact integer for sparse distributions, which takes a minute at 10^7.
    blocks, rest = divmod(count, _BLOCK)
    long = single.self_compose(_BLOCK, _TAIL / blocks).self_compose(blocks, _TAIL)
    return long.compose(single.self_compose(rest)) if rest else long


@functools.lru_cache(maxsize=16)
def _single(part: Event, relation: Relation, interval: float) -> Any:
    return _MECHANISMS[_kind(part)].build(part, relation, interval)


def _interval(parts: Parts, relation: Relation) -> float:
    """Grid interval: about 1e-4, one of 1, 2 or 5 times a power of ten.

    Finer where a single release's loss would vanish between two grid points: the grid adds a deviation of at
    most half an interval to each release, which must stay small beside its own. Coarser where the losses are
    so large that 1e-4 is needlessly exact and the grid would not fit into memory. Infinite where they are
    beyond measure.
    """
    scales = [_scale(part, relation) for part, _ in parts]
    drift = math.fsum(count * mean for (_, count), (mean, _) in zip(parts, scales, strict=True))
    width = drift + 20 * math.sqrt(2 * drift) + max(largest for _, largest in scales)
    deviation = math.sqrt(2 * drift / sum(count for _, count in parts))
    if width > _WIDEST:
        return math.inf
    interval = max(min(max(1e-4, width / 1e5), deviation / 10), width / 5e5, 1e-6)
    power = math.floor(math.log10(interval) + 1e-9)  # few distinct grids, so that parts are found in the cache
    return next(step for step in (5 * 10.0**power, 2 * 10.0**power, 10.0**power) if step <= interval * (1 + 1e-9))


def _scale(part: Event, relation: Relation) -> tuple[float, float]:
    """Roughly the mean and the largest privacy loss of one release; only the grid depends on it."""
    release = release_of(part)
    sampling_prob: float = getattr(part, "sampling_prob", 1.0)
    far = relation is Relation.REPLACE_ONE or isinstance(part, TruncatedPoissonGaussian)
    shift = (2.0 if far else 1.0) / release.noise_multiplier
    if isinstance(release, Laplace):
        mean, largest = shift + math.expm1(-shift), shift
    else:
        mean, largest = shift * shift / 2, shift * shift / 2 + 10 * shift
    if sampling_prob < 1:  # convexity for large losses, chi-squared for small ones
        mean = min(sampling_prob * mean, sampling_prob**2 * math.expm1(min(2 * mean, 700.0)) / 2)
        close = math.log1p(sampling_prob * math.expm1(min(largest, 700.0)))
        largest = max(largest + math.log(sampling_prob), close)
    return mean, largest
