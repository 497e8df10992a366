"""A reservation: room in the budget, held by one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from cloister.ledger import rules
from cloister.ledger.account import Account
from cloister.ledger.entries import Entry, Kind

if TYPE_CHECKING:
    from cloister.accounting import Event

__all__ = ["Reservation", "Write"]

Write: TypeAlias = Callable[[Kind, str, Callable[[Account], dict[str, Any]]], Entry]
"""How a ledger appends: an entry of a kind, about a data set, with the body that is decided on its account."""


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """Room in the budget, counted as spent until `commit` or `release`; a crash leaves it counted.

    Attributes:
        id: Digest of the entry that made it; `Ledger.resume` and `Ledger.prove` take it.
        dataset: The data set it is made on.
        run: The run it is made for.
        event: What may be spent.
        attempt: 1, and one more for each time it was resumed.
        warnings: What the data owner should know.
    """

    id: str
    dataset: str
    run: str
    event: Event
    attempt: int
    warnings: tuple[str, ...] = ()
    _write: Write = field(repr=False, compare=False)

    def commit(self, event: Event) -> Entry:
        """Replace what was reserved by what ran. On the disk when it returns.

        Raises:
            PlanMismatch: What ran costs more than what was reserved (and the reservation stays counted), it
                was committed or released before, or a newer attempt has been opened.
        """
        decide = partial(rules.commit_body, reservation=self.id, attempt=self.attempt, event=event)
        return self._write(Kind.COMMIT, self.dataset, decide)

    def release(self, reason: str) -> Entry:
        """Give the budget back, because nothing that depends on the data came out: no weights, no metric.

        Raises:
            PlanMismatch: It was committed or released before, or a newer attempt has been opened.
        """
        decide = partial(rules.release_body, reservation=self.id, attempt=self.attempt, reason=reason)
        return self._write(Kind.RELEASE, self.dataset, decide)
