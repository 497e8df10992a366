"""What a run will do to the data, decided before any of it is read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cloister.accounting import (
    Budget,
    Event,
    Guarantee,
    NonPrivate,
    Relation,
    Unit,
    compose,
    event_to_json,
    guarantee,
    privacy_curve,
)
from cloister.errors import InputError
from cloister.mechanisms import AdaptiveClip, Automatic, Clip, Flat, PerLayer, Value
from cloister.training.dpsgd import DPSGD
from cloister.training.statistics import Purchase, plan_statistics

if TYPE_CHECKING:
    from cloister.data import Source
    from cloister.training.recipe import Recipe, Training

__all__ = ["RunPlan", "clipping_of", "plan_run"]

_CURVE_POINTS = 20


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What a run will do to the data, before it has seen any of it.

    Attributes:
        num_examples: Treated as public.
        steps: Number of updates.
        dpsgd: Calibrated settings; None where the run is not private.
        purchase: Statistics bought before training.
        guarantee: What the whole run will have; None where it is not private.
        evaluations: Steps after which the model is evaluated on the test set.
        notes: What the reader should know.
    """

    num_examples: int
    steps: int
    dpsgd: DPSGD | None
    purchase: Purchase
    guarantee: Guarantee | None
    evaluations: range
    notes: tuple[str, ...]

    def event_after(self, steps: int) -> Event:
        """Everything released once `steps` steps are done."""
        if self.dpsgd is None:
            return NonPrivate()
        return compose(self.purchase.event, self.dpsgd.event(steps))

    @cached_property
    def curve(self) -> tuple[tuple[int, float], ...]:
        """(steps, epsilon) at some 20 evenly spaced steps, the last among them, and at planned evaluations."""
        if self.guarantee is None:
            return ()
        even = {round(self.steps * part / _CURVE_POINTS) for part in range(1, _CURVE_POINTS + 1)} - {0}
        marks = sorted(even | set(self.evaluations if len(self.evaluations) <= _CURVE_POINTS else ()))
        epsilons = privacy_curve(self.event_after, marks, delta=self.guarantee.delta, relation=self.guarantee.relation)
        return tuple(zip(marks, epsilons, strict=True))

    def epsilon_so_far(self, step: int) -> float | None:
        """Upper bound of epsilon after `step` steps: the next point of the curve."""
        return next((epsilon for mark, epsilon in self.curve if mark >= step), None)

    def describe(self) -> str:
        """The plan in one sentence."""
        if self.dpsgd is None or self.guarantee is None:
            return f"{self.steps} steps on {self.num_examples} examples without any privacy guarantee"
        return (
            f"{self.steps} steps on {self.num_examples} examples, {self.dpsgd.expected_batch_size} at a time on "
            f"average, noise multiplier {self.dpsgd.noise_multiplier:.4g}: {self.guarantee.describe()}"
        )

    def to_json(self) -> dict[str, Any]:
        """The plan as a document."""
        dpsgd = self.dpsgd
        return {
            "guarantee": None if self.guarantee is None else asdict(self.guarantee),
            "noise_multiplier": None if dpsgd is None else dpsgd.noise_multiplier,
            "steps": self.steps,
            "examples": self.num_examples,
            "expected_batch_size": None if dpsgd is None else dpsgd.expected_batch_size,
            "max_batch_size": None if dpsgd is None else dpsgd.max_batch_size,
            "sampling_prob": None if dpsgd is None else dpsgd.expected_batch_size / dpsgd.num_examples,
            "statistics": list(self.purchase.columns),
            "statistics_noise_multiplier": self.purchase.noise_multiplier,
            "event": event_to_json(self.event_after(self.steps)),
            "notes": list(self.notes),
        }


def plan_run(recipe: Recipe, source: Source) -> RunPlan:
    """Bind a recipe to a data set of known size; reads no rows.

    Raises:
        InputError: The settings do not fit each other or the number of examples.
    """
    if recipe.data.unit != Unit.EXAMPLE:
        raise InputError(
            f"unit is {recipe.data.unit!r}; this version trains with the example as unit",
            hint='give each person one row, and set unit = "example"',
        )
    privacy, every = recipe.privacy, recipe.training.evaluate_every
    steps = recipe.training.num_steps(source.num_examples)
    purchase = plan_statistics(recipe, source.needs_statistics)
    plan = RunPlan(
        num_examples=source.num_examples,
        steps=steps,
        dpsgd=_dpsgd(recipe, source.num_examples, steps, purchase) if privacy.private else None,
        purchase=purchase,
        guarantee=None,
        evaluations=range(every, steps, every) if every else range(0),
        notes=_notes(recipe, source.num_examples),
    )
    if plan.dpsgd is None or privacy.delta is None:
        return plan
    claim = guarantee(plan.event_after(steps), delta=privacy.delta, unit=plan.dpsgd.unit, relation=plan.dpsgd.relation)
    return replace(plan, guarantee=claim)


def _dpsgd(recipe: Recipe, num_examples: int, steps: int, purchase: Purchase) -> DPSGD:
    """The recipe's settings; where it gives epsilon, with the noise that meets it, bought statistics included."""
    privacy, training = recipe.privacy, recipe.training
    unit, relation = Unit(recipe.data.unit), Relation(privacy.relation)
    dpsgd = DPSGD(
        num_examples=num_examples,
        steps=steps,
        expected_batch_size=training.expected_batch_size,
        max_batch_size=training.max_batch_size,
        clipping=clipping_of(training),
        noise_multiplier=privacy.noise_multiplier,
        unit=unit,
        relation=relation,
    )
    if privacy.epsilon is None or privacy.delta is None:
        return dpsgd
    budget = Budget(epsilon=privacy.epsilon, delta=privacy.delta, unit=unit, relation=relation)
    return dpsgd.calibrate(budget, before=purchase.event)


def clipping_of(training: Training) -> Clip | AdaptiveClip:
    """The recipe's clipping as settings of the mechanism."""
    if training.clipping == "value":
        assert training.clip_low is not None
        assert training.clip_high is not None
        return Value(low=training.clip_low, high=training.clip_high)
    if training.clipping == "adaptive":
        return AdaptiveClip(initial_clip_norm=training.clip_norm, target_quantile=training.target_quantile)
    kinds = {"flat": Flat, "per_layer": PerLayer, "automatic": Automatic}
    return kinds[training.clipping](clip_norm=training.clip_norm)


def _notes(recipe: Recipe, num_examples: int) -> tuple[str, ...]:
    notes = []
    delta = recipe.privacy.delta
    if delta is not None and delta >= 1 / num_examples:
        reason = "it permits publishing some people's rows outright"
        notes.append(f"delta {delta:g} is not below 1/{num_examples}, one over the number of examples: {reason}")
    if recipe.training.seed and not recipe.training.insecure_seed:
        notes.append("seed has no effect without insecure_seed = true; randomness comes from the system")
    return tuple(notes)
