"""The recipe's [data]: which files, what is in them, and what may be known about them.

Every field is public. Statistics that are declared here (ranges, categories, class names, the number of examples)
are taken as known before the data is seen; what is not declared must be bought from the privacy budget.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cloister._validate import check_choice, check_count, check_fraction, check_positive
from cloister.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ColumnSettings",
    "DataSettings",
    "ImageFiles",
    "StatisticsSettings",
    "TargetSettings",
    "TextSettings",
]

_TASKS = ("classification", "language_modeling", "regression")
_UNITS = ("client", "example", "user")
_FORMATS = ("csv", "jsonl", "npz", "parquet", "tsv", "txt")


@dataclass(frozen=True, kw_only=True)
class ImageFiles:
    """A pair of IDX files, plain or gzipped.

    Attributes:
        images: File of unsigned bytes, ``(count, height, width)`` or ``(count, channels, height, width)``.
        labels: File of as many class numbers.
    """

    images: str
    labels: str


@dataclass(frozen=True, kw_only=True)
class ColumnSettings:
    """What is publicly known about one column (or, in an .npz file, about one array).

    Attributes:
        kind: "numeric", "categorical" or "ignore"; left out, it follows from the other fields.
        low: Smallest value; smaller ones are clamped. With `high`, values are scaled to [-1, 1].
        high: Largest value.
        mean: With `std`: values are standardized and clamped to [-5, 5].
        std: Standard deviation.
        categories: The values of a categorical column; all others share one feature.
    """

    kind: str | None = None
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    std: float | None = None
    categories: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", self.kind or ("numeric" if self.categories is None else "categorical"))
        check_choice(("categorical", "ignore", "numeric"), kind=str(self.kind))
        _check_pair("low", self.low, "high", self.high)
        _check_pair("mean", self.mean, "std", self.std)
        if self.std is not None:
            check_positive(std=self.std)
        if self.kind == "categorical" and not self.categories:
            raise InputError(
                "a categorical column is declared without categories",
                hint="list them, or leave the column out of [data.columns] to buy its statistics from the budget",
            )
        if self.kind == "numeric":
            self._check_numeric()

    def _check_numeric(self) -> None:
        if (self.low is None) == (self.mean is None):
            raise InputError(
                "a numeric column needs either low and high, or mean and std",
                hint="leave the column out of [data.columns] to buy its statistics from the budget",
            )
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise InputError(f"low is {self.low} and high is {self.high}; expected low below high")


@dataclass(frozen=True, kw_only=True)
class StatisticsSettings:
    """How much of epsilon may be spent on statistics of undeclared columns.

    Attributes:
        share: Fraction of epsilon, between 0 and 1.
    """

    share: float = 0.1

    def __post_init__(self) -> None:
        check_fraction(share=self.share)


@dataclass(frozen=True, kw_only=True)
class TargetSettings:
    """The public range of a regression target; training targets are clamped to it and scaled to [-1, 1]."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise InputError(f"target low is {self.low} and high is {self.high}; expected low below high")


@dataclass(frozen=True, kw_only=True)
class TextSettings:
    """How text becomes tokens; one document is one example.

    Attributes:
        context: Tokens that the model sees at once. Longer documents are cut, shorter ones padded.
        tokenizer: "bytes", or the path of a Hugging Face tokenizers file (tokenizer.json).
        column: Column that holds the text of a table.
        split: Where documents of a .txt file end: "line", "blank_line" or "file".
    """

    context: int = 128
    tokenizer: str = "bytes"
    column: str = "text"
    split: str = "line"

    def __post_init__(self) -> None:
        check_count(context=self.context)
        check_choice(("blank_line", "file", "line"), split=self.split)


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The recipe's [data]. Relative paths start at the recipe's folder.

    Attributes:
        train: A .csv, .tsv, .parquet, .npz, .jsonl or .txt file, a pair of IDX files, a directory of client
            files (one file per client), or "module:function" returning a torch Dataset.
        test: The same for the test set; its results are released exactly, so it must not be private.
        label: Column or array of labels.
        label_map: Replaces label values, for example ``{">50K." = ">50K"}``; applied after stripping spaces.
        dataset: Name under which the ledger keeps the budget.
        unit: What is protected: "example", "user" or "client".
        user_column: Column that says whose row it is, for the unit "user".
        task: "classification", "regression" or "language_modeling". Left out: language modeling for .txt files,
            regression where a `target` is declared, classification otherwise.
        classes: Class names, public. For class numbers (IDX, .npz) they may be the names of 0, 1, 2, ...
        columns: What is publicly known about columns.
        header: Column names, for files without a header line.
        examples: Public number of training examples; left out, the rows are counted and the count is public.
        target: Public range of a regression target.
        statistics: Budget for statistics of undeclared columns.
        text: Given, the inputs are text.
        image_mean: Public mean of each channel, subtracted after scaling pixels to [0, 1].
        image_std: Public standard deviation of each channel.
        features: "scattering" computes a fixed scattering transform of images once.
        files: Which files of a directory are clients (a pattern such as "*.csv").
        format: Overrides what the file name's ending says.
    """

    train: str | ImageFiles
    test: str | ImageFiles | None = None
    label: str | None = None
    label_map: Mapping[str, str] = field(default_factory=dict)
    dataset: str | None = None
    unit: str = "example"
    user_column: str | None = None
    task: str | None = None
    classes: tuple[str, ...] | None = None
    columns: Mapping[str, ColumnSettings] = field(default_factory=dict)
    header: tuple[str, ...] | None = None
    examples: int | None = None
    target: TargetSettings | None = None
    statistics: StatisticsSettings = field(default_factory=StatisticsSettings)
    text: TextSettings | None = None
    image_mean: tuple[float, ...] | None = None
    image_std: tuple[float, ...] | None = None
    features: str | None = None
    files: str = "*"
    format: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "task", self.task or self._default_task())
        check_choice(_TASKS, task=str(self.task))
        check_choice(_UNITS, unit=self.unit)
        if self.format is not None:
            check_choice(_FORMATS, format=self.format)
        if self.features is not None:
            check_choice(("scattering",), features=self.features)
        if self.examples is not None:
            check_count(examples=self.examples)
        if (self.unit == "user") != (self.user_column is not None):
            raise InputError(
                f"unit is {self.unit!r} and user_column is {self.user_column!r}",
                hint='unit = "user" needs user_column, and nothing else does',
            )
        if self.task == "regression" and self.target is None:
            raise InputError("a regression target needs a public range", hint="add [data.target] with low and high")
        self._check_classes()
        _check_pair("image_mean", self.image_mean, "image_std", self.image_std)

    def _default_task(self) -> str:
        if self.target is not None:
            return "regression"
        is_text = self.format == "txt" or (isinstance(self.train, str) and self.train.endswith(".txt"))
        return "language_modeling" if is_text else "classification"

    def _check_classes(self) -> None:
        if self.classes is None:
            return
        if len(set(self.classes)) != len(self.classes) or len(self.classes) < 2:
            raise InputError(f"classes are {list(self.classes)}; expected at least two different names")


def _check_pair(first: str, left: object, second: str, right: object) -> None:
    if (left is None) != (right is None):
        given, absent = (first, second) if right is None else (second, first)
        raise InputError(f"{given} is given without {absent}")
