"""What holds for all inputs of the data room."""

import csv
import io

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cloister.data import columns_from_histograms, histogram_domain
from cloister.data.delimited import read_delimited
from cloister.data.histograms import hash_bucket, numeric_bins
from cloister.data.tokens import BytesTokenizer, token_row

FINITE = st.floats(allow_nan=False, allow_infinity=False)
CELL = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r", exclude_categories=("Cs",)), max_size=8)


@given(st.lists(FINITE, min_size=2, max_size=50))
def test_numeric_bins_keep_the_order(numbers):
    ordered = np.sort(np.array(numbers))
    bins = numeric_bins(ordered)
    assert (np.diff(bins) >= 0).all()
    assert all(b in histogram_domain().numeric for b in bins)


@given(FINITE)
def test_numeric_bins_are_symmetric(number):
    positive, negative = numeric_bins(np.array([number, -number])) - numeric_bins(np.zeros(1))
    assert positive == -negative


@given(CELL, CELL)
def test_every_text_has_a_bucket(column, text):
    assert 0 <= hash_bucket(column, text) < 1024


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1000))
def test_any_noisy_histogram_gives_a_bounded_monotone_encoding(seed, stddev):
    rng = np.random.default_rng(seed)
    domain = histogram_domain()
    counts = rng.poisson(rng.choice([0.0, 3.0, 300.0], domain.num_bins)) + rng.normal(0, stddev, domain.num_bins)
    counts[domain.buckets.start :] = 0
    encoding = columns_from_histograms(["c"], counts[None], stddev, 1000)["c"]
    if encoding.tag == "ranked":
        assert (np.diff(encoding.values) > 0).all()
        assert (np.diff(encoding.features) >= 0).all()
        assert np.abs(encoding.features).max() < 40


@settings(deadline=None)
@given(rows=st.lists(st.tuples(CELL, CELL), max_size=20))
def test_csv_cells_come_back(tmp_path_factory, rows):
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([("a", "b"), *rows])
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes(text.getvalue().encode())
    found = [
        pair
        for block in read_delimited(path, "csv", ("a", "b"), ("a", "b"), has_header=True)
        for pair in zip(block["a"].to_pylist(), block["b"].to_pylist(), strict=True)
    ]
    assert found == rows


@given(st.text(st.characters(codec="utf-8"), max_size=40), st.integers(1, 30))
def test_token_rows_hold_the_document(text, context):
    tokenizer = BytesTokenizer()
    row = token_row(text, tokenizer, context, modeling=True)
    assert row.shape == (context + 1,)
    whole = [256, *text.encode(), 256]
    assert row.tolist() == (whole + [257] * context)[: context + 1]
