"""The book in a PostgreSQL table: for many machines. The only door to psycopg.

The table is ``cloister_ledger`` in the first schema of the connection's search path. SELECT and INSERT on it
are all the rights that spending needs; a role without UPDATE and DELETE cannot rewrite the book.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from cloister.errors import CloisterError, MissingExtra
from cloister.ledger._storage import LOCK_SECONDS
from cloister.ledger.entries import Row

try:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict
except ImportError as error:
    raise MissingExtra("psycopg", extra="postgres") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    _Connection = psycopg.Connection[tuple[object, ...]]

__all__ = ["PostgresStorage"]

_CREATE = """
    CREATE TABLE IF NOT EXISTS cloister_ledger (
        sequence bigint PRIMARY KEY CHECK (sequence > 0),
        entry text NOT NULL,
        digest text NOT NULL UNIQUE
    )
"""
# One lock for each table; it is advisory, so that a writer needs no more rights than those above.
_LOCK = """
    SELECT pg_advisory_xact_lock(
        hashtext('cloister_ledger'), coalesce(to_regclass('cloister_ledger')::oid::int, 0))
"""
# In force until the end of the transaction, so that pooled connections keep nothing of it. A commit is on the
# disk before it returns; a client that vanishes without a word does not keep the others waiting for ever.
_SETTINGS = """
    SELECT set_config('lock_timeout', %s, true),
           set_config('idle_in_transaction_session_timeout', %s, true),
           CASE WHEN current_setting('synchronous_commit') = 'off'
                THEN set_config('synchronous_commit', 'on', true) END
"""


class PostgresStorage:
    """A table at the other end of `dsn`, created by the first writer that needs it."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: _Connection | None = None
        self._name = _name(dsn)

    def read(self, after: int) -> list[Row]:
        """See `Storage.read`."""
        with self._explained():
            connection = self._connect()
            if not _exists(connection):
                return []
            rows = connection.execute(
                "SELECT sequence, entry, digest FROM cloister_ledger WHERE sequence > %s ORDER BY sequence",
                (after,),
            )
            return [Row(*row) for row in rows]  # type: ignore[arg-type]

    @contextlib.contextmanager
    def writing(self) -> Iterator[Callable[[Row], None]]:
        """See `Storage.writing`."""
        with self._explained():
            connection = self._connect()
            if not _exists(connection):
                with _locked(connection):
                    connection.execute(_CREATE)
            with _locked(connection):
                yield lambda row: _insert(connection, row)

    def close(self) -> None:
        """See `Storage.close`."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> _Connection:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._dsn, autocommit=True, client_encoding="utf8", prepare_threshold=None
            )
            # Each statement sees what was committed before it: the book read behind the lock is the newest.
            self._connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        return self._connection

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except psycopg.errors.LockNotAvailable as error:
            raise CloisterError(
                f"{self._name} is locked by another program",
                hint="wait for it, or end it; nothing was written",
            ) from error
        except (psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.InsufficientPrivilege) as error:
            raise CloisterError(
                f"{self._name} is read-only: {_first_line(error)}", hint="spending must be written down"
            ) from error
        except psycopg.Error as error:
            raise CloisterError(
                f"{self._name} failed: {_first_line(error)}",
                hint="if it broke off while writing, look into `cloister budget history` for the entry",
            ) from error


@contextlib.contextmanager
def _locked(connection: _Connection) -> Iterator[None]:
    with connection.transaction():
        connection.execute(_SETTINGS, (f"{LOCK_SECONDS}s", f"{5 * LOCK_SECONDS}s"))
        connection.execute(_LOCK)
        yield


def _insert(connection: _Connection, row: Row) -> None:
    connection.execute("INSERT INTO cloister_ledger (sequence, entry, digest) VALUES (%s, %s, %s)", row)


def _exists(connection: _Connection) -> bool:
    answer = connection.execute("SELECT to_regclass('cloister_ledger') IS NOT NULL").fetchone()
    return bool(answer and answer[0])


def _name(dsn: str) -> str:
    """The database in words, without its password."""
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.Error as error:
        raise CloisterError("the address of the ledger is not a PostgreSQL connection string") from error
    database, host = parts.get("dbname", "postgres"), parts.get("host", "localhost")
    return f"ledger in PostgreSQL database {database!r} on {host}"


def _first_line(error: psycopg.Error) -> str:
    text = error.diag.message_primary or str(error)
    return text.strip().splitlines()[0] if text.strip() else type(error).__name__
