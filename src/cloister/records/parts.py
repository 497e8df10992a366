"""What a training record is made of: data set, plan and spending."""

from __future__ import annotations

from dataclasses import dataclass

from cloister._validate import check_choice, check_count, check_digest, check_positive
from cloister.accounting import Budget, Relation, Unit  # noqa: TC001 - field types are read at run time
from cloister.records._stored import Record

__all__ = ["DatasetRecord", "PlanRecord", "SpendingLine", "SpendingRecord"]


@dataclass(frozen=True, kw_only=True)
class DatasetRecord(Record):
    """Which data a run used.

    Attributes:
        name: The name under which the ledger keeps its budget.
        digest: Of the content, ``sha256:`` and 64 hexadecimal digits.
        examples: How many; treated as public.
        unit: What is protected as a whole.
        relation: Which two data sets are neighbors.
        notes: What else a reader should know about the data.
    """

    name: str
    digest: str
    examples: int
    unit: Unit
    relation: Relation
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(examples=self.examples)
        check_digest(digest=self.digest)


@dataclass(frozen=True, kw_only=True)
class PlanRecord(Record):
    """What was bound together before the first step.

    Attributes:
        steps: Planned updates.
        sampling: ``poisson`` or ``truncated_poisson``.
        sampling_prob: Probability with which a step takes each unit.
        expected_batch_size: Public divisor of the noisy sum.
        max_batch_size: Where larger samples are cut; None if they are not.
        clipping: Name of the rule, ``none`` for a non-private run.
        clip_norm: L2 bound on one unit's contribution; the first one where it adapts.
        clip_low: Lower bound of each entry, for clipping by value.
        clip_high: Upper bound of each entry, for clipping by value.
        sensitivity: How far one unit can move the sum, as the clipping engine reports it.
        noise_multiplier: Noise standard deviation over sensitivity, as accounted; None for a non-private run.
        noise_stddev: Standard deviation of the noise on each coordinate of the sum; None where adaptive clipping
            moves it.
        optimizer: Its name.
        learning_rate: At its highest.
        engine: Clipping engine; cannot change the guarantee.
        views: Augmentations of each example that are averaged before clipping.
    """

    steps: int
    sampling: str
    sampling_prob: float
    expected_batch_size: float
    max_batch_size: int | None = None
    clipping: str
    clip_norm: float | None = None
    clip_low: float | None = None
    clip_high: float | None = None
    sensitivity: float | None = None
    noise_multiplier: float | None = None
    noise_stddev: float | None = None
    optimizer: str
    learning_rate: float
    engine: str
    views: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(steps=self.steps, views=self.views)
        check_choice(("poisson", "truncated_poisson"), sampling=self.sampling)
        check_positive(expected_batch_size=self.expected_batch_size, sampling_prob=self.sampling_prob)
        for name in ("sensitivity", "noise_multiplier", "noise_stddev", "clip_norm"):
            if getattr(self, name) is not None:
                check_positive(hint=None, **{name: getattr(self, name)})


@dataclass(frozen=True, kw_only=True)
class SpendingLine(Record):
    """One run in the ledger's statement.

    Attributes:
        run: Its id.
        status: ``reserved`` or ``committed``, which count, or ``released``, which does not.
        epsilon: What the run costs alone at the budget's delta; None if nothing bounds it.
        time: When the entry was made, UTC in ISO 8601.
    """

    run: str
    status: str
    epsilon: float | None
    time: str


@dataclass(frozen=True, kw_only=True)
class SpendingRecord(Record):
    """The ledger's statement about a data set at the end of a run.

    The runs compose: `epsilon_spent` is at most the sum of the lines, and usually less.

    Attributes:
        budget: The limit; None if the owner set none.
        epsilon_spent: By all counted runs together, at the budget's delta; None if nothing bounds it.
        epsilon_remaining: What is left, at least 0; None without a budget.
        lines: The runs, oldest first.
        head: Digest of the ledger's newest entry.
        entry: Digest of the entry that commits this run.
        warnings: What the ledger found worth saying.
    """

    budget: Budget | None
    epsilon_spent: float | None
    epsilon_remaining: float | None
    lines: tuple[SpendingLine, ...]
    head: str
    entry: str
    warnings: tuple[str, ...] = ()
