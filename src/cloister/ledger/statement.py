"""What was spent on a data set, for people and for programs."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cloister.accounting import event_to_json
from cloister.ledger.account import Status
from cloister.ledger.entries import ORIGIN

if TYPE_CHECKING:
    from cloister.accounting import Budget, Event, Relation, Unit
    from cloister.ledger.account import Claim, Terms
    from cloister.ledger.book import Book

__all__ = ["Line", "Statement", "state"]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One reservation of a data set and what became of it.

    Attributes:
        run: The run it was made for.
        reservation: Its id, the digest of the entry that made it.
        status: ``reserved`` or ``committed``, which count, or ``released``, which does not.
        attempt: 1, and one more for each time the run was resumed.
        event: What is counted; what had been reserved if it was released.
        epsilon: What the event costs alone, at the delta of the data set; infinity if nothing bounds it. The
            lines do not add up to what was spent: events compose, and together cost less. What was released is
            stated at the delta that it asked for.
        time: When the reservation was made, UTC in ISO 8601.
    """

    run: str
    reservation: str
    status: Status
    attempt: int
    event: Event
    epsilon: float
    time: str

    def to_json(self) -> dict[str, Any]:
        """Plain values; an unbounded epsilon is None."""
        return {
            "run": self.run,
            "reservation": self.reservation,
            "status": self.status.value,
            "attempt": self.attempt,
            "event": event_to_json(self.event),
            "epsilon": _bounded(self.epsilon),
            "time": self.time,
        }


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What a data set may spend, what it has spent and on what.

    Attributes:
        dataset: Its name.
        budget: The limit; None if none was set.
        spent: Epsilon of the composition of everything counted, at `delta`; infinity if nothing bounds it.
        remaining: The budget's epsilon less `spent`, at least 0; None without a budget.
        delta: The delta at which epsilon is stated; None while nothing has set it.
        unit: What is protected; None while nothing has set it.
        relation: Which data sets are neighbors; None while nothing has set it.
        lines: The reservations, oldest first.
        warnings: What the data owner should know.
        head: Digest of the newest entry of the book, which speaks for all of it.
    """

    dataset: str
    budget: Budget | None
    spent: float
    remaining: float | None
    delta: float | None
    unit: Unit | None
    relation: Relation | None
    lines: tuple[Line, ...]
    warnings: tuple[str, ...]
    head: str

    def to_json(self) -> dict[str, Any]:
        """Plain values; an unbounded epsilon is None."""
        return {
            "dataset": self.dataset,
            "budget": dataclasses.asdict(self.budget) if self.budget else None,
            "epsilon_spent": _bounded(self.spent),
            "epsilon_remaining": self.remaining,
            "delta": self.delta,
            "unit": self.unit and self.unit.value,
            "relation": self.relation and self.relation.value,
            "lines": [line.to_json() for line in self.lines],
            "warnings": list(self.warnings),
            "head": self.head,
        }


def state(book: Book, dataset: str) -> Statement:
    """The statement of a data set, empty if the book does not know it."""
    account = book.account(dataset)
    terms, spent = account.terms, account.spent()
    return Statement(
        dataset=dataset,
        budget=account.budget,
        spent=spent,
        remaining=None if account.budget is None else max(0.0, account.budget.epsilon - spent),
        delta=terms.delta if terms else None,
        unit=terms.unit if terms else None,
        relation=terms.relation if terms else None,
        lines=tuple(_line(claim, terms) for claim in account.claims.values()),
        warnings=book.warnings(dataset),
        head=book.head.digest if book.head else ORIGIN,
    )


def _line(claim: Claim, terms: Terms | None) -> Line:
    # What was released may have been meant for other terms.
    terms = claim.plan.terms if terms is None or claim.status is Status.RELEASED else terms
    return Line(
        run=claim.plan.run,
        reservation=claim.id,
        status=claim.status,
        attempt=claim.attempt,
        event=claim.event,
        epsilon=terms.epsilon(claim.event),
        time=claim.time,
    )


def _bounded(epsilon: float) -> float | None:
    return epsilon if math.isfinite(epsilon) else None
