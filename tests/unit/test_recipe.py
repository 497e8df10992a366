"""A recipe is read strictly: unknown keys, wrong types and impossible values are errors that say what to do."""

import pytest

from cloister.errors import InputError
from cloister.training import Recipe

GOOD = {
    "data": {"train": "a.csv", "label": "y"},
    "privacy": {"epsilon": 3.0, "delta": 1e-5},
    "training": {"steps": 10},
}


def changed(**sections):
    return {**GOOD, **{name: {**GOOD.get(name, {}), **values} for name, values in sections.items()}}


def test_a_good_recipe_has_its_values_and_defaults():
    recipe = Recipe.from_table(
        changed(training={"learning_rate": 1, "augmentation": ["flip"]}, model={"hidden": [3, 4]})
    )
    assert recipe.training.learning_rate == 1.0
    assert recipe.training.augmentation == ("flip",)
    assert recipe.model.hidden == (3, 4)
    assert recipe.performance.engine == "bookkeeping"


@pytest.mark.parametrize(
    ("table", "fact", "hint"),
    [
        (changed(privcy={"epsilon": 1.0}), "unknown key 'privcy' in the recipe", "did you mean 'privacy'?"),
        (changed(training={"learning_rat": 1.0}), "unknown key 'learning_rat' in [training]", "'learning_rate'"),
        (changed(training={"zzz": 1.0}), "unknown key 'zzz'", "known keys: "),
        (changed(data={"columns": {"age": {"lo": 1}}}), "unknown key 'lo' in age in columns in [data]", "low"),
        (changed(privacy={"epsilon": 0}), "epsilon is 0.0; expected a finite number above 0", None),
        (changed(privacy={"epsilon": -1.0}), "epsilon is -1.0", None),
        (changed(privacy={"epsilon": float("nan")}), "epsilon is nan", None),
        (changed(privacy={"delta": 1.0}), "delta is 1.0; expected a number above 0 and below 1", None),
        (changed(privacy={"delta": 0}), "delta is 0", None),
        (changed(privacy={"epsilon": "3"}), "epsilon in [privacy] is '3'; expected a number", None),
        (changed(privacy={"noise_multiplier": 1.0}), "either epsilon or noise_multiplier, not both", None),
        (changed(privacy={"private": False}), "private = false contradicts epsilon", None),
        (changed(privacy={"relation": "swap"}), "relation is 'swap'; expected one of add_or_remove_one", None),
        (changed(training={"steps": 0}), "steps is 0; expected a whole number, at least 1", None),
        (changed(training={"steps": True}), "steps in [training] is True", None),
        (changed(training={"epochs": 2.0}), "either steps or epochs, not both", None),
        (changed(training={"expected_batch_size": 0}), "expected_batch_size is 0", None),
        (changed(training={"clip_norm": 0.0}), "clip_norm is 0.0", None),
        (changed(training={"clipping": "ghost"}), "clipping is 'ghost'; expected one of adaptive", None),
        (changed(training={"clipping": "value"}), 'clipping = "value" needs clip_low and clip_high', None),
        (changed(training={"clip_low": -1.0}), 'belong to clipping = "value"', None),
        (changed(training={"optimizer": "adamax"}), "optimizer is 'adamax'", None),
        (changed(training={"augmentation": "flip"}), "augmentation in [training] is 'flip'; expected a list", None),
        (changed(training={"augmentation": ["rotate"]}), "augmentation is 'rotate'", None),
        (changed(performance={"engine": "ghost"}), "engine is 'ghost'", None),
        (changed(performance={"compile": True}), "compile = true is not available", "remove it"),
    ],
)
def test_bad_recipes_are_refused_with_fact_and_hint(table, fact, hint):
    with pytest.raises(InputError) as caught:
        Recipe.from_table(table)
    assert fact in str(caught.value)
    assert hint is None or hint in caught.value.hint


@pytest.mark.parametrize("section", ["data", "privacy", "training"])
def test_a_missing_section_is_named(section):
    table = {name: values for name, values in GOOD.items() if name != section}
    with pytest.raises(InputError, match=rf"the recipe has no \[{section}\]"):
        Recipe.from_table(table)


def test_missing_epsilon_and_delta_are_named():
    with pytest.raises(InputError, match="needs either epsilon or noise_multiplier"):
        Recipe.from_table({**GOOD, "privacy": {"delta": 1e-5}})
    with pytest.raises(InputError, match="no delta"):
        Recipe.from_table({**GOOD, "privacy": {"epsilon": 1.0}})
    assert not Recipe.from_table({**GOOD, "privacy": {"private": False}}).privacy.private


def test_files_that_are_no_recipes_are_named(tmp_path):
    with pytest.raises(InputError, match="cannot read recipe .*no such file"):
        Recipe.load(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[data\ntrain = 1")
    with pytest.raises(InputError, match=r"bad.toml is not valid TOML: .*line 1"):
        Recipe.load(tmp_path / "bad.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not valid TOML"):
        Recipe.load(tmp_path / "binary.toml")
