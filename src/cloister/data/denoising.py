"""Which counts of a noisy histogram are real: fine where there are many examples, coarse where there are few."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["keep_single", "keep_smoothed"]

_COARSEST = 64  # bins: four octaves of the grid


def keep_single(counts: NDArray[np.float64], *, noise_stddev: float, level: float) -> NDArray[np.float64]:
    """`counts` where they exceed `level` standard deviations of their noise, 0 elsewhere."""
    return np.where(counts > level * noise_stddev, counts, 0.0)


def keep_smoothed(counts: NDArray[np.float64], *, noise_stddev: float, level: float) -> NDArray[np.float64]:
    """Like `keep_single`, then what is left is judged in blocks of 2, 4, 8, ... neighbors.

    The noise of a sum of k counts has standard deviation ``sqrt(k) * noise_stddev``. A block that exceeds its
    level is spread evenly over its bins. Post-processing of noisy counts: it costs no privacy.

    >>> counts = np.array([0.0, 50.0, 6.0, 7.0, 6.0, 7.0, 0.0, 0.0])
    >>> keep_smoothed(counts, noise_stddev=2.0, level=4.0)
    array([ 0. , 50. ,  6.5,  6.5,  6.5,  6.5,  0. ,  0. ])
    """
    kept = keep_single(counts, noise_stddev=noise_stddev, level=level)
    decided = kept > 0
    size = 2
    while size <= _COARSEST:
        for start in range(0, len(counts), size):
            block = slice(start, start + size)
            bins = np.flatnonzero(~decided[block]) + start
            total = counts[bins].sum()
            if len(bins) and total > level * noise_stddev * np.sqrt(len(bins)):
                kept[bins] = total / len(bins)
                decided[bins] = True
        size *= 2
    return kept
