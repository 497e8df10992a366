"""New rows are encoded exactly as the training rows with the same content."""

import json

import numpy as np
import pytest
import torch

from cloister.data import ColumnSettings, DataSettings, columns_from_histograms, encode_rows, load, open_source
from cloister.errors import InputError


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        {
            "age": int(rng.integers(18, 90)),
            "gain": float(rng.choice([0, 0, 0, 5178.5])),
            "job": str(rng.choice(["a", "b", "?"])),
            "note": "x",
            "fixed": 1.5,
        }
        for _ in range(500)
    ]
    lines = [
        "age,gain,job,note,fixed,label",
        *(",".join(map(str, row.values())) + f",{i % 2}" for i, row in enumerate(rows)),
    ]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    settings = DataSettings(
        train="t.csv",
        label="label",
        columns={"note": ColumnSettings(kind="ignore"), "fixed": ColumnSettings(mean=1.0, std=0.25)},
    )
    source = open_source(settings, tmp_path)
    assert source.needs_statistics == ("age", "gain", "job")
    counts = source.count_bins(source.needs_statistics)
    noisy = counts + np.random.default_rng(1).normal(0, 1, counts.shape)
    return load(source, columns_from_histograms(source.needs_statistics, noisy, 1.0, source.num_examples)), rows


def test_rows_round_trip_through_json(table):
    loaded, rows = table
    inputs, _ = loaded.train.batch(np.arange(500))
    preprocessing = json.loads(json.dumps(loaded.preprocessing))
    assert torch.equal(encode_rows(preprocessing, rows), inputs)
    assert torch.equal(encode_rows(preprocessing, [{**row, "age": str(row["age"])} for row in rows]), inputs)
    assert inputs.shape[1:] == loaded.spec.input_shape


def test_no_rows(table):
    loaded, _ = table
    assert encode_rows(loaded.preprocessing, []).shape == (0, *loaded.spec.input_shape)


def test_a_missing_cell_is_null_and_a_missing_column_an_error(table):
    loaded, rows = table
    nothing = dict.fromkeys(rows[0])
    assert torch.equal(encode_rows(loaded.preprocessing, [nothing])[0, :2], torch.tensor([0.0, 1.0]))
    with pytest.raises(InputError, match="row 2 has no 'gain'"):
        encode_rows(loaded.preprocessing, [nothing, {"age": 1}])


def test_a_nested_cell(table):
    loaded, rows = table
    with pytest.raises(InputError, match="row 1, column 'age' holds a list"):
        encode_rows(loaded.preprocessing, [{**rows[0], "age": [1]}])


IMAGE = {"kind": "image", "shape": [1, 2, 2], "mean": None, "std": None, "features": None}


@pytest.mark.parametrize(
    ("image", "match"),
    [
        ([[0.5, 0], [0, 0]], "whole numbers"),
        ([[256, 0], [0, 0]], "whole numbers"),
        ([[1]], "shape"),
        ("png", "not an array"),
    ],
)
def test_bad_images(image, match):
    with pytest.raises(InputError, match=match):
        encode_rows(IMAGE, [{"image": image}])


def test_infinite_array():
    with pytest.raises(InputError, match="NaN or infinity"):
        encode_rows({"kind": "array", "name": "x", "shape": [1], "scaling": None}, [{"x": [float("inf")]}])


def test_unknown_kind():
    with pytest.raises(InputError, match="'dataset' cannot be encoded"):
        encode_rows({"kind": "dataset"}, [])
