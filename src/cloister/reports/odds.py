"""What a guarantee means in numbers that a reader can picture.

All bounds are about one game. Somebody knows everything except which of two neighboring data sets was used, sees
the model, and says which. An (epsilon, delta) guarantee limits how often that succeeds, whatever the method
(Kairouz, Oh, Viswanath, "The composition theorem for differential privacy", ICML 2015, Theorem 2.1). An event has
a guarantee at every delta at once; together they limit the game far more closely than the one that is quoted.

These are ceilings, not measurements: an audit gives the floor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cloister.accounting.accountant import epsilon

if TYPE_CHECKING:
    from cloister.accounting import Event, Guarantee

__all__ = ["Ceiling", "ceiling_of"]

_DELTAS = (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Ceiling:
    """The best that anyone can reach against guarantees that hold at once.

    Attributes:
        guarantees: (epsilon, delta) pairs, at least one.

    >>> Ceiling(((0.0, 0.0),)).accuracy()
    0.5
    """

    guarantees: tuple[tuple[float, float], ...]

    def accuracy(self) -> float:
        """Highest share of right answers when both data sets are equally likely.

        For one pair (e^epsilon + delta) / (e^epsilon + 1).

        >>> round(Ceiling(((3.0, 1e-5),)).accuracy(), 3)
        0.953
        """
        return min(_accuracy(*pair) for pair in self.guarantees)

    def true_positive_rate(self, false_positive_rate: float) -> float:
        """Highest share of members recognized at a share f of false alarms.

        For one pair the smaller of e^epsilon f + delta and 1 - e^-epsilon (1 - delta - f).

        >>> round(Ceiling(((3.0, 1e-5),)).true_positive_rate(0.01), 3)
        0.201
        """
        return min(_true_positive_rate(*pair, false_positive_rate) for pair in self.guarantees)

    def odds_factor(self) -> float:
        """Largest factor by which the first pair lets the odds move, except with probability about its delta."""
        return _growth(self.guarantees[0][0])


def ceiling_of(event: Event, claim: Guarantee) -> Ceiling:
    """The ceiling that an event sets, from its guarantees at many deltas."""
    deltas = [claim.delta, *(delta for delta in _DELTAS if delta > claim.delta)]
    pairs = []
    for delta in deltas:
        value = epsilon(event, delta=delta, relation=claim.relation, accountant=claim.accountant)
        pairs.append((value, delta))
        if value == 0:
            break
    return Ceiling(tuple(pairs))


def _accuracy(epsilon: float, delta: float) -> float:
    shrink = 1.0 / _growth(epsilon)
    return min(1.0, (1.0 + delta * shrink) / (1.0 + shrink))


def _true_positive_rate(epsilon: float, delta: float, false_positive_rate: float) -> float:
    growth = _growth(epsilon)
    few_alarms = growth * false_positive_rate + delta
    many_alarms = 1.0 - (1.0 - delta - false_positive_rate) / growth
    return max(0.0, min(1.0, few_alarms, many_alarms))


def _growth(epsilon: float) -> float:
    return math.exp(min(epsilon, 700.0))  # e^700 is as good as infinite, and is a number
