"""The book: the entries, read in order and understood."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cloister.accounting import Budget, Relation, Unit, event_from_json
from cloister.errors import DigestMismatch, InputError
from cloister.ledger.account import Account, Claim, Plan, Status, Terms
from cloister.ledger.entries import Entry, Kind, Row, read_entry

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Book"]


class Book:
    """What all entries up to `head` say together. Every entry is verified as it is read."""

    def __init__(self) -> None:
        self.head: Entry | None = None
        self.accounts: dict[str, Account] = {}
        self._contents: dict[str, list[str]] = {}
        self._datasets: dict[str, str] = {}

    def read(self, rows: Iterable[Row]) -> list[Entry]:
        """Verify the rows that follow `head`, take them in and return them as entries.

        Raises:
            DigestMismatch: A row is not what was written; the text names the first such entry.
        """
        entries = []
        for row in rows:
            entry = read_entry(row, self.head)
            try:
                self._take_in(entry)
            except (KeyError, TypeError, ValueError) as error:
                raise DigestMismatch(
                    f"entry {entry.sequence} of the ledger says what no ledger writes: {error}",
                    hint="the book was altered from there on; restore it from a copy that verifies",
                ) from error
            self.head = entry
            entries.append(entry)
        return entries

    def account(self, dataset: str) -> Account:
        """The account of a data set; an empty one if the book does not know it."""
        return self.accounts.get(dataset) or Account(dataset=dataset)

    def dataset_of(self, reservation: str) -> str:
        """The data set on which a reservation was made."""
        if reservation not in self._datasets:
            raise InputError(
                f"the ledger has no reservation {reservation!r}",
                hint="it was made in another ledger, or this one was set back to an older copy",
            )
        return self._datasets[reservation]

    def warnings(self, dataset: str) -> tuple[str, ...]:
        """Rule 10: other names of the same rows."""
        found = []
        for content, names in self._contents.items():
            if dataset in names:
                others = ", ".join(repr(name) for name in names if name != dataset)
                if others:
                    found.append(
                        f"data set {dataset!r} holds the same rows as {others} (content {content}); "
                        "what is spent on one is spent on both, but each budget counts only its own"
                    )
        return tuple(found)

    def _take_in(self, entry: Entry) -> None:
        account = self.accounts.setdefault(entry.dataset, Account(dataset=entry.dataset))
        body = entry.body
        if entry.kind is Kind.BUDGET_SET:
            account.budget = Budget(
                epsilon=body["epsilon"],
                delta=body["delta"],
                unit=Unit(body["unit"]),
                relation=Relation(body["relation"]),
            )
        elif entry.kind is Kind.RESERVE:
            account.claims[entry.digest] = _claim(entry)
            self._datasets[entry.digest] = entry.dataset
            if body["content"] is not None:
                names = self._contents.setdefault(body["content"], [])
                if entry.dataset not in names:
                    names.append(entry.dataset)
        else:
            claim = account.claim(body["reservation"])
            account.claims[claim.id] = _followed(claim, entry)
        account.head = entry.sequence


def _claim(entry: Entry) -> Claim:
    body = entry.body
    event = event_from_json(body["event"])
    terms = Terms(unit=Unit(body["unit"]), relation=Relation(body["relation"]), delta=body["delta"])
    plan = Plan(event=event, run=body["run"], terms=terms, content=body["content"])
    return Claim(id=entry.digest, plan=plan, time=entry.time, event=event)


def _followed(claim: Claim, entry: Entry) -> Claim:
    """The claim after a resume, commit or release (rule 6)."""
    attempt = claim.attempt + (entry.kind is Kind.RESUME)
    if claim.status is not Status.RESERVED or entry.body["attempt"] != attempt:
        raise InputError(f"{entry.kind} by attempt {entry.body['attempt']} of a {claim.status} reservation")
    if entry.kind is Kind.RESUME:
        return replace(claim, attempt=attempt)
    if entry.kind is Kind.RELEASE:
        return replace(claim, status=Status.RELEASED)
    return replace(claim, status=Status.COMMITTED, event=event_from_json(entry.body["event"]))
