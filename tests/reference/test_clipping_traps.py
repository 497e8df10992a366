"""The traps of per-example clipping that other libraries fell into, one regression test each."""

from __future__ import annotations

import math

import pytest
import torch
from clipping_models import Transformer, images, lenet, tokens
from clipping_oracle import CLIPS, assert_reproduces, cross_entropy, gradients, next_token_loss, norm
from torch import nn
from torch.nn import functional as F

from cloister.clipping import Bookkeeping, Materialized, check_independence, check_one_example
from cloister.errors import InputError, PrivacyError, UnsupportedLayer
from cloister.mechanisms.clip import Flat

ENGINES = [Bookkeeping(), Materialized()]
both = pytest.mark.parametrize("engine", ENGINES, ids=["bookkeeping", "materialized"])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@both
def test_tied_weights_release_no_more_than_the_clip_norm(engine):
    """The norm of a tied parameter is that of the summed gradient, neither the last use's nor the sum of norms."""
    model, example = Transformer(), tokens(1)
    result = assert_reproduces(engine, model, next_token_loss, example, Flat(clip_norm=0.01))
    assert norm(result.grads) == pytest.approx(0.01, rel=2e-5)
    assert norm(result.grads) <= 0.01


@both
def test_padding_tokens_have_no_gradient(engine):
    model = nn.Sequential(nn.Embedding(7, 4, padding_idx=2), nn.Flatten(), nn.Linear(20, 3)).double()
    x = torch.tensor([[2, 2, 2, 2, 5], [1, 2, 3, 2, 2]])
    result = assert_reproduces(engine, model, cross_entropy, (x, torch.tensor([0, 1])), Flat(clip_norm=1e6))
    assert not result.grads["0.weight"][2].any()
    assert result.grads["0.weight"][5].any()


@both
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("views", [1, 2])
def test_a_non_finite_example_contributes_exactly_zero(engine, poison, clip, views):
    model, (x, y) = lenet(), images(6)
    x[2 * views, 0, 3, 4] = poison
    good = [i for i in range(6) if i // views != 2]
    result = engine.clipped_sum(model, cross_entropy, (x, y), clip, views=views)
    expected = engine.clipped_sum(model, cross_entropy, (x[good], y[good]), clip, views=views)
    for name, grad in result.grads.items():
        assert torch.allclose(grad, expected.grads[name], rtol=1e-12, atol=1e-15), name
    assert not result.norms_B[2].isfinite()


@both
def test_an_infinite_loss_with_a_finite_gradient_contributes_zero(engine):
    model, (x, y) = lenet(), images(3)
    shift = torch.tensor([0.0, math.inf, 0.0])
    shifted = lambda forward, batch: cross_entropy(forward, batch[:2]) + batch[2]
    result = engine.clipped_sum(model, shifted, (x, y, shift), Flat(clip_norm=1.0))
    expected = engine.clipped_sum(model, cross_entropy, (x[[0, 2]], y[[0, 2]]), Flat(clip_norm=1.0))
    for name, grad in result.grads.items():
        assert torch.allclose(grad, expected.grads[name], rtol=1e-12, atol=1e-15), name
    assert math.isinf(result.losses_B[1])


@both
def test_a_non_finite_token_example_of_a_transformer(engine):
    model, (x, y) = Transformer(), tokens(4)
    weights = torch.tensor([1.0, math.nan, 1.0, math.inf], dtype=torch.float64)
    loss_fn = lambda forward, batch: next_token_loss(forward, batch[:2]) * batch[2]
    result = engine.clipped_sum(model, loss_fn, (x, y, weights), Flat(clip_norm=0.5))
    expected = engine.clipped_sum(model, next_token_loss, (x[[0, 2]], y[[0, 2]]), Flat(clip_norm=0.5))
    for name, grad in result.grads.items():
        assert torch.allclose(grad, expected.grads[name], rtol=1e-12, atol=1e-15), name


def test_token_mean_loss_couples_examples_and_is_refused():
    """The mean over all tokens of the batch divides by the lengths of other people's texts."""

    def token_mean(forward, batch):
        losses = F.cross_entropy(forward(batch[0]).transpose(1, 2), batch[1], reduction="none", ignore_index=-100)
        return losses.sum(dim=1) / (batch[1] != -100).sum() * len(losses)

    x, y = tokens(4)
    y[1, 2:] = -100
    check_independence(Transformer(), next_token_loss, (x, y))
    with pytest.raises(UnsupportedLayer, match="row . has loss .* in the batch and .* alone") as error:
        check_independence(Transformer(), token_mean, (x, y))
    assert "its own number of tokens" in error.value.hint
    with pytest.raises(InputError, match="one loss for each of"):  # and one number for the batch is refused outright
        Bookkeeping().clipped_sum(Transformer(), lambda f, b: token_mean(f, b).mean(), (x, y), Flat(clip_norm=1.0))


@both
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_is_refused_where_it_runs(engine, affine):
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, affine=affine), nn.Linear(4, 3))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UnsupportedLayer, match="batch_norm mixes examples"):
        engine.clipped_sum(model, cross_entropy, (torch.randn(6, 4), torch.arange(6) % 3), Flat(clip_norm=1.0))
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


@both
def test_running_statistics_written_by_hand_are_refused(engine):
    class Running(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 3)
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x):
            self.seen.add_(1)
            return self.head(x)

    model = Running()
    with pytest.raises(UnsupportedLayer, match="buffer seen is changed"):
        engine.clipped_sum(model, cross_entropy, (torch.randn(6, 4), torch.arange(6) % 3), Flat(clip_norm=1.0))
    assert not model.seen.any()


class Centered(nn.Module):
    """A custom layer that subtracts the mean of the batch."""

    def __init__(self, width=4, detach=False):
        super().__init__()
        self.first, self.last, self.detach = nn.Linear(width, width), nn.Linear(width, 3), detach

    def forward(self, x):
        h = self.first(x)
        mean = h.mean(dim=0, keepdim=True)
        return self.last(torch.tanh(h - (mean.detach() if self.detach else mean)))


@pytest.mark.parametrize("detach", [False, True])
def test_a_custom_layer_that_uses_the_batch_mean_is_caught_by_the_check(detach):
    batch = (torch.randn(4, 4), torch.arange(4) % 3)
    model = Centered(detach=detach)
    nn.init.zeros_(model.last.weight)  # as many models start; the check must not be blinded by it
    with pytest.raises(UnsupportedLayer, match="mixes examples"):
        check_independence(model, cross_entropy, batch)


def test_the_engine_itself_catches_gradients_between_examples():
    batch = (torch.randn(8, 4), torch.arange(8) % 3)
    with pytest.raises(UnsupportedLayer, match="mixes examples at or after linear with parameter first"):
        Bookkeeping().clipped_sum(Centered(), cross_entropy, batch, Flat(clip_norm=1.0))


def test_rows_that_change_places_inside_the_model_are_refused():
    """Sorting by length and back gives the right losses and attributes every gradient to the wrong example."""

    class Sorted(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x):
            order = x[:, 0].argsort()
            return self.last(torch.tanh(self.first(x[order]))[order.argsort()])

    batch = (torch.randn(8, 4), torch.arange(8) % 3)
    check_independence(Sorted(), cross_entropy, batch)  # the losses alone do not show it
    with pytest.raises(UnsupportedLayer, match="mixes examples"):
        Bookkeeping().clipped_sum(Sorted(), cross_entropy, batch, Flat(clip_norm=1.0))


@pytest.mark.parametrize("length", [5, 8])
def test_sequence_first_models_are_refused_even_where_the_length_equals_the_rows(length):
    class SequenceFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.last(torch.tanh(self.first(x.transpose(0, 1))).mean(dim=0))

    batch = (torch.randn(8, length, 4), torch.arange(8) % 3)
    with pytest.raises(UnsupportedLayer):
        Bookkeeping().clipped_sum(SequenceFirst(), cross_entropy, batch, Flat(clip_norm=1.0))


@pytest.mark.parametrize("length", [5, 8])
def test_broadcast_positions_are_refused_even_where_their_number_equals_the_rows(length):
    class Broadcast(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.head = nn.Embedding(8, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.head((x + self.table(torch.arange(length))).tanh().sum(dim=1))

    batch = (torch.randn(8, length, 4), torch.arange(8) % 3)
    with pytest.raises(UnsupportedLayer, match="embedding with parameter table.weight") as error:
        Bookkeeping().clipped_sum(Broadcast(), cross_entropy, batch, Flat(clip_norm=1.0))
    assert error.value.hint


REFUSED = {
    "prelu": (nn.PReLU(), "prelu"),
    "bilinear": (nn.Bilinear(4, 4, 4), "bilinear"),
    "lstm": (nn.LSTM(4, 4, batch_first=True), "lstm"),
    "attention": (nn.MultiheadAttention(4, 2, batch_first=True), "multi_head_attention_forward"),
    "transposed": (nn.ConvTranspose1d(4, 4, 1), "conv_transpose1d"),
    "weight_norm": (nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), "weight_norm"),
    "max_norm": (nn.Embedding(9, 4, max_norm=1.0), "max_norm"),
    "frequency": (nn.Embedding(9, 4, scale_grad_by_freq=True), "scale_grad_by_freq"),
    "sparse": (nn.Embedding(9, 4, sparse=True), "sparse"),
    "bag": (nn.EmbeddingBag(9, 4), "embedding_bag"),
}


class Host(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        match self.layer:
            case nn.Embedding() | nn.EmbeddingBag():
                return self.layer((x > 0).long()).flatten(1)
            case nn.Bilinear():
                return self.layer(x, x)
            case nn.LSTM():
                return self.layer(x[:, None])[0][:, 0]
            case nn.MultiheadAttention():
                return self.layer(x[:, None], x[:, None], x[:, None])[0][:, 0]
            case nn.ConvTranspose1d():
                return self.layer(x[:, :, None])[:, :, 0]
        return self.layer(x)


@pytest.mark.parametrize("case", REFUSED)
def test_skipped_layers_do_not_exist_an_operation_without_a_rule_is_refused_by_name(case):
    layer, operation = REFUSED[case]
    with pytest.raises(UnsupportedLayer, match=f"{operation}.*layer|layer.*{operation}") as error:
        Bookkeeping().clipped_sum(
            Host(layer), cross_entropy, (torch.randn(4, 4), torch.arange(4) % 3), Flat(clip_norm=1.0)
        )
    assert error.value.hint


@pytest.mark.parametrize("case", ["prelu", "attention", "transposed", "weight_norm"])
def test_what_bookkeeping_refuses_the_oracle_runs(case):
    model = Host(REFUSED[case][0]).double()
    batch = (torch.randn(4, 4, dtype=torch.float64), torch.arange(4) % 3)
    assert_reproduces(Materialized(), model, cross_entropy, batch, Flat(clip_norm=0.3), tolerance=1e-9)


def test_a_parameter_added_to_activations_is_refused():
    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.position, self.head = nn.Parameter(torch.zeros(4)), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(x + self.position)

    with pytest.raises(UnsupportedLayer, match="Tensor.add.*position"):
        Bookkeeping().clipped_sum(Table(), cross_entropy, (torch.randn(4, 4), torch.arange(4) % 3), Flat(clip_norm=1.0))


def test_a_parameter_as_the_input_of_an_operation_is_refused():
    class Queries(nn.Module):
        def __init__(self):
            super().__init__()
            self.queries, self.head = nn.Parameter(torch.randn(4, 4)), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.queries) + x[:, :3]

    with pytest.raises(UnsupportedLayer, match="linear is given the trainable parameter queries as its input"):
        Bookkeeping().clipped_sum(
            Queries(), cross_entropy, (torch.randn(4, 4), torch.arange(4) % 3), Flat(clip_norm=1.0)
        )


def test_hooks_and_views_bound_to_parameters_before_the_call_are_not_missed():
    """A view made earlier, or a custom autograd function, escapes the operations; the backward pass finds it."""

    class Hidden(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, scale):
            ctx.save_for_backward(x)
            return x * scale.detach()

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad, (grad * x).sum(dim=0)

    class Model(nn.Module):
        def __init__(self, early):
            super().__init__()
            self.scale, self.head = nn.Parameter(torch.ones(4)), nn.Linear(4, 3)
            self.early = [self.scale * 2] if early else []

        def forward(self, x):
            return self.head(x * self.early[0] if self.early else Hidden.apply(x, self.scale))

    for early in (True, False):
        with pytest.raises(UnsupportedLayer, match="parameter scale is used in a way that the engine cannot see"):
            Bookkeeping().clipped_sum(
                Model(early), cross_entropy, (torch.randn(1, 4), torch.zeros(1, dtype=torch.long)), Flat(clip_norm=1.0)
            )


def test_stale_norms_do_not_exist_an_expert_unused_in_this_batch_counts_nothing():
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.experts, self.use = nn.ModuleList(nn.Linear(4, 3) for _ in range(2)), 0

        def forward(self, x):
            return self.experts[self.use](x)

    model, engine = Experts().double(), Bookkeeping()
    batch = (torch.randn(4, 4, dtype=torch.float64), torch.arange(4) % 3)
    for use in (0, 1, 0):
        model.use = use
        result = assert_reproduces(engine, model, cross_entropy, batch, Flat(clip_norm=0.1))
        assert not result.grads[f"experts.{1 - use}.weight"].any()


def test_an_input_changed_in_place_after_its_use_is_an_error():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x):
            h = self.first(x)
            y = self.last(h)
            h.mul_(2)
            return y

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        Bookkeeping().clipped_sum(
            InPlace(), cross_entropy, (torch.randn(4, 4), torch.arange(4) % 3), Flat(clip_norm=1.0)
        )


@both
def test_check_one_example_accepts_the_engines(engine):
    for clip in CLIPS:
        check_one_example(engine, lenet(), cross_entropy, images(3), clip)
        check_one_example(engine, Transformer(dtype=torch.float32), next_token_loss, tokens(3), clip)


def test_check_one_example_finds_a_wrong_engine():
    class Wrong:
        name = "wrong"

        def clipped_sum(self, model, loss_fn, batch, clip, *, views=1):
            result = Bookkeeping().clipped_sum(model, loss_fn, batch, clip, views=views)
            result.grads["0.bias"].mul_(1.01)
            return result

    with pytest.raises(PrivacyError, match="engine wrong and plain autograd differ for parameter 0.bias"):
        check_one_example(Wrong(), lenet(), cross_entropy, images(2), CLIPS[0])


def test_the_clip_applies_to_the_sum_not_to_the_mean():
    """Noise is computed from the sensitivity of the sum; a mean would be clipped B times too generously."""
    model, batch = lenet(), images(5)
    result = Bookkeeping().clipped_sum(model, cross_entropy, batch, Flat(clip_norm=1e9))
    singles = gradients(model, cross_entropy, batch)
    for name, grad in result.grads.items():
        assert torch.allclose(grad, sum(g[name] for g in singles) * (1 - 1e-5), rtol=1e-9, atol=1e-12)
