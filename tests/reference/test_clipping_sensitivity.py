"""No example contributes more than the sensitivity that noise is computed from."""

from __future__ import annotations

import pytest
import torch
from clipping_models import Transformer, images, lenet, tokens
from clipping_oracle import CLIPS, VALUE, cross_entropy, next_token_loss, norm
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cloister.clipping import Bookkeeping, Materialized
from cloister.clipping.rules import contraction
from cloister.mechanisms.clip import Flat

ENGINES = st.sampled_from([Bookkeeping(), Materialized()])
SCALES = st.sampled_from([1e-30, 1e-20, 1e-8, 1e-3, 1.0, 1e3, 1e8, 1e15, 1e25])
DTYPES = st.sampled_from([torch.float64, torch.float32, torch.bfloat16])
SETTINGS = settings(max_examples=60, deadline=None)


def contribution(engine, model, loss_fn, example, clip, *, views=1):
    """Norm of what one example adds; one alone, so the sum is its contribution."""
    result = engine.clipped_sum(model, loss_fn, example, clip, views=views)
    return norm(result.grads), result.sensitivity


@given(
    engine=ENGINES,
    clip=st.sampled_from([*CLIPS, VALUE]),
    scale=SCALES,
    loss_scale=SCALES,
    dtype=DTYPES,
    seed=st.integers(0, 99),
)
@SETTINGS
def test_lenet_under_adversarial_scales(*, engine, clip, scale, loss_scale, dtype, seed):
    if clip is VALUE:
        engine = Materialized()
    torch.manual_seed(seed)
    x, y = images(1, torch.float64)
    loss_fn = lambda forward, batch: cross_entropy(forward, batch) * loss_scale
    size, sensitivity = contribution(engine, lenet(dtype), loss_fn, ((x * scale).to(dtype), y), clip)
    assert size <= sensitivity


@given(
    engine=ENGINES, clip=st.sampled_from(CLIPS), scale=SCALES, loss_scale=SCALES, dtype=DTYPES, seed=st.integers(0, 99)
)
@SETTINGS
def test_transformer_under_adversarial_scales(*, engine, clip, scale, loss_scale, dtype, seed):
    torch.manual_seed(seed)
    model = Transformer(dtype=dtype)
    with torch.no_grad():
        model.embedding.weight.mul_(scale)
    loss_fn = lambda forward, batch: next_token_loss(forward, batch) * loss_scale
    size, sensitivity = contribution(engine, model, loss_fn, tokens(1), clip)
    assert size <= sensitivity


@pytest.mark.parametrize("way", ["gram", "keep", "discard"])
@given(
    shift=st.sampled_from([0.0, 10.0, 50.0, 1e4]),
    cancel=st.booleans(),
    terms=st.integers(2, 64),
    seed=st.integers(0, 99),
)
@SETTINGS
def test_mean_shifted_activations_whose_terms_cancel(way, shift, cancel, terms, seed):
    """Trap 15: a Gram norm under cancellation is off by any factor, and its factor would be too large."""
    torch.manual_seed(seed)
    model = nn.Linear(24, 16)
    x = torch.randn(1, terms, 24) + shift
    g = torch.randn(1, terms, 16)
    if cancel:
        g = g - g.mean(dim=1, keepdim=True)
    loss_fn = lambda forward, batch: (forward(batch[0]) * g).sum(dim=(1, 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contraction.Contraction, "way", lambda _self: way)
        size, sensitivity = contribution(Bookkeeping(), model, loss_fn, (x,), Flat(clip_norm=1.0))
    assert size <= sensitivity
    assert size >= 0.9 * sensitivity or shift >= 1e4  # and the price for that is small


@given(views=st.integers(1, 4), seed=st.integers(0, 99))
@SETTINGS
def test_views_are_clipped_once(views, seed):
    torch.manual_seed(seed)
    x, y = images(views)
    for engine in (Bookkeeping(), Materialized()):
        size, sensitivity = contribution(engine, lenet(), cross_entropy, (x, y), Flat(clip_norm=1e-3), views=views)
        assert 0.999 * sensitivity <= size <= sensitivity
