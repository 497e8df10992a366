"""Calibration: the boundary search on simple functions, and both directions on real events."""

import math

import pytest

from cloister.accounting import (
    MOST_STEPS,
    NOISE_RANGE,
    Budget,
    Composed,
    Gaussian,
    Laplace,
    NonPrivate,
    NoOp,
    PoissonSampled,
    Relation,
    SelfComposed,
    TruncatedPoissonGaussian,
    epsilon,
    noise_for,
    steps_for,
)
from cloister.accounting.calibration import _boundary, _Range
from cloister.errors import BudgetExceeded, InputError, PrivacyError, UnsupportedEvent

BUDGET = Budget(epsilon=3.0, delta=1e-5)
NOISE = _Range(safe_end=1e6, unsafe_end=1e-3, tolerance=1e-4)
STEPS = _Range(safe_end=1, unsafe_end=MOST_STEPS, tolerance=1, whole=True)


class Counted:
    def __init__(self, function):
        self.function, self.seen = function, []

    def __call__(self, x):
        self.seen.append(x)
        return self.function(x)


@pytest.mark.parametrize("start", [1e-3, 0.5, 1.0, 40.0, 1e6])
@pytest.mark.parametrize(
    ("cost", "limit", "answer"),
    [
        (lambda x: 1 / x, 0.25, 4.0),
        (lambda x: 1 / x**2, 0.25, 2.0),
        (lambda x: math.inf if x < 0.7 else 1.0, 1.0, 0.7),  # a step, infinite on one side
        (lambda x: 0.0 if x > 3 else 5.0, 1.0, 3.0),  # a step, zero on the other
        (lambda x: math.exp(-x), 1e-3, math.log(1e3)),
        (lambda x: 1 / math.log1p(x), 1.0, math.e - 1),
    ],
)
def test_boundary_is_found_from_the_safe_side(cost, limit, answer, start):
    counted = Counted(cost)
    found = _boundary(counted, limit, NOISE, start=start)
    assert answer <= found <= answer + NOISE.tolerance * 1.0001
    assert cost(found) <= limit
    assert found in counted.seen, "what is returned must have been tried"
    assert len(counted.seen) < 60


def test_smooth_costs_need_few_tries():
    counted = Counted(lambda x: 3 / x**1.3)
    _boundary(counted, 1.0, NOISE, start=2.0)
    assert len(counted.seen) <= 8


@pytest.mark.parametrize("answer", [1, 2, 3, 17, 1000, 123_457])
@pytest.mark.parametrize("start", [1, 50, 10**6])
@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_boundary_in_whole_numbers_is_exact(answer, start, power):
    counted = Counted(lambda x: x**power)
    assert _boundary(counted, (answer + 0.5) ** power, STEPS, start=start) == answer
    assert all(x == round(x) >= 1 for x in counted.seen)
    assert len(counted.seen) < 60


def test_a_cost_that_is_not_quite_monotone_never_exceeds_the_limit():
    def cost(x):
        return 1 / x + 0.01 * math.sin(1e4 * x)

    for start in (0.1, 1.0, 7.0):
        assert cost(_boundary(cost, 0.5, NOISE, start=start)) <= 0.5


def test_ends_of_the_range():
    assert _boundary(lambda _: 1.0, 2.0, NOISE, start=1.0) == NOISE.unsafe_end
    assert _boundary(lambda _: 3.0, 2.0, NOISE, start=1.0) is None


@pytest.mark.parametrize("relation", Relation)
@pytest.mark.parametrize("target", [0.1, 2.0])
def test_noise_and_epsilon_are_inverse(relation, target):
    def event_at(noise_multiplier):
        return SelfComposed(PoissonSampled(0.05, Gaussian(noise_multiplier)), 100)

    budget = Budget(epsilon=target, delta=1e-6, relation=relation)
    noise_multiplier = noise_for(event_at, budget)
    spent = epsilon(event_at(noise_multiplier), delta=1e-6, relation=relation)
    assert target * 0.998 < spent <= target
    assert epsilon(event_at(noise_multiplier - 2e-4), delta=1e-6, relation=relation) > target


def test_steps_and_epsilon_are_inverse():
    past = SelfComposed(PoissonSampled(0.02, Gaussian(0.9)), 30)

    def event_after(steps):
        return Composed((past, SelfComposed(PoissonSampled(0.01, Gaussian(1.0)), steps)))

    steps = steps_for(event_after, BUDGET)
    assert epsilon(event_after(steps), delta=1e-5) <= 3.0 < epsilon(event_after(steps + 1), delta=1e-5)
    by_rdp = steps_for(event_after, BUDGET, accountant="rdp")
    assert 0 < by_rdp < steps, "RDP is the looser accountant, so it allows less"


def test_truncated_poisson_is_calibrated_without_rdp():
    budget = Budget(epsilon=2.0, delta=1e-5, relation=Relation.REPLACE_SPECIAL)

    def event_at(noise_multiplier):
        return SelfComposed(TruncatedPoissonGaussian(1000, 0.05, 90, noise_multiplier), 50)

    noise_multiplier = noise_for(event_at, budget, tolerance=0.05)
    assert epsilon(event_at(noise_multiplier), delta=1e-5, relation=budget.relation) <= 2.0
    with pytest.raises(UnsupportedEvent):
        noise_for(event_at, BUDGET)


def test_laplace_calibrates_to_pure_privacy():
    assert noise_for(Laplace, Budget(epsilon=0.5, delta=1e-9)) == pytest.approx(2.0, abs=2e-4)


def test_tolerance_is_paid_in_noise():
    exact = noise_for(Gaussian, BUDGET, tolerance=1e-6)
    coarse = noise_for(Gaussian, BUDGET, tolerance=0.05)
    assert exact <= coarse + 1e-6
    assert coarse <= exact + 0.05


def test_no_noise_fits():
    with pytest.raises(PrivacyError, match="no noise multiplier up to 1e"):
        noise_for(lambda noise: Composed((NonPrivate(), Gaussian(noise))), BUDGET)
    spent = SelfComposed(PoissonSampled(0.1, Gaussian(1.0)), 1000)
    with pytest.raises(PrivacyError, match="epsilon to 3 at delta 1e-05") as caught:
        noise_for(lambda noise: Composed((spent, Gaussian(noise))), BUDGET)
    assert "released before" in caught.value.hint


def test_any_noise_fits():
    assert noise_for(lambda _: NoOp(), BUDGET) == NOISE_RANGE[0]


def test_not_even_one_step_fits():
    with pytest.raises(BudgetExceeded, match="not even one step fits into epsilon 3 at delta 1e-05"):
        steps_for(lambda steps: SelfComposed(Gaussian(0.5), steps), BUDGET)


def test_steps_without_end():
    with pytest.raises(InputError, match="and more fit"):
        steps_for(lambda _: NoOp(), BUDGET)


def test_wrong_tolerance():
    with pytest.raises(InputError, match="tolerance is 0"):
        noise_for(Gaussian, BUDGET, tolerance=0.0)
