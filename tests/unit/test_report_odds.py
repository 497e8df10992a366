"""Ceilings against mechanisms whose best attack is known in closed form."""

import math
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.accounting import Gaussian, Guarantee
from cloister.accounting.accountant import epsilon
from cloister.reports.odds import Ceiling, ceiling_of

NORMAL = NormalDist()


def gaussian_ceiling(noise, accountant="pld"):
    claim = Guarantee(
        epsilon=epsilon(Gaussian(noise), delta=1e-5, accountant=accountant), delta=1e-5, accountant=accountant
    )
    return ceiling_of(Gaussian(noise), claim)


def best_gaussian_rate(noise, rate):
    """Neyman-Pearson against N(0, noise^2) and N(1, noise^2)."""
    return NORMAL.cdf(NORMAL.inv_cdf(rate) + 1 / noise)


@pytest.mark.parametrize("epsilon_", [0.1, 1.0, 3.0, 8.0])
def test_randomized_response_reaches_the_ceiling(epsilon_):
    truth = math.exp(epsilon_) / (1 + math.exp(epsilon_))
    ceiling = Ceiling(((epsilon_, 0.0),))
    assert ceiling.accuracy() == pytest.approx(truth)
    assert ceiling.true_positive_rate(1 - truth) == pytest.approx(truth)


@pytest.mark.parametrize("noise", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("accountant", ["pld", "rdp"])
def test_no_attack_on_a_gaussian_passes_the_ceiling(noise, accountant):
    ceiling = gaussian_ceiling(noise, accountant)
    for rate in (1e-4, 0.001, 0.01, 0.1, 0.3, 0.5, 0.9, 0.99):
        assert best_gaussian_rate(noise, rate) <= ceiling.true_positive_rate(rate) + 1e-12
    assert NORMAL.cdf(0.5 / noise) <= ceiling.accuracy() + 1e-12


@pytest.mark.parametrize("noise", [0.5, 1.0, 2.0, 5.0])
def test_the_ceiling_of_an_event_is_close_and_one_pair_alone_is_not(noise):
    ceiling = gaussian_ceiling(noise)
    alone = Ceiling(ceiling.guarantees[:1])
    assert ceiling.accuracy() - NORMAL.cdf(0.5 / noise) < 0.02
    assert ceiling.true_positive_rate(0.01) - best_gaussian_rate(noise, 0.01) < 0.03
    assert alone.accuracy() - ceiling.accuracy() > 0.1


def test_a_ceiling_of_too_much_noise_would_be_passed():
    assert best_gaussian_rate(1.0, 0.1) > gaussian_ceiling(1.5).true_positive_rate(0.1)


@given(st.floats(0, 1e4), st.floats(0, 1), st.floats(0, 1))
def test_rates_are_shares_and_never_below_guessing(epsilon_, delta, rate):
    ceiling = Ceiling(((epsilon_, delta),))
    assert rate - 1e-9 <= ceiling.true_positive_rate(rate) <= 1
    assert 0.5 <= ceiling.accuracy() <= 1
    assert ceiling.odds_factor() >= 1
