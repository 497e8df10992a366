"""Models: shapes, sizes, and that no example sees another."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from cloister.errors import InputError, MissingExtra
from cloister.models import ModelSettings, ModelSpec, build, loss_for

HERE = Path()


def spec(*shape, task="classification", outputs=10, **text):
    return ModelSpec(task=task, input_shape=shape, num_outputs=outputs, **text)


def words(task, outputs):
    return spec(12, task=task, outputs=outputs, vocab_size=30, context=12, padding=29)


CASES = {
    "linear": (ModelSettings(name="linear"), spec(7), 80),
    "mlp": (ModelSettings(hidden=(16, 8), activation="relu"), spec(7), 16 * 8 + 8 * 17 + 10 * 9),
    "mlp_default": (ModelSettings(), spec(7), 128 * 8 + 10 * 129),
    "regression": (ModelSettings(), spec(7, task="regression", outputs=1), 128 * 8 + 129),
    "cnn_mnist": (ModelSettings(name="cnn"), spec(1, 28, 28), 26_010),
    "cnn_cifar": (ModelSettings(name="cnn"), spec(3, 32, 32), 550_570),
    "cnn_digits": (ModelSettings(name="cnn", channels=(8, 16)), spec(1, 8, 8), None),
    "cnn_odd": (ModelSettings(name="cnn"), spec(4, 13, 21), None),
    "cnn_scattering": (ModelSettings(name="cnn", channels=(16,), group_norm=27), spec(81, 7, 7), None),
    "scattering_linear": (ModelSettings(name="linear", group_norm=27), spec(81, 7, 7), 39_700),
    "text": (ModelSettings(name="transformer", width=16), words("classification", 3), None),
    "language": (ModelSettings(name="transformer", width=16), words("language_modeling", 30), None),
    "tied": (ModelSettings(name="transformer", width=16, tie_embeddings=True), words("language_modeling", 30), None),
}


def batch_for(data, rows):
    torch.manual_seed(1)
    inputs = torch.randint(0, 29, (rows, 12)) if data.vocab_size else torch.randn(rows, *data.input_shape)
    if data.task == "language_modeling":
        return inputs, torch.randint(0, 29, (rows, 12))
    if data.task == "regression":
        return inputs, torch.randn(rows)
    return inputs, torch.randint(0, data.num_outputs, (rows,))


def gradient(model, data, batch):
    model.zero_grad()
    loss_for(data.task)(model, batch).sum().backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("case", CASES)
def test_shapes_and_sizes(case):
    settings, data, size = CASES[case]
    model = build(settings, data, HERE)
    for rows in (0, 3):
        losses = loss_for(data.task)(model, batch_for(data, rows))
        assert losses.shape == (rows,)
        assert losses.isfinite().all()
    if size is not None:
        assert sum(parameter.numel() for parameter in model.parameters()) == size


@pytest.mark.parametrize("case", CASES)
def test_the_gradient_of_a_batch_is_the_sum_over_its_examples(case):
    settings, data, _ = CASES[case]
    torch.manual_seed(0)
    model = build(settings, data, HERE).double()
    inputs, targets = batch_for(data, 3)
    inputs = inputs if data.vocab_size else inputs.double()
    targets = targets.double() if data.task == "regression" else targets
    together = gradient(model, data, (inputs, targets))
    alone = [gradient(model, data, (inputs[i : i + 1], targets[i : i + 1])) for i in range(3)]
    for whole, parts in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(whole, sum(parts))
        assert whole.abs().sum() > 0, "every parameter is reached"


@pytest.mark.parametrize("case", CASES)
def test_every_parameter_use_has_the_batch_in_front(case):
    """What per-example clipping needs: no layer gets an input that stands for the whole batch."""
    settings, data, _ = CASES[case]
    model = build(settings, data, HERE)
    rows = []
    for module in model.modules():
        if list(module.parameters(recurse=False)):
            module.register_forward_hook(lambda _module, inputs, _output: rows.append(inputs[0].shape[0]))
    model(batch_for(data, 3)[0])
    assert rows
    assert set(rows) == {3}


def test_the_decoder_does_not_see_the_future():
    settings, data, _ = CASES["language"]
    model = build(settings, data, HERE).eval()
    tokens = torch.randint(0, 29, (2, 12))
    changed = tokens.clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % 29
    before, after = model(tokens), model(changed)
    torch.testing.assert_close(before[:, :6], after[:, :6])
    assert not torch.allclose(before[:, 6:], after[:, 6:])


def test_the_classifier_does_not_see_padding():
    settings, data, _ = CASES["text"]
    model = build(settings, data, HERE).eval()
    tokens = torch.randint(0, 29, (2, 5))
    padded = torch.cat([tokens, torch.full((2, 7), 29)], dim=1)
    torch.testing.assert_close(model(padded), model(tokens))
    assert model(torch.full((1, 12), 29)).isfinite().all()


def test_tied_embeddings_are_one_parameter():
    settings, data, _ = CASES["tied"]
    model = build(settings, data, HERE)
    assert model.head.weight is model.embedding.token.weight


def test_no_layer_mixes_examples():
    for settings, data, _ in CASES.values():
        assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in build(settings, data, HERE).modules())


def test_a_function_builds_the_model(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "my_module_of_models", raising=False)
    lines = [
        "import torch",
        "def net(spec): return torch.nn.Linear(spec.input_shape[0], spec.num_outputs)",
        "def wrong(spec): return 3",
    ]
    (tmp_path / "my_module_of_models.py").write_text("\n".join(lines))
    assert build(ModelSettings(name="my_module_of_models:net"), spec(7), tmp_path).out_features == 10
    with pytest.raises(InputError, match="returned int"):
        build(ModelSettings(name="my_module_of_models:wrong"), spec(7), tmp_path)
    with pytest.raises(InputError, match="no function 'none'"):
        build(ModelSettings(name="my_module_of_models:none"), spec(7), tmp_path)
    assert str(tmp_path) not in sys.path


def test_hugging_face_models_need_their_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match="transformers is not installed"):
        build(ModelSettings(name="hf:gpt2"), words("language_modeling", 30), tmp_path)


@pytest.mark.parametrize(
    ("settings", "data", "match"),
    [
        ({"name": "resnet"}, spec(7), "no model 'resnet'"),
        ({"name": "none_such:f"}, spec(7), "none_such"),
        ({"name": "cnn"}, spec(7), "cnn needs images"),
        ({"name": "transformer"}, spec(7), "transformer needs text"),
        ({"name": "mlp"}, words("classification", 2), "inputs are text"),
        ({"name": "linear", "group_norm": 5}, spec(81, 7, 7), "group_norm is 5"),
        ({"name": "linear", "group_norm": 5}, spec(7), "group_norm is 5"),
    ],
)
def test_models_that_do_not_fit(settings, data, match):
    with pytest.raises(InputError, match=match):
        build(ModelSettings(**settings), data, HERE)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"activation": "elu"}, "activation"),
        ({"heads": 3}, "3 heads"),
        ({"dropout": 1.0}, "dropout"),
        ({"hidden": (0,)}, "layer_size"),
        ({"layers": 0}, "layers"),
    ],
)
def test_settings_without_meaning(settings, match):
    with pytest.raises(InputError, match=match):
        ModelSettings(**settings)
