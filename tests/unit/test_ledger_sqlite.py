"""The SQLite file: who may read it, and what is said when it cannot be used."""

import contextlib
import os
import resource
import shutil
import sqlite3
import stat
import tempfile
from pathlib import Path

import pytest

from cloister.accounting import Gaussian
from cloister.errors import CloisterError, InputError
from cloister.ledger import Ledger, _sqlite, ledger_location
from fakes.ledgers import PLAN, budget

NOBODY = 65534


@pytest.fixture
def home(tmp_path):
    with Ledger.open(tmp_path / "home") as ledger:
        ledger.set_budget("ward-7", budget(3.0))
        ledger.reserve("ward-7", Gaussian(4.0), run="a", **PLAN)
    return tmp_path / "home"


@contextlib.contextmanager
def as_nobody():
    """Rights count for nothing with root; lend the thread to somebody else."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def read_only_home(home):
    """A home that nobody may write to, in a folder that everybody can reach."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        copy = Path(folder) / "home"
        shutil.copytree(home, copy)
        for path in (*copy.iterdir(), copy):
            if os.geteuid() == 0:
                os.chown(path, NOBODY, NOBODY)
            path.chmod(0o500 if path.is_dir() else 0o400)
        yield copy
        copy.chmod(0o700)


def refused(home, match):
    with Ledger.open(home) as ledger, pytest.raises(CloisterError, match=match) as caught:
        ledger.set_budget("ward-8", budget(1.0))
    assert caught.value.hint
    return caught.value


def test_only_the_owner_may_read(home):
    with Ledger.open(home) as ledger:
        ledger.set_budget("ward-7", budget(2.0))
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (home, *home.iterdir())}
    assert modes.pop("home") == 0o700
    assert set(modes) == {"ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"}
    assert set(modes.values()) == {0o600}


def test_reading_makes_nothing(tmp_path):
    with Ledger.open(tmp_path / "home") as ledger:
        assert ledger.statement("ward-7").lines == ()
        ledger.verify()
    assert not (tmp_path / "home").exists()


def test_every_commit_is_on_the_disk(home):
    with Ledger.open(home) as ledger:
        connection = ledger._storage._open()
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_read_only_home_can_be_read_and_not_written(read_only_home):
    with as_nobody():
        with Ledger.open(read_only_home) as ledger:
            assert ledger.verify() == ledger.history()[-1].digest
            assert len(ledger.statement("ward-7").lines) == 1
        refused(read_only_home, "is read-only")


def test_a_read_only_home_that_was_not_closed_says_so(home):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        copy = Path(folder) / "home"
        copy.mkdir()
        with Ledger.open(home) as ledger:
            ledger.set_budget("ward-8", budget(1.0))
            for name in ("ledger.sqlite", "ledger.sqlite-wal"):
                shutil.copy(home / name, copy / name)
                (copy / name).chmod(0o444)
        copy.chmod(0o555)
        with as_nobody(), pytest.raises(CloisterError, match="was not closed and its folder is read-only"):
            Ledger.open(copy)
        copy.chmod(0o755)


def test_another_writer_is_waited_for_but_not_for_ever(home, monkeypatch):
    monkeypatch.setattr(_sqlite, "LOCK_SECONDS", 0.05)
    with contextlib.closing(sqlite3.connect(home / "ledger.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        refused(home, "is locked by another program")
        other.execute("ROLLBACK")
    with Ledger.open(home) as ledger:
        assert len(ledger.history()) == 2


def test_a_full_disk(home):
    with Ledger.open(home) as ledger:
        ledger._storage._open().execute("PRAGMA max_page_count = 1")
        with pytest.raises(CloisterError, match="the disk is full"):
            for number in range(100):
                ledger.set_budget(f"ward-{number}" + "x" * 400, budget(1.0))
        ledger._storage._open().execute("PRAGMA max_page_count = 1000000")
        written = len(ledger.history())
        ledger.set_budget("ward-8", budget(1.0))
        assert len(ledger.history()) == written + 1


def test_a_file_that_may_not_grow(home):
    """The system refuses the write itself, in the middle of a transaction."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Ledger.open(home) as ledger:
        ledger.budget("ward-7")
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        try:
            with pytest.raises(CloisterError, match="cannot be read or written|cannot grow"):
                ledger.set_budget("ward-8", budget(1.0))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert len(ledger.history()) == 2
        ledger.set_budget("ward-8", budget(1.0))
    with Ledger.open(home) as ledger:
        assert len(ledger.history()) == 3


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to look like something" * 40, b"SQLite format 3\0" * 8]
)
def test_a_file_that_is_no_database(tmp_path, content):
    (tmp_path / "ledger.sqlite").write_bytes(content)
    with pytest.raises(CloisterError, match="is not a cloister ledger|is damaged"):
        Ledger.open(tmp_path)
    assert (tmp_path / "ledger.sqlite").read_bytes() == content


def test_a_database_of_somebody_else(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as connection:
        connection.execute("CREATE TABLE entries (sequence, entry, digest)")
        connection.commit()
    with pytest.raises(CloisterError, match="is not a cloister ledger"):
        Ledger.open(tmp_path)


def test_an_empty_file_is_an_empty_book(tmp_path):
    """What a crash leaves behind between making the file and filling it."""
    (tmp_path / "ledger.sqlite").touch(mode=0o600)
    with Ledger.open(tmp_path) as ledger:
        assert ledger.history() == ()
        ledger.set_budget("ward-7", budget(1.0))
        assert len(ledger.history()) == 1


def test_a_newer_schema(home):
    with contextlib.closing(sqlite3.connect(home / "ledger.sqlite")) as connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(CloisterError, match="schema 2") as caught:
        Ledger.open(home)
    assert "newer" in caught.value.hint


def test_damaged_pages(home):
    path = home / "ledger.sqlite"
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(CloisterError, match="is damaged"):
        Ledger.open(home)


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is not a folder"):
        Ledger.open(tmp_path / "file")


def test_a_path_with_odd_characters(tmp_path):
    home = tmp_path / "a?b#c %41 é"
    with Ledger.open(home) as ledger:
        ledger.set_budget("ward-7", budget(1.0))
    assert (home / "ledger.sqlite").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # about forking beside the threads of the test runner
def test_another_process_must_open_its_own(home):
    with Ledger.open(home) as ledger:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                ledger.verify()
            except CloisterError as error:
                os.write(write, str(error).encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(read, 1000).decode() == "this ledger was opened by another process"
        ledger.verify()


def test_location(monkeypatch, tmp_path):
    monkeypatch.delenv("CLOISTER_LEDGER", raising=False)
    assert ledger_location(tmp_path) == tmp_path
    monkeypatch.setenv("CLOISTER_LEDGER", "")
    assert ledger_location(tmp_path) == tmp_path
    monkeypatch.setenv("CLOISTER_LEDGER", "postgresql://host/db")
    assert ledger_location(tmp_path) == "postgresql://host/db"
    monkeypatch.setenv("CLOISTER_LEDGER", "/somewhere")
    with pytest.raises(InputError, match="CLOISTER_LEDGER"):
        ledger_location(tmp_path)
