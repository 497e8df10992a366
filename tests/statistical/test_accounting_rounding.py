"""What floating point costs: the constant of the PLD accountant, measured where delta is known exactly."""

import math

import numpy as np
import pytest
from scipy import stats

from cloister.accounting import Relation
from cloister.accounting._pld import _ROUNDING, _repeated, pld_epsilon
from cloister.accounting.events import Gaussian, PoissonSampled


def exact_delta(mu, eps):
    return stats.norm.cdf(mu / 2 - eps / mu) - np.exp(eps) * stats.norm.cdf(-mu / 2 - eps / mu)


def nearly_always(noise_multiplier):
    """A sampling probability just below 1 goes through the FFT, and costs hardly less than a Gaussian."""
    return PoissonSampled(1 - 1e-13, Gaussian(noise_multiplier))


def shortfall(mu, releases):
    """How far the delta of composed Gaussians, computed by FFT, falls below the exact one; worst over epsilon."""
    step = nearly_always(math.sqrt(releases) / mu)
    interval = 5e-5 if releases > 10**5 else min(1e-3, max(1e-4, 0.02 * mu / math.sqrt(releases)))
    composed = _repeated(step, releases, Relation.ADD_OR_REMOVE_ONE, interval)
    eps = np.linspace(0, mu * 9 + mu * mu / 2, 300)
    computed = np.array(composed.get_delta_for_epsilon(list(eps)))
    return float((exact_delta(mu, eps) - computed).max())


@pytest.mark.parametrize("mu", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("releases", [10, 1000, 10**4, 10**5, pytest.param(10**6, marks=pytest.mark.slow)])
def test_rounding_stays_a_fifth_of_what_is_set_aside(mu, releases):
    assert shortfall(mu, releases) <= _ROUNDING * releases / 5


def test_rounding_is_real():
    """The positive control: without setting anything aside, a small delta would be understated."""
    assert shortfall(1.0, 10**5) > 1e-13


@pytest.mark.parametrize(("releases", "delta"), [(1000, 1e-12), (10**5, 6e-11), (10**5, 1e-9)])
def test_small_deltas_are_upper_bounds(releases, delta):
    mu = 1.0
    parts = ((nearly_always(math.sqrt(releases) / mu), releases),)
    ours = pld_epsilon(parts, delta, Relation.ADD_OR_REMOVE_ONE)
    assert exact_delta(mu, ours) <= delta
    assert exact_delta(mu, ours * 0.97) > delta
