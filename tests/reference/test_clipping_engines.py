"""Both engines on whole models: every clip, views, tied and frozen parameters, and nothing left behind."""

from __future__ import annotations

import copy

import pytest
import torch
from clipping_models import Transformer, images, lenet, tokens
from clipping_oracle import CLIPS, VALUE, assert_reproduces, cross_entropy, next_token_loss
from torch import nn
from torch.nn import functional as F

from cloister.clipping import Bookkeeping, Materialized, engine_for
from cloister.errors import InputError, UnsupportedLayer
from cloister.mechanisms.clip import Flat

ENGINES = [Bookkeeping(), Materialized(), Materialized(chunk_size=2)]
MODELS = {
    "lenet": (lenet, images, cross_entropy),
    "transformer": (Transformer, tokens, next_token_loss),
    "tied-once": (lambda: Transformer(layers=0), tokens, next_token_loss),
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("clip", [*CLIPS, Flat(clip_norm=1e6)])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("engine", ENGINES, ids=["bookkeeping", "materialized", "chunked"])
def test_every_clip_on_whole_models(engine, model, clip, views):
    make, data, loss_fn = MODELS[model]
    assert_reproduces(engine, make(), loss_fn, data(6), clip, views=views)


@pytest.mark.parametrize("engine", ENGINES[:2], ids=["bookkeeping", "materialized"])
@pytest.mark.parametrize("model", MODELS)
def test_float32(engine, model):
    make, data, loss_fn = MODELS[model]
    batch = tuple(t.float() if t.is_floating_point() else t for t in data(6))
    assert_reproduces(engine, make().float(), loss_fn, batch, Flat(clip_norm=0.3), tolerance=1e-5)


@pytest.mark.parametrize("views", [1, 3])
def test_value_clipping(views):
    for engine in ENGINES[1:]:
        assert_reproduces(engine, lenet(), cross_entropy, images(6), VALUE, views=views)
    with pytest.raises(UnsupportedLayer, match="value clipping") as error:
        Bookkeeping().clipped_sum(lenet(), cross_entropy, images(6), VALUE, views=views)
    assert "materialized" in error.value.hint


class UsedTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared = nn.Linear(4, 4)

    def forward(self, x):
        h = torch.tanh(self.shared(torch.tanh(self.shared(x))))
        as_table = F.embedding((x[:, :2] > 0).long(), self.shared.weight)
        return self.shared(h[:, None] + as_table).sum(dim=1) + F.linear(h, self.shared.weight)


@pytest.mark.parametrize("engine", ENGINES, ids=["bookkeeping", "materialized", "chunked"])
@pytest.mark.parametrize("clip", CLIPS)
def test_a_parameter_used_several_times(engine, clip):
    model = UsedTwice().double()
    batch = (torch.randn(5, 4, dtype=torch.float64), torch.randint(0, 4, (5,)))
    assert_reproduces(engine, model, cross_entropy, batch, clip)


@pytest.mark.parametrize("engine", ENGINES, ids=["bookkeeping", "materialized", "chunked"])
def test_frozen_and_unused_parameters(engine):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.frozen, self.used, self.unused = nn.Linear(4, 4), nn.Linear(4, 3), nn.Linear(2, 2)
            self.frozen.requires_grad_(requires_grad=False)

        def forward(self, x):
            return self.used(torch.tanh(self.frozen(x)))

    model = Model().double()
    batch = (torch.randn(5, 4, dtype=torch.float64), torch.randint(0, 3, (5,)))
    result = assert_reproduces(engine, model, cross_entropy, batch, Flat(clip_norm=0.1))
    assert set(result.grads) == {"used.weight", "used.bias", "unused.weight", "unused.bias"}
    assert not result.grads["unused.weight"].any()


@pytest.mark.parametrize(
    ("engine", "clip"), [(e, c) for e in ENGINES for c in (*CLIPS, VALUE) if (e.name, c) != ("bookkeeping", VALUE)]
)
def test_an_empty_batch_gives_zeros_and_the_same_sensitivity(engine, clip):
    model = lenet()
    x, y = images(4)
    result = engine.clipped_sum(model, cross_entropy, (x[:0], y[:0]), clip)
    assert {name: g.shape for name, g in result.grads.items()} == {n: p.shape for n, p in model.named_parameters()}
    assert not any(g.any() for g in result.grads.values())
    assert result.norms_B.shape == result.losses_B.shape == (0,)
    assert result.sensitivity == engine.clipped_sum(model, cross_entropy, (x, y), clip).sensitivity


@pytest.mark.parametrize("engine", ENGINES, ids=["bookkeeping", "materialized", "chunked"])
@pytest.mark.parametrize("training", [True, False])
def test_nothing_is_left_on_the_model(engine, training):
    model = Transformer()
    model.train(training)
    model.blocks[0].wide.weight.grad = torch.ones_like(model.blocks[0].wide.weight)
    state = copy.deepcopy(model.state_dict())
    before = _everything(model)
    result = engine.clipped_sum(model, next_token_loss, tokens(4), Flat(clip_norm=1.0))
    assert _everything(model) == before
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(model.blocks[0].wide.weight.grad, torch.ones_like(model.blocks[0].wide.weight))
    assert not any(g.requires_grad for g in result.grads.values())
    assert not result.losses_B.requires_grad


def _everything(model):
    modules = [
        (
            name,
            module.training,
            sorted(module.__dict__),
            [len(v) for k, v in module.__dict__.items() if k.endswith("hooks")],
        )
        for name, module in model.named_modules()
    ]
    parameters = [
        (name, id(p), p._version, sorted(p.__dict__), p._backward_hooks) for name, p in model.named_parameters()
    ]
    buffers = [(name, id(b), b._version) for name, b in model.named_buffers()]
    return modules, parameters, buffers


@pytest.mark.parametrize("engine", ENGINES, ids=["bookkeeping", "materialized", "chunked"])
def test_dropout_is_drawn_for_every_example(engine):
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 2, bias=False))
    x = torch.ones(200, 64)
    result = engine.clipped_sum(model, lambda forward, batch: forward(*batch)[:, 0], (x,), Flat(clip_norm=1e9))
    kept = (result.norms_B / 2).square()  # each kept input contributes 2^2
    assert kept.unique().numel() > 10
    assert 28 < kept.mean() < 36  # 32 expected, standard error 0.28


@pytest.mark.parametrize("engine", ENGINES, ids=["bookkeeping", "materialized", "chunked"])
def test_bfloat16_models_accumulate_in_float32(engine):
    model = lenet(torch.bfloat16)
    result = engine.clipped_sum(model, cross_entropy, images(5, torch.bfloat16), Flat(clip_norm=0.5))
    assert {g.dtype for g in result.grads.values()} == {torch.float32}
    assert result.norms_B.dtype == torch.float32


@pytest.mark.parametrize("engine", ENGINES, ids=["bookkeeping", "materialized", "chunked"])
def test_input_errors_name_what_does_not_fit(engine):
    model, (x, y), clip = lenet(), images(6), Flat(clip_norm=1.0)
    with pytest.raises(InputError, match="6 rows; expected a multiple of views = 4"):
        engine.clipped_sum(model, cross_entropy, (x, y), clip, views=4)
    with pytest.raises(InputError, match="one leading dimension"):
        engine.clipped_sum(model, cross_entropy, (x, y[:5]), clip)
    with pytest.raises(InputError, match="one loss for each of"):
        engine.clipped_sum(model, lambda forward, b: F.cross_entropy(forward(b[0]), b[1]), (x, y), clip)
    with pytest.raises(InputError, match="no trainable parameter"):
        engine.clipped_sum(model.requires_grad_(requires_grad=False), cross_entropy, (x, y), clip)


def test_the_fused_attention_and_the_tied_head_get_one_entry_each():
    result = Bookkeeping().clipped_sum(Transformer(), next_token_loss, tokens(3), Flat(clip_norm=1.0))
    assert "embedding.weight" in result.grads
    assert "head.weight" not in result.grads


def test_engine_for():
    assert isinstance(engine_for("bookkeeping"), Bookkeeping)
    assert isinstance(engine_for("materialized"), Materialized)
    with pytest.raises(InputError, match="expected one of bookkeeping, materialized"):
        engine_for("ghost")
    with pytest.raises(InputError, match="chunk_size"):
        Materialized(chunk_size=0)
