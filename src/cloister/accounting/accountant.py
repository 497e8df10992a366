"""From events to epsilon: two accountants, one answer, and a check of the one by the other."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from cloister._validate import check_choice, check_fraction
from cloister.accounting._parts import Parts, parts_of, release_of
from cloister.accounting._pld import pld_epsilon, pld_excess, pld_supports
from cloister.accounting._rdp import rdp_epsilon, rdp_supports
from cloister.accounting.events import Event, NonPrivate, PoissonSampled
from cloister.accounting.guarantee import Guarantee, Relation, Unit
from cloister.errors import PrivacyError, UnsupportedEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["NOISE_RANGE", "epsilon", "guarantee", "privacy_curve"]

RELATIVE_SLACK = 0.05
"""How far, relative to epsilon, RDP may fall below PLD before one of them must be wrong.

Both are upper bounds and RDP is the looser one, usually by a tenth. What can lift PLD above it: its grid (bounded
apart, by `pld_excess`) and the part of delta that is set aside for floating point. That is at most half of delta,
and as much only where delta is below 5e-8 or the releases are more than 10^8; halving so small a delta raises the
epsilon of a Gaussian by 1 to 5 percent.
"""

NOISE_RANGE = (1e-3, 1e6)
"""Noise multipliers that the accountants compute with: more counts as the most, less as no guarantee at
all."""


class _Accountant(NamedTuple):
    supports: Callable[[Event, Relation], bool]
    epsilon: Callable[[Parts, float, Relation], float]


_ACCOUNTANTS = {
    "pld": _Accountant(pld_supports, pld_epsilon),
    "rdp": _Accountant(rdp_supports, rdp_epsilon),
}


def epsilon(
    event: Event,
    *,
    delta: float,
    relation: Relation = Relation.ADD_OR_REMOVE_ONE,
    accountant: str = "pld",
) -> float:
    """The least epsilon that the accountant can prove for `event` at `delta`.

    An upper bound on the true value: with ``pld`` within a fraction of a percent of it, with ``rdp`` some
    tenth above. Zero if nothing was released; infinity if something was released without any guarantee, or
    with one so weak that epsilon is in the order of a million.

    Raises:
        InputError: `delta` outside (0, 1), or an unknown accountant.
        UnsupportedEvent: The accountant has no bound for a part of `event` under this relation.
        PrivacyError: `delta` is smaller than ``pld`` resolves after so many releases.

    >>> from cloister.accounting import Gaussian, PoissonSampled, SelfComposed
    >>> step = PoissonSampled(0.01, Gaussian(1.0))
    >>> round(epsilon(SelfComposed(step, 1000), delta=1e-5), 2)
    1.83
    """
    check_fraction(delta=delta)
    check_choice(_ACCOUNTANTS, accountant=accountant)
    check_choice(list(Relation), relation=relation)
    return _epsilon(parts_of(event), float(delta), Relation(relation), accountant)


def guarantee(
    event: Event,
    *,
    delta: float,
    unit: Unit = Unit.EXAMPLE,
    relation: Relation = Relation.ADD_OR_REMOVE_ONE,
    accountant: str = "pld",
) -> Guarantee:
    """The guarantee that `event` gives; where both accountants know it, ``pld`` is checked against ``rdp``.

    Raises:
        InputError: As `epsilon`.
        UnsupportedEvent: As `epsilon`.
        PrivacyError: As `epsilon`, or the accountants contradict each other.

    >>> from cloister.accounting import Gaussian
    >>> guarantee(Gaussian(2.0), delta=1e-5).describe()
    'epsilon 1.993 at delta 1e-05, add-or-remove-one, per example'
    """
    spent = epsilon(event, delta=delta, relation=relation, accountant=accountant)
    if accountant == "pld" and 0 < spent < math.inf:
        _check_against_rdp(parts_of(event), spent, float(delta), Relation(relation))
    return Guarantee(epsilon=spent, delta=float(delta), unit=unit, relation=relation, accountant=accountant)


def privacy_curve(
    event_after: Callable[[int], Event],
    steps: Sequence[int],
    *,
    delta: float,
    relation: Relation = Relation.ADD_OR_REMOVE_ONE,
    accountant: str = "pld",
) -> tuple[float, ...]:
    """Epsilon after each of the given numbers of steps; never less after more steps.

    Args:
        event_after: The event of a number of steps; that of fewer steps must be a part of that of more.
        steps: In any order.
        delta: At which epsilon is asked for.
        relation: Which data sets are neighbors.
        accountant: ``pld`` or ``rdp``.

    Raises:
        InputError: As `epsilon`.
        UnsupportedEvent: As `epsilon`.
        PrivacyError: As `epsilon`.
    """
    spent = {
        count: epsilon(event_after(count), delta=delta, relation=relation, accountant=accountant)
        for count in sorted(set(steps))
    }
    # What holds after more steps holds after fewer: a bound that a coarser grid lifted comes down again.
    least = math.inf
    for count in sorted(spent, reverse=True):
        least = spent[count] = min(least, spent[count])
    return tuple(spent[count] for count in steps)


@functools.lru_cache(maxsize=4096)
def _epsilon(parts: Parts, delta: float, relation: Relation, accountant: str) -> float:
    if not parts:
        return 0.0
    if any(isinstance(part, NonPrivate) for part, _ in parts):
        return math.inf
    for part, _ in parts:
        _check_supported(part, relation, accountant)
    within = [(_within_range(part), count) for part, count in parts]
    known = tuple((part, count) for part, count in within if part is not None)
    return _ACCOUNTANTS[accountant].epsilon(known, delta, relation) if len(known) == len(parts) else math.inf


def _check_supported(part: Event, relation: Relation, accountant: str) -> None:
    if _ACCOUNTANTS[accountant].supports(part, relation):
        return
    ways = ", ".join(
        f"{other} by {name}"
        for name, candidate in _ACCOUNTANTS.items()
        for other in Relation
        if candidate.supports(part, other)
    )
    raise UnsupportedEvent(
        f"the {accountant} accountant has no bound for {part} under {relation}",
        hint=f"there is one under {ways}" if ways else "there is none under any relation",
    )


def _within_range(part: Event) -> Event | None:
    """`part` with no more noise than the accountants take; None if it has less."""
    release = release_of(part)
    if release.noise_multiplier < NOISE_RANGE[0]:
        return None
    if release.noise_multiplier <= NOISE_RANGE[1]:
        return part
    quieter = replace(release, noise_multiplier=NOISE_RANGE[1])
    return replace(part, event=quieter) if isinstance(part, PoissonSampled) else quieter


def _check_against_rdp(parts: Parts, spent: float, delta: float, relation: Relation) -> None:
    if not all(rdp_supports(part, relation) for part, _ in parts):
        return
    looser = _epsilon(parts, delta, relation, "rdp")
    slack = RELATIVE_SLACK * spent + pld_excess(parts, delta, relation)
    if looser < spent - slack:
        raise PrivacyError(
            f"epsilon is {spent:.6g} by pld but {looser:.6g} by rdp, which cannot be the smaller one",
            hint="one of the accountants is wrong for this event; no guarantee is given",
        )
