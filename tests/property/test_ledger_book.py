"""The book against a model of it, against meddling in memory, and against every change of a character."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloister.accounting import Gaussian, SelfComposed
from cloister.errors import BudgetExceeded, CloisterError, DigestMismatch, PlanMismatch
from cloister.ledger import Ledger
from cloister.ledger.book import Book
from cloister.ledger.entries import Row
from fakes import ledgers
from fakes.ledgers import PLAN, MemoryStorage, budget


@pytest.fixture(autouse=True)
def cheap_accountant(monkeypatch):
    monkeypatch.setattr("cloister.ledger.account.epsilon", ledgers.cheap_epsilon)


def steps(count):
    return SelfComposed(Gaussian(10.0), count)  # costs count / 100


def limit_of(number):
    return budget((number + 0.5) / 100)  # between two sums, so that rounding decides nothing


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("budget"), st.integers(1, 60)),
        st.tuples(st.just("reserve"), st.integers(1, 20)),
        st.tuples(st.sampled_from(["commit", "release", "resume", "reopen"]), st.integers(0, 25)),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=ACTS)
def test_the_book_agrees_with_a_model(acts):
    """The model: a limit, and for each reservation [counted steps, open?, attempt]."""
    storage, limit, claims, held = MemoryStorage(), None, [], []
    ledger = Ledger(storage)
    for act, number in acts:
        spent = sum(counted for counted, _, _ in claims)
        if act == "budget":
            ledger.set_budget("d", limit_of(number))
            limit = number
        elif act == "reserve":
            fits = limit is None or spent + number <= limit
            try:
                held.append(ledger.reserve("d", steps(number), run="r", **PLAN))
                assert fits
                claims.append([number, True, 1])
            except BudgetExceeded:
                assert not fits
        elif act == "reopen":
            ledger = Ledger(storage)
        elif claims:
            index = number % len(claims)
            counted, is_open, attempt = claims[index]
            may = is_open and (act == "resume" or held[index].attempt == attempt)
            try:
                if act == "commit":
                    held[index].commit(steps(counted - counted // 3))
                    claims[index] = [counted - counted // 3, False, attempt]
                elif act == "release":
                    held[index].release("nothing came out")
                    claims[index] = [0, False, attempt]
                else:
                    resumed = ledger.resume(held[index].id)
                    claims[index] = [counted, True, attempt + 1]
                    if number % 2:  # else the old handle is kept, and must be refused from now on
                        held[index] = resumed
                assert may
            except PlanMismatch:
                assert not may
        statement = ledger.statement("d")
        assert statement.spent == pytest.approx(sum(counted for counted, _, _ in claims) / 100)
        assert statement.budget == (None if limit is None else limit_of(limit))
    ledger.verify()


def written_book():
    storage = MemoryStorage()
    ledger = Ledger(storage)
    ledger.set_budget("d", budget(1.0))
    ledger.reserve("d", steps(5), run="r", **PLAN).commit(steps(5))
    ledger.reserve("d", steps(7), run="s", **PLAN)
    return storage.rows


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_change_of_a_character_is_found_in_its_entry(data):
    rows = written_book()
    index = data.draw(st.integers(0, len(rows) - 1))
    row = rows[index]
    field = data.draw(st.sampled_from(["entry", "digest"]))
    text = getattr(row, field)
    place = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.characters(exclude_categories=()).filter(lambda c: c != text[place]))
    rows[index] = row._replace(**{field: text[:place] + letter + text[place + 1 :]})
    with pytest.raises(DigestMismatch, match=f"entry {index + 1} of the ledger has been changed"):
        Book().read(rows)


@given(rows=st.lists(st.tuples(st.integers(), st.text(), st.text())))
def test_foreign_rows_are_an_error_of_ours(rows):
    if rows:
        with pytest.raises(DigestMismatch):
            Book().read(Row(*row) for row in rows)


@pytest.mark.parametrize("value", [None, 7, b"{}", ""])
def test_foreign_values_are_an_error_of_ours(value):
    with pytest.raises(DigestMismatch, match="entry 1"):
        Book().read([Row(1, value, "")])


def test_a_competitor_between_decision_and_lock_is_seen():
    """The budget holds one more; somebody takes it after we have decided and before we write."""
    storage = MemoryStorage()
    ledger, rival = Ledger(storage), Ledger(storage)
    ledger.set_budget("d", budget(0.1))

    def snatch():
        storage.meddle = lambda: None
        rival.reserve("d", steps(6), run="rival", **PLAN)

    storage.meddle = snatch
    with pytest.raises(BudgetExceeded):
        ledger.reserve("d", steps(6), run="late", **PLAN)
    assert [line.run for line in ledger.statement("d").lines] == ["rival"]


def test_a_competitor_on_another_data_set_costs_no_second_decision(monkeypatch):
    storage = MemoryStorage()
    ledger, rival = Ledger(storage), Ledger(storage)
    decisions = []
    monkeypatch.setattr("cloister.ledger.account.epsilon", lambda event, **terms: decisions.append(event) or 0.0)

    def write_elsewhere():
        storage.meddle = lambda: None
        rival.set_budget("other", budget(1.0))

    storage.meddle = write_elsewhere
    ledger.reserve("d", steps(6), run="r", **PLAN)
    assert len(decisions) == 2  # one for the reservation, one for the rival's budget
    ledger.verify()


def test_whoever_is_always_late_decides_inside_the_lock(monkeypatch):
    storage = MemoryStorage()
    ledger, rival = Ledger(storage), Ledger(storage)
    inside = []

    def watched(event, **terms):
        inside.append(storage.locked)
        return ledgers.cheap_epsilon(event, **terms)

    def interfere():
        meddle, storage.meddle = storage.meddle, lambda: None
        rival.reserve("d", steps(1), run="rival", **PLAN)
        storage.meddle = meddle

    monkeypatch.setattr("cloister.ledger.account.epsilon", watched)
    storage.meddle = interfere
    reservation = ledger.reserve("d", steps(6), run="late", **PLAN)
    assert inside.count(True) == 1
    assert ledger.prove(reservation.id).body["run"] == "late"
    assert len(ledger.statement("d").lines) == len(inside) - inside.count(False) + len(ledger.history()) - 1


def test_a_long_book_is_read_quickly_and_once():
    """New entries are read when there are any; the old ones are not read again."""
    storage = MemoryStorage()
    ledger = Ledger(storage)
    reads = []
    read = storage.read
    storage.read = lambda after: reads.append(after) or read(after)
    for number in range(50):
        ledger.set_budget("d", budget(number + 1.0))
    assert reads[-1] >= 48


def test_entries_are_what_they_say():
    for row in written_book():
        content = json.loads(row.entry)
        assert content["sequence"] == row.sequence
        assert set(content) == {"body", "dataset", "kind", "previous", "sequence", "time", "version"}


def test_errors_are_of_one_tree():
    assert issubclass(DigestMismatch, CloisterError)
