"""DP-SGD as settings, and the plan that binds them: sampler, clipping, noise and event."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cloister._validate import check_choice, check_count, check_positive
from cloister.accounting import (
    Budget,
    Event,
    Guarantee,
    NoOp,
    Relation,
    SelfComposed,
    Unit,
    compose,
    guarantee,
    noise_for,
    steps_for,
)
from cloister.errors import InputError, PlanMismatch
from cloister.mechanisms import AdaptiveClip, Clip, Flat, PoissonSampler, Sampler, TruncatedPoissonSampler

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DPSGD", "Plan"]

_DEFAULT_CLIPPING = Flat(clip_norm=1.0)


@dataclass(frozen=True, kw_only=True)
class DPSGD:
    """Differentially private SGD (Abadi et al. 2016, arXiv:1607.00133, Algorithm 1), as public settings.

    In each of `steps` steps every example is taken with probability expected_batch_size / num_examples, its
    gradient is clipped, and the sum gets Gaussian noise of standard deviation noise_multiplier times
    sensitivity. The noisy sum is divided by the public `expected_batch_size`.

    Attributes:
        num_examples: How many units the data set has; treated as public.
        steps: How many noisy gradients are released.
        expected_batch_size: Average size of a batch, and the divisor.
        clipping: How one example's gradient is bounded.
        noise_multiplier: Noise relative to sensitivity; None until calibrated.
        max_batch_size: Cut larger batches to this size (truncated Poisson sampling).
        unit: What is protected.
        relation: Which data sets are neighbors.

    >>> recipe = DPSGD(num_examples=60_000, steps=1_000, expected_batch_size=500)
    >>> calibrated = recipe.calibrate(Budget(epsilon=3.0, delta=1e-5))
    >>> calibrated.guarantee(delta=1e-5).epsilon <= 3.0
    True
    """

    num_examples: int
    steps: int
    expected_batch_size: int
    clipping: Clip | AdaptiveClip = _DEFAULT_CLIPPING
    noise_multiplier: float | None = None
    max_batch_size: int | None = None
    unit: Unit = Unit.EXAMPLE
    relation: Relation = Relation.ADD_OR_REMOVE_ONE

    def __post_init__(self) -> None:
        check_count(num_examples=self.num_examples, steps=self.steps, expected_batch_size=self.expected_batch_size)
        check_choice(list(Unit), unit=self.unit)
        check_choice(list(Relation), relation=self.relation)
        if self.expected_batch_size > self.num_examples:
            raise InputError(
                f"expected_batch_size is {self.expected_batch_size}, but there are {self.num_examples} examples",
                hint="lower expected_batch_size",
            )
        if self.noise_multiplier is not None:
            check_positive(noise_multiplier=self.noise_multiplier)
        self._check_truncation()

    def _check_truncation(self) -> None:
        if self.max_batch_size is None:
            return
        check_count(max_batch_size=self.max_batch_size, at_least=self.expected_batch_size)
        if self.relation == Relation.ADD_OR_REMOVE_ONE:
            raise InputError(
                "truncated Poisson sampling has no guarantee under add_or_remove_one",
                hint='set relation = "replace_special" (zero-out) or "replace_one"',
            )

    @property
    def sampler(self) -> Sampler:
        """Draws the batches."""
        sampling_prob = self.expected_batch_size / self.num_examples
        if self.max_batch_size is None:
            return PoissonSampler(sampling_prob=sampling_prob)
        return TruncatedPoissonSampler(
            sampling_prob=sampling_prob, max_batch_size=self.max_batch_size, num_examples=self.num_examples
        )

    def event(self, steps: int | None = None) -> Event:
        """What `steps` steps (default: all) release."""
        return self._event_at(self._noise(), self.steps if steps is None else steps)

    def guarantee(self, *, delta: float) -> Guarantee:
        """The guarantee of all steps."""
        return guarantee(self.event(), delta=delta, unit=self.unit, relation=self.relation)

    def calibrate(self, budget: Budget, *, before: Event | None = None) -> DPSGD:
        """The same recipe with the smallest noise that keeps all steps, and `before`, within `budget`.

        Args:
            budget: Must speak of the same unit and relation.
            before: What the run releases besides the steps, such as noisy statistics of columns.
        """
        self._check_budget(budget)
        other = before or NoOp()
        noise = noise_for(lambda noise: compose(other, self._event_at(noise, self.steps)), budget)
        return replace(self, noise_multiplier=noise)

    def extend(self, budget: Budget, *, before: Event | None = None) -> DPSGD:
        """The same recipe with as many steps as `budget` allows at its noise."""
        self._check_budget(budget)
        other = before or NoOp()
        return replace(self, steps=steps_for(lambda steps: compose(other, self.event(steps)), budget))

    def plan(self) -> Plan:
        """Bind sampler, clipping, noise and event.

        Raises:
            InputError: The noise has not been set or calibrated.
        """
        noise = self._noise()
        if isinstance(self.clipping, AdaptiveClip):
            gradient_noise = self.clipping.gradient_noise_multiplier(noise, self.expected_batch_size)
            first = Flat(clip_norm=self.clipping.initial_clip_norm)
            return Plan(dpsgd=self, gradient_noise_multiplier=gradient_noise, first_clip=first, adaptive=self.clipping)
        return Plan(dpsgd=self, gradient_noise_multiplier=noise, first_clip=self.clipping, adaptive=None)

    def _event_at(self, noise_multiplier: float, steps: int) -> Event:
        return SelfComposed(self.sampler.event(noise_multiplier), steps) if steps else NoOp()

    def _noise(self) -> float:
        if self.noise_multiplier is None:
            raise InputError("noise_multiplier is not set", hint="set it, or call calibrate(budget)")
        return self.noise_multiplier

    def _check_budget(self, budget: Budget) -> None:
        if (budget.unit, budget.relation) != (self.unit, self.relation):
            raise PlanMismatch(
                f"the budget is {budget.relation} per {budget.unit}; the recipe is {self.relation} per {self.unit}"
            )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will run, bound together so that no part can drift from the event.

    Attributes:
        dpsgd: The settings it was made from.
        gradient_noise_multiplier: Noise of the gradients relative to the sensitivity that clipping reports.
        first_clip: Clipping of the first step.
        adaptive: How the clip norm moves from step to step, if it does.
    """

    dpsgd: DPSGD
    gradient_noise_multiplier: float
    first_clip: Clip
    adaptive: AdaptiveClip | None

    @property
    def event_after(self) -> Callable[[int], Event]:
        """What has been released after a number of steps."""
        return self.dpsgd.event
