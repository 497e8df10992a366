"""What the ledger asks of a place to keep its book."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from cloister.ledger.entries import Row

__all__ = ["LOCK_SECONDS", "Storage"]

LOCK_SECONDS = 60
"""How long a writer waits for the others before it gives up."""


class Storage(Protocol):
    """Rows in order of their sequence number; no row is ever changed or removed."""

    def read(self, after: int) -> list[Row]:
        """The rows beyond sequence number `after`, in order; none if there is no book yet."""

    def writing(self) -> AbstractContextManager[Callable[[Row], None]]:
        """The write lock, with the function that appends.

        Inside, `read` sees everything that was ever written and nobody else writes. What was appended is on
        the disk once the block is left, or not in the book at all if it is left by an exception.
        """

    def close(self) -> None:
        """Let go of files and connections."""
