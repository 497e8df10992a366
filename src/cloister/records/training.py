"""The record of a training run, and the check of its claim."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from cloister._canonical import canonical_json, digest_bytes
from cloister._validate import check_count, check_digest
from cloister.accounting import Event, Guarantee  # noqa: TC001 - field types are read at run time
from cloister.accounting.accountant import epsilon
from cloister.errors import DigestMismatch, InputError
from cloister.records._coverage import TOLERANCE, check_coverage
from cloister.records._stored import Record
from cloister.records.parts import (  # noqa: TC001 - field types are read at run time
    DatasetRecord,
    PlanRecord,
    SpendingRecord,
)

__all__ = ["TrainingRecord"]


@dataclass(frozen=True, kw_only=True)
class TrainingRecord(Record):
    """Everything that may be said in public about a training run.

    Metrics that are not finite (a run that diverged) are kept as None; any other number must be finite.

    Attributes:
        run: Its id in the ledger.
        created: When training ended, UTC in ISO 8601.
        recipe: The recipe as written.
        dataset: Which data.
        plan: What was bound together.
        event: What was released, exactly; the guarantee is computed from it.
        guarantee: What is claimed; None for a non-private run.
        steps: Updates that were made.
        examples: Size of the training set.
        seconds: Wall-clock time.
        test: Metrics on the test set, for example accuracy and loss; None without one.
        privacy_curve: (step, epsilon) pairs.
        utility_curve: (step, metrics) pairs, measured on the test set only.
        spending: The ledger's statement; None if no ledger was used.
        model_digest: Of the weights file.
        parameters: How many numbers were trained.
        versions: Names and versions of the software.
        device: Where it ran.
        not_protected: What the guarantee does not cover, in sentences.
        notes: Anything else for the reader.
    """

    schema: ClassVar[str] = "cloister.training-record/1"

    run: str
    created: str
    recipe: Mapping[str, Any]
    dataset: DatasetRecord
    plan: PlanRecord
    event: Event
    guarantee: Guarantee | None
    steps: int
    examples: int
    seconds: float
    test: Mapping[str, float | None] | None
    privacy_curve: tuple[tuple[int, float], ...] = ()
    utility_curve: tuple[tuple[int, Mapping[str, float | None]], ...] = ()
    spending: SpendingRecord | None = None
    model_digest: str
    parameters: int
    versions: Mapping[str, str]
    device: str
    not_protected: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "test", _without_nan(self.test))
        curve = tuple((step, _without_nan(metrics)) for step, metrics in self.utility_curve)
        object.__setattr__(self, "utility_curve", curve)
        super().__post_init__()
        check_count(steps=self.steps, at_least=0)
        check_count(examples=self.examples, parameters=self.parameters)
        check_digest(model_digest=self.model_digest)
        _check_utc(self.created)
        self._check_claim()

    def to_json(self) -> dict[str, Any]:
        """The stored form; ``schema`` says which."""
        return {"schema": self.schema, **super().to_json()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read the stored form back.

        Raises:
            InputError: Another schema, or a field that is missing, unknown, of another type or out of range.
        """
        schema = stored.get("schema") if isinstance(stored, Mapping) else None
        if schema != cls.schema:
            raise InputError(
                f"the record has schema {schema!r}; this version reads {cls.schema!r}",
                hint="a newer cloister may have written it" if schema else None,
            )
        return super().from_json({name: value for name, value in stored.items() if name != "schema"})

    def to_bytes(self) -> bytes:
        """Canonical JSON in UTF-8: the content of ``record.json``."""
        try:
            return canonical_json(self.to_json())
        except UnicodeEncodeError as error:
            raise InputError("the record holds text with half a surrogate pair, which is not Unicode") from error

    @property
    def digest(self) -> str:
        """Digest of the record's bytes, which is that of its file."""
        return digest_bytes(self.to_bytes())

    def recompute(self) -> Guarantee | None:
        """The guarantee that the event gives at the claimed delta; None where nothing is claimed."""
        claim = self.guarantee
        if claim is None:
            return None
        value = epsilon(self.event, delta=claim.delta, relation=claim.relation, accountant=claim.accountant)
        return dataclasses.replace(claim, epsilon=value)

    def check(self) -> None:
        """Raise unless the event gives the claimed epsilon and covers what the plan says was done.

        1. The event is no weaker than the plan: at least as many steps as were made, each accounted with no
           more noise and no smaller a sampling probability than planned.
        2. The noise was no smaller than noise multiplier times sensitivity.
        3. The event's epsilon, computed again, is at most the claimed one.

        That the event is what really ran is for the ledger and the signature to show, not for this check.

        Raises:
            PlanMismatch: Step 1 or 2 fails.
            DigestMismatch: Step 3 fails.
        """
        if self.guarantee is None:
            return
        check_coverage(self.plan, self.event, self.steps)
        again = self.recompute()
        assert again is not None
        if not again.epsilon <= self.guarantee.epsilon * (1 + TOLERANCE):
            raise DigestMismatch(
                f"the record claims epsilon {self.guarantee.epsilon:.6g} at delta {again.delta:.4g}; "
                f"its event gives {again.epsilon:.6g}",
                hint="the record was changed after it was written, or by something that is not cloister",
            )

    def _check_claim(self) -> None:
        claim = self.guarantee
        if claim is None:
            return
        if not math.isfinite(claim.epsilon) or claim.epsilon < 0 or not 0 < claim.delta < 1:
            raise InputError(
                f"the guarantee is {claim.describe()}; expected a finite epsilon and a delta between 0 and 1",
                hint="a run without a guarantee has guarantee None",
            )
        if (claim.unit, claim.relation) != (self.dataset.unit, self.dataset.relation):
            raise InputError(
                f"the guarantee is {claim.relation} per {claim.unit}; "
                f"the data set is {self.dataset.relation} per {self.dataset.unit}"
            )


def _check_utc(created: str) -> None:
    try:
        offset = dt.datetime.fromisoformat(created).utcoffset()
    except ValueError:
        offset = None
    if offset != dt.timedelta(0):
        raise InputError(f"created is {created!r}; expected a UTC time such as 2026-01-31T12:00:00+00:00")


def _without_nan(metrics: Any) -> Any:
    if not isinstance(metrics, Mapping):
        return metrics
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in metrics.items()
    }
