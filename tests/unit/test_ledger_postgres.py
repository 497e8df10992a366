"""PostgreSQL: what is said when it cannot be used, and the least rights that suffice."""

import secrets

import pytest

from cloister.accounting import Gaussian
from cloister.errors import CloisterError
from cloister.ledger import Ledger, _postgres
from fakes import ledgers
from fakes.ledgers import PLAN, budget


@pytest.fixture
def place(tmp_path):
    with ledgers.new_place("postgresql", tmp_path) as location:
        yield location


def test_a_server_that_is_not_there():
    with pytest.raises(CloisterError, match="ledger in PostgreSQL database 'd' on /nowhere failed") as caught:
        Ledger.open("postgresql://somebody:secret@/d?host=/nowhere")
    assert "secret" not in str(caught.value)


def test_an_address_that_is_none():
    with pytest.raises(CloisterError, match="not a PostgreSQL connection string") as caught:
        Ledger.open("postgresql://somebody:secret@host:not-a-port/?what=ever")
    assert "secret" not in str(caught.value)


def test_another_writer_is_waited_for_but_not_for_ever(place, monkeypatch):
    monkeypatch.setattr(_postgres, "LOCK_SECONDS", 1)
    with Ledger.open(place) as ledger, Ledger.open(place) as other:
        ledger.set_budget("ward-7", budget(3.0))
        with other._storage.writing(), pytest.raises(CloisterError, match="is locked by another program"):
            ledger.set_budget("ward-7", budget(4.0))
        ledger.set_budget("ward-7", budget(5.0))
        assert len(other.history()) == 2


def test_a_role_that_may_only_select_and_insert_can_spend(place):
    import psycopg

    with Ledger.open(place) as ledger:
        ledger.set_budget("ward-7", budget(3.0))
    role, word = f"clerk_{secrets.token_hex(4)}", secrets.token_hex(8)
    schema = place.rsplit("%3D", 1)[1]
    with psycopg.connect(place, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{word}'")
        connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
        connection.execute(f"GRANT SELECT, INSERT ON cloister_ledger TO {role}")
    try:
        with Ledger.open(f"{place}&user={role}&password={word}") as ledger:
            ledger.reserve("ward-7", Gaussian(2.0), run="a", **PLAN).commit(Gaussian(2.0))
            ledger.verify()
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                ledger._storage._connect().execute("DELETE FROM cloister_ledger")
        with psycopg.connect(place, autocommit=True) as connection:
            connection.execute(f"REVOKE INSERT ON cloister_ledger FROM {role}")
        with Ledger.open(f"{place}&user={role}&password={word}") as ledger:
            assert len(ledger.history()) == 3
            with pytest.raises(CloisterError, match="is read-only"):
                ledger.set_budget("ward-7", budget(4.0))
    finally:
        with psycopg.connect(place, autocommit=True) as connection:
            connection.execute(f"DROP OWNED BY {role}")
            connection.execute(f"DROP ROLE {role}")


def test_a_database_that_is_read_only(place):
    with Ledger.open(place) as ledger:
        ledger.set_budget("ward-7", budget(3.0))
    with Ledger.open(place.replace("-csearch", "-cdefault_transaction_read_only%3Don%20-csearch")) as ledger:
        assert len(ledger.history()) == 1
        with pytest.raises(CloisterError, match="is read-only"):
            ledger.set_budget("ward-7", budget(4.0))


def test_settings_of_the_server_do_not_weaken_the_book(place):
    """With these the newest entries would not be seen, or not be on the disk."""
    hostile = "-cdefault_transaction_isolation%3Dserializable%20-csynchronous_commit%3Doff%20-csearch"
    with Ledger.open(place.replace("-csearch", hostile)) as ledger, Ledger.open(place) as other:
        ledger.set_budget("ward-7", budget(3.0))
        other.set_budget("ward-7", budget(4.0))
        with ledger._storage.writing():
            connection = ledger._storage._connect()
            assert connection.execute("SHOW transaction_isolation").fetchone() == ("read committed",)
            assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
        assert ledger.budget("ward-7") == budget(4.0)


def test_a_connection_that_was_cut_is_made_again(place):
    import psycopg

    with Ledger.open(place) as ledger:
        ledger.set_budget("ward-7", budget(3.0))
        pid = ledger._storage._connect().info.backend_pid
        with psycopg.connect(place, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        with pytest.raises(CloisterError, match="failed: "):
            ledger.budget("ward-7")
        assert ledger.budget("ward-7") == budget(3.0)
