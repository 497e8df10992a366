"""Gaussian noise from a cipher stream.

Every number has an address (step, position): it is the same however the vector is cut into shards, and no two
steps share noise. Two 64-bit words make two normal numbers by the Box-Muller transform in double precision;
the largest value that can occur is about 8.6 standard deviations.

Not covered: attacks on the floating-point representation of the sum (Mironov 2012; arXiv:2112.05307). The
noise is drawn in double precision and rounded once, which narrows but does not close that door.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from cloister._rng import SecureStream

__all__ = ["add_gaussian_noise", "gaussian_noise", "standard_normal"]

_CHUNK = 1 << 20  # numbers drawn at a time: bounds the working memory to some 40 MB


def standard_normal(stream: SecureStream, index: int, count: int, *, start: int = 0) -> Tensor:
    """Numbers `start` to `start + count` of the standard normal sequence of step `index`.

    Returns:
        Tensor of shape (count,), float64, on the CPU.
    """
    first = start - start % 2
    pairs = -(-(start + count - first) // 2)
    words = stream.uint64(index, 2 * pairs, start=first)
    normal = _box_muller(words)
    return normal[start - first : start - first + count]


def gaussian_noise(
    stream: SecureStream, step: int, count: int, *, stddev: float, start: int = 0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Normal noise of standard deviation `stddev`, shape (count,), drawn in double precision."""
    noise = torch.empty(count, dtype=dtype)
    for offset in range(0, count, _CHUNK):
        size = min(_CHUNK, count - offset)
        chunk = standard_normal(stream, step, size, start=start + offset)
        noise[offset : offset + size] = chunk.mul_(stddev)
    return noise


def add_gaussian_noise(sums: Mapping[str, Tensor], stream: SecureStream, step: int, *, stddev: float) -> None:
    """Add independent N(0, stddev^2) noise to every entry of every tensor, in place.

    The tensors take consecutive stretches of the step's sequence, in the order of the mapping. All-zero sums
    (an empty batch) get noise as well: that a batch was empty must not show.
    """
    start = 0
    for values in sums.values():
        noise = gaussian_noise(stream, step, values.numel(), stddev=stddev, start=start, dtype=values.dtype)
        values.add_(noise.to(values.device).view_as(values))
        start += values.numel()


def _box_muller(words: NDArray[np.uint64]) -> Tensor:
    """Two standard normal numbers from every two uniform words (Box and Muller 1958)."""
    uniform = ((words >> np.uint64(11)).astype(np.float64) + 1.0) * 2.0**-53  # (0, 1]: the logarithm is finite
    pairs = torch.from_numpy(uniform).view(-1, 2)
    radius = pairs[:, 0].log().mul_(-2.0).sqrt_()
    angle = pairs[:, 1] * (2.0 * math.pi)
    return torch.stack((radius * angle.cos(), radius * angle.sin()), dim=1).view(-1)
