"""Arrays on disk: .npz members and IDX files, memory-mapped where they are stored plainly."""

from __future__ import annotations

import contextlib
import gzip
import math
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np
from numpy.lib import format as npy

from cloister.data._nearest import nearest_hint
from cloister.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from cloister.data.storage import Storage

__all__ = ["ArrayHeader", "idx_header", "npz_arrays", "read_idx", "read_npz_array"]

_CHUNK_BYTES = 1 << 22
_LOCAL_HEADER_BYTES = 30
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


@dataclass(frozen=True, kw_only=True)
class ArrayHeader:
    """Shape and type of an array, read without its content."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool = False


def npz_arrays(path: Path) -> dict[str, ArrayHeader]:
    """Headers of all arrays of an .npz file.

    Raises:
        InputError: Not an .npz file, or an array holds pickled objects, which are never read.
    """
    with _damage(path), zipfile.ZipFile(path) as archive:
        headers = {}
        for member in archive.namelist():
            with archive.open(member) as file:
                headers[member.removesuffix(".npy")] = _npy_header(file, path, member)
        return headers


def read_npz_array(path: Path, name: str, storage: Storage) -> NDArray[Any]:
    """One array: mapped where the file stores it plainly, otherwise read into `storage` in pieces."""
    with _damage(path), zipfile.ZipFile(path) as archive:
        names = [member.removesuffix(".npy") for member in archive.namelist()]
        if name not in names:
            raise InputError(f"{path} has no array {name!r}", hint=nearest_hint(name, names))
        info = archive.infolist()[names.index(name)]
        with archive.open(info) as file:
            header = _npy_header(file, path, name)
            offset = file.tell()
            if info.compress_type != zipfile.ZIP_STORED or math.prod(header.shape) == 0:
                return _fill(file, header, storage)
        order = "F" if header.fortran_order else "C"
        start = _member_start(path, info) + offset
        return np.memmap(path, header.dtype, "r", start, header.shape, order)  # type: ignore[call-overload, no-any-return]


def idx_header(path: Path) -> ArrayHeader:
    """Header of an IDX file, plain or gzipped (https://yann.lecun.org/exdb/mnist).

    Raises:
        InputError: The first four bytes are not those of an IDX file.
    """
    with _damage(path), _open_idx(path) as file:
        return _idx_header(file, path)


def read_idx(path: Path, storage: Storage) -> NDArray[Any]:
    """The array of an IDX file: mapped where plain, read into `storage` in pieces where gzipped.

    Raises:
        InputError: The file is truncated, damaged or longer than its header says.
    """
    with _damage(path), _open_idx(path) as file:
        header = _idx_header(file, path)
        if path.suffix == ".gz":
            array = _fill(file, header, storage)
            if file.read(1):
                raise InputError(f"{path} is longer than its header says")
            return array
        offset = file.tell()
    size = offset + math.prod(header.shape) * header.dtype.itemsize
    if path.stat().st_size != size:
        raise InputError(f"{path} has {path.stat().st_size} bytes; expected {size} by its header")
    if math.prod(header.shape) == 0:
        return np.empty(header.shape, header.dtype)
    return np.memmap(path, header.dtype, "r", offset, header.shape)


def _open_idx(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _idx_header(file: IO[bytes], path: Path) -> ArrayHeader:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _IDX_TYPES or not magic[3]:
        raise InputError(f"{path} starts with {magic.hex() or 'nothing'}; expected the magic number of an IDX file")
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise InputError(f"{path} ends within its header")
    return ArrayHeader(shape=struct.unpack(f">{magic[3]}I", sizes), dtype=np.dtype(_IDX_TYPES[magic[2]]))


def _npy_header(file: IO[bytes], path: Path, member: str) -> ArrayHeader:
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran_order, dtype = read(file)
    if dtype.hasobject:
        raise InputError(
            f"{path} array {member.removesuffix('.npy')!r} holds pickled objects, which can run code",
            hint="save numbers or fixed-length text: np.savez(path, x=x.astype(float))",
        )
    return ArrayHeader(shape=shape, dtype=dtype, fortran_order=fortran_order)


def _member_start(path: Path, info: zipfile.ZipInfo) -> int:
    """Where a member's bytes start: the local header has its own, possibly longer, extra field."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        local = file.read(_LOCAL_HEADER_BYTES)
    name_bytes, extra_bytes = struct.unpack("<HH", local[26:30])
    return int(info.header_offset + _LOCAL_HEADER_BYTES + name_bytes + extra_bytes)


def _fill(file: IO[bytes], header: ArrayHeader, storage: Storage) -> NDArray[Any]:
    shape = header.shape[::-1] if header.fortran_order else header.shape
    array = storage.new(shape, header.dtype)
    flat = array.reshape(-1)
    step = max(_CHUNK_BYTES // header.dtype.itemsize, 1)
    for start in range(0, flat.size, step):
        wanted = min(step, flat.size - start) * header.dtype.itemsize
        content = file.read(wanted)
        if len(content) < wanted:
            raise EOFError
        flat[start : start + step] = np.frombuffer(content, header.dtype)
    return array.T if header.fortran_order else array


@contextlib.contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except (EOFError, zlib.error, zipfile.BadZipFile, gzip.BadGzipFile, ValueError) as error:
        raise InputError(f"{path} is truncated or damaged", hint="fetch or write the file again") from error
