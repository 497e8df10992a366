"""One byte string for one value: canonical JSON and the digests taken over it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

__all__ = ["canonical_json", "digest_bytes", "digest_file", "digest_json"]


def canonical_json(value: Any) -> bytes:
    """JSON in UTF-8 with sorted keys, no white space and no NaN or infinity.

    Floats are written in their shortest form that reads back to the same number, so that equal values
    have equal bytes.

    Raises:
        ValueError: NaN or infinity, which JSON cannot hold.

    >>> canonical_json({"b": 0.1, "a": [1, None]})
    b'{"a":[1,null],"b":0.1}'
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def digest_bytes(content: bytes) -> str:
    """SHA-256 of `content` as ``sha256:`` and 64 hexadecimal digits."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def digest_json(value: Any) -> str:
    """Digest of the canonical JSON of `value`."""
    return digest_bytes(canonical_json(value))


def digest_file(path: str | Path) -> str:
    """Digest of a file's bytes, read in pieces."""
    with Path(path).open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
