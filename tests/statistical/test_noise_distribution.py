"""Gaussian noise has the stated scale, is independent, and never repeats.

Keys are fixed, so that a test either always passes or always fails; the stated false-alarm rate is the chance
that an arbitrary key fails.
"""

import numpy as np
import pytest
import torch
from scipy import stats

from cloister._rng import SecureStream
from cloister.mechanisms import add_gaussian_noise, gaussian_noise, standard_normal

COUNT = 200_000
FALSE_ALARM = 1e-4


def is_normal(values, stddev):
    """Kolmogorov-Smirnov test against N(0, stddev^2) at the false-alarm rate."""
    return stats.kstest(values, "norm", args=(0.0, stddev)).pvalue > FALSE_ALARM


@pytest.mark.parametrize("stddev", [1e-3, 1.0, 37.5])
def test_scale_and_shape_with_both_controls(stddev):
    noise = gaussian_noise(SecureStream(bytes(32)), 0, COUNT, stddev=stddev).numpy().astype(np.float64)
    assert is_normal(noise, stddev)
    assert not is_normal(noise, stddev * 0.97)
    assert not is_normal(noise, stddev * 1.03)
    assert not is_normal(noise + 0.05 * stddev, stddev)


def test_tails_are_those_of_a_normal():
    noise = standard_normal(SecureStream(bytes(32)), 1, 1_000_000).numpy()
    for bound in (2.0, 3.0, 4.0):
        expected = 2 * stats.norm.sf(bound)
        observed = int((np.abs(noise) > bound).sum())
        low, high = stats.binom.interval(1 - FALSE_ALARM, 1_000_000, expected)
        assert low <= observed <= high


def test_neighboring_numbers_and_steps_are_uncorrelated():
    stream = SecureStream(bytes(32))
    first, second = (standard_normal(stream, step, COUNT).numpy() for step in (0, 1))
    limit = stats.norm.isf(FALSE_ALARM / 2) / np.sqrt(COUNT)
    pairs = {
        "cosine and sine": (first[::2], first[1::2]),
        "next pair": (first[:-2], first[2:]),
        "radius": (first[::2] ** 2, first[1::2] ** 2),
        "next step": (first, second),
    }
    for a, b in pairs.values():
        assert abs(np.corrcoef(a, b)[0, 1]) < limit * np.sqrt(COUNT / len(a)) * 1.5
    assert abs(np.corrcoef(first, first + second)[0, 1]) > limit


def test_shards_get_the_numbers_of_the_whole():
    stream = SecureStream(bytes(32))
    whole = gaussian_noise(stream, 5, 1001, stddev=2.0)
    parts = [gaussian_noise(stream, 5, 334, stddev=2.0), gaussian_noise(stream, 5, 667, stddev=2.0, start=334)]
    assert torch.equal(torch.cat(parts), whole)
    odd = gaussian_noise(stream, 5, 100, stddev=2.0, start=333)
    assert torch.equal(odd, whole[333:433])


def test_an_empty_batch_gets_noise_in_every_entry():
    sums = {"weight": torch.zeros(30, 40), "bias": torch.zeros(31)}
    add_gaussian_noise(sums, SecureStream(bytes(32)), 0, stddev=1.0)
    drawn = torch.cat([values.flatten() for values in sums.values()])
    assert drawn.count_nonzero() == len(drawn) == len(set(drawn.tolist()))
