"""Poisson sampling really is Poisson: independent, at the stated rate, empty batches included."""

import numpy as np
import pytest
from scipy import stats

from cloister._rng import SecureStream
from cloister.errors import InputError
from cloister.mechanisms import PoissonSampler, TruncatedPoissonSampler

FALSE_ALARM = 1e-4


def masks(sampler, *, steps, num_examples):
    stream = SecureStream(bytes(32))
    drawn = np.zeros((steps, num_examples), dtype=bool)
    for step in range(steps):
        drawn[step, sampler.sample(stream, step, num_examples)] = True
    return drawn


def test_every_record_has_the_stated_rate():
    drawn = masks(PoissonSampler(sampling_prob=0.03), steps=4000, num_examples=50)
    low, high = stats.binom.interval(1 - FALSE_ALARM / 50, 4000, 0.03)
    assert ((low <= drawn.sum(0)) & (drawn.sum(0) <= high)).all()
    total = stats.binomtest(int(drawn.sum()), drawn.size, 0.03).pvalue
    assert total > FALSE_ALARM
    assert stats.binomtest(int(drawn.sum()), drawn.size, 0.032).pvalue < FALSE_ALARM  # the test has power


def test_batch_sizes_are_binomial_and_some_are_empty():
    # A shuffling sampler has constant batch sizes; a clipped one never yields an empty batch.
    sizes = masks(PoissonSampler(sampling_prob=0.02), steps=5000, num_examples=100).sum(1)
    expected = stats.binom.pmf(np.arange(8), 100, 0.02) * 5000
    expected = np.append(expected, 5000 - expected.sum())
    observed = np.bincount(np.minimum(sizes, 8), minlength=9)
    assert stats.chisquare(observed, expected).pvalue > FALSE_ALARM
    assert observed[0] > 0


def test_records_are_independent_within_and_between_steps():
    drawn = masks(PoissonSampler(sampling_prob=0.3), steps=20_000, num_examples=6).astype(float)
    limit = stats.norm.isf(FALSE_ALARM / 60) / np.sqrt(len(drawn))
    correlations = np.corrcoef(drawn.T) - np.eye(6)
    assert np.abs(correlations).max() < limit
    lagged = [np.corrcoef(drawn[:-1, i], drawn[1:, j])[0, 1] for i in range(6) for j in range(6)]
    assert np.abs(lagged).max() < limit


def test_the_batch_depends_on_step_and_record_alone():
    sampler, stream = PoissonSampler(sampling_prob=0.1), SecureStream(bytes(32))
    small = sampler.sample(stream, 9, 500)
    large = sampler.sample(stream, 9, 900)
    assert large[large < 500].tolist() == small.tolist()
    assert large.tolist() != sampler.sample(stream, 10, 900).tolist()


def test_probability_one_takes_everything():
    assert PoissonSampler(sampling_prob=1.0).sample(SecureStream(), 0, 10).tolist() == list(range(10))


def test_truncation_bounds_the_batch_and_chooses_uniformly():
    sampler = TruncatedPoissonSampler(sampling_prob=0.5, max_batch_size=4, num_examples=12)
    drawn = masks(sampler, steps=20_000, num_examples=12)
    sizes = drawn.sum(1)
    assert sizes.max() == 4
    share_small = (sizes < 4).mean()
    assert abs(share_small - stats.binom.cdf(3, 12, 0.5)) < 4 * np.sqrt(0.25 / 20_000)
    counts = drawn.sum(0)
    assert stats.chisquare(counts).pvalue > FALSE_ALARM


def test_truncation_is_bound_to_its_number_of_examples():
    sampler = TruncatedPoissonSampler(sampling_prob=0.5, max_batch_size=4, num_examples=12)
    with pytest.raises(InputError, match="13 examples; the sampler was planned for 12"):
        sampler.sample(SecureStream(), 0, 13)


@pytest.mark.parametrize("sampling_prob", [0.0, -0.1, 1.5, float("nan")])
def test_impossible_rates_are_refused(sampling_prob):
    with pytest.raises(InputError, match="sampling_prob"):
        PoissonSampler(sampling_prob=sampling_prob)
