"""Secure randomness: AES-256 in counter mode, addressed by step and position.

Sampling, noise and masks must be unpredictable to whoever sees the model, so they come from a cipher keyed
with 256 bits of the system's randomness, never from a simulation generator. Every block of the stream has an
address (index, position): index is the training step, position the place within the step. Any shard of a step
can thus be drawn on its own, and no two steps share a block.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["KEY_BYTES", "SecureStream"]

KEY_BYTES = 32
_BLOCK_BYTES = 16


class SecureStream:
    """A random stream under one 256-bit key.

    Args:
        key: 32 secret bytes. Left out, they are drawn from the operating system.

    The key is private: whoever knows it can subtract the noise. It is never part of a record.

    >>> stream = SecureStream(bytes(32))
    >>> bool((stream.uint64(5, 4)[2:] == stream.uint64(5, 2, start=2)).all())
    True
    """

    def __init__(self, key: bytes | None = None) -> None:
        key = secrets.token_bytes(KEY_BYTES) if key is None else key
        if len(key) != KEY_BYTES:
            raise ValueError(f"key has {len(key)} bytes; expected {KEY_BYTES}")
        self._key = key

    def derive(self, purpose: str) -> SecureStream:
        """An independent stream for one purpose (HKDF-SHA256, RFC 5869)."""
        hkdf = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=b"cloister " + purpose.encode())
        return SecureStream(hkdf.derive(self._key))

    def uint64(self, index: int, count: int, *, start: int = 0) -> NDArray[np.uint64]:
        """Uniform 64-bit integers number `start` to `start + count` of step `index`.

        Args:
            index: Step, from 0 to 2**64 - 1.
            count: How many integers.
            start: Position of the first; must be even (a cipher block holds two integers).
        """
        if start % 2:
            raise ValueError(f"start is {start}; expected an even number")
        address = index.to_bytes(8, "big") + (start // 2).to_bytes(8, "big")
        blocks = -(-count // 2)
        encryptor = Cipher(algorithms.AES(self._key), modes.CTR(address)).encryptor()
        stream = encryptor.update(bytes(blocks * _BLOCK_BYTES))
        return np.frombuffer(stream, dtype="<u8")[:count]

    def uniform(self, index: int, count: int, *, start: int = 0) -> NDArray[np.float64]:
        """Uniform numbers in [0, 1) with 53 random bits each."""
        return (self.uint64(index, count, start=start) >> np.uint64(11)).astype(np.float64) * 2.0**-53
