"""The scattering transform against kymatio 0.3.0 (Scattering2D, J=2, L=8), whose output is stored."""

from pathlib import Path

import numpy as np
import torch

from cloister.data import ScatteringFeatures

STORED = Path(__file__).parents[1] / "data" / "scattering-28x28.npz"


def test_features_equal_those_of_kymatio():
    with np.load(STORED) as stored:
        image, expected = stored["image"], stored["features"]
    features = ScatteringFeatures(height=28, width=28)(torch.from_numpy(image)[None, None])
    assert features.shape == (1, 81, 7, 7)
    # kymatio rounds pi to 3.1415, a relative difference of 3e-5.
    np.testing.assert_allclose(features[0].numpy(), expected, rtol=1e-3, atol=5e-5)
    assert np.abs(expected).max() > 0.3


def test_channels_and_examples_are_independent():
    torch.manual_seed(0)
    images = torch.rand(3, 2, 16, 24)
    features = ScatteringFeatures(height=16, width=24)
    together = features(images)
    assert together.shape == (3, 162, 4, 6)
    torch.testing.assert_close(features(images[1:2, 1:]), together[1:2, 81:])


def test_wavelets_do_not_see_a_constant_and_the_average_does():
    features = ScatteringFeatures(height=28, width=28)(torch.full((1, 1, 28, 28), 0.5))
    torch.testing.assert_close(features[0, 0], torch.full((7, 7), 0.5), rtol=1e-2, atol=0)
    assert features[0, 1:].abs().max() < 1e-5


def test_it_has_no_parameters_and_no_state():
    assert not list(ScatteringFeatures(height=28, width=28).parameters())
    assert not ScatteringFeatures(height=28, width=28).state_dict()
