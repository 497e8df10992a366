"""What is protected, against whom, and how strongly: budgets and guarantees."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from cloister._validate import check_choice, check_fraction, check_positive

__all__ = ["Budget", "Guarantee", "Relation", "Unit"]


class Unit(enum.StrEnum):
    """What is protected as a whole."""

    EXAMPLE = "example"
    USER = "user"
    CLIENT = "client"


class Relation(enum.StrEnum):
    """Which two data sets are neighbors.

    ADD_OR_REMOVE_ONE: one has one unit more. REPLACE_ONE: one unit differs. REPLACE_SPECIAL: one unit is
    replaced by the zero record, whose gradient is zero (arXiv:2103.00039, Definition 1.1).
    """

    ADD_OR_REMOVE_ONE = "add_or_remove_one"
    REPLACE_ONE = "replace_one"
    REPLACE_SPECIAL = "replace_special"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The most that may ever be spent on a data set.

    Attributes:
        epsilon: Above 0.
        delta: In (0, 1); far below one over the number of units, or it promises little.
        unit: What is protected.
        relation: Which data sets are neighbors.

    >>> Budget(epsilon=3.0, delta=1e-5).describe()
    'epsilon 3 at delta 1e-05, add-or-remove-one, per example'
    """

    epsilon: float
    delta: float
    unit: Unit = Unit.EXAMPLE
    relation: Relation = Relation.ADD_OR_REMOVE_ONE

    def __post_init__(self) -> None:
        check_positive(epsilon=self.epsilon)
        check_fraction(delta=self.delta)
        _coerce(self)

    def describe(self) -> str:
        """The budget in words."""
        return _describe(self.epsilon, self.delta, self.unit, self.relation)


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """(epsilon, delta) differential privacy that was achieved, and who computed it.

    Attributes:
        epsilon: Upper bound; infinity if the event is not private.
        delta: The delta at which epsilon holds.
        unit: What is protected.
        relation: Which data sets are neighbors.
        accountant: ``pld`` or ``rdp``.
    """

    epsilon: float
    delta: float
    unit: Unit = Unit.EXAMPLE
    relation: Relation = Relation.ADD_OR_REMOVE_ONE
    accountant: str = "pld"

    def __post_init__(self) -> None:
        _coerce(self)
        check_choice(("pld", "rdp"), accountant=self.accountant)

    def describe(self) -> str:
        """The guarantee in words."""
        return _describe(self.epsilon, self.delta, self.unit, self.relation)


def _coerce(claim: Budget | Guarantee) -> None:
    check_choice(list(Unit), unit=claim.unit)
    check_choice(list(Relation), relation=claim.relation)
    object.__setattr__(claim, "unit", Unit(claim.unit))
    object.__setattr__(claim, "relation", Relation(claim.relation))


def _describe(epsilon: float, delta: float, unit: Unit, relation: Relation) -> str:
    return f"epsilon {epsilon:.4g} at delta {delta:.4g}, {relation.replace('_', '-')}, per {unit}"
