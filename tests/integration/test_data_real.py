"""The readers on real data sets."""

import numpy as np
import pytest

from cloister.data import DataSettings, ImageFiles, TextSettings, columns_from_histograms, load, open_source

ADULT = (
    "age workclass fnlwgt education education-num marital-status occupation relationship race sex "
    "capital-gain capital-loss hours-per-week native-country income"
)
HEART = "age sex cp trestbps chol fbs restecg thalach exang oldpeak slope ca thal num"


def bought(source, stddev):
    counts = source.count_bins(source.needs_statistics)
    noise = np.random.default_rng(0).normal(0, stddev, counts.shape)
    return columns_from_histograms(source.needs_statistics, counts + noise, stddev, source.num_examples)


def test_adult(shared_data):
    settings = DataSettings(
        train="adult-train.csv",
        test="adult-test.csv",
        label="income",
        header=tuple(ADULT.split()),
        label_map={"<=50K.": "<=50K", ">50K.": ">50K"},
    )
    source = open_source(settings, shared_data / "adult")
    assert source.num_examples == 32_561
    assert len(source.needs_statistics) == 14
    # About what a tenth of epsilon 3 buys for 14 columns.
    loaded = load(source, bought(source, 46.0))
    inputs, targets = loaded.train.batch(np.arange(32_561))
    tests = loaded.test.batch(np.arange(16_281))
    assert targets.sum() == 7_841
    assert tests[1].sum() == 3_846
    assert inputs.abs().max() < 20
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=500).fit(inputs, targets)
    assert model.score(*tests) > 0.84


def test_fashion_mnist(shared_data):
    folder = shared_data / "fashion-mnist"
    settings = DataSettings(train=ImageFiles(images="t10k-images-idx3-ubyte.gz", labels="t10k-labels-idx1-ubyte.gz"))
    loaded = load(open_source(settings, folder))
    inputs, targets = loaded.train.batch(np.arange(10_000))
    assert inputs.shape == (10_000, 1, 28, 28)
    assert (inputs.min(), inputs.max()) == (0, 1)
    assert targets.bincount().tolist() == [1000] * 10


def test_sst2(shared_data):
    settings = DataSettings(
        train="train_full.tsv", test="dev.tsv", label="label", text=TextSettings(column="sentence", context=64)
    )
    source = open_source(settings, shared_data / "sst2")
    assert source.num_examples == 67_349
    assert source.needs_statistics == ()
    loaded = load(source)
    tokens, targets = loaded.train.batch(np.array([0]))
    assert bytes(tokens[0, :43].tolist()) == b"hide new secretions from the parental units"
    assert targets.tolist() == [0]
    assert loaded.test.batch(np.arange(872))[1].sum() == 444


@pytest.mark.parametrize(("split", "documents"), [("blank_line", 7_222), ("file", 1)])
def test_tiny_shakespeare(shared_data, split, documents):
    settings = DataSettings(train="input.txt", text=TextSettings(split=split))
    loaded = load(open_source(settings, shared_data / "tiny-shakespeare"))
    assert len(loaded.train) == documents
    tokens, targets = loaded.train.batch(np.array([0]))
    assert bytes(tokens[0, 1:15].tolist()) == b"First Citizen:"
    assert targets[0, 0] == ord("F")


def test_fed_heart(shared_data):
    settings = DataSettings(
        train="fed-heart",
        files="*.data",
        format="csv",
        label="num",
        header=tuple(HEART.split()),
        label_map={"2": "1", "3": "1", "4": "1"},
        classes=("0", "1"),
        unit="client",
    )
    source = open_source(settings, shared_data)
    assert (source.num_clients, source.num_examples) == (4, 920)
    loaded = load(source, bought(source, 1.0))
    assert np.bincount(loaded.units).tolist() == [303, 294, 123, 200]
    assert loaded.train.batch(np.arange(920))[1].sum() == 139 + 106 + 115 + 149
