"""Arrays that are filled once, in memory or, when large, in a file that only this process can see."""

from __future__ import annotations

import math
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np

from cloister._files import make_directory
from cloister.errors import CloisterError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray

__all__ = ["MEMORY_LIMIT_BYTES", "ArrayWriter", "Storage"]

MEMORY_LIMIT_BYTES = 2 << 30


class Storage:
    """Decides where arrays live.

    Args:
        scratch: Folder for large arrays, made readable by its owner only; left out, the system's temporary folder.
        memory_limit_bytes: Arrays above this size are memory-mapped.

    Files of memory-mapped arrays have no name: they vanish with the last reference, even after a crash, so that
    no private row stays behind on the disk.
    """

    def __init__(self, *, scratch: Path | None = None, memory_limit_bytes: int = MEMORY_LIMIT_BYTES) -> None:
        self._scratch = scratch
        self._limit = memory_limit_bytes

    def new(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array to be filled."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size <= self._limit or size == 0:
            return np.empty(shape, dtype=dtype)
        if self._scratch is not None:
            make_directory(self._scratch, mode=0o700)
        try:
            with tempfile.TemporaryFile(dir=self._scratch) as file:
                file.truncate(size)
                return np.memmap(file, dtype=dtype, mode="r+", shape=shape)
        except OSError as error:
            raise CloisterError(
                f"cannot map {size} bytes in {self._scratch or tempfile.gettempdir()}: {error.strerror}",
                hint="free some disk space or name another scratch folder",
            ) from error

    def writer(self, num_rows: int, row_shape: tuple[int, ...], dtype: DTypeLike) -> ArrayWriter:
        """A writer for `num_rows` rows."""
        return ArrayWriter(self.new((num_rows, *row_shape), dtype))


class ArrayWriter:
    """Fills an array from the front.

    Args:
        array: The array to fill.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array
        self.written = 0

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows; more than there is room for are counted and left out."""
        room = self._array[self.written : self.written + len(rows)]
        room[...] = rows[: len(room)]
        self.written += len(rows)

    def finish(self) -> NDArray[Any]:
        """The array, all rows of which must have been written."""
        if self.written != len(self._array):
            raise CloisterError(f"{self.written} rows were written; expected {len(self._array)}")
        return self._array
