from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import InputError
from cloister.mechanisms.clip import Automatic, Flat, PerLayer, Value

NAMES = ["body.0.weight", "body.0.bias", "body.2.weight", "head"]
norms = st.floats(0, 2.0**127, width=32)


@given(norm=norms, clip_norm=st.floats(1e-6, 1e6))
def test_flat_and_automatic_never_exceed_the_clip_norm_in_float32(norm, clip_norm):
    for clip in (Flat(clip_norm=clip_norm), Automatic(clip_norm=clip_norm)):
        factor = clip.coefficients(torch.tensor([[norm]]))
        assert 0 <= float(factor.double()) * norm <= clip_norm == clip.sensitivity(10)


@given(norms=st.lists(norms, min_size=1, max_size=6))
def test_the_layers_together_stay_below_the_clip_norm(norms):
    clip = PerLayer(clip_norm=0.7)
    values = torch.tensor([norms])
    whole = float((clip.coefficients(values).double() * values.double()).norm())
    assert whole <= 0.7 == clip.sensitivity(10)


@pytest.mark.parametrize("clip", [Flat(clip_norm=2.0), PerLayer(clip_norm=2.0), Automatic(clip_norm=2.0)])
def test_a_norm_that_is_not_finite_gets_factor_zero(clip):
    factors = clip.coefficients(torch.tensor([[math.nan], [math.inf], [0.0], [1.0]]))
    assert factors[:2].tolist() == [[0.0], [0.0]]
    assert (factors[2:] > 0).all()


def test_flat_leaves_short_gradients_alone_but_for_the_rounding_margin():
    factors = Flat(clip_norm=1.0).coefficients(torch.tensor([[0.0], [0.3], [1.0], [4.0]], dtype=torch.float64))
    assert factors[:, 0].tolist() == pytest.approx([1, 1, 1, 0.25], rel=2e-5)
    assert float(factors.max()) == 1 - 1e-5


def test_automatic_is_the_formula_of_the_paper():
    factors = Automatic(clip_norm=1.5, stability=0.01).coefficients(torch.tensor([[0.0], [2.0]], dtype=torch.float64))
    assert factors[:, 0].tolist() == pytest.approx([150.0, 1.5 / 2.01], rel=2e-5)


def test_groups():
    assert Flat(clip_norm=1.0).groups(NAMES) == (tuple(NAMES),)
    assert PerLayer(clip_norm=1.0).groups(NAMES) == (
        ("body.0.weight", "body.0.bias"),
        ("body.2.weight",),
        ("head",),
    )
    factors = PerLayer(clip_norm=1.0).coefficients(torch.tensor([[10.0, 10.0, 10.0]]))
    assert factors[0].tolist() == pytest.approx([1 / math.sqrt(3) / 10] * 3, rel=2e-5)


def test_value_clipping_bounds_each_entry_and_pays_for_the_dimension():
    clip = Value(low=-0.2, high=0.1)
    assert clip.sensitivity(25) == pytest.approx(5 * 0.2)
    with pytest.raises(InputError, match="no factors"):
        clip.coefficients(torch.ones(1, 1))
    with pytest.raises(InputError, match="num_parameters"):
        clip.sensitivity(0)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf, math.nan])
def test_bounds_must_be_positive_numbers(bad):
    for make in (Flat, PerLayer, Automatic):
        with pytest.raises(InputError, match="clip_norm"):
            make(clip_norm=bad)
    with pytest.raises(InputError, match="stability"):
        Automatic(stability=bad)


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, 1.0), (-math.inf, 1.0), (0.0, math.nan)])
def test_value_bounds_must_be_ordered(low, high):
    with pytest.raises(InputError, match="low < high"):
        Value(low=low, high=high)
