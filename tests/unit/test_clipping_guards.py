from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cloister.clipping import check_independence, check_model
from cloister.errors import InputError, UnsupportedLayer


def loss_fn(forward, batch):
    return F.cross_entropy(forward(batch[0]), batch[1], reduction="none")


def batch(rows=4):
    torch.manual_seed(0)
    return torch.randn(rows, 4), torch.arange(rows) % 3


REFUSED = {
    "BatchNorm1d": (nn.BatchNorm1d(6), r"GroupNorm\(6, 6\)"),
    "BatchNorm2d": (nn.BatchNorm2d(64), r"GroupNorm\(32, 64\)"),
    "BatchNorm3d": (nn.BatchNorm3d(7, affine=False), r"GroupNorm\(7, 7\)"),
    "SyncBatchNorm": (nn.SyncBatchNorm(40), r"GroupNorm\(20, 40\)"),
    "LazyBatchNorm2d": (nn.LazyBatchNorm2d(), "GroupNorm"),
    "InstanceNorm2d": (nn.InstanceNorm2d(8, track_running_stats=True), "track_running_stats=False"),
    "ParametrizedLinear": (nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3)), "weight_norm"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("training", [True, False])
def test_modules_that_mix_examples_are_refused_by_name_with_the_replacement(name, training):
    module, replacement = REFUSED[name]
    model = nn.ModuleDict({"stem": nn.Identity(), "body": nn.Sequential(module)}).train(training)
    with pytest.raises(UnsupportedLayer, match=r"module body\.0") as error:
        check_model(model)
    assert re.search(replacement, error.value.hint)


def test_the_replacements_pass():
    check_model(nn.Sequential(nn.GroupNorm(2, 4), nn.InstanceNorm2d(3), nn.LayerNorm(3), nn.RMSNorm(3), nn.Dropout()))
    check_model(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))


def test_independent_examples_pass_and_dropout_and_modes_are_left_alone():
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.GELU(), nn.GroupNorm(2, 8), nn.Linear(8, 3))
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    examples = batch()
    state = torch.random.get_rng_state()
    check_independence(model, loss_fn, examples)
    assert [m.training for m in model] == [True, False, True, True, True]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(x + torch.randn_like(x) if self.training else x)


def test_other_randomness_is_checked_in_eval_mode():
    model = Noisy()
    check_independence(model, loss_fn, batch())
    assert model.training


def test_batch_norm_without_its_name_is_caught_in_training_mode():
    class Sneaky(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            h = self.head(x)
            return (h - h.mean(0)) / (0.1 + h.std(0, correction=0)) if self.training else h

    with pytest.raises(UnsupportedLayer, match="mixes examples"):
        check_independence(Sneaky(), loss_fn, batch())


def test_a_loss_that_is_a_number_only_in_company_is_caught():
    def loss(forward, b):
        return loss_fn(forward, b) * (0.0 / (torch.tensor(len(b[0]) - 1.0)) + 1.0)

    with pytest.raises(UnsupportedLayer, match="mixes examples"):
        check_independence(nn.Linear(4, 3), loss, batch())


def test_a_neighbor_that_matters_only_by_its_place_is_caught():
    shifted = lambda forward, b: loss_fn(forward, b) + 0.1 * torch.arange(len(b[0]))
    with pytest.raises(UnsupportedLayer, match="mixes examples"):
        check_independence(nn.Linear(4, 3), shifted, batch())


def test_one_row_cannot_be_compared():
    with pytest.raises(InputError, match="1 rows"):
        check_independence(nn.Linear(4, 3), loss_fn, batch(1))


def test_scaled_dot_product_dropout_is_off():
    class Attention(nn.Module):
        def __init__(self, positional):
            super().__init__()
            self.head, self.positional = nn.Linear(4, 3), positional

        def forward(self, x):
            x = x[:, None, None]
            mixed = (
                F.scaled_dot_product_attention(x, x, x, None, 0.5, False)
                if self.positional
                else F.scaled_dot_product_attention(x, x, x, dropout_p=0.5)
            )
            return self.head(mixed[:, 0, 0]) if self.training else x.sum() * self.head(x[:, 0, 0])

    for positional in (True, False):
        check_independence(Attention(positional), loss_fn, batch())
