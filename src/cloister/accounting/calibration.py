"""From a budget back to the noise, or the number of steps, that it allows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cloister._validate import check_positive
from cloister.accounting.accountant import NOISE_RANGE, epsilon
from cloister.errors import BudgetExceeded, InputError, PrivacyError, UnsupportedEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloister.accounting.events import Event
    from cloister.accounting.guarantee import Budget

__all__ = ["MOST_STEPS", "noise_for", "steps_for"]

MOST_STEPS = 10**9
"""Where the search for a number of steps ends."""


def noise_for(
    event_at: Callable[[float], Event],
    budget: Budget,
    *,
    tolerance: float = 1e-4,
    accountant: str = "pld",
) -> float:
    """Smallest noise multiplier, up to `tolerance`, at which the event fits the budget.

    The epsilon at the returned noise multiplier was computed and is at most ``budget.epsilon``: the tolerance
    costs noise, never privacy.

    Args:
        event_at: The whole event, earlier releases included, at a noise multiplier; more noise, less epsilon.
        budget: What may be spent.
        tolerance: In units of the noise multiplier.
        accountant: ``pld`` or ``rdp``.

    Raises:
        InputError: `tolerance` is not positive, or an unknown accountant.
        PrivacyError: No noise multiplier within `NOISE_RANGE` fits.
        UnsupportedEvent: As `epsilon`.

    >>> from cloister.accounting import Budget, Gaussian
    >>> round(noise_for(Gaussian, Budget(epsilon=1.0, delta=1e-5)), 2)
    3.73
    """
    check_positive(tolerance=tolerance)
    least, most = NOISE_RANGE
    noise_multiplier = _calibrate(
        event_at, budget, accountant, _Range(safe_end=most, unsafe_end=least, tolerance=tolerance)
    )
    if noise_multiplier is None:
        raise PrivacyError(
            f"no noise multiplier up to {most:g} brings epsilon to {budget.epsilon:g} at delta {budget.delta:g}",
            hint="what was released before may have spent the budget already",
        )
    return noise_multiplier


def steps_for(event_after: Callable[[int], Event], budget: Budget, *, accountant: str = "pld") -> int:
    """Largest number of steps that fits the budget.

    Args:
        event_after: The whole event, earlier releases included, after a number of steps; more steps, more
            epsilon.
        budget: What may be spent.
        accountant: ``pld`` or ``rdp``.

    Raises:
        InputError: `MOST_STEPS` steps fit, so that nothing limits them; or an unknown accountant.
        BudgetExceeded: Not even one step fits.
        UnsupportedEvent: As `epsilon`.

    >>> from cloister.accounting import Budget, Gaussian, SelfComposed
    >>> steps_for(lambda steps: SelfComposed(Gaussian(100.0), steps), Budget(epsilon=1.0, delta=1e-5))
    718
    """
    steps = _calibrate(
        lambda x: event_after(round(x)),
        budget,
        accountant,
        _Range(safe_end=1, unsafe_end=MOST_STEPS, tolerance=1, whole=True),
    )
    if steps is None:
        raise BudgetExceeded(
            f"not even one step fits into {budget.describe()}",
            hint="raise noise_multiplier, lower sampling_prob, or ask the data owner for a new budget",
        )
    if steps >= MOST_STEPS:
        raise InputError(f"{MOST_STEPS} steps and more fit into {budget.describe()}", hint="choose a number of steps")
    return round(steps)


@dataclass(frozen=True, kw_only=True)
class _Range:
    """Where to search; cost falls from the unsafe end to the safe end."""

    safe_end: float
    unsafe_end: float
    tolerance: float
    whole: bool = False

    def clip(self, x: float) -> float:
        low, high = sorted((self.safe_end, self.unsafe_end))
        return min(max(float(round(x)) if self.whole else x, low), high)


def _calibrate(event_at: Callable[[float], Event], budget: Budget, accountant: str, where: _Range) -> float | None:
    def cost(x: float, by: str = accountant) -> float:
        return epsilon(event_at(x), delta=budget.delta, relation=budget.relation, accountant=by)

    start = None
    if accountant == "pld":  # RDP answers at once and is never far off
        try:
            start = _boundary(lambda x: cost(x, "rdp"), budget.epsilon, where, start=1.0)
        except UnsupportedEvent:
            start = None
    return _boundary(cost, budget.epsilon, where, start=start or 1.0)


def _boundary(cost: Callable[[float], float], limit: float, where: _Range, *, start: float) -> float | None:
    """The x nearest to the unsafe end, up to the tolerance, with a cost of at most `limit`, if there is one.

    The x that is returned was tried: where cost is only nearly monotone, tolerance may suffer, never the limit.
    """
    ends: dict[bool, tuple[float, float]] = {}  # affordable or not: x and its cost
    x, stride, tries = where.clip(start), 1.1, 0
    while True:
        spent = cost(x)
        affordable = spent <= limit
        ends[affordable] = (x, spent)
        tries += 1
        if len(ends) == 2:
            (safe, _), (unsafe, _) = ends[True], ends[False]
            if abs(safe - unsafe) <= where.tolerance:
                return safe
            x = _between(ends, limit, where, aim_at_safe=not affordable, halve=tries % 4 == 0)
            continue
        end = where.unsafe_end if affordable else where.safe_end
        if x == end:
            return x if affordable else None
        x, stride = _toward(x, end, stride, where), stride**2


def _toward(x: float, end: float, stride: float, where: _Range) -> float:
    """The next x in growing strides from `x` toward `end`, at least one tolerance away."""
    if end > x:
        return where.clip(max(x * stride, x + where.tolerance))
    return where.clip(min(x / stride, x - where.tolerance))


def _between(
    ends: dict[bool, tuple[float, float]], limit: float, where: _Range, *, aim_at_safe: bool, halve: bool
) -> float:
    """Where to try next between the two ends: where interpolation sees the limit, but just past it.

    Just past it on the side whose end moved least lately: two good guesses then enclose the answer within the
    tolerance. Every fourth time the middle, so that no cost function can stall the search.
    """
    (safe, safe_cost), (unsafe, unsafe_cost) = ends[True], ends[False]
    share = 0.5
    if not halve and safe_cost > 0 and math.isfinite(unsafe_cost):
        share = math.log(limit / safe_cost) / math.log(unsafe_cost / safe_cost)
    x = math.exp((1 - share) * math.log(safe) + share * math.log(unsafe))
    margin = 0.45 * where.tolerance
    if not halve:
        x += math.copysign(margin, (safe - unsafe) if aim_at_safe else (unsafe - safe))
    low, high = sorted((safe, unsafe))
    if where.whole:
        return min(max(float(round(x)), low + 1), high - 1)
    return min(max(x, low + margin), high - margin)
