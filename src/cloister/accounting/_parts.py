"""What a composed event consists of: a flat multiset of the releases that cost something.

Composition in the sense of privacy loss distributions and of Renyi divergences is commutative, so equal
releases may be counted instead of listed. Four identities make the list short; each is exact:

- k Gaussian releases with noise multipliers s_1 ... s_k cost what one with 1/s^2 = sum 1/s_i^2 costs
  (Dong, Roth, Su 2022, Corollary 3.3), and so inside one sample too;
- sampling with probability 1 is no sampling;
- sampling nothing costs nothing;
- a sample of a release without any guarantee is treated as without any guarantee (an upper bound).
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

from cloister.accounting.events import (
    Composed,
    Event,
    Gaussian,
    Laplace,
    NonPrivate,
    NoOp,
    PoissonSampled,
    SelfComposed,
    TruncatedPoissonGaussian,
)
from cloister.errors import UnsupportedEvent

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Parts", "parts_of", "release_of"]

Parts: TypeAlias = tuple[tuple[Event, int], ...]

_MOST_RELEASES = 2**53
"""Counts beyond this are not exact in floating point, and no accountant's answer would be."""


def parts_of(event: Event) -> Parts:
    """The distinct costly releases in `event` and how often each was made, in an order of their own.

    Events with the same parts have the same privacy loss; the order in which they were composed leaves no
    trace.

    Raises:
        UnsupportedEvent: More than 2^53 releases.

    >>> step = PoissonSampled(0.01, Gaussian(1.0))
    >>> parts_of(Composed((step, NoOp(), SelfComposed(step, 99))))
    ((PoissonSampled(sampling_prob=0.01, event=Gaussian(noise_multiplier=1.0)), 100),)
    """
    counts: Counter[Event] = Counter()
    for part, count in _walk(event, 1):
        counts[part] += count
    if sum(counts.values()) > _MOST_RELEASES:
        raise UnsupportedEvent(f"event has more than {_MOST_RELEASES} releases")
    return tuple(sorted(_merge_gaussians(counts).items(), key=repr))


def release_of(part: Event) -> Gaussian | Laplace | TruncatedPoissonGaussian:
    """The noisy release of a part that an accountant supports, without the sampling around it."""
    release = part.event if isinstance(part, PoissonSampled) else part
    assert isinstance(release, (Gaussian, Laplace, TruncatedPoissonGaussian))
    return release


def _walk(event: Event, count: int) -> Iterator[tuple[Event, int]]:
    if isinstance(event, SelfComposed):
        yield from _walk(event.event, count * event.count)
    elif isinstance(event, Composed):
        for part in event.events:
            yield from _walk(part, count)
    elif isinstance(event, PoissonSampled):
        yield from _walk_sampled(event, count)
    elif count and not isinstance(event, NoOp):
        yield event, count


def _walk_sampled(event: PoissonSampled, count: int) -> Iterator[tuple[Event, int]]:
    inner = parts_of(event.event)
    if not inner or not count:
        return
    if event.sampling_prob == 1:
        yield from ((part, times * count) for part, times in inner)
    elif any(isinstance(part, NonPrivate) for part, _ in inner):
        yield NonPrivate(), count
    else:
        # Several releases from one sample are not several samples of one release each: they stay together.
        parts = tuple(SelfComposed(part, times) if times > 1 else part for part, times in inner)
        yield PoissonSampled(event.sampling_prob, parts[0] if len(parts) == 1 else Composed(parts)), count


def _merge_gaussians(counts: Counter[Event]) -> dict[Event, int]:
    gaussians = {part: count for part, count in counts.items() if isinstance(part, Gaussian)}
    others: dict[Event, int] = {part: count for part, count in counts.items() if part not in gaussians}
    if not gaussians:
        return others
    if list(gaussians.values()) == [1]:
        return dict(counts)
    least = min(part.noise_multiplier for part in gaussians)
    # Relative to the least noise, so that no square overflows.
    precision = math.fsum(count * (least / part.noise_multiplier) ** 2 for part, count in gaussians.items())
    return {**others, Gaussian(least / math.sqrt(precision)): 1}
