"""Histograms over public bins, and encodings that follow from noisy counts alone."""

import json

import numpy as np
import pyarrow as pa
import pytest

from cloister.data import (
    DataSettings,
    columns_from_histograms,
    encoding_from_json,
    encoding_to_json,
    histogram_domain,
    open_source,
)
from cloister.data.cells import read_cells
from cloister.data.encodings import HashedCategories, Ignored, NamedCategories, Ranked, Scaled
from cloister.data.histograms import bin_cells, hash_bucket, numeric_bins
from cloister.data.tables import TableBatch
from cloister.errors import InputError

DOMAIN = histogram_domain()


def cells(values, name="c"):
    array = pa.array(values)
    batch = TableBatch(path="t", file_index=0, first_row=1, num_rows=len(values), columns={name: array})
    return read_cells(batch, name)


def counts_of(values, name="c"):
    return np.bincount(bin_cells(cells(values, name)), minlength=DOMAIN.num_bins)[None].astype(float)


def encoding_for(values, stddev=0.0, seed=0):
    counts = counts_of(values) + np.random.default_rng(seed).normal(0, 1, (1, DOMAIN.num_bins)) * stddev
    return columns_from_histograms(["c"], counts, stddev, len(values))["c"]


def test_bins_partition_the_domain():
    parts = [DOMAIN.missing, *DOMAIN.numeric, *DOMAIN.buckets]
    assert parts == list(range(DOMAIN.num_bins))
    assert len(DOMAIN.edges) == len(DOMAIN.numeric) + 1
    assert (np.diff(DOMAIN.edges) > 0).all()


def test_numbers_lie_between_the_edges_of_their_bin():
    rng = np.random.default_rng(0)
    numbers = rng.choice([-1, 1], 5000) * 2.0 ** rng.uniform(-9.9, 39.9, 5000)
    position = numeric_bins(numbers) - DOMAIN.numeric.start
    slack = 1e-9 * np.abs(numbers)  # a logarithm may round to the neighbor at an edge
    assert (DOMAIN.edges[position] <= numbers + slack).all()
    assert (numbers <= DOMAIN.edges[position + 1] + slack).all()


def test_extreme_numbers_are_clamped():
    bins = numeric_bins(np.array([-1e300, -1e-300, 0.0, 1e-300, 1e300])) - DOMAIN.numeric.start
    assert bins.tolist() == [0, 799, 800, 801, 1600]


def test_missing_numbers_and_text_have_their_own_bins():
    bins = bin_cells(cells([" ? ", "", "NaN", None, "0", " 1.5", "1_5", "Private"]))
    assert (bins[:4] == DOMAIN.missing).all()
    assert all(b in DOMAIN.numeric for b in bins[4:6])
    assert all(b in DOMAIN.buckets for b in bins[6:])
    assert bins[7] == DOMAIN.buckets.start + hash_bucket("c", "Private")


def test_the_hash_depends_on_the_column_and_never_changes():
    assert hash_bucket("workclass", "Private") == 661
    assert hash_bucket("ab", "c") != hash_bucket("a", "bc")


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_adding_one_row_moves_the_counts_by_sqrt_of_columns(tmp_path, kind):
    rows = [{"a": float(i), "b": f"t{i % 3}", "c": None, "label": "x"} for i in range(20)]

    def counts(given):
        path = tmp_path / f"t{len(given)}.{kind}"
        if kind == "csv":
            path.write_text("a,b,c,label\n" + "".join(f"{r['a']},{r['b']},,x\n" for r in given))
        elif kind == "parquet":
            pa.parquet.write_table(pa.Table.from_pylist(given), path)
        else:
            path.write_text("".join(json.dumps(r) + "\n" for r in given))
        source = open_source(DataSettings(train=str(path), label="label"), tmp_path)
        assert source.needs_statistics == ("a", "b", "c")
        return source.count_bins(source.needs_statistics)

    more, fewer = counts(rows), counts(rows[:-1])
    assert (more.sum(axis=1) == 20).all()
    assert np.linalg.norm(more - fewer) == pytest.approx(np.sqrt(3))


def test_a_numeric_column_is_ranked_with_zero_mean_and_unit_variance():
    values = np.random.default_rng(1).lognormal(3, 1.5, 20_000)
    encoding = encoding_for(values, stddev=10)
    features = encoding.encode(cells(values))
    assert isinstance(encoding, Ranked)
    assert abs(features[:, 0].mean()) < 0.05
    assert abs(features[:, 0].std() - 1) < 0.1, "tails in dropped bins share the rank of the nearest kept one"
    order = np.argsort(values)
    assert (np.diff(features[order, 0]) >= 0).all(), "ranks keep the order"
    assert not features[:, 1].any()


def test_ranks_follow_the_true_distribution():
    values = np.random.default_rng(2).normal(50, 15, 50_000)
    features = encoding_for(values).encode(cells(values))[:, 0]
    true_rank = (np.argsort(np.argsort(values)) + 0.5) / len(values)
    assert np.abs(features / np.sqrt(12) + 0.5 - true_rank).max() < 0.02


def test_heavy_tails_stay_bounded_and_zero_is_a_point_of_its_own():
    values = np.where(np.arange(10_000) % 12 == 0, 99_999.0, 0.0)
    encoding = encoding_for(values, stddev=5)
    low, high, huge = encoding.encode(cells([0.0, 99_999.0, 1e12]))[:, 0]
    assert low < -0.2
    assert 1 < high <= huge < 10


def test_missing_numbers_become_the_mean_and_an_indicator():
    encoding = encoding_for([*range(1, 1000)])
    assert encoding.encode(cells(["?", "nonsense"])).tolist() == [[0, 1], [0, 1]]


def test_frequent_text_has_a_feature_and_rare_text_shares_one():
    values = ["red"] * 500 + ["blue"] * 400 + ["rare"] * 3
    encoding = encoding_for(values, stddev=10)
    assert isinstance(encoding, HashedCategories)
    features = encoding.encode(cells(["red", "blue", "rare", "never seen", "?", "7"]))
    assert features.shape == (6, 3)
    assert (features.sum(axis=1) == 1).all()
    assert features[0].argmax() != features[1].argmax()
    assert (features[2:, 2] == 1).all()


def test_frequently_missing_text_has_a_feature():
    encoding = encoding_for(["red"] * 500 + ["?"] * 300)
    red, missing = encoding.encode(cells(["red", "?"]))
    assert (red.argmax(), missing.argmax()) == (0, 1)


def test_noise_alone_yields_nothing():
    """525,200 counts of noise alone; one exceeds 5.1 deviations with probability below 0.1 for each run."""
    noise = np.random.default_rng(3).normal(0, 50, (200, DOMAIN.num_bins))
    encodings = columns_from_histograms([str(i) for i in range(200)], noise, 50.0, 10_000)
    assert sum(isinstance(e, Ignored) for e in encodings.values()) >= 198


def test_signal_above_noise_is_kept():
    """Negative control of the test above."""
    assert isinstance(encoding_for(["red"] * 1000, stddev=50), HashedCategories)


def test_no_value_of_a_row_enters_the_encoding():
    stored = json.dumps(encoding_to_json(encoding_for(["Zanzibar"] * 500 + ["Atlantis"] * 400, stddev=5)))
    assert "Zanzibar" not in stored
    assert "Atlantis" not in stored


def test_wrong_shape_of_counts():
    with pytest.raises(InputError, match="expected \\(2, 2626\\)"):
        columns_from_histograms(["a", "b"], np.zeros((1, 2626)), 1.0, 10)


def test_scaled_clamps_and_marks_missing():
    encoding = Scaled(center=5.0, scale=5.0, limit=1.0)
    assert encoding.encode(cells([0.0, 5.0, 10.0, 99.0, None])).tolist() == [[-1, 0], [0, 0], [1, 0], [1, 0], [0, 1]]


def test_named_categories_include_numbers():
    encoding = NamedCategories(categories=("1", "2"))
    assert encoding.encode(cells([1, 2, 3])).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert encoding.encode(cells([1.0, None])).tolist() == [[1, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    "encoding",
    [
        Ignored(),
        Scaled(1.0, 2.0, 5.0),
        NamedCategories(("a", "b")),
        HashedCategories((1602, 0)),
        Ranked((0.0, 1.0), (-1.0, 1.0)),
    ],
)
def test_encodings_survive_json(encoding):
    assert encoding_from_json(json.loads(json.dumps(encoding_to_json(encoding)))) == encoding


@pytest.mark.parametrize("stored", [{"kind": "os.system"}, {}, {"kind": "scaled", "evil": 1}])
def test_unknown_encodings_are_refused(stored):
    with pytest.raises(InputError, match="column encoding"):
        encoding_from_json(stored)


def test_thinly_spread_numbers_are_seen_in_wider_bins():
    # 3000 rows over three octaves: some 60 to a bin, below the level of a single bin at this noise.
    from cloister.data.denoising import keep_single, keep_smoothed

    rng = np.random.default_rng(0)
    domain = histogram_domain()
    values = np.exp(rng.uniform(np.log(10), np.log(80), 3000))
    counts = np.histogram(values, domain.edges[domain.edges > 0])[0].astype(float)
    noisy = counts + rng.normal(0, 20, len(counts))
    assert keep_single(noisy, noise_stddev=20, level=4).sum() < 0.5 * len(values)
    smoothed = keep_smoothed(noisy, noise_stddev=20, level=4)
    assert 0.8 * len(values) < smoothed.sum() < 1.2 * len(values)
    empty = rng.normal(0, 20, len(counts))
    assert keep_smoothed(empty, noise_stddev=20, level=4.5).sum() < 0.1 * len(values)
