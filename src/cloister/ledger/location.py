"""Where the book lies: a folder, or a PostgreSQL database."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cloister.errors import InputError
from cloister.ledger._sqlite import SQLiteStorage

if TYPE_CHECKING:
    from cloister.ledger._storage import Storage

__all__ = ["ledger_location", "storage_at"]

_DSN_PREFIXES = ("postgresql://", "postgres://")


def ledger_location(home: Path) -> str | Path:
    """Where the ledger of a home is kept: the home itself, or the PostgreSQL address in CLOISTER_LEDGER.

    The variable says where the book lies and nothing else; it cannot change what is counted or refused.
    """
    address = os.environ.get("CLOISTER_LEDGER", "")
    if address and not address.startswith(_DSN_PREFIXES):
        raise InputError(
            "CLOISTER_LEDGER does not hold a PostgreSQL address",
            hint="write postgresql://user@host/database, or unset it and choose a folder with --home",
        )
    return address or home


def storage_at(location: str | Path) -> Storage:
    """The storage at a location that `Ledger.open` takes."""
    if isinstance(location, str) and location.startswith(_DSN_PREFIXES):
        from cloister.ledger._postgres import PostgresStorage  # noqa: PLC0415 - psycopg is an extra

        return PostgresStorage(location)
    home = Path(location)
    if home.exists() and not home.is_dir():
        raise InputError(f"{home} is not a folder", hint="the ledger is a file in a folder; name the folder")
    return SQLiteStorage(home)
