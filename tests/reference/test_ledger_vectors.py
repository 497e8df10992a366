"""The vectors of docs/specs/ledger.md, checked with nothing but hashlib and json, and then by the ledger."""

import hashlib
import json
from pathlib import Path

import pytest

from cloister.accounting import event_to_json
from cloister.errors import DigestMismatch
from cloister.ledger import ORIGIN, Ledger
from cloister.ledger.book import Book
from cloister.ledger.entries import Row
from fakes.ledgers import MemoryStorage

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "ledger-vectors.json").read_text())
ROWS = [Row(**row) for row in VECTORS["rows"]]


def independent_failure(rows):
    """Number of the first entry that breaks the chain rule of the specification, or None."""
    previous = "sha256:" + 64 * "0"
    for number, row in enumerate(rows, start=1):
        content = json.loads(row["entry"])
        digest = "sha256:" + hashlib.sha256(row["entry"].encode("utf-8")).hexdigest()
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        chained = (row["sequence"], content["sequence"], content["previous"]) == (number, number, previous)
        if not chained or digest != row["digest"] or canonical != row["entry"]:
            return number
        previous = digest
    return None


def test_the_book_by_hand():
    assert independent_failure(VECTORS["rows"]) is None
    assert VECTORS["head"] == VECTORS["rows"][-1]["digest"]
    assert VECTORS["origin"] == ORIGIN


def test_the_book_by_the_ledger():
    storage = MemoryStorage()
    storage.rows = list(ROWS)
    ledger = Ledger(storage)
    assert ledger.verify() == VECTORS["head"]
    assert [entry.to_row() for entry in ledger.history()] == ROWS
    for dataset, events in VECTORS["counted"].items():
        lines = ledger.statement(dataset).lines
        assert [line.status for line in lines] == VECTORS["statuses"][dataset]
        assert [event_to_json(line.event) for line in lines if line.status != "released"] == events


@pytest.mark.parametrize("vector", VECTORS["broken"], ids=lambda vector: vector["what"])
def test_broken_books(vector):
    by_hand = independent_failure(vector["rows"])
    assert by_hand == vector["entry"] or vector["what"] == "a commit of what was committed"
    with pytest.raises(DigestMismatch, match=f"entry {vector['entry']} of the ledger"):
        Book().read(Row(**row) for row in vector["rows"])
