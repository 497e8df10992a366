"""cloister's events in the words of dp_accounting.

The two vocabularies agree: in both, a noise multiplier is the noise's standard deviation (Laplace: scale)
over the norm bound of one unit's contribution, whatever the neighboring relation. dp_accounting's
*accountants* differ in what they do with that under REPLACE_ONE, see `cloister.accounting._rdp`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dp_accounting

from cloister.accounting import events
from cloister.accounting.guarantee import Relation
from cloister.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["to_dp_event", "to_dp_relation"]

_TABLE: dict[type[events.Event], Callable[[Any], dp_accounting.DpEvent]] = {
    events.NoOp: lambda _: dp_accounting.NoOpDpEvent(),
    events.NonPrivate: lambda _: dp_accounting.NonPrivateDpEvent(),
    events.Gaussian: lambda e: dp_accounting.GaussianDpEvent(e.noise_multiplier),
    events.Laplace: lambda e: dp_accounting.LaplaceDpEvent(e.noise_multiplier),
    events.PoissonSampled: lambda e: dp_accounting.PoissonSampledDpEvent(e.sampling_prob, to_dp_event(e.event)),
    events.TruncatedPoissonGaussian: lambda e: dp_accounting.TruncatedSubsampledGaussianDpEvent(
        e.num_examples, e.sampling_prob, e.max_batch_size, e.noise_multiplier
    ),
    events.SelfComposed: lambda e: dp_accounting.SelfComposedDpEvent(to_dp_event(e.event), e.count),
    events.Composed: lambda e: dp_accounting.ComposedDpEvent([to_dp_event(part) for part in e.events]),
}


def to_dp_event(event: events.Event) -> dp_accounting.DpEvent:
    """The dp_accounting event that describes the same operation.

    Raises:
        InputError: Not one of cloister's events.

    >>> to_dp_event(events.Gaussian(2.0))
    GaussianDpEvent(noise_multiplier=2.0)
    """
    translate = _TABLE.get(type(event))
    if translate is None:
        raise InputError(f"{type(event).__name__} is not one of cloister's events")
    return translate(event)


def to_dp_relation(relation: Relation) -> dp_accounting.NeighboringRelation:
    """dp_accounting's name for the same neighboring relation."""
    return dp_accounting.NeighboringRelation[Relation(relation).name]
