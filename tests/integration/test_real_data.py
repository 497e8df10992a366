"""The recipes of examples/ on the real data they are for, where that is at hand."""

from pathlib import Path

import pytest

import cloister
from cloister.accounting import epsilon
from cloister.training import Recipe

RECIPES = Path(__file__).parents[2] / "examples/recipes"


def recipe(name, base, **training):
    import tomllib

    table = tomllib.loads((RECIPES / name).read_text())
    table["training"].update(training)
    return Recipe.from_table(table, base=base)


def test_adult_at_epsilon_3(shared_data, tmp_path):
    with cloister.Ledger.open(tmp_path / "home") as ledger:
        record = cloister.train(recipe("adult.toml", shared_data), out=tmp_path / "run", ledger=ledger)
    assert record.examples == 32_561
    assert 2.99 < record.guarantee.epsilon <= 3.0
    assert epsilon(record.event, delta=1e-5) == pytest.approx(record.guarantee.epsilon)
    assert record.test["accuracy"] > 0.845  # five runs gave 85.1 +- 0.04


def test_fashion_mnist_starts_to_learn(shared_data, tmp_path):
    settings = recipe("fashion-mnist-cnn.toml", shared_data, epochs=1.0, evaluate_every=0)
    with cloister.Ledger.open(tmp_path / "home") as ledger:
        record = cloister.train(settings, out=tmp_path / "run", ledger=ledger)
    assert record.steps == 29
    assert record.plan.noise_multiplier < 1.8  # fewer steps need less noise than the whole recipe
    assert record.test["accuracy"] > 0.5
