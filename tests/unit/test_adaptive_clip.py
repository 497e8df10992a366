"""Adaptive clipping: its count is paid for, and the clip norm finds the quantile."""

import numpy as np
import pytest

from cloister.errors import InputError
from cloister.mechanisms import AdaptiveClip


def test_gradients_and_count_together_cost_the_planned_noise():
    # Andrew et al. 2021, Theorem 1: z = (z_g^-2 + (2 b)^-2)^(-1/2).
    adaptive = AdaptiveClip(count_noise_fraction=0.05)
    gradient = adaptive.gradient_noise_multiplier(1.1, expected_batch_size=500)
    assert gradient > 1.1
    assert (gradient**-2 + (2 * 25.0) ** -2) ** -0.5 == pytest.approx(1.1, rel=1e-12)


def test_a_count_that_alone_costs_too_much_is_refused():
    with pytest.raises(InputError, match="must exceed the step's 1.1"):
        AdaptiveClip(count_noise_fraction=0.05).gradient_noise_multiplier(1.1, expected_batch_size=10)


@pytest.mark.parametrize("quantile", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("start", [0.01, 100.0])
def test_the_clip_norm_comes_to_the_quantile(quantile, start):
    rng = np.random.default_rng(0)
    adaptive = AdaptiveClip(initial_clip_norm=start, target_quantile=quantile)
    clip_norm, late = start, []
    for step in range(400):
        norms = rng.lognormal(0.0, 1.0, rng.binomial(5000, 0.1))
        centered = (norms <= clip_norm).sum() - 0.5 * len(norms) + rng.normal(0, adaptive.count_stddev(500))
        clip_norm = adaptive.next_clip_norm(clip_norm, centered, expected_batch_size=500)
        if step > 200:
            late.append(clip_norm)
    share_below = (rng.lognormal(0.0, 1.0, 100_000) <= np.exp(np.mean(np.log(late)))).mean()
    assert share_below == pytest.approx(quantile, abs=0.05)


def test_one_example_moves_the_centered_count_by_a_half():
    # The sensitivity that the formula of Theorem 1 rests on: leaving one example out changes the sum by 1/2.
    norms = np.array([0.5, 2.0, 3.0])
    whole = (norms <= 1.0).sum() - 0.5 * len(norms)
    for left_out in range(3):
        rest = np.delete(norms, left_out)
        assert abs(whole - ((rest <= 1.0).sum() - 0.5 * len(rest))) == 0.5
