"""Places for a ledger (SQLite, a real PostgreSQL, memory), a cheap accountant, processes that use and abuse them."""

from __future__ import annotations

import atexit
import contextlib
import functools
import math
import multiprocessing
import os
import secrets
import signal
import sqlite3
import sys
import tempfile
import time
import warnings
from multiprocessing import forkserver
from pathlib import Path

import pytest

from cloister.accounting import Budget, Gaussian, NonPrivate, Relation, Unit
from cloister.accounting._parts import parts_of
from cloister.errors import BudgetExceeded
from cloister.ledger import Ledger, account
from cloister.ledger._sqlite import SQLiteStorage

DELTA = 1e-6
PLAN = {"unit": Unit.EXAMPLE, "relation": Relation.ADD_OR_REMOVE_ONE, "delta": DELTA}
KINDS = ("sqlite", "postgresql")


def budget(epsilon, **changes):
    return Budget(**{"epsilon": epsilon, "delta": DELTA, **changes})


def cheap_epsilon(event, *, delta, relation):
    """Additive and quick: a Gaussian of noise multiplier s costs 1/s^2; for tests about the book, not about privacy."""
    if any(isinstance(part, NonPrivate) for part, _ in parts_of(event)):
        return math.inf
    return math.fsum(count / part.noise_multiplier**2 for part, count in parts_of(event))


# --- places -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def new_place(kind, folder):
    """A location for `Ledger.open` that holds no book yet."""
    if kind == "sqlite":
        yield str(Path(folder) / "home")
        return
    import psycopg

    dsn, schema = postgres_dsn(), f"ledger_{secrets.token_hex(6)}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    try:
        yield f"{dsn}{'&' if '?' in dsn else '?'}options=-csearch_path%3D{schema}"
    finally:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA {schema} CASCADE")


@functools.cache
def postgres_dsn():
    """A real PostgreSQL: the one that CLOISTER_TEST_POSTGRES_DSN names, or one that is started for the tests."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    if dsn := os.environ.get("CLOISTER_TEST_POSTGRES_DSN"):
        return dsn
    pgserver = pytest.importorskip("pgserver", reason="no CLOISTER_TEST_POSTGRES_DSN, and pgserver is not installed")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about folders of the user that runs the tests
            server = pgserver.get_server(tempfile.mkdtemp(prefix="pg"), cleanup_mode="delete")
    except Exception as error:
        pytest.skip(f"no CLOISTER_TEST_POSTGRES_DSN, and pgserver does not start: {error}")
    atexit.register(server.cleanup)
    return server.get_uri()


@contextlib.contextmanager
def raw(location):
    """A function that runs SQL behind the ledger's back; ``entries`` is the table on both sides."""
    if location.startswith("postgresql://"):
        import psycopg

        with psycopg.connect(location, autocommit=True) as connection:
            yield lambda sql, *values: _fetched(
                connection.execute(sql.replace("entries", "cloister_ledger").replace("?", "%s"), values)
            )
    else:
        path = Path(location) / "ledger.sqlite"
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            yield lambda sql, *values: _fetched(connection.execute(sql, values))


def _fetched(cursor):
    return cursor.fetchall() if cursor.description else None


class MemoryStorage:
    """Rows in a list; `meddle` is called just before the write lock is taken, as by a competitor."""

    def __init__(self, meddle=lambda: None):
        self.rows = []
        self.meddle = meddle
        self.locked = False

    def read(self, after):
        return [row for row in self.rows if row.sequence > after]

    @contextlib.contextmanager
    def writing(self):
        self.meddle()
        self.locked, written = True, []
        try:
            yield written.append
            self.rows += written
        finally:
            self.locked = False

    def close(self):
        self.rows = None


# --- processes ----------------------------------------------------------------------------------------------------


@functools.cache
def processes():
    """Where processes come from: copies of one that has imported everything, and has no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fakes.ledgers", "cloister.accounting._pld", "psycopg"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))  # for what is preloaded
        forkserver.ensure_running()
    return context


def hammer(location, name, tries, noise, pipe):
    """Reserve `tries` times and commit what was granted; report how many were."""
    granted = 0
    with Ledger.open(location) as ledger:
        for number in range(tries):
            with contextlib.suppress(BudgetExceeded):
                reservation = ledger.reserve("shared", Gaussian(noise), run=f"{name}-{number}", **PLAN)
                if number % 2:
                    reservation.commit(Gaussian(noise))
                granted += 1
    pipe.send(granted)


def write_until_killed(location, pipe):
    """Reserve and commit for ever; report each entry once the ledger has returned it."""
    account.epsilon = cheap_epsilon
    with Ledger.open(location) as ledger:
        while True:
            reservation = ledger.reserve("hammered", Gaussian(10.0), run="loop", **PLAN)
            pipe.send(reservation.id)
            pipe.send(reservation.commit(Gaussian(20.0)).digest)


def write_until_statement(location, deadly, pipe):
    """Set a budget, reserve, commit; die by SIGKILL just before the SQL statement with the number `deadly`."""
    account.epsilon = cheap_epsilon
    connect, count = SQLiteStorage._connect, 0

    def tick(statement):
        nonlocal count
        count += 1
        if count == deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(self, mode):
        connection = connect(self, mode)
        connection.set_trace_callback(tick)
        return connection

    SQLiteStorage._connect = watched
    with Ledger.open(location) as ledger:
        pipe.send(ledger.set_budget("hammered", budget(1.0)).digest)
        reservation = ledger.reserve("hammered", Gaussian(2.0), run="once", **PLAN)
        pipe.send(reservation.id)
        pipe.send(reservation.commit(Gaussian(3.0)).digest)
    pipe.send("done")


def received(pipe):
    """Everything a process has sent, up to its end."""
    messages = []
    with contextlib.suppress(EOFError):
        while True:
            messages.append(pipe.recv())
    return messages


def run(target, *arguments):
    """Run a process to its end; what it said, and how it ended."""
    process, pipe = start(target, *arguments)
    said = received(pipe)
    process.join()
    return said, process.exitcode


def run_and_kill(target, *arguments, words, then):
    """Let a process say so many words, wait for `then` seconds, and kill it; what it said in all."""
    process, pipe = start(target, *arguments)
    said = [pipe.recv() for _ in range(words)]
    time.sleep(then)
    process.kill()
    said += received(pipe)
    process.join()
    return said, process.exitcode


def start(target, *arguments):
    """A process, and the end of the pipe on which it speaks."""
    ours, theirs = processes().Pipe(duplex=False)
    process = processes().Process(target=target, args=(*arguments, theirs))
    process.start()
    theirs.close()
    return process, ours
