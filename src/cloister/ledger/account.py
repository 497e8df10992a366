"""The account of a data set: its budget, its reservations and what became of them."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from cloister.accounting import Budget, Event, Relation, Unit, compose, epsilon
from cloister.errors import InputError

__all__ = ["Account", "Claim", "Plan", "Status", "Terms"]


class Status(enum.StrEnum):
    """What became of a reservation."""

    RESERVED = "reserved"
    COMMITTED = "committed"
    RELEASED = "released"


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Under what a data set's spending is computed."""

    unit: Unit
    relation: Relation
    delta: float

    def epsilon(self, event: Event) -> float:
        """Epsilon of one event under these terms."""
        return epsilon(event, delta=self.delta, relation=self.relation)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run asks for."""

    event: Event
    run: str
    terms: Terms
    content: str | None = None


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One reservation and what became of it; `id` is the digest of the entry that made it."""

    id: str
    plan: Plan
    time: str
    attempt: int = 1
    status: Status = Status.RESERVED
    event: Event


@dataclass(kw_only=True)
class Account:
    """All that the book says about one data set; `head` is the sequence number of its newest entry."""

    dataset: str
    budget: Budget | None = None
    claims: dict[str, Claim] = field(default_factory=dict)
    head: int = 0

    def counted(self, *, without: str | None = None) -> tuple[Event, ...]:
        """The events that count (rule 2), leaving out one reservation if asked to."""
        claims = (claim for claim in self.claims.values() if claim.id != without)
        return tuple(claim.event for claim in claims if claim.status is not Status.RELEASED)

    @property
    def terms(self) -> Terms | None:
        """The terms of the data set (rule 1); None if nothing has set them yet."""
        if self.budget is not None:
            return Terms(unit=self.budget.unit, relation=self.budget.relation, delta=self.budget.delta)
        return next((claim.plan.terms for claim in self.claims.values()), None)

    def spent(self) -> float:
        """What is spent (rule 3)."""
        terms = self.terms
        return terms.epsilon(compose(*self.counted())) if terms else 0.0

    def claim(self, reservation: str) -> Claim:
        """The reservation of that id."""
        if reservation not in self.claims:
            raise InputError(f"data set {self.dataset!r} has no reservation {reservation!r}")
        return self.claims[reservation]
