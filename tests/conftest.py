"""Small real inputs that many tests share."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

# The default suite gives the same answer each time; `make test-all` looks for new examples.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("exploring", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

DATA = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture
def shared_data():
    """The folder of real data sets beside the checkout."""
    if not DATA.is_dir():
        pytest.skip(f"no real data at {DATA}")
    return DATA


@pytest.fixture
def workplace(tmp_path):
    """A folder with a small tabular data set, a recipe for it, and a home."""
    return Workplace(tmp_path)


class Workplace:
    """Writes data and recipes, and calls the command line as a user would."""

    def __init__(self, folder):
        self.folder = folder
        self.home = folder / "home"
        self.write_table("train.csv", 400, seed=0)
        self.write_table("test.csv", 200, seed=1)
        self.write_recipe()

    def write_table(self, name, rows, *, seed):
        rng = np.random.default_rng(seed)
        features = rng.uniform(-1, 1, (rows, 3))
        labels = np.where(features @ [1.0, -2.0, 0.5] > 0, "yes", "no")
        lines = ["a,b,c,label", *(f"{a},{b},{c},{y}" for (a, b, c), y in zip(features, labels, strict=True))]
        (self.folder / name).write_text("\n".join(lines) + "\n")

    def write_recipe(self, name="recipe.toml", **sections):
        tables = {
            "data": {
                "train": "train.csv",
                "test": "test.csv",
                "label": "label",
                "dataset": "ward",
                "classes": ["no", "yes"],
            },
            "data.columns": {column: {"low": -1.0, "high": 1.0} for column in "abc"},
            "model": {"name": "linear"},
            "privacy": {"epsilon": 2.0, "delta": 1e-4},
            "training": {"steps": 20, "expected_batch_size": 100, "learning_rate": 0.5},
        }
        for section, values in sections.items():
            section = section.replace("_", ".")
            if values is None:
                tables.pop(section)
            else:
                merged = {**tables.get(section, {}), **values}
                tables[section] = {key: value for key, value in merged.items() if value is not None}
        text = "\n".join(
            f"[{section}]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in values.items())
            for section, values in tables.items()
        )
        (self.folder / name).write_text(text)
        return self.folder / name

    def command(self, *arguments):
        return [sys.executable, "-m", "cloister", *map(str, arguments)]

    def environment(self):
        return {**os.environ, "OMP_NUM_THREADS": "1"}

    def run(self, *arguments, expect=0):
        done = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, cwd=self.folder, env=self.environment()
        )
        assert done.returncode == expect, done.stderr
        return done

    def json(self, *arguments):
        return json.loads(self.run(*arguments, "--json", "--home", self.home).stdout)


def _toml(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{key}" = {_toml(item)}' for key, item in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value)
