"""Many processes at once, and death at any moment."""

import random
import signal

import pytest

from cloister.accounting import Gaussian, SelfComposed, epsilon
from cloister.errors import BudgetExceeded
from cloister.ledger import Kind, Ledger
from fakes import ledgers
from fakes.ledgers import PLAN, budget


@pytest.fixture(params=ledgers.KINDS)
def place(request, tmp_path):
    with ledgers.new_place(request.param, tmp_path) as location:
        yield location


def crowd(place, workers, tries, noise):
    """Let many processes reserve at once; returns how many reservations were granted in all."""
    crew = [ledgers.start(ledgers.hammer, place, f"worker-{number}", tries, noise) for number in range(workers)]
    granted = [sum(ledgers.received(pipe)) for _, pipe in crew]
    for process, _ in crew:
        process.join()
        assert process.exitcode == 0
    return sum(granted)


def check_crowd(place, granted, fitting, noise):
    """Exactly as many were granted as fit, every one is in the book, and the book holds."""
    assert granted == fitting
    with Ledger.open(place) as ledger:
        ledger.verify()
        statement = ledger.statement("shared")
        assert len(statement.lines) == len({line.run for line in statement.lines}) == fitting
        assert statement.spent == epsilon(SelfComposed(Gaussian(noise), fitting), delta=PLAN["delta"])
        assert statement.spent <= statement.budget.epsilon
        with pytest.raises(BudgetExceeded):
            ledger.reserve("shared", Gaussian(noise), run="late", **PLAN)


def test_many_processes_never_overspend(place):
    """Positive control: the twelfth fits exactly; 8 times 5 would have liked to."""
    limit = epsilon(SelfComposed(Gaussian(20.0), 12), delta=PLAN["delta"])
    with Ledger.open(place) as ledger:
        ledger.set_budget("shared", budget(limit))
    check_crowd(place, crowd(place, workers=8, tries=5, noise=20.0), 12, 20.0)


def test_many_processes_lose_nothing_and_create_one_book(place):
    """Nobody has made the book before: the first writers race for that too."""
    assert crowd(place, workers=5, tries=4, noise=20.0) == 20
    with Ledger.open(place) as ledger:
        ledger.verify()
        kinds = [entry.kind for entry in ledger.history()]
        assert kinds.count(Kind.RESERVE) == 20
        assert kinds.count(Kind.COMMIT) == 10
        assert ledger.statement("shared").spent == epsilon(SelfComposed(Gaussian(20.0), 20), delta=PLAN["delta"])


@pytest.mark.slow
def test_soak(place):
    limit = epsilon(SelfComposed(Gaussian(40.0), 150), delta=PLAN["delta"])
    with Ledger.open(place) as ledger:
        ledger.set_budget("shared", budget(limit))
    check_crowd(place, crowd(place, workers=16, tries=40, noise=40.0), 150, 40.0)


def kill_again_and_again(place, kills, monkeypatch):
    monkeypatch.setattr("cloister.ledger.account.epsilon", ledgers.cheap_epsilon)
    clock = random.Random(7)
    acknowledged = []
    for _ in range(kills):
        words, then = clock.randrange(8), clock.uniform(0, 0.01)
        said, exitcode = ledgers.run_and_kill(ledgers.write_until_killed, place, words=words, then=then)
        assert exitcode == -signal.SIGKILL
        acknowledged += said
        with Ledger.open(place) as ledger:
            ledger.verify()
            entries = {entry.digest: entry for entry in ledger.history()}
            # Nothing that was said to be done is missing; at most one entry more each time was not heard of.
            assert [digest for digest in acknowledged if digest in entries] == acknowledged
            commits = sum(entries[digest].kind == Kind.COMMIT for digest in acknowledged)
            reserved = len(acknowledged) - commits
            least = commits / 20**2 + (reserved - commits) / 10**2
            # A commit that was not heard of turns 1/10^2 into 1/20^2.
            lines = ledger.statement("hammered").lines
            unheard = sum(line.status == "committed" for line in lines) - commits
            assert 0 <= unheard <= kills
            assert ledger.statement("hammered").spent >= least - unheard * (1 / 10**2 - 1 / 20**2) - 1e-12
            assert len(lines) >= reserved
    assert len(acknowledged) > 2 * kills, "the processes were killed before they did anything"


def test_kill_at_random_times_loses_nothing(place, monkeypatch):
    kill_again_and_again(place, 40, monkeypatch)


@pytest.mark.slow
def test_kill_at_random_times_soak(place, monkeypatch):
    kill_again_and_again(place, 200, monkeypatch)


def test_kill_before_every_single_statement(tmp_path, monkeypatch):
    """From the creation of the file to the last COMMIT, there is no statement before which death does harm."""
    monkeypatch.setattr("cloister.ledger.account.epsilon", ledgers.cheap_epsilon)
    for deadly in range(1, 200):
        place = str(tmp_path / str(deadly))
        said, exitcode = ledgers.run(ledgers.write_until_statement, place, deadly)
        with Ledger.open(place) as ledger:
            entries = ledger.history()
            heard = [entry.digest for entry in entries[: len(said)]]
            assert heard == [word for word in said if word != "done"]
            assert len(entries) <= len(said) + 1
            expected = {0: 0.0, 1: 0.0, 2: 1 / 4, 3: 1 / 9}[len(entries)]
            assert ledger.statement("hammered").spent == pytest.approx(expected)
            ledger.set_budget("hammered", budget(2.0))  # the next writer goes on
            ledger.verify()
        if said[-1:] == ["done"]:
            break
        assert exitcode == -signal.SIGKILL
    assert said == [*heard, "done"]
    assert deadly > 30, "the process was not watched"
