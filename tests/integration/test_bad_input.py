"""Bad input gets a fact with its values and a hint, exits as documented, and costs no budget."""

import gzip
import struct

import pytest

from cloister.accounting import Budget
from cloister.cli import main
from cloister.ledger import Ledger


@pytest.fixture
def refused(workplace, capfd, monkeypatch):
    """Trains and expects a refusal: returns what was printed, after checking that nothing was spent."""
    monkeypatch.chdir(workplace.folder)

    def train(recipe="recipe.toml", *, code=1, home=None):
        given = ["train", recipe, "--out", "run", "--home", str(home or workplace.home)]
        assert main(given) == code
        printed = capfd.readouterr()
        assert printed.out == ""
        assert "Traceback" not in printed.err
        assert not (workplace.folder / "run/record.json").exists()
        if home is None:
            with Ledger.open(workplace.home) as ledger:
                assert ledger.statement("ward").spent == 0
        return printed.err

    return train


def rewrite(workplace, change, name="train.csv"):
    path = workplace.folder / name
    lines = path.read_text().splitlines()
    path.write_text("\n".join(change(lines)) + "\n")


def test_missing_file(workplace, refused):
    workplace.write_recipe(data={"train": "none.csv"})
    assert "none.csv" in refused()


def test_wrong_label_column(workplace, refused):
    workplace.write_recipe(data={"label": "lable"})
    text = refused()
    assert "'lable'" in text
    assert "label" in text.split("hint:")[1]


def test_one_class(workplace, refused):
    rewrite(workplace, lambda lines: [lines[0], *(line.replace(",yes", ",no") for line in lines[1:])])
    rewrite(workplace, lambda lines: [lines[0], *(line.replace(",yes", ",no") for line in lines[1:])], "test.csv")
    workplace.write_recipe(data={"classes": None})
    assert "class" in refused()


def test_empty_set(workplace, refused):
    rewrite(workplace, lambda lines: lines[:1])
    assert "no examples" in refused()


def test_infinity_in_a_column(workplace, refused):
    rewrite(workplace, lambda lines: [*lines[:7], "inf,0,0,no", *lines[8:]])
    text = refused()
    assert "'a'" in text
    assert "7" in text


def test_nan_in_a_column_is_a_missing_value(workplace, capsys, monkeypatch):
    monkeypatch.chdir(workplace.folder)
    rewrite(workplace, lambda lines: [*lines[:7], "nan,0,0,no", *lines[8:]])
    assert main(["train", "recipe.toml", "--out", "run", "--home", str(workplace.home)]) == 0


def test_a_label_that_is_no_class(workplace, refused):
    rewrite(workplace, lambda lines: [*lines[:7], "0,0,0,maybe", *lines[8:]])
    text = refused()
    assert "7" in text


def test_a_ragged_row(workplace, refused):
    rewrite(workplace, lambda lines: [*lines[:7], "0,0,0,no,1", *lines[8:]])
    assert "train.csv" in refused()


def idx(*shape, values):
    return struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape) + bytes(values)


@pytest.fixture
def images(workplace):
    count = 60
    content = {
        "images.gz": idx(count, 4, 4, values=[i % 251 for i in range(count * 16)]),
        "labels.gz": idx(count, values=[i % 2 for i in range(count)]),
    }
    for name, data in content.items():
        (workplace.folder / name).write_bytes(gzip.compress(data))
    pair = {"images": "images.gz", "labels": "labels.gz"}
    workplace.write_recipe(
        data={"train": pair, "test": None, "label": None, "classes": ["0", "1"]},
        data_columns=None,
        training={"expected_batch_size": 20},
        privacy={"delta": 1e-3},
    )
    return workplace


def test_good_images_train(images, monkeypatch, capsys):
    monkeypatch.chdir(images.folder)
    assert main(["train", "recipe.toml", "--out", "run", "--home", str(images.home)]) == 0


def test_truncated_gz(images, refused):
    path = images.folder / "images.gz"
    path.write_bytes(path.read_bytes()[:-20])
    assert "images.gz" in refused()


def test_idx_counts_that_disagree(images, refused):
    (images.folder / "labels.gz").write_bytes(gzip.compress(idx(59, values=[0] * 59)))
    text = refused()
    assert "60" in text
    assert "59" in text


def test_idx_shorter_than_it_says(images, refused):
    (images.folder / "images.gz").write_bytes(gzip.compress(idx(60, 4, 4, values=[0] * 900)))
    assert "images.gz" in refused()


def test_a_misspelled_key(workplace, refused):
    workplace.write_recipe(training={"lerning_rate": 0.1})
    text = refused()
    assert "unknown key 'lerning_rate' in [training]" in text
    assert "hint: did you mean 'learning_rate'?" in text


@pytest.mark.parametrize("privacy", [{"epsilon": 0.0}, {"epsilon": -2.0}, {"delta": 1.0}, {"delta": 0.0}])
def test_impossible_privacy(workplace, refused, privacy):
    workplace.write_recipe(privacy=privacy)
    ((name, value),) = privacy.items()
    assert f"{name} is {value}" in refused()


def test_delta_above_one_over_n_is_a_warning_with_its_reason(workplace, capsys, monkeypatch):
    monkeypatch.chdir(workplace.folder)
    workplace.write_recipe(privacy={"delta": 0.0025})
    assert main(["train", "recipe.toml", "--out", "run", "--home", str(workplace.home)]) == 0
    assert "delta 0.0025 is not below 1/400" in capsys.readouterr().err


def test_a_spent_budget_exits_3_with_the_numbers(workplace, capsys, monkeypatch):
    monkeypatch.chdir(workplace.folder)
    home = ["--home", str(workplace.home)]
    assert main(["budget", "set", "ward", "--epsilon", "2.5", "--delta", "1e-4", *home]) == 0
    assert main(["train", "recipe.toml", "--out", "one", *home]) == 0
    capsys.readouterr()
    assert main(["train", "recipe.toml", "--out", "two", *home]) == 3
    text = capsys.readouterr().err
    assert "data set 'ward' has epsilon" in text
    assert "of 2.5 left" in text
    assert "this plan needs" in text
    assert "hint: lower steps" in text
    assert not (workplace.folder / "two/record.json").exists()


@pytest.mark.parametrize("place", ["/proc/cloister", "train.csv/home"])
def test_a_home_that_cannot_be_written(workplace, refused, place):
    home = workplace.folder / place
    text = refused(home=home, code=2 if place.startswith("train") and home.is_file() else 1)
    assert str(home) in text
    assert "hint:" in text


def test_a_missing_recipe_is_a_usage_error(workplace, refused):
    assert "none.toml" in refused("none.toml", code=2)


def test_more_examples_per_batch_than_there_are(workplace, refused):
    workplace.write_recipe(training={"expected_batch_size": 1000})
    assert "expected_batch_size is 1000, but there are 400 examples" in refused()


def test_a_declared_number_of_examples_that_is_wrong(workplace, refused):
    workplace.write_recipe(data={"examples": 500})
    text = refused()
    assert "holds 400 examples; the recipe declares 500" in text


def test_augmentation_of_what_is_no_image(workplace, refused):
    workplace.write_recipe(training={"augmentation": ["flip"]})
    assert "augmentation needs images of shape (C, H, W); the inputs have shape (6,)" in refused()


def test_a_run_without_privacy_fits_in_no_budget(workplace, refused):
    with Ledger.open(workplace.home) as ledger:
        ledger.set_budget("ward", Budget(epsilon=3.0, delta=1e-4))
    workplace.write_recipe(privacy={"private": False, "epsilon": None, "delta": None})
    text = refused(code=3)
    assert "this plan needs infinity" in text
    assert "train with privacy" in text


def test_a_unit_that_training_does_not_offer(workplace, refused):
    workplace.write_recipe(data={"unit": "user", "user_column": "a"})
    assert "unit" in refused()
