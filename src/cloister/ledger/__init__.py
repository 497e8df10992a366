"""The privacy ledger: one append-only, hash-chained book of what was spent on every data set."""

from __future__ import annotations

from cloister.ledger.account import Status
from cloister.ledger.entries import ORIGIN, Entry, Kind
from cloister.ledger.ledger import Ledger
from cloister.ledger.location import ledger_location
from cloister.ledger.reservation import Reservation
from cloister.ledger.statement import Line, Statement

__all__ = [
    "ORIGIN",
    "Entry",
    "Kind",
    "Ledger",
    "Line",
    "Reservation",
    "Statement",
    "Status",
    "ledger_location",
]
