"""DP-SGD's settings, its plan, and one noisy gradient."""

import math

import pytest
import torch
from torch import nn

from cloister._rng import SecureStream
from cloister.accounting import Budget, Gaussian, NoOp, PoissonSampled, Relation, SelfComposed, epsilon
from cloister.clipping import ClippedSum, Materialized
from cloister.errors import InputError, PlanMismatch
from cloister.mechanisms import AdaptiveClip, Flat, Value
from cloister.training import DPSGD, noisy_gradient

BUDGET = Budget(epsilon=2.0, delta=1e-5)


def recipe(**changes):
    settings = {"num_examples": 10_000, "steps": 200, "expected_batch_size": 100, "noise_multiplier": 1.1}
    return DPSGD(**{**settings, **changes})


class TestSettings:
    def test_the_event_is_the_sampled_gaussian_of_every_step(self):
        assert recipe().event() == SelfComposed(PoissonSampled(0.01, Gaussian(1.1)), 200)
        assert recipe().event(7) == SelfComposed(PoissonSampled(0.01, Gaussian(1.1)), 7)
        assert recipe().event(0) == NoOp()

    def test_calibration_meets_the_budget_and_wastes_nothing(self):
        found = recipe(noise_multiplier=None).calibrate(BUDGET)
        assert 1.99 < found.guarantee(delta=1e-5).epsilon <= 2.0

    def test_what_was_released_before_is_part_of_the_budget(self):
        alone = recipe(noise_multiplier=None).calibrate(BUDGET)
        after = recipe(noise_multiplier=None).calibrate(BUDGET, before=Gaussian(5.0))
        assert after.noise_multiplier > alone.noise_multiplier

    def test_steps_for_a_noise_are_as_many_as_fit(self):
        found = recipe().extend(BUDGET)
        assert epsilon(found.event(), delta=1e-5) <= 2.0 < epsilon(found.event(found.steps + 1), delta=1e-5)

    def test_a_budget_of_another_kind_is_refused(self):
        with pytest.raises(PlanMismatch, match="the budget is replace_one per example"):
            recipe().calibrate(Budget(epsilon=1.0, delta=1e-5, relation=Relation.REPLACE_ONE))

    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({"expected_batch_size": 10_001}, "expected_batch_size is 10001, but there are 10000 examples"),
            ({"steps": 0}, "steps is 0"),
            ({"noise_multiplier": -1.0}, "noise_multiplier is -1.0"),
            ({"unit": "household"}, "unit is 'household'"),
            ({"max_batch_size": 150}, "no guarantee under add_or_remove_one"),
            ({"max_batch_size": 50, "relation": "replace_special"}, "max_batch_size is 50"),
        ],
    )
    def test_impossible_settings_are_refused(self, changes, text):
        with pytest.raises(InputError, match=text):
            recipe(**changes)

    def test_without_noise_there_is_no_plan(self):
        with pytest.raises(InputError, match="noise_multiplier is not set"):
            recipe(noise_multiplier=None).plan()

    def test_truncated_sampling_has_its_own_event(self):
        event = recipe(max_batch_size=150, relation="replace_special").event(3)
        assert (event.event.tag, event.event.max_batch_size) == ("truncated_poisson_gaussian", 150)


class CountingEngine:
    """Gives back preset sums, and remembers the pieces."""

    name = "counting"

    def __init__(self, sums, norms=()):
        self.sums, self.norms, self.pieces = list(sums), norms, []

    def clipped_sum(self, model, loss_fn, batch, clip, *, views=1):
        self.pieces.append(len(batch[0]))
        value = self.sums[len(self.pieces) - 1]
        if isinstance(value, Exception):
            raise value
        norms = torch.tensor(self.norms) if self.norms else torch.ones(len(batch[0]))
        return ClippedSum(
            grads={name: torch.full_like(p, value) for name, p in model.named_parameters()},
            sensitivity=clip.sensitivity(4),
            norms_B=norms,
            losses_B=torch.ones(len(norms)),
        )


def release(engine, pieces, *, plan=None, step=0, key=bytes(32)):
    plan = plan or recipe().plan()
    model = nn.Linear(3, 1)
    batches = [(torch.zeros(size, 3), torch.zeros(size)) for size in pieces]
    return noisy_gradient(
        model,
        lambda forward, batch: forward(batch[0])[:, 0],
        batches,
        plan=plan,
        clip=plan.first_clip,
        engine=engine,
        noise=SecureStream(key),
        step=step,
    )


class TestNoisyGradient:
    def test_pieces_are_summed_noise_is_added_once_and_the_divisor_is_public(self):
        # The same noise under one piece and under three: the difference of the results is that of the sums.
        one = release(CountingEngine([6.0]), [10])
        three = release(CountingEngine([1.0, 2.0, 4.0]), [3, 3, 4])
        for name, values in one.grads.items():
            assert torch.allclose((three.grads[name] - values) * 100, torch.ones_like(values), atol=1e-5)
        assert three.batch_size == 10

    def test_an_empty_batch_releases_noise_of_the_full_scale(self):
        drawn = [release(CountingEngine([0.0]), [0], step=step).grads["weight"] for step in range(3000)]
        stddev = torch.stack(drawn).std() * 100
        assert stddev == pytest.approx(1.1, rel=0.04)
        assert torch.stack(drawn).count_nonzero() == 9000

    def test_a_failing_piece_leaves_nothing_behind(self):
        # Opacus keeps the partial sum of an interrupted batch and adds it to the next step: sensitivity doubles.
        engine = CountingEngine([100.0, RuntimeError("out of memory"), 0.0])
        with pytest.raises(RuntimeError):
            release(engine, [5, 5])
        after = release(engine, [5]).grads["weight"]
        assert torch.equal(after, release(CountingEngine([0.0]), [5]).grads["weight"])

    def test_noise_follows_the_sensitivity_that_the_engine_reports(self):
        plan = recipe(clipping=Value(low=-0.5, high=0.5)).plan()
        clipped = release(CountingEngine([0.0]), [0], plan=plan).grads["weight"]
        unit = release(CountingEngine([0.0]), [0]).grads["weight"]
        assert torch.allclose(clipped, unit * math.sqrt(4) * 0.5)

    def test_steps_and_keys_have_their_own_noise(self):
        drawn = [release(CountingEngine([0.0]), [0], step=s, key=bytes([k]) * 32) for s in (0, 1) for k in (0, 1)]
        assert len({tuple(result.grads["weight"].flatten().tolist()) for result in drawn}) == 4

    def test_one_example_moves_the_sum_by_at_most_the_clip_norm(self):
        torch.manual_seed(0)
        model, clip = nn.Linear(3, 1), Flat(clip_norm=0.1)
        inputs, targets = torch.randn(8, 3) * 50, torch.randn(8)

        def loss_fn(forward, batch):
            return (forward(batch[0])[:, 0] - batch[1]) ** 2

        def total(rows):
            grads = Materialized().clipped_sum(model, loss_fn, (inputs[rows], targets[rows]), clip).grads
            return torch.cat([grads[name].flatten() for name in sorted(grads)])

        everyone = list(range(8))
        for left_out in everyone:
            moved = total(everyone) - total([row for row in everyone if row != left_out])
            assert moved.norm() <= 0.1 * (1 + 1e-5)


class TestAdaptiveClipping:
    def plan(self):
        return recipe(clipping=AdaptiveClip(initial_clip_norm=1.0, count_noise_fraction=0.05)).plan()

    def test_gradients_get_more_noise_and_the_event_stays(self):
        assert self.plan().gradient_noise_multiplier > 1.1
        assert self.plan().dpsgd.event() == recipe().event()

    def test_the_clip_norm_grows_when_most_are_clipped_and_shrinks_when_none_is(self):
        high = release(CountingEngine([0.0], norms=[5.0] * 100), [100], plan=self.plan())
        low = release(CountingEngine([0.0], norms=[0.5] * 100), [100], plan=self.plan())
        assert high.next_clip.clip_norm > 1.0 > low.next_clip.clip_norm

    def test_the_count_is_noisy(self):
        norms = [
            release(CountingEngine([0.0], norms=[1.0] * 50 + [2.0] * 50), [100], plan=self.plan(), step=step)
            for step in range(20)
        ]
        assert len({result.next_clip.clip_norm for result in norms}) == 20
