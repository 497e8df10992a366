"""Every rule against one-example-at-a-time autograd and against the materialized oracle, over many shapes."""

from __future__ import annotations

import pytest
import torch
from clipping_oracle import CLIPS, assert_reproduces
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from cloister.clipping import Bookkeeping, Materialized
from cloister.clipping.rules import contraction

SETTINGS = settings(max_examples=25, deadline=None)
small = st.integers(1, 5)
precisions = st.sampled_from([(torch.float64, 1e-10), (torch.float32, 1e-5)])
clips = st.sampled_from(CLIPS)


class Readout(nn.Module):
    """A layer followed by a fixed nonlinear function of all its outputs, so that no example's gradient is special.

    In float32 it is monotone (and inputs are positive), since where the terms of a gradient cancel no two ways
    of computing it agree to 1e-5.
    """

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        y = self.layer(x).flatten(1)
        return torch.sin(y * 1.3 + 0.2) if y.dtype == torch.float64 else torch.sigmoid(y)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def loss_fn(forward, batch):
    output = forward(batch[0])
    return (output * torch.linspace(0.5, 1.5, output.shape[1], dtype=output.dtype)).sum(dim=1)


def check(layer, x, clip, precision, views=1):
    dtype, tolerance = precision
    model = Readout(layer).to(dtype)
    with torch.no_grad():
        for p in model.parameters():  # norms start at 1 and 0, which would hide errors
            p.add_(0.3 * torch.randn_like(p))
    if x.is_floating_point():
        x = x.to(dtype) if dtype == torch.float64 else x.abs() + 0.1
    batch = (x,)
    assert_reproduces(Bookkeeping(), model, loss_fn, batch, clip, views=views, tolerance=tolerance)
    oracle = Materialized().clipped_sum(model, loss_fn, batch, clip, views=views)
    result = Bookkeeping().clipped_sum(model, loss_fn, batch, clip, views=views)
    for name, grad in oracle.grads.items():
        assert torch.allclose(result.grads[name], grad, rtol=0, atol=tolerance * len(x) * clip.clip_norm)


@given(
    examples=small,
    views=st.integers(1, 2),
    middle=st.lists(small, max_size=2),
    d=small,
    p=small,
    bias=st.booleans(),
    clip=clips,
    precision=precisions,
)
@SETTINGS
def test_linear(*, examples, views, middle, d, p, bias, clip, precision):
    x = torch.randn(examples * views, *middle, d)
    check(nn.Linear(d, p, bias=bias), x, clip, precision, views)


@pytest.mark.parametrize("way", ["gram", "keep", "discard"])
@given(
    examples=small,
    terms=st.integers(1, 9),
    d=small,
    p=small,
    groups=st.integers(1, 2),
    clip=clips,
    precision=precisions,
)
@SETTINGS
def test_every_way_to_the_norm_of_a_contraction(*, way, examples, terms, d, p, groups, clip, precision):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contraction.Contraction, "way", lambda _self: way)
        patch.setattr(contraction, "_CHUNK", 7)
        check(nn.Linear(d, p), torch.randn(examples, terms, d), clip, precision)
        check(
            nn.Conv1d(d * groups, p * groups, 2, groups=groups),
            torch.randn(examples, d * groups, terms + 1),
            clip,
            precision,
        )


@given(
    data=st.data(),
    dims=st.integers(1, 3),
    examples=st.integers(1, 3),
    views=st.integers(1, 2),
    groups=st.integers(1, 2),
    channels=st.integers(1, 2),
    outputs=st.integers(1, 2),
    mode=st.sampled_from(["zeros", "circular", "reflect"]),
    clip=clips,
    precision=precisions,
)
@SETTINGS
def test_convolution(*, data, dims, examples, views, groups, channels, outputs, mode, clip, precision):
    each = lambda low, high: tuple(data.draw(st.integers(low, high)) for _ in range(dims))
    kernel, stride, dilation = each(1, 3), each(1, 2), each(1, 2)
    padding = data.draw(st.one_of(st.just("valid"), st.just(each(0, 2))))
    if max(stride) == 1:
        padding = data.draw(st.sampled_from(["same", padding]))
    layer = getattr(nn, f"Conv{dims}d")(
        channels * groups,
        outputs * groups,
        kernel,
        stride,
        padding,
        dilation,
        groups,
        bias=data.draw(st.booleans()),
        padding_mode=mode,
    )
    sizes = tuple(d * (k - 1) + data.draw(st.integers(3, 5)) for d, k in zip(dilation, kernel, strict=True))
    check(layer, torch.randn(examples * views, channels * groups, *sizes), clip, precision, views)


@given(
    examples=small,
    views=st.integers(1, 2),
    terms=st.lists(small, max_size=2),
    rows=st.integers(2, 6),
    padding=st.sampled_from([None, 0, 1, -1]),
    clip=clips,
    precision=precisions,
)
@SETTINGS
def test_embedding(*, examples, views, terms, rows, padding, clip, precision):
    x = torch.randint(0, rows, (examples * views, *terms))
    check(nn.Embedding(rows, 3, padding_idx=padding), x, clip, precision, views)


@given(
    data=st.data(),
    examples=small,
    views=st.integers(1, 2),
    shape=st.lists(st.integers(2, 4), min_size=1, max_size=3),
    kind=st.sampled_from([nn.LayerNorm, nn.RMSNorm]),
    clip=clips,
    precision=precisions,
)
@SETTINGS
def test_layer_and_rms_norm_over_any_trailing_axes(*, data, examples, views, shape, kind, clip, precision):
    normalized = shape[-data.draw(st.integers(1, len(shape))) :]
    check(kind(normalized), torch.randn(examples * views, *shape), clip, precision, views)


@given(
    examples=small,
    views=st.integers(1, 2),
    groups=st.integers(1, 2),
    places=st.lists(st.integers(2, 4), min_size=1, max_size=3),
    clip=clips,
    precision=precisions,
)
@SETTINGS
def test_group_norm(*, examples, views, groups, places, clip, precision):
    check(nn.GroupNorm(groups, 2 * groups), torch.randn(examples * views, 2 * groups, *places), clip, precision, views)


@pytest.mark.parametrize("clip", CLIPS)
def test_instance_norm_without_running_statistics(clip):
    check(nn.InstanceNorm2d(3, affine=True), torch.randn(4, 3, 5, 5), clip, (torch.float64, 1e-10))


@pytest.mark.parametrize(
    "layer", [nn.LayerNorm(4, bias=False), nn.RMSNorm(4, eps=1e-3), nn.Embedding(5, 4), nn.Linear(4, 2)]
)
def test_only_trainable_slots_get_gradients(layer):
    if getattr(layer, "bias", None) is not None:
        layer.weight.requires_grad_(requires_grad=False)
    x = torch.randint(0, 5, (3, 2)) if isinstance(layer, nn.Embedding) else torch.randn(3, 2, 4)
    check(layer, x, CLIPS[0], (torch.float64, 1e-10))


def test_a_direct_call_of_an_operation_is_seen_like_a_module():
    class Direct(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Parameter(torch.randn(4, 3))
            self.scale = nn.Parameter(torch.randn(4))

        def forward(self, x):
            return F.layer_norm(F.linear(x, weight=self.a), (4,), weight=self.scale)

    check(Direct(), torch.randn(3, 2, 3), CLIPS[0], (torch.float64, 1e-10))
