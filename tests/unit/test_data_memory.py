"""Data larger than the limit is read in pieces and lives in files that nobody else can open."""

import os
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from cloister.data import ColumnSettings, DataSettings, TextSettings, load, open_source
from cloister.data.storage import Storage
from cloister.errors import CloisterError

ROWS, COLUMNS = 60_000, 40


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """About 9 MiB of float32 features and more than that as text."""
    folder = tmp_path_factory.mktemp("wide")
    values = np.random.default_rng(0).integers(0, 100, (ROWS, COLUMNS))
    names = [f"c{i}" for i in range(COLUMNS)]
    table = pa.table({name: values[:, i] for i, name in enumerate(names)} | {"label": values[:, 0] % 2})
    pa.csv.write_csv(table, folder / "t.csv")
    pa.parquet.write_table(table, folder / "t.parquet", row_group_size=4096)
    return folder, values, names


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_peak_memory_is_bounded_by_the_block(wide, tmp_path, name):
    folder, values, names = wide
    settings = DataSettings(train=name, label="label", classes=("0", "1"), columns={n: ColumnSettings(low=0, high=99) for n in names})
    scratch = tmp_path / "scratch"
    tracemalloc.start()
    try:
        loaded = load(open_source(settings, folder), scratch=scratch, memory_limit_bytes=1 << 20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    size = ROWS * 2 * COLUMNS * 4
    assert size > 18 << 20
    assert peak < size / 3
    inputs, targets = loaded.train.batch(np.array([0, ROWS - 1]))
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
