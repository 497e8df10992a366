"""Whether an event pays for what a plan did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloister.accounting import (
    Composed,
    Event,
    Gaussian,
    PoissonSampled,
    SelfComposed,
    TruncatedPoissonGaussian,
)
from cloister.errors import PlanMismatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cloister.records.parts import PlanRecord

__all__ = ["TOLERANCE", "check_coverage"]

TOLERANCE = 1e-6  # relative; two builds of the accountant differ by less, and no guarantee turns on it


def check_coverage(plan: PlanRecord, event: Event, steps: int) -> None:
    if plan.noise_multiplier is None or plan.sensitivity is None:
        raise PlanMismatch("the record claims a guarantee, but its plan has no noise")
    if plan.noise_stddev is None and plan.clipping != "adaptive":
        raise PlanMismatch(f"the plan states no noise_stddev, and clipping {plan.clipping!r} does not move it")
    least = plan.noise_multiplier * plan.sensitivity * (1 - TOLERANCE)
    if plan.noise_stddev is not None and plan.noise_stddev < least:
        raise PlanMismatch(
            f"noise_stddev is {plan.noise_stddev:.6g}, below noise_multiplier {plan.noise_multiplier:.6g} "
            f"times sensitivity {plan.sensitivity:.6g}"
        )
    accounted = sum(count for count, step in _leaves(event) if _covers(step, plan))
    if accounted < steps:
        raise PlanMismatch(
            f"the record says {steps} steps with noise multiplier {plan.noise_multiplier:.6g} and sampling "
            f"probability {plan.sampling_prob:.6g}; its event accounts for {accounted} of them"
        )


def _covers(step: Event, plan: PlanRecord) -> bool:
    """True if `step` costs at least what one step of `plan` costs."""
    assert plan.noise_multiplier is not None
    noise = plan.noise_multiplier * (1 + TOLERANCE)
    sampling_prob = plan.sampling_prob * (1 - TOLERANCE)
    match step:
        case TruncatedPoissonGaussian():
            same = (plan.sampling, plan.max_batch_size) == ("truncated_poisson", step.max_batch_size)
            return same and step.noise_multiplier <= noise and step.sampling_prob >= sampling_prob
        case PoissonSampled(event=Gaussian(noise_multiplier=accounted)):
            return plan.sampling == "poisson" and accounted <= noise and step.sampling_prob >= sampling_prob
        case Gaussian():
            return step.noise_multiplier <= noise
    return False


def _leaves(event: Event, count: int = 1) -> Iterator[tuple[int, Event]]:
    match event:
        case SelfComposed():
            yield from _leaves(event.event, count * event.count)
        case Composed():
            for part in event.events:
                yield from _leaves(part, count)
        case _:
            yield count, event
