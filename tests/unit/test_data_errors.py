"""What is wrong with the data is named by file, line, row and column; private values are never shown."""

import gzip
import json
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from cloister.data import ColumnSettings, DataSettings, ImageFiles, TargetSettings, TextSettings, load, open_source
from cloister.errors import InputError

RANGES = {"a": ColumnSettings(low=0, high=9), "b": ColumnSettings(low=0, high=9)}
GOOD = ["a,b,label", "1,2,yes", "3,4,no", "5,6,yes"]


def read(folder, **settings):
    given = {"train": "train.csv", "label": "label", "columns": RANGES} | settings
    return load(open_source(DataSettings(**given), folder))


def refused(folder, match, hint=None, **settings):
    with pytest.raises(InputError, match=match) as caught:
        read(folder, **settings)
    if hint is not None:
        assert hint in str(caught.value.hint)
    return caught.value


def write(folder, lines, name="train.csv"):
    (folder / name).write_text("\n".join(lines) + "\n")


def idx(*shape, values, kind=8):
    return struct.pack(f">HBB{len(shape)}I", 0, kind, len(shape), *shape) + bytes(values)


def test_the_good_file_is_good(tmp_path):
    write(tmp_path, GOOD)
    assert len(read(tmp_path).train) == 3


def test_missing_file_names_its_neighbors(tmp_path):
    write(tmp_path, GOOD, "trian.csv")
    refused(tmp_path, "train.csv does not exist", "did you mean 'trian.csv'")


def test_missing_folder(tmp_path):
    refused(tmp_path / "none", "does not exist", "no folder")


def test_unknown_kind_of_file(tmp_path):
    write(tmp_path, GOOD, "train.xls")
    refused(tmp_path, "no known kind", ".parquet", train="train.xls")


def test_wrong_label_column_names_the_nearest(tmp_path):
    write(tmp_path, GOOD)
    refused(tmp_path, "no column 'lable'", "did you mean 'label'", label="lable")


def test_label_not_set(tmp_path):
    write(tmp_path, GOOD)
    refused(tmp_path, "label is not set", label=None)


def test_declared_column_that_is_not_there(tmp_path):
    write(tmp_path, GOOD)
    refused(tmp_path, "names 'c'", columns=RANGES | {"c": ColumnSettings(low=0, high=1)})


def test_column_without_statistics(tmp_path):
    write(tmp_path, GOOD)
    refused(tmp_path, "no statistics for 1 of 2 columns: b", "statistics", columns={"a": RANGES["a"]})


def test_column_missing_in_the_test_file(tmp_path):
    write(tmp_path, GOOD)
    write(tmp_path, ["a,label", "1,yes"], "test.csv")
    refused(tmp_path, "'b'", test="test.csv", columns={"a": RANGES["a"]})


def test_one_class(tmp_path):
    write(tmp_path, [GOOD[0], "1,2,yes", "3,4,yes"])
    refused(tmp_path, "hold 1 class")


@pytest.mark.parametrize("content", ["", "a,b,label\n", "a,b,label"])
def test_empty_set(tmp_path, content):
    (tmp_path / "train.csv").write_text(content)
    refused(tmp_path, "is empty|no examples")


@pytest.mark.parametrize("number", ["inf", "-Infinity", "1e999"])
def test_infinity_is_named_by_row_and_column(tmp_path, number):
    write(tmp_path, [*GOOD, f"{number},1,no"])
    refused(tmp_path, "row 4, column 'a' is infinite")


def test_nan_is_a_missing_cell(tmp_path):
    write(tmp_path, [GOOD[0], "nan,2,yes", "?,2,no", ",2,no", "NA,2,no", "9,2,no"])
    inputs, _ = read(tmp_path).train.batch(np.arange(5))
    assert inputs[:, :2].tolist() == [[0, 1]] * 4 + [[1, 0]]


def test_text_in_a_column_declared_numeric(tmp_path):
    write(tmp_path, [*GOOD, "secret,1,no"])
    error = refused(tmp_path, "row 4, column 'a' is not a number")
    assert "secret" not in str(error) + str(error.hint)


def test_label_that_is_no_class(tmp_path):
    write(tmp_path, [*GOOD, "1,2,secret"])
    error = refused(tmp_path, "row 4 has a label", classes=("yes", "no"))
    assert "secret" not in str(error) + str(error.hint)


def test_training_label_that_the_test_file_does_not_have(tmp_path):
    write(tmp_path, [*GOOD, "1,2,maybe"])
    write(tmp_path, GOOD, "test.csv")
    refused(tmp_path, "train.csv row 4 has a label", test="test.csv")


def test_missing_label(tmp_path):
    write(tmp_path, [*GOOD, "1,2, "])
    refused(tmp_path, "row 4 has no label")


@pytest.mark.parametrize("row", ["1,2,yes,secret", "secret"])
def test_ragged_row_is_named_by_line(tmp_path, row):
    write(tmp_path, [GOOD[0], "", *GOOD[1:], row])
    error = refused(tmp_path, r"train.csv line 6 has \d cells; expected 3")
    chain = [error, error.__cause__, None if error.__suppress_context__ else error.__context__]
    assert "secret" not in " ".join(map(str, chain))


def test_undecodable_csv(tmp_path):
    (tmp_path / "train.csv").write_bytes(b"a,b,label\n1,2,yes\n1,2,n\xff\n")
    refused(tmp_path, "line 3 is not UTF-8")


def test_undecodable_text(tmp_path):
    (tmp_path / "train.txt").write_bytes(b"fine\nnot \xff fine\n")
    refused(tmp_path, "line 2 is not UTF-8", train="train.txt", label=None, columns={})


def test_two_columns_of_one_name(tmp_path):
    write(tmp_path, ["a,a,label", "1,2,yes"])
    refused(tmp_path, "two columns named 'a'", columns={})


def test_header_of_the_wrong_length(tmp_path):
    write(tmp_path, GOOD[1:])
    refused(tmp_path, "header names 2 columns and .* has 3", header=("a", "label"), columns={})


@pytest.mark.parametrize(("line", "match"), [("{", "line 2 is not JSON"), ("[1]", "line 2 is not a JSON object")])
def test_bad_json_lines(tmp_path, line, match):
    write(tmp_path, ['{"a": 1, "label": "x"}', line], "train.jsonl")
    refused(tmp_path, match, train="train.jsonl", columns={"a": RANGES["a"]})


def test_nested_json(tmp_path):
    write(tmp_path, ['{"a": 1, "label": "x"}', '{"a": [1], "label": "y"}'], "train.jsonl")
    refused(tmp_path, "row 2, column 'a' holds a list", train="train.jsonl", columns={"a": RANGES["a"]})


def test_damaged_parquet(tmp_path):
    (tmp_path / "train.parquet").write_bytes(b"PAR1 no")
    refused(tmp_path, "damaged", train="train.parquet")


def test_nested_parquet(tmp_path):
    pa.parquet.write_table(pa.table({"a": [[1], [2]], "label": ["x", "y"]}), tmp_path / "train.parquet")
    refused(tmp_path, "column 'a' holds list", train="train.parquet", columns={"a": RANGES["a"]})


@pytest.fixture
def images(tmp_path):
    (tmp_path / "i.gz").write_bytes(gzip.compress(idx(4, 2, 2, values=range(16))))
    (tmp_path / "l.gz").write_bytes(gzip.compress(idx(4, values=[0, 1, 1, 0])))
    return tmp_path


PAIR = {"train": ImageFiles(images="i.gz", labels="l.gz"), "label": None, "columns": {}}


def test_the_good_images_are_good(images):
    inputs, targets = read(images, **PAIR).train.batch(np.arange(4))
    assert inputs.shape == (4, 1, 2, 2)
    assert targets.tolist() == [0, 1, 1, 0]


def test_truncated_gzip(images):
    path = images / "i.gz"
    path.write_bytes(path.read_bytes()[:-9])
    refused(images, "i.gz is truncated or damaged", **PAIR)


def test_gzip_that_holds_too_little(images):
    (images / "i.gz").write_bytes(gzip.compress(idx(4, 2, 2, values=range(15))))
    refused(images, "i.gz is truncated", **PAIR)


def test_gzip_that_holds_too_much(images):
    (images / "i.gz").write_bytes(gzip.compress(idx(4, 2, 2, values=range(17))))
    refused(images, "longer than its header", **PAIR)


def test_plain_idx_of_the_wrong_size(images):
    (images / "i").write_bytes(idx(4, 2, 2, values=range(15)))
    refused(
        images,
        "31 bytes.*expected 32|has 31 bytes; expected 32",
        **PAIR | {"train": ImageFiles(images="i", labels="l.gz")},
    )


def test_counts_that_disagree(images):
    (images / "l.gz").write_bytes(gzip.compress(idx(3, values=[0, 1, 1])))
    refused(images, "holds 4 images and .* 3 labels", **PAIR)


def test_wrong_magic(images):
    (images / "i.gz").write_bytes(gzip.compress(b"\x89PNG" + bytes(16)))
    refused(images, "89504e47; expected the magic number", **PAIR)


def test_images_and_labels_swapped(images):
    refused(images, "expected images", **PAIR | {"train": ImageFiles(images="l.gz", labels="i.gz")})


def test_pickled_objects_are_never_loaded(tmp_path):
    np.savez(tmp_path / "train.npz", x=np.array([{}, {}], dtype=object), y=np.array([0, 1]))
    refused(tmp_path, "'x' holds pickled objects, which can run code", train="train.npz", label=None, columns={})


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_in_an_array(tmp_path, bad):
    x = np.zeros((5, 2))
    x[3, 1] = bad
    np.savez(tmp_path / "train.npz", x=x, y=np.arange(5) % 2)
    refused(tmp_path, "array 'x' row 4 holds NaN or infinity", train="train.npz", label=None, columns={})


def test_arrays_of_unequal_length(tmp_path):
    np.savez(tmp_path / "train.npz", x=np.zeros((5, 2)), y=np.zeros(4))
    refused(tmp_path, "expected one label", train="train.npz", label=None, columns={})


def test_arrays_without_names(tmp_path):
    np.savez(tmp_path / "train.npz", p=np.zeros((5, 2)), q=np.zeros(5))
    refused(tmp_path, r"has arrays \['p', 'q'\]", train="train.npz", label=None, columns={})


def test_damaged_npz(tmp_path):
    (tmp_path / "train.npz").write_bytes(b"PK no")
    refused(tmp_path, "damaged", train="train.npz", label=None, columns={})


def test_directory_without_files(tmp_path):
    (tmp_path / "clients").mkdir()
    refused(tmp_path, "no files that match", train="clients")


def test_directory_of_mixed_kinds(tmp_path):
    (tmp_path / "clients").mkdir()
    write(tmp_path / "clients", GOOD, "1.csv")
    write(tmp_path / "clients", GOOD, "2.tsv")
    refused(tmp_path, "kinds csv, tsv", train="clients")


def test_client_with_other_columns(tmp_path):
    (tmp_path / "clients").mkdir()
    write(tmp_path / "clients", GOOD, "1.csv")
    write(tmp_path / "clients", ["a,c,label", "1,2,yes"], "2.csv")
    refused(tmp_path, "2.csv has columns", train="clients")


def test_declared_number_of_examples_that_is_wrong(tmp_path):
    write(tmp_path, GOOD)
    source = open_source(DataSettings(train="train.csv", label="label", columns=RANGES, examples=7), tmp_path)
    assert source.num_examples == 7
    with pytest.raises(InputError, match="3 examples; the recipe declares 7"):
        load(source)


def test_text_file_with_labels_wanted(tmp_path):
    write(tmp_path, ["a"], "train.txt")
    refused(tmp_path, "has none", train="train.txt", task="classification", columns={})


def test_missing_text_column(tmp_path):
    write(tmp_path, ["sentence\tlabel", "good\t1"], "train.tsv")
    refused(
        tmp_path,
        "no column 'sentense'",
        "'sentence'",
        train="train.tsv",
        text=TextSettings(column="sentense"),
        columns={},
    )


def test_regression_target_that_is_no_number(tmp_path):
    write(tmp_path, ["a,b,label", "1,2,3", "1,2,?"])
    refused(tmp_path, "row 2, column 'label' is not a number", target=TargetSettings(low=0, high=9))


def test_function_that_is_not_there(tmp_path):
    refused(tmp_path, "no_such_module", train="no_such_module:load", dataset="d", columns={})


def test_function_without_a_name_for_its_data(tmp_path):
    refused(tmp_path, "digest", "set dataset", train="no_such_module:load", columns={})


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"unit": "user"}, "user_column"),
        ({"user_column": "u"}, "user_column"),
        ({"unit": "family"}, "unit is 'family'"),
        ({"task": "regression"}, "public range"),
        ({"task": "poetry"}, "task is 'poetry'"),
        ({"classes": ("a",)}, "at least two"),
        ({"classes": ("a", "a")}, "at least two"),
        ({"features": "hog"}, "features"),
        ({"image_mean": (0.5,)}, "without image_std"),
        ({"examples": 0}, "examples is 0"),
    ],
)
def test_settings_without_meaning(settings, match):
    with pytest.raises(InputError, match=match):
        DataSettings(train="a.csv", **settings)


@pytest.mark.parametrize(
    ("column", "match"),
    [
        ({}, "either low and high"),
        ({"low": 0.0}, "low is given without high"),
        ({"low": 1.0, "high": 1.0}, "low below high"),
        ({"low": 0.0, "high": 1.0, "mean": 0.0, "std": 1.0}, "either"),
        ({"mean": 0.0, "std": 0.0}, "std is 0.0"),
        ({"kind": "categorical"}, "without categories"),
        ({"kind": "date"}, "kind is 'date'"),
    ],
)
def test_columns_without_meaning(column, match):
    with pytest.raises(InputError, match=match):
        ColumnSettings(**column)


def test_unit_client_needs_a_directory(tmp_path):
    write(tmp_path, GOOD)
    refused(tmp_path, "train is one file", "directory", unit="client")


def test_train_and_test_of_different_kinds(tmp_path):
    write(tmp_path, GOOD)
    np.savez(tmp_path / "test.npz", x=np.zeros((2, 2)), label=np.zeros(2))
    refused(tmp_path, "different kinds", test="test.npz")


def test_preprocessing_is_json(tmp_path):
    write(tmp_path, GOOD)
    assert json.loads(json.dumps(read(tmp_path).preprocessing)) == read(tmp_path).preprocessing
