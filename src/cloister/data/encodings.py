"""From the cells of a column to features, by public numbers only.

An encoding comes from the recipe (`declared_encoding`) or from noisy histograms (`columns_from_histograms`). Encodings
are stored with the model. Those from histograms hold bucket numbers and rounded noisy ranks, never a value
that some row contained, so nothing of a rare value can leak through them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from cloister.data.denoising import keep_single, keep_smoothed
from cloister.data.histograms import bin_cells, histogram_domain
from cloister.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from cloister.data.cells import Cells
    from cloister.data.settings import ColumnSettings

__all__ = [
    "ColumnEncoding",
    "HashedCategories",
    "Ignored",
    "NamedCategories",
    "Ranked",
    "Scaled",
    "columns_from_histograms",
    "declared_encoding",
    "encoding_from_json",
    "encoding_to_json",
]

_STANDARD_LIMIT = 5.0
_SMALLEST_STD = 0.05
_FALSE_ALARM = 0.01
_DIGITS = 6


class ColumnEncoding(Protocol):
    """Turns the cells of one column into `width` features."""

    tag: ClassVar[str]

    @property
    def width(self) -> int:
        """Number of features."""

    def encode(self, cells: Cells) -> NDArray[np.float32]:
        """Features of each row, ``(rows, width)``.

        Raises:
            InputError: A cell cannot be read under a declared encoding.
        """


@dataclass(frozen=True)
class Ignored:
    """No features."""

    tag: ClassVar[str] = "ignored"
    width: ClassVar[int] = 0

    def encode(self, cells: Cells) -> NDArray[np.float32]:
        """No features: ``(rows, 0)``."""
        return np.zeros((len(cells.codes), 0), dtype=np.float32)


@dataclass(frozen=True)
class Scaled:
    """``(x - center) / scale`` clamped to ``[-limit, limit]``, and a feature that is 1 where the cell is missing."""

    center: float
    scale: float
    limit: float
    tag: ClassVar[str] = "scaled"
    width: ClassVar[int] = 2

    def encode(self, cells: Cells) -> NDArray[np.float32]:
        """Features of each row, ``(rows, 2)``."""
        missing = np.isnan(cells.numbers)
        row = cells.first_row_where(missing & ~cells.is_missing)
        if row is not None:
            raise InputError(
                f"{cells.source} row {row}, column {cells.column!r} is not a number, as [data.columns] says",
                hint="declare its categories or ignore it; missing cells are empty, '?', 'NA' or 'nan'",
            )
        value = np.clip((cells.numbers - self.center) / self.scale, -self.limit, self.limit)
        features = np.stack([np.where(missing, 0.0, value), missing], axis=1).astype(np.float32)
        spread: NDArray[np.float32] = cells.spread(features)
        return spread


@dataclass(frozen=True)
class NamedCategories:
    """One feature for each declared category and a last one for everything else, missing cells included."""

    categories: tuple[str, ...]
    tag: ClassVar[str] = "named_categories"

    @property
    def width(self) -> int:
        """Number of features."""
        return len(self.categories) + 1

    def encode(self, cells: Cells) -> NDArray[np.float32]:
        """Features of each row, ``(rows, width)``."""
        index = {name: position for position, name in enumerate(self.categories)}
        chosen = np.array([index.get(text, len(index)) for text in cells.texts], dtype=np.int64)
        return _one_hot(cells.spread(chosen), self.width)


@dataclass(frozen=True)
class HashedCategories:
    """One feature for each kept bin and a last one for everything else.

    Attributes:
        bins: The kept bins of the histogram domain: hash buckets, and the missing bin where it was frequent.
    """

    bins: tuple[int, ...]
    tag: ClassVar[str] = "hashed_categories"

    @property
    def width(self) -> int:
        """Number of features."""
        return len(self.bins) + 1

    def encode(self, cells: Cells) -> NDArray[np.float32]:
        """Features of each row, ``(rows, width)``."""
        feature_of_bin = np.full(histogram_domain().num_bins, len(self.bins), dtype=np.int64)
        feature_of_bin[list(self.bins)] = np.arange(len(self.bins))
        return _one_hot(feature_of_bin[bin_cells(cells)], self.width)


@dataclass(frozen=True)
class Ranked:
    """The approximate rank of a number, and a feature that is 1 where there is none.

    The rank is piecewise linear in the value, so heavy tails stay bounded. It is shifted and scaled to mean zero
    and variance one under the noisy histogram.

    Attributes:
        values: Ascending knots.
        features: The feature at each knot; constant beyond the ends.
    """

    values: tuple[float, ...]
    features: tuple[float, ...]
    tag: ClassVar[str] = "ranked"
    width: ClassVar[int] = 2

    def encode(self, cells: Cells) -> NDArray[np.float32]:
        """Features of each row, ``(rows, 2)``."""
        missing = np.isnan(cells.numbers)
        value = np.interp(np.where(missing, 0.0, cells.numbers), self.values, self.features)
        features = np.stack([np.where(missing, 0.0, value), missing], axis=1).astype(np.float32)
        spread: NDArray[np.float32] = cells.spread(features)
        return spread


_KINDS: dict[str, Any] = {kind.tag: kind for kind in (HashedCategories, Ignored, NamedCategories, Ranked, Scaled)}


def encoding_to_json(encoding: ColumnEncoding) -> dict[str, Any]:
    """The stored form: a tag and the fields."""
    fields: dict[str, Any] = asdict(encoding)  # type: ignore[call-overload]
    return {"kind": encoding.tag} | fields


def encoding_from_json(stored: Mapping[str, Any]) -> ColumnEncoding:
    """Read the stored form; the tag is looked up in a closed table.

    Raises:
        InputError: Unknown tag or fields.
    """
    kind = _KINDS.get(str(stored.get("kind")))
    if kind is None:
        raise InputError(f"column encoding is {stored.get('kind')!r}; expected one of {', '.join(sorted(_KINDS))}")
    fields = {
        name: tuple(value) if isinstance(value, list) else value for name, value in stored.items() if name != "kind"
    }
    try:
        encoding: ColumnEncoding = kind(**fields)
    except TypeError as error:
        raise InputError(f"column encoding {kind.tag!r} has fields {sorted(fields)}") from error
    return encoding


def declared_encoding(settings: ColumnSettings) -> ColumnEncoding:
    """The encoding of a column whose statistics are declared in the recipe."""
    if settings.kind == "ignore":
        return Ignored()
    if settings.categories is not None:
        return NamedCategories(categories=settings.categories)
    if settings.low is not None and settings.high is not None:
        half = (settings.high - settings.low) / 2
        return Scaled(center=settings.low + half, scale=half, limit=1.0)
    if settings.mean is None or settings.std is None:
        raise InputError("a numeric column needs either low and high, or mean and std")
    return Scaled(center=settings.mean, scale=settings.std, limit=_STANDARD_LIMIT)


def columns_from_histograms(
    columns: Sequence[str],
    noisy_counts: NDArray[np.float64],
    noise_stddev: float,
    num_examples: int,
) -> dict[str, ColumnEncoding]:
    """Encodings from noisy counts; post-processing, so it costs nothing beyond the counts.

    Bins that noise alone could have filled are dropped. With B counts in all, any of B Gaussians exceeds
    ``sqrt(2 ln (B / p))`` standard deviations with probability at most p / 2; p is 1 % here. Numbers that
    are too thinly spread for their bins are looked at in wider ones (`keep_smoothed`).

    Args:
        columns: Column names, one for each row of `noisy_counts`.
        noisy_counts: ``(columns, bins)``, the exact counts plus noise.
        noise_stddev: Standard deviation of the noise of each count.
        num_examples: Public number of rows; a column of which less than 1 % is kept is ignored.
    """
    if noisy_counts.shape != (len(columns), histogram_domain().num_bins):
        expected = (len(columns), histogram_domain().num_bins)
        raise InputError(f"noisy_counts has shape {noisy_counts.shape}; expected {expected}")
    level = float(np.sqrt(2 * np.log(2 * noisy_counts.size / _FALSE_ALARM)))  # twice: single bins and blocks of them
    numeric = slice(histogram_domain().numeric.start, histogram_domain().numeric.stop)
    encodings = {}
    for name, counts in zip(columns, noisy_counts, strict=True):
        kept = keep_single(counts, noise_stddev=noise_stddev, level=level)
        kept[numeric] = keep_smoothed(counts[numeric], noise_stddev=noise_stddev, level=level)
        encodings[name] = _from_histogram(kept, num_examples)
    return encodings


def _from_histogram(counts: NDArray[np.float64], num_examples: int) -> ColumnEncoding:
    domain = histogram_domain()
    numeric = counts[domain.numeric.start : domain.numeric.stop]
    buckets = counts[domain.buckets.start : domain.buckets.stop]
    if numeric.sum() + buckets.sum() < 0.01 * num_examples:
        return Ignored()
    if numeric.sum() >= buckets.sum():
        return _ranked(numeric / numeric.sum())
    bins = [int(index) + domain.buckets.start for index in np.flatnonzero(buckets)]
    return HashedCategories(bins=tuple(bins + ([domain.missing] if counts[domain.missing] > 0 else [])))


def _ranked(mass: NDArray[np.float64]) -> Ranked:
    """Knots of the cumulative distribution at the edges of the filled bins."""
    edges = histogram_domain().edges
    above = np.cumsum(mass)
    below = above - mass
    middle = (above + below) / 2
    mean = float(mass @ middle)
    std = max(float(np.sqrt(mass @ (middle - mean) ** 2)), _SMALLEST_STD)
    filled = np.flatnonzero(mass)
    values = np.concatenate([edges[filled], edges[filled + 1]])
    ranks = np.concatenate([below[filled], above[filled]])
    # Neighbors share an edge, and there they agree on the rank.
    values, first = np.unique(values, return_index=True)
    features = (ranks[first] - mean) / std
    return Ranked(
        values=tuple(float(f"{value:.{_DIGITS}g}") for value in values),
        features=tuple(round(float(feature), _DIGITS) for feature in features),
    )


def _one_hot(chosen: NDArray[np.int64], width: int) -> NDArray[np.float32]:
    features = np.zeros((len(chosen), width), dtype=np.float32)
    features[np.arange(len(chosen)), chosen] = 1.0
    return features
