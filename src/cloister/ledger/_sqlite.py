"""The book in one SQLite file: the default, for all processes of one machine."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from typing import TYPE_CHECKING

from cloister._files import make_directory
from cloister.errors import CloisterError
from cloister.ledger._storage import LOCK_SECONDS
from cloister.ledger.entries import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["SQLiteStorage"]

_FILE = "ledger.sqlite"
_APPLICATION_ID = 0x636C7374  # "clst", shown by file(1) and told apart from any other SQLite file
_SCHEMA_VERSION = 1
_SCHEMA = """
    CREATE TABLE entries (
        sequence INTEGER PRIMARY KEY,
        entry TEXT NOT NULL,
        digest TEXT NOT NULL UNIQUE
    ) STRICT
"""

_OPENING = threading.Lock()

_LOCKED = ("is locked by another program", "wait for it, or end it; nothing was written")
_CLOSED = ("cannot be opened", "check that the file and its folder can be read and written")
_REASONS = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_READONLY: (
        "is read-only",
        "make the file and its folder writable: spending is written down",
    ),
    sqlite3.SQLITE_FULL: ("cannot grow: the disk is full", "free some space; nothing was written"),
    sqlite3.SQLITE_IOERR: ("cannot be read or written: the disk reports an error", "check space and quota"),
    sqlite3.SQLITE_CANTOPEN: _CLOSED,
    sqlite3.SQLITE_PERM: _CLOSED,
    sqlite3.SQLITE_NOTADB: ("is not a cloister ledger", "choose another home; the file was left as it is"),
    sqlite3.SQLITE_CORRUPT: ("is damaged", "restore a copy that `cloister budget history` verifies"),
}


class SQLiteStorage:
    """A file ``ledger.sqlite`` in the folder `home`; neither is made before something is written."""

    def __init__(self, home: Path) -> None:
        self._path = home.absolute() / _FILE
        self._connection: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None

    def read(self, after: int) -> list[Row]:
        """See `Storage.read`."""
        with self._explained():
            if not self._path.exists():
                return []
            try:
                return _select(self._open(), after)
            except sqlite3.OperationalError as error:
                if _code(error) not in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}:
                    raise
                self.close()
                return self._read_unchanging(after)

    def _read_unchanging(self, after: int) -> list[Row]:
        """Read in a read-only folder, where SQLite cannot keep the shared memory of its write-ahead log."""
        log = self._path.with_name(f"{_FILE}-wal")
        if log.exists() and log.stat().st_size:
            raise CloisterError(
                f"ledger {self._path} was not closed and its folder is read-only",
                hint="read it once with write access to the folder; that completes the file",
            )
        with contextlib.closing(self._connect("immutable=1")) as connection:
            return _select(connection, after)

    @contextlib.contextmanager
    def writing(self) -> Iterator[Callable[[Row], None]]:
        """See `Storage.writing`."""
        with self._explained():
            self._create()
            connection = self._open()
            _create_schema(connection)
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield lambda row: _insert(connection, row)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """See `Storage.close`."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _create(self) -> None:
        if not self._path.exists():
            make_directory(self._path.parent, mode=0o700)
            # Closing any descriptor of a file drops the locks this process holds on it (POSIX), so nobody
            # else in this process may open the file before that.
            with _OPENING, contextlib.suppress(FileExistsError):
                os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))

    def _open(self) -> sqlite3.Connection:
        """The connection to the file that has the name now, not to one that was replaced since."""
        with _OPENING:
            status = self._path.stat()
            inode = (status.st_dev, status.st_ino)
            if self._connection is not None and inode != self._inode:
                self.close()
            if self._connection is None:
                self._connection, self._inode = self._connect("mode=rw"), inode
            return self._connection

    def _connect(self, mode: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self._path.as_uri()}?{mode}",
            uri=True,
            timeout=LOCK_SECONDS,
            isolation_level=None,
            check_same_thread=False,  # `Ledger` lets in one thread at a time
        )
        connection.execute("PRAGMA synchronous = FULL")  # a commit is on the disk before it returns
        return connection

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            reason, hint = _REASONS.get(_code(error), (f"failed: {error}", None))
            raise CloisterError(f"ledger {self._path} {reason}", hint=hint) from error
        except OSError as error:
            raise CloisterError(f"ledger {self._path} cannot be opened: {error.strerror}") from error


def _select(connection: sqlite3.Connection, after: int) -> list[Row]:
    if not _has_schema(connection):
        return []
    rows = connection.execute(
        "SELECT sequence, entry, digest FROM entries WHERE sequence > ? ORDER BY sequence", (after,)
    )
    return [Row(*row) for row in rows]


def _insert(connection: sqlite3.Connection, row: Row) -> None:
    connection.execute("INSERT INTO entries (sequence, entry, digest) VALUES (?, ?, ?)", row)


def _has_schema(connection: sqlite3.Connection) -> bool:
    """Whether the file holds a book; an empty file holds none, and a foreign one is an error."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application == _APPLICATION_ID and version == _SCHEMA_VERSION:
        return True
    if application == _APPLICATION_ID:
        raise CloisterError(
            f"the ledger has schema {version}; this version of cloister reads {_SCHEMA_VERSION}",
            hint="use the newer cloister that wrote it",
        )
    if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] or application or version:
        raise CloisterError(
            "the SQLite file ledger.sqlite is not a cloister ledger",
            hint="choose another home; the file was left as it is",
        )
    return False


def _create_schema(connection: sqlite3.Connection) -> None:
    """Turn an empty file into an empty book, once, whoever comes first; a crash in between does no harm."""
    if not _has_schema(connection):
        connection.execute("BEGIN EXCLUSIVE")
        if not _has_schema(connection):
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        connection.execute("COMMIT")
    give_up = time.monotonic() + LOCK_SECONDS
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        # Switching needs the file alone, and SQLite does not wait for that by itself.
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(0.01)


def _code(error: sqlite3.Error) -> int:
    """The primary result code, without what SQLite adds in the higher bits."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
