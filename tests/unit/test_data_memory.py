"""Data larger than the limit is read in pieces and lives in files that nobody else can open."""

import os
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from cloister.data import ColumnSettings, DataSettings, TextSettings, delimited, load, open_source
from cloister.data.storage import Storage
from cloister.errors import CloisterError

COLUMNS = [f"c{i}" for i in range(40)]
ROWS = 20_000


@pytest.fixture(scope="module", params=["csv", "parquet"])
def tables(request, tmp_path_factory):
    """The same kind of table twice, the second four times as long (26 MB of features)."""
    folder = tmp_path_factory.mktemp("tables")
    values = np.random.default_rng(0).integers(0, 100, (4 * ROWS, len(COLUMNS)))
    table = pa.table({name: values[:, i] for i, name in enumerate(COLUMNS)} | {"label": values[:, 0] % 2})
    for name, rows in (("short", ROWS), ("long", 4 * ROWS)):
        if request.param == "csv":
            pa.csv.write_csv(table.slice(0, rows), folder / f"{name}.csv")
        else:
            pa.parquet.write_table(table.slice(0, rows), folder / f"{name}.parquet", row_group_size=2048)
    return folder, request.param, values


def settings_for(name):
    columns = {column: ColumnSettings(low=0, high=99) for column in COLUMNS}
    return DataSettings(train=name, label="label", classes=("0", "1"), columns=columns)


POOLS = []  # Arrow may free memory late: the pools must outlive it


def peak_bytes(folder, name):
    """Peak of Python's, numpy's and Arrow's memory with a limit of 1 MiB."""
    POOLS.append(pa.proxy_memory_pool(pa.default_memory_pool()))
    before = pa.default_memory_pool()
    pa.set_memory_pool(POOLS[-1])
    tracemalloc.start()
    try:
        load(open_source(settings_for(name), folder), memory_limit_bytes=1 << 20)
        return tracemalloc.get_traced_memory()[1] + POOLS[-1].max_memory()
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(before)


def test_peak_memory_does_not_grow_with_the_file(tables, monkeypatch):
    folder, kind, _ = tables
    monkeypatch.setattr(delimited, "_BLOCK_BYTES", 1 << 16)  # Arrow reads up to 32 blocks ahead
    short, long = peak_bytes(folder, f"short.{kind}"), peak_bytes(folder, f"long.{kind}")
    assert POOLS[-1].max_memory() > 0
    assert long < 1.3 * short


def test_mapped_features_are_the_right_ones(tables, tmp_path):
    folder, kind, values = tables
    source = open_source(settings_for(f"long.{kind}"), folder)
    loaded = load(source, scratch=tmp_path / "scratch", memory_limit_bytes=1 << 20)
    assert isinstance(loaded.train._inputs, np.memmap)
    inputs, targets = loaded.train.batch(np.array([0, 4 * ROWS - 1]))
    np.testing.assert_allclose(inputs[:, ::2], (values[[0, -1]] - 49.5) / 49.5, rtol=1e-5, atol=1e-6)
    assert targets.tolist() == (values[[0, -1], 0] % 2).tolist()


def test_scratch_is_the_owners_and_nothing_is_left_in_it(tmp_path):
    (tmp_path / "t.txt").write_text("document\n" * 1000)
    settings = DataSettings(train="t.txt", text=TextSettings(context=64))
    loaded = load(open_source(settings, tmp_path), scratch=tmp_path / "scratch", memory_limit_bytes=1000)
    assert (tmp_path / "scratch").stat().st_mode & 0o777 == 0o700
    assert list((tmp_path / "scratch").iterdir()) == [], "the mapped file has no name"
    assert isinstance(loaded.train._tokens, np.memmap)
    assert loaded.train.batch(np.array([999]))[0][0, :3].tolist() == [256, ord("d"), ord("o")]


def test_small_arrays_stay_in_memory():
    assert not isinstance(Storage(memory_limit_bytes=100).new((25,), np.float32), np.memmap)
    assert isinstance(Storage(memory_limit_bytes=99).new((25,), np.float32), np.memmap)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_scratch_folder_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(CloisterError, match="cannot"):
        Storage(scratch=tmp_path, memory_limit_bytes=0).new((10,), np.float32)


def test_a_writer_notices_what_is_missing_or_too_much():
    writer = Storage().writer(3, (2,), np.float32)
    writer.append(np.ones((2, 2), np.float32))
    with pytest.raises(CloisterError, match="2 rows were written; expected 3"):
        writer.finish()
    writer.append(np.ones((2, 2), np.float32))
    with pytest.raises(CloisterError, match="4 rows"):
        writer.finish()
