"""Published privacy values, and formulas that are computed here independently of dp_accounting."""

import math

import pytest
from scipy import optimize, stats

from cloister.accounting import (
    Budget,
    Composed,
    Gaussian,
    Laplace,
    PoissonSampled,
    Relation,
    SelfComposed,
    epsilon,
    noise_for,
)


def training(sampling_prob, noise_multiplier, steps):
    return SelfComposed(PoissonSampled(sampling_prob, Gaussian(noise_multiplier)), steps)


# Tramer and Boneh 2021, end-to-end CNNs: batch size, number of examples, epochs, noise multiplier; they state
# epsilon 3 at delta 1e-5. Under PLD the same runs cost less, or need less noise.
HANDCRAFTED = {
    "mnist": (512, 60_000, 40, 1.23, 2.36, 1.069),
    "fashion-mnist": (2048, 60_000, 40, 2.15, 2.39, 1.809),
    "cifar-10": (1024, 50_000, 30, 1.54, 2.39, 1.322),
}


@pytest.mark.parametrize("name", HANDCRAFTED)
def test_tramer_boneh(name):
    batch, examples, epochs, noise_multiplier, spent, needed = HANDCRAFTED[name]
    sampling_prob, steps = batch / examples, round(epochs * examples / batch)
    event = training(sampling_prob, noise_multiplier, steps)
    assert epsilon(event, delta=1e-5) == pytest.approx(spent, abs=0.006)
    assert spent < epsilon(event, delta=1e-5, accountant="rdp") < 3.0
    found = noise_for(lambda noise: training(sampling_prob, noise, steps), Budget(epsilon=3.0, delta=1e-5))
    assert found == pytest.approx(needed, abs=0.002)


def test_abadi_2016():
    """Section 5.1: q = 0.01, sigma = 4, T = 10000, delta = 1e-5 gives 1.26 by the moments accountant."""
    event = training(0.01, 4.0, 10_000)
    by_rdp = epsilon(event, delta=1e-5, accountant="rdp")
    assert epsilon(event, delta=1e-5) < by_rdp < 1.26
    # The conversion of that time: the least (rdp + log(1/delta)) / (order - 1) over moments up to 32.
    assert epsilon(event, delta=1e-5) == pytest.approx(0.947, abs=0.002)


def gaussian_delta(noise_multiplier, eps):
    """Balle and Wang 2018, Theorem 8, at sensitivity 1."""
    half, ratio = 1 / (2 * noise_multiplier), eps * noise_multiplier
    return stats.norm.cdf(half - ratio) - math.exp(eps) * stats.norm.cdf(-half - ratio)


def gaussian_epsilon(noise_multiplier, delta):
    if gaussian_delta(noise_multiplier, 0.0) <= delta:
        return 0.0
    return optimize.brentq(lambda eps: gaussian_delta(noise_multiplier, eps) - delta, 0.0, 700.0, xtol=1e-12)


@pytest.mark.parametrize("noise_multiplier", [0.3, 0.7, 1.0, 3.0, 20.0, 200.0])
@pytest.mark.parametrize("delta", [1e-2, 1e-5, 1e-9])
def test_gaussian_against_the_analytic_formula(noise_multiplier, delta):
    exact = gaussian_epsilon(noise_multiplier, delta)
    ours = epsilon(Gaussian(noise_multiplier), delta=delta)
    assert exact <= ours + 1e-9 <= exact * 1.0005 + 1e-4
    replaced = epsilon(Gaussian(2 * noise_multiplier), delta=delta, relation=Relation.REPLACE_ONE)
    assert exact <= replaced + 1e-9 <= exact * 1.0005 + 1e-4


@pytest.mark.parametrize("noise_multipliers", [(1.0, 2.0), (3.0, 3.0, 3.0, 0.9), (50.0,) * 400])
def test_composed_gaussians_against_the_analytic_formula(noise_multipliers):
    event = Composed(tuple(Gaussian(noise) for noise in noise_multipliers))
    total = 1 / math.sqrt(sum(noise**-2 for noise in noise_multipliers))
    assert epsilon(event, delta=1e-6) == pytest.approx(gaussian_epsilon(total, 1e-6), rel=1e-4)


@pytest.mark.parametrize("noise_multiplier", [0.5, 1.0, 4.0])
def test_laplace_is_pure(noise_multiplier):
    """Noise of scale b gives epsilon 1/b at delta 0, and delta = 1 - exp((epsilon - 1/b) / 2) below it."""
    assert epsilon(Laplace(noise_multiplier), delta=1e-12) == pytest.approx(1 / noise_multiplier, rel=1e-6)
    for delta in (1e-5, 0.01, 0.1):
        exact = max(0.0, 1 / noise_multiplier + 2 * math.log1p(-delta))
        assert epsilon(Laplace(noise_multiplier), delta=delta) == pytest.approx(exact, abs=1e-4)
    assert epsilon(SelfComposed(Laplace(noise_multiplier), 3), delta=1e-12) == pytest.approx(
        3 / noise_multiplier, rel=1e-4
    )


@pytest.mark.parametrize(("sampling_prob", "noise_multiplier"), [(0.01, 1.0), (0.1, 0.7), (0.5, 5.0)])
def test_one_sampled_gaussian_by_quadrature(sampling_prob, noise_multiplier):
    """delta(epsilon) of one step by adding up the positive part of P - e^epsilon Q, both ways round."""
    q, s = sampling_prob, noise_multiplier

    def without(x):
        return stats.norm.pdf(x, scale=s)

    def with_unit(x):
        return (1 - q) * stats.norm.pdf(x, scale=s) + q * stats.norm.pdf(x, loc=1.0, scale=s)

    def mass(p, other, eps, n=400_001):
        low, high = -12 * s, 12 * s + 1
        width = (high - low) / (n - 1)
        grid = low + width * stats.rankdata(range(n)) - width
        return float((p(grid) - math.exp(eps) * other(grid)).clip(min=0).sum() * width)

    ours = epsilon(PoissonSampled(q, Gaussian(s)), delta=1e-5)
    at_ours = max(mass(with_unit, without, ours), mass(without, with_unit, ours))
    assert at_ours == pytest.approx(1e-5, rel=2e-3)


def test_sampled_laplace_by_amplification():
    """A sample of an epsilon-private release is log(1 + q (e^epsilon - 1))-private (Balle, Barthe, Gaboardi 2018)."""
    exact = math.log1p(0.05 * math.expm1(1 / 2.0))
    ours = epsilon(PoissonSampled(0.05, Laplace(2.0)), delta=1e-13)
    assert exact <= ours <= exact + 1e-4  # the grid's interval


# Values from the tests of dp_accounting 0.6 (rdp_privacy_accountant_test.py, pld_privacy_accountant_test.py).
def test_values_of_dp_accounting():
    def by_rdp(noise_multiplier, steps, delta, sampling_prob):
        return epsilon(training(sampling_prob, noise_multiplier, steps), delta=delta, accountant="rdp")

    assert by_rdp(1.0, 1, 1e-5, 1.0) == pytest.approx(4.7285, abs=0.001)
    assert by_rdp(4.0, 10_000, 1e-5, 0.01) == pytest.approx(1.0355, abs=0.001)
