"""Files that are either wholly there or not there at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from cloister.errors import CloisterError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["atomic_file", "atomic_write", "make_directory"]


@contextlib.contextmanager
def atomic_file(path: str | Path, *, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """A file to write to that replaces `path` only when the block ends well.

    The content is on the disk, and so is the new name, before the block is left. After an error or a crash,
    `path` is what it was before.

    Raises:
        CloisterError: The disk is full, the folder is missing or read-only.
    """
    target = Path(path)
    with _naming(target):
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    try:
        with _naming(target):
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(mode)
            Path(temporary).replace(target)
            _sync_directory(target.parent)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def atomic_write(path: str | Path, content: bytes, *, mode: int = 0o644) -> None:
    """Replace the content of `path` in one step; see `atomic_file`."""
    with atomic_file(path, mode=mode) as file:
        file.write(content)


def make_directory(path: str | Path, *, mode: int = 0o777) -> Path:
    """Create a directory with its parents, or raise an error that names it."""
    directory = Path(path)
    with _naming(directory):
        directory.mkdir(parents=True, exist_ok=True, mode=mode)
    return directory


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise CloisterError(
            f"cannot write {path}: {reason.lower()}",
            hint="free some space or choose another place; nothing that was there before has changed",
        ) from error


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
