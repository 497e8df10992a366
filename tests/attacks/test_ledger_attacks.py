"""Somebody writes to the storage behind the ledger's back."""

import json
import shutil

import pytest

from cloister._canonical import canonical_json, digest_bytes
from cloister.accounting import Gaussian
from cloister.errors import CloisterError, DigestMismatch, PlanMismatch
from cloister.ledger import Ledger
from fakes import ledgers
from fakes.ledgers import PLAN, budget


@pytest.fixture(params=ledgers.KINDS)
def place(request, tmp_path):
    """A book of six entries."""
    with ledgers.new_place(request.param, tmp_path) as location:
        with Ledger.open(location) as ledger:
            ledger.set_budget("ward-7", budget(3.0))
            first = ledger.reserve("ward-7", Gaussian(4.0), run="a", **PLAN)
            ledger.resume(first.id).commit(Gaussian(4.0))
            ledger.reserve("ward-7", Gaussian(6.0), run="b", **PLAN).release("nothing came out")
        yield location


@pytest.fixture
def sql(place):
    with ledgers.raw(place) as execute:
        yield execute


def check_found(place, match):
    """Whoever opens the book learns of it, before anything is spent."""
    with pytest.raises(DigestMismatch, match=match) as found:
        Ledger.open(place)
    assert found.value.exit_code == 3


def entry(sql, sequence):
    return json.loads(sql("SELECT entry FROM entries WHERE sequence = ?", sequence)[0][0])


def write(sql, sequence, content, text=None):
    """Put an entry in the place of another, with a digest that fits it."""
    text = text or canonical_json(content).decode()
    sql("UPDATE entries SET entry = ?, digest = ? WHERE sequence = ?", text, digest_bytes(text.encode()), sequence)


def test_the_book_is_sound_before_the_attack(place):
    with Ledger.open(place) as ledger:
        assert len(ledger.history()) == 6
        ledger.verify()


def test_edited_row(place, sql):
    sql("UPDATE entries SET entry = replace(entry, '4.0', '9.0') WHERE sequence = 2")
    check_found(place, "entry 2 of the ledger has been changed")


def test_edited_row_with_a_digest_that_fits(place, sql):
    content = entry(sql, 2)
    content["body"]["event"]["noise_multiplier"] = 9.0
    write(sql, 2, content)
    check_found(place, "entry 3 of the ledger names .* which is another")


def test_other_digest(place, sql):
    sql("UPDATE entries SET digest = ? WHERE sequence = 3", "sha256:" + "1" * 64)
    check_found(place, "entry 3 of the ledger has been changed")


@pytest.mark.parametrize("sequence", [1, 3, 5])
def test_deleted_row(place, sql, sequence):
    sql("DELETE FROM entries WHERE sequence = ?", sequence)
    check_found(place, f"entry {sequence} of the ledger is missing, entry {sequence + 1} stands in its place")


def test_deleted_row_and_the_rest_moved_up(place, sql):
    sql("DELETE FROM entries WHERE sequence = 3")
    for sequence in (4, 5, 6):
        sql("UPDATE entries SET sequence = ? WHERE sequence = ?", sequence - 1, sequence)
    check_found(place, "entry 3 of the ledger says that it is entry 4")


def test_swapped_rows(place, sql):
    for old, new in ((3, 99), (4, 3), (99, 4)):
        sql("UPDATE entries SET sequence = ? WHERE sequence = ?", new, old)
    check_found(place, "entry 3 of the ledger says that it is entry 4")


def test_changed_sequence(place, sql):
    sql("UPDATE entries SET sequence = 60 WHERE sequence = 6")
    check_found(place, "entry 6 of the ledger is missing")


def append(sql, **changes):
    content = {**entry(sql, 6), "sequence": 7, "previous": sql("SELECT digest FROM entries WHERE sequence = 6")[0][0]}
    text = canonical_json({**content, **changes}).decode()
    sql("INSERT INTO entries (sequence, entry, digest) VALUES (7, ?, ?)", text, digest_bytes(text.encode()))
    return content


def test_forged_row_that_hangs_on_the_wrong_entry(place, sql):
    append(sql, kind="budget_set", body={**entry(sql, 1)["body"], "epsilon": 9.0}, previous=entry(sql, 6)["previous"])
    check_found(place, "entry 7 of the ledger names")


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("release", {}),  # a second time
        ("commit", {"reservation": "sha256:" + "2" * 64}),
        ("commit", {"event": {"type": "os.system", "command": "true"}}),
        ("resume", {"attempt": 17}),
        ("reserve", {}),
        ("budget_set", {"epsilon": -1.0}),
    ],
)
def test_forged_row_that_no_ledger_writes(place, sql, kind, changes):
    append(sql, kind=kind, body={**entry(sql, 6)["body"], **changes})
    check_found(place, "entry 7 of the ledger says what no ledger writes")


def test_two_readings_of_one_entry(place, sql):
    """Equal keys twice: whoever takes the first reads another book than whoever takes the last."""
    text = canonical_json(entry(sql, 6)).decode()
    write(sql, 6, None, text='{"kind":"commit",' + text[1:])
    check_found(place, "entry 6 of the ledger is not an entry in canonical form")
    write(sql, 6, None, text="[]")
    check_found(place, "entry 6 of the ledger is not an entry in canonical form")
    write(sql, 6, None, text="not JSON")
    check_found(place, "entry 6 of the ledger is not JSON")


def test_an_entry_of_a_newer_version_is_not_guessed_at(place, sql):
    append(sql, version=2)
    with pytest.raises(CloisterError, match="entry 7 of the ledger has format 2") as found:
        Ledger.open(place)
    assert "newer" in found.value.hint


def test_a_cut_or_forged_end_is_seen_by_who_kept_a_digest(place, sql):
    """The chain alone cannot see these two; a digest in a run record can."""
    with Ledger.open(place) as ledger:
        kept = ledger.history()[-1].digest
        ledger.prove(kept)
    forged = entry(sql, 6)
    forged["body"]["reason"] = "another reason"
    write(sql, 6, forged)
    with Ledger.open(place) as ledger, pytest.raises(DigestMismatch, match=f"has no entry {kept}"):
        ledger.prove(kept)
    sql("DELETE FROM entries WHERE sequence = 6")
    with Ledger.open(place) as ledger:
        ledger.verify()
        with pytest.raises(DigestMismatch, match=f"has no entry {kept}"):
            ledger.prove(kept)


def test_a_change_under_an_open_ledger(place, sql):
    with Ledger.open(place) as ledger:
        sql("DELETE FROM entries WHERE sequence = 6")
        with pytest.raises(DigestMismatch, match="entry 6 of the ledger is no longer the one that was read before"):
            ledger.reserve("ward-7", Gaussian(9.0), run="c", **PLAN)
        with pytest.raises(DigestMismatch, match="is no longer"):
            ledger.statement("ward-7")


def test_an_older_copy_of_the_file_is_put_back(tmp_path):
    home, copy = tmp_path / "home", tmp_path / "copy"
    with Ledger.open(home) as ledger:
        ledger.set_budget("ward-7", budget(1.0))
    shutil.copytree(home, copy)
    with Ledger.open(home) as ledger:
        reservation = ledger.reserve("ward-7", Gaussian(6.0), run="a", **PLAN)
        kept = reservation.commit(Gaussian(6.0)).digest
    (copy / "ledger.sqlite").rename(home / "ledger.sqlite")
    with Ledger.open(home) as ledger:
        assert ledger.statement("ward-7").spent == 0.0  # what the attacker wants
        with pytest.raises(DigestMismatch) as found:
            ledger.prove(kept)
        assert "set back" in found.value.hint
        with pytest.raises(CloisterError, match="has no reservation"):
            ledger.resume(reservation.id)


def test_an_older_copy_is_put_back_under_an_open_ledger(tmp_path):
    home, copy = tmp_path / "home", tmp_path / "copy"
    with Ledger.open(home) as ledger:
        ledger.set_budget("ward-7", budget(1.0))
    shutil.copytree(home, copy)
    with Ledger.open(home) as ledger:
        reservation = ledger.reserve("ward-7", Gaussian(6.0), run="a", **PLAN)
        (copy / "ledger.sqlite").rename(home / "ledger.sqlite")
        assert len(ledger.statement("ward-7").lines) == 1  # the write-ahead log that still lies there completes it
        for path in home.glob("ledger.sqlite-*"):
            path.unlink()
        shutil.copy(home / "ledger.sqlite", copy)
        (copy / "ledger.sqlite").rename(home / "ledger.sqlite")
        with pytest.raises(DigestMismatch, match="no longer the one"):
            reservation.commit(Gaussian(6.0))


def test_a_reservation_does_not_commit_twice_over_two_ledgers(place):
    with Ledger.open(place) as one, Ledger.open(place) as other:
        reservation = one.reserve("ward-7", Gaussian(9.0), run="c", **PLAN)
        other.resume(reservation.id).commit(Gaussian(9.0))
        with pytest.raises(PlanMismatch, match="already committed"):
            reservation.release("pretend that it never ran")
