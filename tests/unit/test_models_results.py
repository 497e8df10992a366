"""Losses, results and weights on disk."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from cloister._canonical import digest_file
from cloister.errors import DigestMismatch, InputError
from cloister.models import ModelConfig, ModelSettings, ModelSpec, build, evaluate, load_model, loss_for, save_model

SPEC = ModelSpec(task="language_modeling", input_shape=(6,), num_outputs=20, vocab_size=20, context=6, padding=19)
TIED = ModelSettings(name="transformer", width=8, heads=2, layers=1, tie_embeddings=True)


class Rows:
    def __init__(self, inputs, targets):
        self.parts = (inputs, targets)

    def __len__(self):
        return len(self.parts[0])

    def batch(self, indices):
        return tuple(part[torch.from_numpy(indices)] for part in self.parts)


def test_classification_and_regression_losses():
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    losses = loss_for("classification")(lambda x: x, (logits, torch.tensor([0, 1])))
    torch.testing.assert_close(losses, torch.tensor([math.log(1 + math.exp(-2)), math.log(2)]))
    losses = loss_for("regression")(lambda x: x, (torch.tensor([[1.0], [3.0]]), torch.tensor([0.0, 1.0])))
    assert losses.tolist() == [1, 4]
    with pytest.raises(InputError, match="task is 'poetry'"):
        loss_for("poetry")


def test_the_token_loss_divides_by_an_examples_own_tokens():
    torch.manual_seed(0)
    logits = torch.randn(3, 4, 5)
    targets = torch.tensor([[1, 2, 3, 4], [1, -100, -100, -100], [-100] * 4])
    loss = loss_for("language_modeling")
    losses = loss(lambda x: x, (logits, targets))
    nll = -logits.log_softmax(-1)
    torch.testing.assert_close(losses[0], (nll[0, 0, 1] + nll[0, 1, 2] + nll[0, 2, 3] + nll[0, 3, 4]) / 4)
    torch.testing.assert_close(losses[1], nll[1, 0, 1])
    assert losses[2] == 0
    torch.testing.assert_close(loss(lambda x: x, (logits[1:2], targets[1:2]))[0], losses[1])


def test_results_do_not_depend_on_the_batch_size_and_the_mode_is_restored():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))
    model[1].eval()
    rows = Rows(torch.randn(10, 4), torch.randint(0, 3, (10,)))
    results = [
        evaluate(model, loss_for("classification"), rows, task="classification", batch_size=size)
        for size in (1, 3, 100)
    ]
    assert results[0] == pytest.approx(results[1])
    assert results[0] == pytest.approx(results[2])
    assert [m.training for m in model.modules()] == [True, True, False, True]
    model.eval()
    outputs = model(rows.parts[0])
    assert results[0]["accuracy"] == (outputs.argmax(1) == rows.parts[1]).double().mean()
    assert results[0]["loss"] == pytest.approx(nn.functional.cross_entropy(outputs, rows.parts[1]).item())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_regression_error_is_in_the_targets_unit():
    rows = Rows(torch.zeros(2, 1), torch.tensor([0.3, -0.4]))
    result = evaluate(nn.Identity(), loss_for("regression"), rows, task="regression", target_scale=10.0)
    assert result == {"loss": pytest.approx(0.125), "rmse": pytest.approx(10 * math.sqrt(0.125))}


def test_perplexity_weighs_tokens_and_not_examples():
    targets = torch.tensor([[0, 0, 0], [1, -100, -100]])
    logits = torch.log(torch.tensor([0.5, 0.25, 0.25])).expand(2, 3, 3)
    result = evaluate(nn.Identity(), loss_for("language_modeling"), Rows(logits, targets), task="language_modeling")
    mean = (3 * math.log(2) + math.log(4)) / 4
    assert result == {"loss": pytest.approx(mean), "perplexity": pytest.approx(math.exp(mean))}


def test_nothing_to_evaluate_on():
    with pytest.raises(InputError, match="no examples"):
        evaluate(nn.Identity(), loss_for("regression"), Rows(torch.zeros(0, 1), torch.zeros(0)), task="regression")


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    model = build(TIED, SPEC, tmp_path)
    save_model(tmp_path / "run", model, ModelConfig(settings=TIED, spec=SPEC, preprocessing={"kind": "text"}))
    return tmp_path / "run", model.eval()


def rewrite(folder, tensors):
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    config["weights"] = digest_file(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))


def test_a_tied_model_survives(saved):
    folder, model = saved
    loaded, config = load_model(folder)
    tokens = torch.randint(0, 19, (2, 6))
    assert torch.equal(loaded(tokens), model(tokens))
    assert loaded.head.weight is loaded.embedding.token.weight
    assert not loaded.training
    assert config == ModelConfig(settings=TIED, spec=SPEC, preprocessing={"kind": "text"})
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_tied_weights_are_stored_once(saved):
    folder, model = saved
    stored = load_file(folder / "model.safetensors")
    assert sum(t.numel() for t in stored.values()) == sum(p.numel() for p in model.parameters())


def test_other_weights_are_noticed(saved):
    folder, _ = saved
    tensors = load_file(folder / "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, folder / "model.safetensors")
    with pytest.raises(DigestMismatch, match="config.json says sha256"):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: t.pop("norm.weight"), "lacks norm.weight"),
        (lambda t: t.update(extra=torch.zeros(1)), "also holds extra"),
        (lambda t: t.update({"norm.weight": torch.zeros(9)}), r"norm.weight as \(9,\)"),
        (lambda t: t.update({"norm.weight": torch.zeros(8, dtype=torch.float64)}), "float64"),
    ],
)
def test_tensors_that_do_not_fit(saved, change, match):
    folder, _ = saved
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    rewrite(folder, tensors)
    with pytest.raises(InputError, match=match):
        load_model(folder)


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"\xff" * 64])
def test_weights_of_another_format(saved, content):
    folder, _ = saved
    (folder / "model.safetensors").write_bytes(content)
    config = json.loads((folder / "config.json").read_text())
    config["weights"] = digest_file(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="not in the safetensors format"):
        load_model(folder)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("{", "not JSON"),
        ("[]", "schema 1"),
        ('{"schema": 2}', "schema 1"),
        ('{"schema": 1}', "lacks 'weights'"),
    ],
)
def test_bad_configuration(saved, content, match):
    folder, _ = saved
    (folder / "config.json").write_text(content)
    with pytest.raises(InputError, match=match):
        load_model(folder)


def test_unknown_settings_in_the_configuration(saved):
    folder, _ = saved
    config = json.loads((folder / "config.json").read_text())
    config["settings"]["magic"] = 1
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="magic"):
        load_model(folder)


def test_missing_files(tmp_path):
    with pytest.raises(InputError, match="config.json"):
        load_model(tmp_path)


def test_nan_cannot_enter_the_configuration(saved, tmp_path):
    _, model = saved
    with pytest.raises(ValueError, match="JSON"):
        save_model(tmp_path / "x", model, ModelConfig(settings=TIED, spec=SPEC, preprocessing={"a": np.nan}))
    assert not (tmp_path / "x/config.json").exists()
