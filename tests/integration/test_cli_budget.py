"""``cloister budget``, as it is typed."""

import contextlib
import json
import sqlite3

import pytest

from cloister.accounting import Gaussian, NonPrivate
from cloister.cli import main
from cloister.ledger import Ledger
from fakes import ledgers
from fakes.ledgers import PLAN, budget


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.delenv("CLOISTER_LEDGER", raising=False)
    monkeypatch.setenv("CLOISTER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def call(home, capsys):
    def run(*arguments):
        code = main(["budget", *arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def spent(home):
    with Ledger.open(home) as ledger:
        ledger.set_budget("ward-7", budget(3.0))
        ledger.reserve("ward-7", Gaussian(2.0), run="mlp", content="sha256:aa", **PLAN).commit(Gaussian(2.0))
        ledger.reserve("ward-7", Gaussian(9.0), run="histogram", **PLAN)
        ledger.reserve("ward-7", Gaussian(9.0), run="mistake", **PLAN).release("no data there")
        ledger.reserve("public", NonPrivate(), run="baseline", content="sha256:aa", **PLAN).commit(NonPrivate())
        return ledger.statement("ward-7")


def test_set_and_show(call, home):
    code, out, err = call("set", "ward-7", "--epsilon", "3", "--delta", "1e-6")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "ward-7",
        "  budget   3.000",
        "  spent    0.000",
        "  left     3.000  [....................]",
        "  epsilon  at delta 1e-6, add-or-remove-one, per example",
    ]
    code, out, _ = call("show", "ward-7", "--json")
    assert code == 0
    assert json.loads(out)["statements"][0]["epsilon_remaining"] == 3.0
    code, out, _ = call("set", "w", "--epsilon", "3", "--delta", "1e-6", "--unit", "user", "--relation", "replace_one")
    assert "replace-one, per user" in out


def test_set_answers_in_json(call):
    code, out, err = call("set", "ward-7", "--epsilon", "3", "--delta", "1e-6", "--json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert document["entry"]["body"]["epsilon"] == 3.0
    assert document["statement"]["head"] == document["entry"]["digest"]


def test_what_a_data_protection_officer_reads(call, spent):
    code, out, err = call("show", "ward-7")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[1] == "  budget   3.000"
    assert float(lines[2].split()[1]) == pytest.approx(spent.spent, abs=1e-3)
    assert float(lines[2].split()[1]) >= spent.spent
    assert float(lines[3].split()[1]) <= spent.remaining
    assert "same rows as 'public'" in lines[5]
    assert [line.split()[:2] for line in lines[8:11]] == [
        ["mlp", "committed"],
        ["histogram", "reserved"],
        ["mistake", "released"],
    ]
    assert "not the sum of the column" in out
    assert "counts in full" in out


def test_show_all(call, spent):
    code, out, _ = call("show")
    assert code == 0
    assert "without bound: something was released without any guarantee" in out
    assert "none set: nothing is refused" in out
    statements = json.loads(call("show", "--json")[1])["statements"]
    assert [one["dataset"] for one in statements] == ["public", "ward-7"]
    assert statements[0]["epsilon_spent"] is None
    assert statements[1]["epsilon_spent"] == spent.spent


def test_show_of_nothing(call, home):
    assert call("show") == (0, "", "the ledger is empty\n")
    assert json.loads(call("show", "--json")[1]) == {"statements": []}
    assert not home.exists()
    code, out, err = call("show", "ward-7")
    assert (code, out) == (1, "")
    assert "no data set 'ward-7'" in err


def test_an_unknown_name_is_answered_with_the_nearest(call, spent):
    code, _, err = call("show", "ward7")
    assert code == 1
    assert "hint: did you mean 'ward-7'?" in err


def test_history(call, spent):
    code, out, err = call("history")
    assert code == 0
    assert len(out.splitlines()) == 8
    assert spent.head in err
    assert "run mlp" in out
    assert "no data there" in out
    code, out, err = call("history", "public", "--json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert document["verified"] is True
    assert [entry["kind"] for entry in document["entries"]] == ["reserve", "commit"]
    assert document["head"] == document["entries"][-1]["digest"]
    assert call("history", "ward-8")[0] == 1


def test_history_of_nothing(call):
    code, out, err = call("history")
    assert (code, out.strip()) == (0, "")
    assert "sha256:0000" in err


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_tampering_ends_with_three_and_the_place(call, spent, home, flags):
    with contextlib.closing(sqlite3.connect(home / "ledger.sqlite")) as connection:
        connection.execute("UPDATE entries SET entry = replace(entry, '2.0', '9.0') WHERE sequence = 3")
        connection.commit()
    code, out, err = call("history", *flags)
    assert (code, out) == (3, "")
    assert "entry 3 of the ledger has been changed" in err


def test_another_unit_ends_with_three(call, spent):
    code, out, err = call("set", "ward-7", "--epsilon", "3", "--delta", "1e-6", "--unit", "user")
    assert (code, out) == (3, "")
    assert "per example; the new budget is add-or-remove-one, per user" in err


@pytest.mark.parametrize("wrong", [("--epsilon", "-1", "--delta", "1e-6"), ("--epsilon", "1", "--delta", "2")])
def test_budgets_that_are_none(call, wrong, home):
    code, _, err = call("set", "ward-7", *wrong)
    assert code == 1
    assert "expected" in err
    assert not home.exists()


def test_usage(call):
    assert call("set", "ward-7")[0] == 2
    assert call("set", "ward-7", "--epsilon", "1", "--delta", "1e-6", "--unit", "town")[0] == 2


def test_the_ledger_may_lie_in_postgresql(call, home, monkeypatch):
    with ledgers.new_place("postgresql", home) as address:
        monkeypatch.setenv("CLOISTER_LEDGER", address)
        assert call("set", "ward-7", "--epsilon", "3", "--delta", "1e-6")[0] == 0
        assert "left     3.000" in call("show")[1]
        assert len(json.loads(call("history", "--json")[1])["entries"]) == 1
    assert not home.exists()


def test_an_address_that_is_none(call, monkeypatch):
    monkeypatch.setenv("CLOISTER_LEDGER", "mysql://host/db")
    code, _, err = call("show")
    assert code == 1
    assert "CLOISTER_LEDGER" in err
