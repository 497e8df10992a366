"""What is read is what was written, in every format, in memory and memory-mapped."""

import gzip
import json
import struct
import subprocess
import sys
from textwrap import dedent

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch

from cloister.data import (
    ColumnSettings,
    DataSettings,
    ImageFiles,
    TargetSettings,
    TextSettings,
    encode_rows,
    load,
    open_source,
)
from cloister.errors import InputError

COLUMNS = {"age": ColumnSettings(low=0, high=100), "color": ColumnSettings(categories=("red", "blue"))}
ROWS = [
    {"age": 50, "color": "red", "label": "yes"},
    {"age": 100, "color": "green", "label": "no"},
    {"age": None, "color": "blue", "label": "yes"},
]
FEATURES = [[0, 0, 1, 0, 0], [1, 0, 0, 0, 1], [0, 1, 0, 1, 0]]


def write_rows(path, rows=ROWS):
    names = list(rows[0])
    if path.suffix == ".parquet":
        pa.parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        separator = "\t" if path.suffix == ".tsv" else ","
        lines = [separator.join("" if row[name] is None else f" {row[name]}" for name in names) for row in rows]
        path.write_text("\n".join([separator.join(names), *lines]) + "\n\n")


def everything(examples):
    return examples.batch(np.arange(len(examples)))


def read(folder, memory_limit_bytes=1 << 30, **settings):
    return load(open_source(DataSettings(**settings), folder), memory_limit_bytes=memory_limit_bytes)


@pytest.mark.parametrize("limit", [1 << 30, 1], ids=["memory", "mapped"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.parquet", "t.jsonl"])
def test_tables(tmp_path, name, limit):
    write_rows(tmp_path / name)
    loaded = read(tmp_path, limit, train=name, label="label", columns=COLUMNS)
    inputs, targets = everything(loaded.train)
    assert inputs.tolist() == FEATURES
    assert inputs.dtype == torch.float32
    assert targets.tolist() == [1, 0, 1]
    assert loaded.spec.classes == ("no", "yes")
    assert loaded.spec.input_shape == (5,)
    assert "class names were taken from the training labels" in loaded.notes[0]
    assert loaded.test is None


def test_batches_may_be_empty_or_repeat(tmp_path):
    write_rows(tmp_path / "t.csv")
    train = read(tmp_path, train="t.csv", label="label", columns=COLUMNS).train
    assert train.batch(np.zeros(0, dtype=np.int64))[0].shape == (0, 5)
    assert train.batch(np.array([2, 0, 2]))[1].tolist() == [1, 1, 1]


def test_quotes_newlines_byte_order_mark_and_blank_lines(tmp_path):
    (tmp_path / "t.csv").write_bytes(b'\xef\xbb\xbf\nage,"color",label\n\n50,"red",yes\n100,"gr\neen",no\n')
    source = open_source(DataSettings(train="t.csv", label="label", columns=COLUMNS), tmp_path)
    assert source.num_examples == 2
    assert everything(load(source).train)[0].tolist() == FEATURES[:2]


def test_header_given_in_the_recipe(tmp_path):
    (tmp_path / "t.csv").write_text("50, red, yes\n100, green, no\n")
    loaded = read(tmp_path, train="t.csv", label="label", columns=COLUMNS, header=("age", "color", "label"))
    assert everything(loaded.train)[0].tolist() == FEATURES[:2]


def test_label_map_declared_classes_and_ignored_columns(tmp_path):
    (tmp_path / "t.csv").write_text("age,id,label\n50,7,<=50K.\n100,8,>50K\n")
    loaded = read(
        tmp_path,
        train="t.csv",
        label="label",
        columns={"age": COLUMNS["age"], "id": ColumnSettings(kind="ignore")},
        classes=(">50K", "<=50K"),
        label_map={"<=50K.": "<=50K"},
    )
    assert everything(loaded.train)[1].tolist() == [1, 0]
    assert loaded.notes == ()
    assert loaded.spec.input_shape == (2,)


def test_classes_come_from_the_test_file(tmp_path):
    write_rows(tmp_path / "t.csv")
    write_rows(tmp_path / "test.csv", [{"age": 1, "color": "red", "label": label} for label in ("yes", "no", "so")])
    loaded = read(tmp_path, train="t.csv", test="test.csv", label="label", columns=COLUMNS)
    assert loaded.spec.classes == ("no", "so", "yes")
    assert everything(loaded.test)[1].tolist() == [2, 0, 1]
    assert "test labels" in loaded.notes[0]


def test_test_columns_may_stand_in_another_order(tmp_path):
    write_rows(tmp_path / "t.csv")
    write_rows(tmp_path / "test.csv", [dict(reversed(row.items())) for row in ROWS])
    loaded = read(tmp_path, train="t.csv", test="test.csv", label="label", columns=COLUMNS)
    assert everything(loaded.test)[0].tolist() == FEATURES


def test_regression_clamps_training_targets_only(tmp_path):
    write_rows(tmp_path / "t.csv", [{"age": 1, "y": y} for y in (0, 5, 10, 30)])
    loaded = read(
        tmp_path,
        train="t.csv",
        test="t.csv",
        label="y",
        columns={"age": COLUMNS["age"]},
        target=TargetSettings(low=0, high=10),
    )
    assert loaded.spec.task == "regression"
    assert loaded.spec.num_outputs == 1
    assert loaded.spec.target_scale == 5
    assert everything(loaded.train)[1].tolist() == [-1, 0, 1, 1]
    assert everything(loaded.test)[1].tolist() == [-1, 0, 1, 5]


def test_clients_and_users_keep_their_number(tmp_path):
    (tmp_path / "clients").mkdir()
    write_rows(tmp_path / "clients" / "b.csv")
    write_rows(tmp_path / "clients" / "a.csv", ROWS[:2])
    (tmp_path / "clients" / ".hidden").write_text("x")
    source = open_source(DataSettings(train="clients", label="label", columns=COLUMNS, unit="client"), tmp_path)
    assert (source.num_examples, source.num_clients) == (5, 2)
    loaded = load(source)
    assert loaded.units.tolist() == [0, 0, 1, 1, 1]
    assert everything(loaded.train)[0].tolist() == FEATURES[:2] + FEATURES
    users = read(
        tmp_path,
        train="clients/b.csv",
        label="label",
        unit="user",
        user_column="color",
        columns={"age": COLUMNS["age"]},
    )
    assert users.units.tolist() == [0, 1, 2]
    assert users.spec.input_shape == (2,)


def test_digest_follows_the_content_and_not_the_order_of_files(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    write_rows(tmp_path / "one/a.csv")
    write_rows(tmp_path / "one/b.csv", ROWS[:2])
    write_rows(tmp_path / "two/a.csv", ROWS[:2])
    write_rows(tmp_path / "two/b.csv")
    digests = [
        open_source(DataSettings(train=n, label="label"), tmp_path).digest()
        for n in ("one", "two", "one/a.csv", "two/b.csv")
    ]
    assert digests[0] == digests[1]
    assert digests[2] == digests[3]
    assert digests[0] != digests[2]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("limit", [1 << 30, 1], ids=["memory", "mapped"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npz(tmp_path, save, limit, order):
    x = np.asarray(np.arange(12.0).reshape(4, 3), order=order)
    save(tmp_path / "t.npz", features=x, labels=np.array([0, 1, 2, 1], dtype=">i4"))
    loaded = read(tmp_path, limit, train="t.npz")
    inputs, targets = everything(loaded.train)
    assert inputs.tolist() == x.tolist()
    assert targets.tolist() == [0, 1, 2, 1]
    assert loaded.spec.classes == ("0", "1", "2")


def test_uncompressed_npz_is_mapped(tmp_path):
    np.savez(tmp_path / "t.npz", x=np.zeros((4, 3)), y=np.arange(4))
    train = read(tmp_path, train="t.npz").train
    assert isinstance(train._inputs, np.memmap)
    assert train._inputs.filename is not None


def test_npz_scaling_and_text_labels(tmp_path):
    np.savez(tmp_path / "t.npz", pixels=np.array([[0, 16], [8, 99]]), kind=np.array(["a", "b"]))
    loaded = read(tmp_path, train="t.npz", label="kind", columns={"pixels": ColumnSettings(low=0, high=16)})
    assert everything(loaded.train)[0].tolist() == [[-1, 1], [0, 1]]
    assert loaded.spec.classes == ("a", "b")
    assert encode_rows(loaded.preprocessing, [{"pixels": [8, 99]}]).tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("shape", "expected"), [((2, 5, 6), (1, 5, 6)), ((2, 5, 6, 3), (3, 5, 6)), ((2, 3, 5, 6), (3, 5, 6))]
)
def test_images_in_npz(tmp_path, shape, expected):
    x = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.savez(tmp_path / "t.npz", x=x, y=np.arange(2))
    loaded = read(tmp_path, train="t.npz")
    inputs, _ = everything(loaded.train)
    assert loaded.spec.input_shape == inputs.shape[1:] == expected
    want = x[:, None] if x.ndim == 3 else np.moveaxis(x, 3, 1) if expected != shape[1:] else x
    assert torch.equal(inputs, torch.from_numpy(want / np.float32(255)))
    assert torch.equal(encode_rows(loaded.preprocessing, [{"image": image} for image in x.tolist()]), inputs)


@pytest.fixture
def images(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 28, 28), dtype=np.uint8)
    header = struct.pack(">HBB3I", 0, 8, 3, 6, 28, 28)
    labels = struct.pack(">HBBI", 0, 8, 1, 6) + bytes([0, 1, 2, 2, 1, 0])
    (tmp_path / "images").write_bytes(header + pixels.tobytes())
    (tmp_path / "images.gz").write_bytes(gzip.compress(header + pixels.tobytes()))
    (tmp_path / "labels").write_bytes(labels)
    (tmp_path / "labels.gz").write_bytes(gzip.compress(labels))
    return tmp_path, pixels


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("limit", [1 << 30, 1], ids=["memory", "mapped"])
def test_idx(images, ending, limit):
    folder, pixels = images
    pair = ImageFiles(images="images" + ending, labels="labels" + ending)
    loaded = read(folder, limit, train=pair, classes=("shirt", "shoe", "bag"), image_mean=(0.5,), image_std=(0.25,))
    inputs, targets = everything(loaded.train)
    torch.testing.assert_close(inputs, torch.from_numpy((pixels[:, None] / np.float32(255) - 0.5) / 0.25))
    assert targets.tolist() == [0, 1, 2, 2, 1, 0]
    assert loaded.spec.classes == ("shirt", "shoe", "bag")
    assert loaded.notes == ()


def test_scattering_features_are_computed_once_and_again_for_new_rows(images):
    folder, pixels = images
    loaded = read(folder, train=ImageFiles(images="images", labels="labels"), features="scattering")
    inputs, _ = everything(loaded.train)
    assert loaded.spec.input_shape == inputs.shape[1:] == (81, 7, 7)
    again = encode_rows(loaded.preprocessing, [{"image": image} for image in pixels])
    torch.testing.assert_close(again, inputs)


def test_language_modeling_of_lines_and_paragraphs(tmp_path):
    (tmp_path / "t.txt").write_text("ab\n\nc\nd\n\n\nefghij")
    loaded = read(tmp_path, train="t.txt", text=TextSettings(context=4, split="blank_line"))
    tokens, targets = everything(loaded.train)
    end, pad = 256, loaded.spec.padding
    assert tokens.tolist() == [[end, 97, 98, end], [end, 99, 10, 100], [end, 101, 102, 103]]
    assert targets.tolist() == [[97, 98, end, -100], [99, 10, 100, end], [101, 102, 103, 104]]
    assert (loaded.spec.vocab_size, loaded.spec.num_outputs, loaded.spec.context, pad) == (258, 258, 4, 257)
    lines = read(tmp_path, train="t.txt", text=TextSettings(context=4))
    assert len(lines.train) == 4
    whole = read(tmp_path, train="t.txt", text=TextSettings(context=4, split="file"))
    assert len(whole.train) == 1


@pytest.mark.parametrize("name", ["t.tsv", "t.jsonl", "t.parquet"])
def test_text_classification(tmp_path, name):
    write_rows(
        tmp_path / name, [{"text": "good", "label": 1}, {"text": "ba\u00df", "label": 0}, {"text": "", "label": 0}]
    )
    loaded = read(tmp_path, train=name, label="label")
    inputs, targets = everything(loaded.train)
    assert inputs.shape == (3, 128)
    assert targets.tolist() == [1, 0, 0]
    assert loaded.spec.vocab_size == 258
    assert loaded.spec.num_outputs == 2
    space = " " if name == "t.tsv" else ""
    rows = [{"text": space + "good"}, {"text": space + "ba\u00df"}, {"text": space}]
    assert torch.equal(encode_rows(loaded.preprocessing, rows), inputs)


def test_a_function_that_returns_a_dataset(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "my_module_of_data", raising=False)
    (tmp_path / "my_module_of_data.py").write_text(
        dedent("""
        import torch

        def pairs():
            return torch.utils.data.TensorDataset(torch.arange(8.0).reshape(4, 2), torch.tensor([0, 1, 2, 1]))
        """)
    )
    loaded = read(tmp_path, train="my_module_of_data:pairs", dataset="mine")
    inputs, targets = loaded.train.batch(np.array([3, 1]))
    assert inputs.tolist() == [[6, 7], [2, 3]]
    assert targets.tolist() == [1, 1]
    assert loaded.train.batch(np.zeros(0, dtype=np.int64))[0].shape == (0, 2)
    assert loaded.spec.classes == ("0", "1", "2")
    assert str(tmp_path) not in sys.path


def test_settings_are_read_without_torch():
    code = "import sys, cloister.data.settings, cloister.models.settings; print({'torch', 'pyarrow'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_full_stop_at_the_end_of_a_label_is_no_other_class(tmp_path):
    (tmp_path / "train.csv").write_text("x,y\n1,<=50K\n2,>50K\n")
    (tmp_path / "test.csv").write_text("x,y\n1,<=50K.\n2,>50K.\n")
    settings = DataSettings(
        train="train.csv", test="test.csv", label="y", columns={"x": ColumnSettings(low=0.0, high=3.0)}
    )
    loaded = load(open_source(settings, tmp_path))
    assert loaded.spec.classes == ("<=50K", ">50K")
    assert loaded.test.batch(np.arange(2))[1].tolist() == loaded.train.batch(np.arange(2))[1].tolist() == [0, 1]


def test_a_file_without_a_header_is_told_from_a_misspelled_column(tmp_path):
    (tmp_path / "bare.csv").write_text("39,State-gov,<=50K\n50,Private,>50K\n")
    with pytest.raises(InputError, match="no column 'income'") as caught:
        open_source(DataSettings(train="bare.csv", label="income"), tmp_path)
    assert "header = [...]" in caught.value.hint
    assert "State-gov" not in caught.value.hint
