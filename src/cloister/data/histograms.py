"""Histograms over a fixed, public set of bins: the only statistics of undeclared columns.

Every cell of every column falls into exactly one bin:

    missing | a number on a signed logarithmic grid | one of 1024 hash buckets for text

The bins are known before any data is seen, so that counts with noise can be released (`count_bins` of a source
gives the exact ones) and all that follows is post-processing.

Sensitivity: adding or removing one row changes exactly one count by one in each of the k columns, so the counts of
all columns together change by a vector of k ones, whose L2 norm is sqrt(k). This holds for the unit "example"; a
user with m rows contributes up to m * sqrt(k).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cloister.data.cells import Cells

__all__ = ["HistogramDomain", "bin_cells", "hash_bucket", "histogram_domain", "numeric_bins"]

_BINS_PER_OCTAVE = 16
_LOWEST_OCTAVE = -10
_HIGHEST_OCTAVE = 40
_MAGNITUDES = (_HIGHEST_OCTAVE - _LOWEST_OCTAVE) * _BINS_PER_OCTAVE
_BUCKETS = 1024
_FIRST_NUMERIC = 1
_ZERO = _FIRST_NUMERIC + _MAGNITUDES
_FIRST_BUCKET = _ZERO + 1 + _MAGNITUDES


@dataclass(frozen=True, kw_only=True)
class HistogramDomain:
    """The bins, in order: missing, numbers ascending, hash buckets.

    Attributes:
        num_bins: How many bins one column has.
        missing: Index of the bin for missing cells.
        numeric: Indices of the bins for numbers, from the most negative to the most positive.
        buckets: Indices of the bins for text.
        edges: ``len(numeric) + 1`` ascending edges; numeric bin i covers ``[edges[i], edges[i + 1]]``. Magnitudes
            below 2**-10 share the innermost bins, with exact zero in its own; those above 2**40 the outermost.
    """

    num_bins: int
    missing: int
    numeric: range
    buckets: range
    edges: NDArray[np.float64]


@cache
def histogram_domain() -> HistogramDomain:
    """The fixed public domain.

    >>> domain = histogram_domain()
    >>> domain.num_bins
    2626
    >>> len(domain.numeric), len(domain.buckets)
    (1601, 1024)
    """
    magnitudes = 2.0 ** (_LOWEST_OCTAVE + np.arange(_MAGNITUDES + 1) / _BINS_PER_OCTAVE)
    return HistogramDomain(
        num_bins=_FIRST_BUCKET + _BUCKETS,
        missing=0,
        numeric=range(_FIRST_NUMERIC, _FIRST_BUCKET),
        buckets=range(_FIRST_BUCKET, _FIRST_BUCKET + _BUCKETS),
        edges=np.concatenate([-magnitudes[::-1], magnitudes]),
    )


def numeric_bins(numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    """Bin of each finite number."""
    with np.errstate(divide="ignore"):
        octaves = np.log2(np.abs(numbers))
    position = np.floor((octaves - _LOWEST_OCTAVE) * _BINS_PER_OCTAVE)
    magnitude = np.clip(position, 0, _MAGNITUDES - 1) + 1
    return (_ZERO + np.where(numbers == 0, 0, np.sign(numbers) * magnitude)).astype(np.int64)


def hash_bucket(column: str, text: str) -> int:
    """Bucket of a text, from 0 to 1023: BLAKE2b of column name and text, without a key, so that it is reproducible."""
    content = len(column.encode()).to_bytes(4, "big") + column.encode() + text.encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big") % _BUCKETS


def bin_cells(cells: Cells) -> NDArray[np.int64]:
    """The one bin of each row."""
    bins = np.full(len(cells.texts), histogram_domain().missing, dtype=np.int64)
    is_number = ~np.isnan(cells.numbers)
    bins[is_number] = numeric_bins(cells.numbers[is_number])
    for index in np.flatnonzero(~is_number & ~cells.is_missing):
        bins[index] = _FIRST_BUCKET + hash_bucket(cells.column, cells.texts[index])
    spread: NDArray[np.int64] = cells.spread(bins)
    return spread
