"""The ledger: reserve before the first private row is read, commit what ran, refuse what is over budget."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Self

from cloister._validate import check_choice, check_fraction
from cloister.accounting import Relation, Unit
from cloister.errors import CloisterError, DigestMismatch
from cloister.ledger import rules
from cloister.ledger.account import Plan, Terms
from cloister.ledger.book import Book
from cloister.ledger.entries import ORIGIN, Entry, Kind
from cloister.ledger.location import storage_at
from cloister.ledger.reservation import Reservation
from cloister.ledger.statement import Statement, state

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType
    from typing import Any

    from cloister.accounting import Budget, Event
    from cloister.ledger._storage import Storage
    from cloister.ledger.account import Account

__all__ = ["Ledger"]

_PATIENCE = 3  # decisions made outside the write lock before one is made inside it


class Ledger:
    """One append-only, hash-chained book of what was spent on every data set.

    Safe for many processes and machines at once: a decision is made on a state of the book, and written only
    if the data set is still in that state. An entry that a method returned is on the disk. What was reserved
    and never ended stays counted. The rules, numbered, are in `cloister.ledger.rules`; the format is in
    docs/specs/ledger.md.

    The chain shows any change within the book. That the whole book was set back to an older copy shows only
    to whoever kept a digest: a run record keeps the one of its commit, and `prove` holds it against the book.

    >>> import tempfile
    >>> from cloister.accounting import Budget, Gaussian, Relation, Unit
    >>> with tempfile.TemporaryDirectory() as home, Ledger.open(home) as ledger:
    ...     _ = ledger.set_budget("ward-7", Budget(epsilon=3.0, delta=1e-6))
    ...     reservation = ledger.reserve(
    ...         "ward-7",
    ...         Gaussian(4.0),
    ...         run="first",
    ...         unit=Unit.EXAMPLE,
    ...         relation=Relation.ADD_OR_REMOVE_ONE,
    ...         delta=1e-6,
    ...     )
    ...     entry = reservation.commit(Gaussian(4.0))
    ...     round(ledger.statement("ward-7").spent, 2)
    1.06
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._book = Book()
        self._mutex = threading.RLock()
        self._process: int | None = os.getpid()

    @classmethod
    def open(cls, location: str | Path) -> Ledger:
        """Open the book at a place and verify it.

        Args:
            location: A folder, in which ``ledger.sqlite`` is made, readable by its owner only, when something
                is first written; or a PostgreSQL address, ``postgresql://...``.

        Raises:
            CloisterError: The place cannot be read, or holds something else.
            DigestMismatch: The book was altered; the text names the first bad entry.
        """
        ledger = cls(storage_at(location))
        try:
            with ledger._mutex:
                ledger._refresh()
        except BaseException:
            ledger.close()
            raise
        return ledger

    def set_budget(self, dataset: str, budget: Budget) -> Entry:
        """Set, raise or lower what may be spent on a data set.

        Raises:
            PlanMismatch: The data set is already counted under another unit or relation.
        """
        return self._write(Kind.BUDGET_SET, dataset, lambda account: rules.budget_body(account, budget))

    def budget(self, dataset: str) -> Budget | None:
        """The budget of a data set; None if none was set."""
        with self._mutex:
            self._refresh()
            return self._book.account(dataset).budget

    def reserve(
        self,
        dataset: str,
        event: Event,
        *,
        run: str,
        unit: Unit,
        relation: Relation,
        delta: float,
        content: str | None = None,
    ) -> Reservation:
        """Claim room in the budget for all that a run will release, before it reads the first private row.

        Args:
            dataset: The name under which the budget is kept.
            event: All that the run may release.
            run: An id of the run, for the statement.
            unit: What the run protects.
            relation: Which data sets are neighbors for the run.
            delta: At which the run states its epsilon; fixes the data set's delta if nothing else has.
            content: Digest of the data, by which the same rows are known under another name.

        Raises:
            BudgetExceeded: The plan does not fit in what is left; nothing was written.
            PlanMismatch: The data set is counted under another unit or relation.
            UnsupportedEvent: No accountant can say what the event costs.
        """
        rules.check_text("run", run)
        check_fraction(delta=delta)
        check_choice(list(Unit), unit=unit)
        check_choice(list(Relation), relation=relation)
        if content is not None:
            rules.check_text("content", content)
        terms = Terms(unit=Unit(unit), relation=Relation(relation), delta=float(delta))
        plan = Plan(event=event, run=run, terms=terms, content=content)
        with self._mutex:
            entry = self._write(Kind.RESERVE, dataset, lambda account: rules.reserve_body(account, plan))
            return self._reservation(dataset, entry.digest)

    def resume(self, reservation_id: str) -> Reservation:
        """Go on with a reservation whose process has ended; its earlier attempts can say nothing any more.

        Raises:
            PlanMismatch: It was committed or released.
            InputError: The book does not know it.
        """
        with self._mutex:
            self._refresh()
            dataset = self._book.dataset_of(reservation_id)
            entry = self._write(Kind.RESUME, dataset, lambda account: rules.resume_body(account, reservation_id))
            return self._reservation(dataset, reservation_id, attempt=entry.body["attempt"])

    def statement(self, dataset: str) -> Statement:
        """What was spent on a data set, composed from what ran; empty if the book does not know it."""
        with self._mutex:
            self._refresh()
            return state(self._book, dataset)

    def datasets(self) -> tuple[str, ...]:
        """The names that the book knows, sorted."""
        with self._mutex:
            self._refresh()
            return tuple(sorted(self._book.accounts))

    def history(self, dataset: str | None = None) -> tuple[Entry, ...]:
        """The entries of the book, or of one data set, verified from the first to the last.

        Raises:
            DigestMismatch: The book was altered; the text names the first bad entry.
        """
        with self._mutex:
            self._check_usable()
            entries = Book().read(self._storage.read(0))
        return tuple(entry for entry in entries if dataset in (None, entry.dataset))

    def verify(self) -> str:
        """Read the whole book again and return the digest of its head, `ORIGIN` if it is empty.

        A book that was set back to an older copy verifies; hold a digest from elsewhere against it: `prove`.

        Raises:
            DigestMismatch: The book was altered; the text names the first bad entry.
        """
        entries = self.history()
        return entries[-1].digest if entries else ORIGIN

    def prove(self, digest: str) -> Entry:
        """The entry with that digest, from a book that was verified from the first entry to the last.

        Raises:
            DigestMismatch: It is another book, or was altered or set back to an older copy.
        """
        for entry in self.history():
            if entry.digest == digest:
                return entry
        raise DigestMismatch(
            f"the ledger has no entry {digest}",
            hint="it is another ledger, or was set back to a copy from before that entry was written",
        )

    def close(self) -> None:
        """Let go of files and connections."""
        with self._mutex:
            if self._process == os.getpid():
                self._storage.close()
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, kind: Kind, dataset: str, decide: Callable[[Account], dict[str, Any]]) -> Entry:
        """Append what `decide` makes of the newest state of the data set.

        Deciding may take seconds, so it is done before the write lock is taken, and done again if somebody
        else has written about this data set meanwhile. Whoever is late too often decides inside the lock.
        """
        rules.check_text("dataset", dataset)
        with self._mutex:
            for patience in reversed(range(_PATIENCE + 1)):
                self._refresh()
                seen = self._book.account(dataset).head
                body = decide(self._book.account(dataset)) if patience else None
                with self._storage.writing() as append:
                    self._refresh()
                    account = self._book.account(dataset)
                    if body is None or account.head != seen:
                        if patience:
                            continue
                        body = decide(account)
                    entry = Entry.after(self._book.head, kind=kind, dataset=dataset, body=body)
                    append(entry.to_row())
                self._refresh()
                return entry
        raise AssertionError("unreachable: the last round always writes or raises")

    def _reservation(self, dataset: str, reservation: str, *, attempt: int = 1) -> Reservation:
        claim = self._book.account(dataset).claim(reservation)
        return Reservation(
            id=reservation,
            dataset=dataset,
            run=claim.plan.run,
            event=claim.plan.event,
            attempt=attempt,
            warnings=self._book.warnings(dataset),
            _write=self._write,
        )

    def _refresh(self) -> None:
        """Take in what others have written, and make sure that the entry we stand on is still there."""
        self._check_usable()
        head = self._book.head
        if head is None:
            self._book.read(self._storage.read(0))
            return
        rows = self._storage.read(head.sequence - 1)
        if not rows or rows[0] != head.to_row():
            raise DigestMismatch(
                f"entry {head.sequence} of the ledger is no longer the one that was read before",
                hint="the book was replaced or altered while it was open",
            )
        self._book.read(rows[1:])

    def _check_usable(self) -> None:
        if self._process != os.getpid():
            raise CloisterError(
                "this ledger is closed" if self._process is None else "this ledger was opened by another process",
                hint="open it again with Ledger.open, in each process that uses it",
            )
