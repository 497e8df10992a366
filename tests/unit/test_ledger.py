"""One suite for every place where a ledger can lie."""

import math
import threading

import pytest

from cloister.accounting import (
    Composed,
    Gaussian,
    Laplace,
    NonPrivate,
    NoOp,
    PoissonSampled,
    Relation,
    SelfComposed,
    TruncatedPoissonGaussian,
    Unit,
    compose,
    epsilon,
    noise_for,
)
from cloister.errors import BudgetExceeded, CloisterError, DigestMismatch, InputError, PlanMismatch, UnsupportedEvent
from cloister.ledger import ORIGIN, Kind, Ledger, Status
from fakes import ledgers
from fakes.ledgers import PLAN, budget

DELTA = ledgers.DELTA
STEP = PoissonSampled(0.01, Gaussian(1.0))


@pytest.fixture(params=ledgers.KINDS)
def place(request, tmp_path):
    with ledgers.new_place(request.param, tmp_path) as location:
        yield location


@pytest.fixture
def ledger(place):
    with Ledger.open(place) as opened:
        yield opened


def alone(event):
    return epsilon(event, delta=DELTA)


def test_an_empty_book(ledger):
    assert ledger.verify() == ORIGIN
    assert ledger.history() == ()
    assert ledger.datasets() == ()
    assert ledger.budget("ward-7") is None
    statement = ledger.statement("ward-7")
    assert (statement.budget, statement.remaining, statement.spent, statement.lines) == (None, None, 0.0, ())


def test_a_book_outlives_its_process(place):
    with Ledger.open(place) as ledger:
        ledger.set_budget("ward-7", budget(3.0))
        reservation = ledger.reserve("ward-7", Gaussian(4.0), run="first", **PLAN)
        entry = reservation.commit(Gaussian(5.0))
    with Ledger.open(place) as ledger:
        assert ledger.budget("ward-7") == budget(3.0)
        assert ledger.datasets() == ("ward-7",)
        assert ledger.verify() == entry.digest
        assert ledger.prove(reservation.id).kind is Kind.RESERVE
        (line,) = ledger.statement("ward-7").lines
        assert (line.run, line.reservation, line.status) == ("first", reservation.id, Status.COMMITTED)
        assert line.event == Gaussian(5.0)
        assert [entry.kind for entry in ledger.history("ward-7")] == ["budget_set", "reserve", "commit"]
        assert ledger.history("other") == ()


def test_spending_is_composed_from_events_and_not_summed(ledger):
    ledger.set_budget("ward-7", budget(5.0))
    ledger.reserve("ward-7", SelfComposed(STEP, 600), run="a", **PLAN).commit(SelfComposed(STEP, 500))
    ledger.reserve("ward-7", Laplace(3.0), run="b", **PLAN)
    ledger.reserve("ward-7", Gaussian(5.0), run="c", **PLAN)
    statement = ledger.statement("ward-7")
    together = alone(compose(SelfComposed(STEP, 500), Laplace(3.0), Gaussian(5.0)))
    assert statement.spent == together < sum(line.epsilon for line in statement.lines) - 0.1
    assert statement.remaining == 5.0 - together
    assert [line.epsilon for line in statement.lines] == [
        alone(SelfComposed(STEP, 500)),
        alone(Laplace(3.0)),
        alone(Gaussian(5.0)),
    ]


def test_refusal_says_what_is_left_and_what_is_needed(ledger):
    ledger.set_budget("ward-7", budget(3.0))
    ledger.reserve("ward-7", Gaussian(2.0), run="a", **PLAN)
    with pytest.raises(BudgetExceeded) as refused:
        ledger.reserve("ward-7", Gaussian(2.0), run="b", **PLAN)
    spent, total = alone(Gaussian(2.0)), alone(SelfComposed(Gaussian(2.0), 2))
    assert spent < 3.0 < total < 2 * spent
    left, needs = math.floor((3 - spent) * 1e4) / 1e4, math.ceil((total - spent) * 1e3) / 1e3
    assert str(refused.value) == (
        f"data set 'ward-7' has epsilon {left} of 3.0 left (delta 1e-6, add-or-remove-one, per example); "
        f"this plan needs {needs}"
    )
    assert refused.value.hint == "lower steps, raise noise_multiplier, or ask the data owner for a new budget"
    assert refused.value.exit_code == 3
    assert len(ledger.history()) == 2


def test_a_plan_calibrated_to_the_whole_budget_fits_and_nothing_after_it(ledger):
    ledger.set_budget("ward-7", budget(2.0))
    noise = noise_for(lambda s: SelfComposed(PoissonSampled(0.02, Gaussian(s)), 300), budget=budget(2.0))
    event = SelfComposed(PoissonSampled(0.02, Gaussian(noise)), 300)
    assert 1.9 < alone(event) <= 2.0
    ledger.reserve("ward-7", event, run="all", **PLAN).commit(event)
    with pytest.raises(BudgetExceeded):
        ledger.reserve("ward-7", Gaussian(3.0), run="more", **PLAN)


def test_a_released_reservation_is_not_counted(ledger):
    ledger.set_budget("ward-7", budget(2.5))
    first = ledger.reserve("ward-7", Gaussian(2.5), run="a", **PLAN)
    with pytest.raises(BudgetExceeded):
        ledger.reserve("ward-7", Gaussian(2.5), run="b", **PLAN)
    for empty in ("", " \n "):
        with pytest.raises(InputError, match="reason"):
            first.release(empty)
    entry = first.release("the file\nwas \x00 missing" + "!" * 1000)
    assert entry.body["reason"].startswith("the file was ? missing!!")
    assert len(entry.body["reason"]) == 500
    assert ledger.statement("ward-7").spent == 0.0
    assert ledger.statement("ward-7").remaining == 2.5
    ledger.reserve("ward-7", Gaussian(2.5), run="b", **PLAN)


@pytest.mark.parametrize("end", ["commit", "release"])
@pytest.mark.parametrize("again", ["commit", "release", "resume"])
def test_a_reservation_ends_once(ledger, end, again):
    reservation = ledger.reserve("ward-7", Gaussian(2.0), run="a", **PLAN)
    acts = {
        "commit": lambda: reservation.commit(Gaussian(2.0)),
        "release": lambda: reservation.release("nothing came out"),
        "resume": lambda: ledger.resume(reservation.id),
    }
    acts[end]()
    with pytest.raises(PlanMismatch, match=f"run 'a' is already {end}"):
        acts[again]()
    assert len(ledger.history()) == 2


def test_resume_silences_earlier_attempts(ledger):
    ledger.set_budget("ward-7", budget(3.0))
    first = ledger.reserve("ward-7", Gaussian(2.0), run="a", **PLAN)
    second = ledger.resume(first.id)
    third = ledger.resume(first.id)
    assert (first.attempt, second.attempt, third.attempt) == (1, 2, 3)
    assert third.id == first.id
    assert third.event == first.event
    for old in (first, second):
        with pytest.raises(PlanMismatch, match=f"attempt {old.attempt} of run 'a' was followed by attempt 3"):
            old.commit(Gaussian(2.0))
        with pytest.raises(PlanMismatch, match="was followed by"):
            old.release("nothing came out")
    assert ledger.statement("ward-7").spent == alone(Gaussian(2.0))  # once, not three times
    third.commit(Gaussian(2.0))
    assert ledger.statement("ward-7").lines[0].attempt == 3


def test_resume_of_an_unknown_reservation(ledger):
    with pytest.raises(InputError, match="has no reservation"):
        ledger.resume(ORIGIN)


def test_what_ran_must_not_cost_more_than_what_was_reserved(ledger):
    ledger.set_budget("ward-7", budget(8.0))
    reservation = ledger.reserve("ward-7", SelfComposed(STEP, 100), run="a", **PLAN)
    reserved = ledger.statement("ward-7").spent
    for event in (SelfComposed(STEP, 101), SelfComposed(PoissonSampled(0.01, Gaussian(0.9)), 100), NonPrivate()):
        with pytest.raises(PlanMismatch, match="what run 'a' did costs epsilon .* alone; reserved was"):
            reservation.commit(event)
    assert ledger.statement("ward-7").spent == reserved
    # In two pieces, as after a resumed run, it is still the same.
    reservation.commit(Composed((SelfComposed(STEP, 40), STEP, NoOp(), SelfComposed(STEP, 59))))
    assert ledger.statement("ward-7").spent == reserved


def test_what_ran_must_not_cost_more_together_with_the_rest(ledger):
    """A Laplace release that is cheaper alone costs more in composition than the Gaussian that was reserved."""
    others, reserved = SelfComposed(Gaussian(30.0), 500), Gaussian(5.0)
    ran = Laplace(1 / (alone(reserved) - 0.01))
    assert alone(ran) < alone(reserved)
    assert alone(compose(others, ran)) > alone(compose(others, reserved)) + 0.01
    limit = alone(compose(others, reserved)) + 0.005
    ledger.set_budget("tight", budget(limit))
    ledger.set_budget("wide", budget(2 * limit))
    for dataset in ("tight", "wide"):
        ledger.reserve(dataset, others, run="others", **PLAN)
    with pytest.raises(PlanMismatch, match="with everything else counted"):
        ledger.reserve("tight", reserved, run="a", **PLAN).commit(ran)
    assert ledger.statement("tight").spent <= limit
    ledger.reserve("wide", reserved, run="a", **PLAN).commit(ran)


def test_without_a_budget_everything_is_counted_and_nothing_refused(ledger):
    ledger.reserve("open", Gaussian(0.5), run="a", **PLAN)
    statement = ledger.statement("open")
    assert (statement.budget, statement.remaining) == (None, None)
    assert (statement.delta, statement.unit, statement.relation) == (DELTA, Unit.EXAMPLE, Relation.ADD_OR_REMOVE_ONE)
    assert statement.spent == alone(Gaussian(0.5))
    ledger.reserve("open", NonPrivate(), run="b", **PLAN).commit(NonPrivate())
    assert ledger.statement("open").spent == math.inf
    assert ledger.statement("open").to_json()["epsilon_spent"] is None
    # A budget that comes too late has nothing left.
    ledger.set_budget("open", budget(3.0))
    assert ledger.statement("open").remaining == 0.0
    with pytest.raises(BudgetExceeded, match=r"epsilon 0\.0 of 3\.0 left .* needs 0\."):
        ledger.reserve("open", Gaussian(20.0), run="c", **PLAN)


def test_nothing_non_private_fits_into_a_budget(ledger):
    ledger.set_budget("ward-7", budget(1e6))
    with pytest.raises(BudgetExceeded, match="this plan needs infinity"):
        ledger.reserve("ward-7", NonPrivate(), run="a", **PLAN)
    assert len(ledger.history()) == 1


def test_an_event_that_no_accountant_knows_is_refused_even_without_a_budget(ledger):
    event = TruncatedPoissonGaussian(num_examples=100, sampling_prob=0.1, max_batch_size=20, noise_multiplier=1.0)
    with pytest.raises(UnsupportedEvent):
        ledger.reserve("open", event, run="a", **PLAN)
    assert ledger.history() == ()


def test_a_data_set_is_counted_in_one_way(ledger):
    ledger.set_budget("budgeted", budget(3.0, unit=Unit.USER))
    ledger.reserve("reserved", Gaussian(2.0), run="a", **{**PLAN, "unit": Unit.USER})
    for dataset in ("budgeted", "reserved"):
        message = f"{dataset!r} is counted add-or-remove-one, per user; this plan is add-or-remove-one, per example"
        with pytest.raises(PlanMismatch, match=message):
            ledger.reserve(dataset, Gaussian(2.0), run="b", **PLAN)
        with pytest.raises(PlanMismatch, match="this plan is replace-one, per user"):
            ledger.reserve(
                dataset, Gaussian(2.0), run="b", **{**PLAN, "unit": Unit.USER, "relation": Relation.REPLACE_ONE}
            )
    with pytest.raises(PlanMismatch, match="per user; the new budget is add-or-remove-one, per example"):
        ledger.set_budget("reserved", budget(3.0))
    ledger.set_budget("budgeted", budget(3.0))  # nothing is counted there yet


def test_epsilon_is_stated_at_the_budgets_delta(ledger):
    ledger.reserve("ward-7", Gaussian(2.0), run="a", **{**PLAN, "delta": 1e-5})
    assert ledger.statement("ward-7").spent == epsilon(Gaussian(2.0), delta=1e-5)
    ledger.set_budget("ward-7", budget(3.0, delta=1e-8))
    assert ledger.statement("ward-7").spent == epsilon(Gaussian(2.0), delta=1e-8)
    with pytest.raises(BudgetExceeded, match="delta 1e-8"):
        ledger.reserve("ward-7", Gaussian(4.0), run="b", **{**PLAN, "delta": 1e-2})


def test_a_budget_may_be_raised_and_lowered(ledger):
    ledger.set_budget("ward-7", budget(1.0))
    with pytest.raises(BudgetExceeded):
        ledger.reserve("ward-7", Gaussian(2.0), run="a", **PLAN)
    ledger.set_budget("ward-7", budget(3.0))
    reservation = ledger.reserve("ward-7", Gaussian(2.0), run="a", **PLAN)
    ledger.set_budget("ward-7", budget(0.5))
    assert ledger.statement("ward-7").remaining == 0.0
    for event in (Gaussian(1000.0), NoOp()):
        with pytest.raises(BudgetExceeded, match=r"epsilon 0\.0 of 0\.5 left"):
            ledger.reserve("ward-7", event, run="b", **PLAN)
    reservation.commit(Gaussian(2.0))  # what was granted stays granted


def test_the_same_rows_under_two_names_bring_a_warning(ledger):
    first = ledger.reserve("ward-7", Gaussian(2.0), run="a", content="sha256:aa", **PLAN)
    assert first.warnings == ()
    other = ledger.reserve("ward-7-copy", Gaussian(2.0), run="b", content="sha256:aa", **PLAN)
    assert "'ward-7-copy' holds the same rows as 'ward-7'" in other.warnings[0]
    assert "'ward-7' holds the same rows as 'ward-7-copy'" in ledger.statement("ward-7").warnings[0]
    assert "'ward-7-copy'" in ledger.reserve("ward-7", Gaussian(2.0), run="c", **PLAN).warnings[0]
    assert ledger.reserve("else", Gaussian(2.0), run="c", content="sha256:bb", **PLAN).warnings == ()


@pytest.mark.parametrize("name", ["", " ward", "a\nb", "a\x00b", "\ud800", "e\u0301", "x" * 501, None, 7])
def test_names_that_cannot_be_told_apart_or_read(ledger, name):
    with pytest.raises(InputError):
        ledger.set_budget(name, budget(1.0))
    with pytest.raises(InputError, match="run is"):
        ledger.reserve("ward-7", Gaussian(2.0), run=name, **PLAN)
    assert ledger.history() == ()


def test_names_in_any_script(ledger):
    ledger.set_budget("病棟 7 é 🧪 '\";--%s?", budget(1.0))
    assert ledger.datasets() == ("病棟 7 é 🧪 '\";--%s?",)
    ledger.verify()


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan])
def test_delta_is_a_probability(ledger, delta):
    with pytest.raises(InputError):
        ledger.reserve("ward-7", Gaussian(2.0), run="a", **{**PLAN, "delta": delta})


@pytest.mark.parametrize("wrong", [{"unit": "town"}, {"relation": "neighbors"}])
def test_unit_and_relation_are_known(ledger, wrong):
    with pytest.raises(InputError, match="expected one of"):
        ledger.reserve("ward-7", Gaussian(2.0), run="a", **{**PLAN, **wrong})


def test_prove_and_verify(ledger):
    digests = [ledger.set_budget("ward-7", budget(e)).digest for e in (1.0, 2.0, 3.0)]
    assert [ledger.prove(digest).sequence for digest in digests] == [1, 2, 3]
    assert ledger.verify() == digests[-1] == ledger.statement("ward-7").head
    with pytest.raises(DigestMismatch, match="has no entry sha256:0000"):
        ledger.prove(ORIGIN)


def test_two_ledgers_see_each_other(place):
    with Ledger.open(place) as one, Ledger.open(place) as other:
        one.set_budget("ward-7", budget(3.0))
        reservation = other.reserve("ward-7", Gaussian(2.0), run="a", **PLAN)
        with pytest.raises(BudgetExceeded):
            one.reserve("ward-7", Gaussian(2.0), run="b", **PLAN)
        taken_over = one.resume(reservation.id)
        with pytest.raises(PlanMismatch):
            reservation.commit(Gaussian(2.0))
        taken_over.commit(Gaussian(2.0))
        assert one.verify() == other.verify()


def test_threads_share_a_ledger(ledger, monkeypatch):
    monkeypatch.setattr("cloister.ledger.account.epsilon", ledgers.cheap_epsilon)
    ledger.set_budget("ward-7", budget(0.205))
    granted = []

    def work():
        for number in range(5):
            try:
                granted.append(ledger.reserve("ward-7", Gaussian(10.0), run=f"{number}", **PLAN))
            except BudgetExceeded:
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == len({r.id for r in granted}) == 20
    ledger.verify()


def test_a_closed_ledger_says_so(place):
    ledger = Ledger.open(place)
    ledger.close()
    ledger.close()
    for act in (ledger.verify, ledger.datasets, lambda: ledger.set_budget("a", budget(1.0))):
        with pytest.raises(CloisterError, match="this ledger is closed"):
            act()


def test_an_error_inside_the_write_lock_leaves_nothing_behind(ledger, monkeypatch):
    ledger.set_budget("ward-7", budget(3.0))
    monkeypatch.setattr("cloister.ledger.ledger.Entry.to_row", lambda entry: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ledger.set_budget("ward-7", budget(4.0))
    monkeypatch.undo()
    ledger.set_budget("ward-7", budget(5.0))
    assert [entry.body["epsilon"] for entry in ledger.history()] == [3.0, 5.0]


def test_statement_and_entry_are_plain_json(ledger):
    import json

    ledger.set_budget("ward-7", budget(3.0))
    ledger.reserve("ward-7", Gaussian(2.0), run="a", **PLAN)
    statement = json.loads(json.dumps(ledger.statement("ward-7").to_json(), allow_nan=False))
    assert statement["budget"] == {"epsilon": 3.0, "delta": DELTA, "unit": "example", "relation": "add_or_remove_one"}
    assert statement["lines"][0]["event"] == {"type": "gaussian", "noise_multiplier": 2.0}
    assert statement["lines"][0]["status"] == "reserved"
    assert statement["epsilon_spent"] + statement["epsilon_remaining"] == pytest.approx(3.0)
    assert json.loads(json.dumps(ledger.history()[1].to_json()))["body"]["run"] == "a"
