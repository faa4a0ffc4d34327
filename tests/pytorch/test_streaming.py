"""Streaming: order, coverage, threads, bounded memory, errors."""

from __future__ import annotations

import itertools
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fuxictr.errors import ConfigError, DataError
from fuxictr.pytorch.dataloaders import (
    BatchIterator,
    ParquetRows,
    RankDataLoader,
    StreamingIterator,
    open_parquet,
    parquet,
    read_encoded,
)
from fuxictr.pytorch.dataloaders.read_ahead import read_ahead
from tests.needs_gpu import needs_gpu
from tests.pytorch.encoded_rows import (
    assert_holds,
    make_columns,
    make_feature_map,
    write_encoded,
    write_parts,
)


@pytest.fixture
def rows(tmp_path, monkeypatch) -> ParquetRows:
    """100 rows: 13 blocks of at most 8."""
    monkeypatch.setattr(parquet, "SLICE_ROWS", 8)
    path = write_encoded(tmp_path / "rows.parquet", make_columns(100), row_group_size=8)
    return open_parquet(path, make_feature_map())


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    before = threading.active_count()
    yield
    names = [thread.name for thread in threading.enumerate()]
    assert threading.active_count() == before, names


def epoch(iterator) -> list[list[int]]:
    return [batch["a"].tolist() for batch in iterator]


def expected_order(blocks: list[list[int]], window: int, seed: int, number: int) -> list[int]:
    """The documented order, one row at a time."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
    order, pending = [], []
    for index in torch.randperm(len(blocks), generator=generator).tolist():
        pending += blocks[index]
        while len(pending) >= window:
            chosen, pending = pending[:window], pending[window:]
            order += [chosen[i] for i in torch.randperm(window, generator=generator).tolist()]
    return order + [pending[i] for i in torch.randperm(len(pending), generator=generator).tolist()]


@settings(max_examples=40)
@given(
    num_rows=st.integers(0, 70),
    group=st.integers(1, 40),
    cut=st.floats(0.1, 0.9),
    slice_rows=st.integers(1, 20),
    batch_size=st.integers(1, 30),
    window=st.integers(1, 80),
    seed=st.integers(0, 2**32 - 1),
)
def test_order_follows_from_rows_seed_and_epoch(
    num_rows, group, cut, slice_rows, batch_size, window, seed
):
    feature_map = make_feature_map()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "SLICE_ROWS", slice_rows)
        columns, split = make_columns(num_rows), int(cut * num_rows)
        for name, part in (("p0", slice(0, split)), ("p1", slice(split, None))):
            given_rows = {key: column[part] for key, column in columns.items()}
            write_encoded(Path(folder, f"{name}.parquet"), given_rows, row_group_size=group)
        rows = open_parquet(folder, feature_map)
        in_memory = BatchIterator(read_encoded(folder, feature_map), batch_size)
        starts = np.cumsum([0] + [block.num_rows for block in rows.blocks]).tolist()
        blocks = [list(range(a, b)) for a, b in itertools.pairwise(starts)]
        for workers in (0, 1, 3):
            settings_ = (seed, "cpu", window, workers)
            streamed = StreamingIterator(rows, batch_size, False, *settings_)
            assert len(streamed) == len(in_memory)
            for ours, theirs in zip(streamed, in_memory, strict=True):
                assert torch.equal(ours.ids, theirs.ids)
                assert torch.equal(ours.values_matrix, theirs.values_matrix)
            shuffled = StreamingIterator(rows, batch_size, True, *settings_)
            for number in range(2):
                batches = list(shuffled)
                assert [b.num_rows for b in batches] == [b.num_rows for b in in_memory]
                order = expected_order(blocks, window, seed, number)
                assert sorted(order) == list(range(num_rows))
                assert [a for b in batches for a in b["a"].tolist()] == order
                for name in ("tags", "vector", "click"):
                    found = [row for b in batches for row in b[name].tolist()]
                    assert found == columns[name][order].tolist()


def test_shuffled_epochs_differ_and_come_again(rows):
    def epochs(seed):
        iterator = StreamingIterator(rows, 32, True, seed, shuffle_window=40)
        return [epoch(iterator), epoch(iterator)]

    assert [len(batch) for batch in epochs(1)[0]] == [32, 32, 32, 4]
    assert epochs(1)[0] != epochs(1)[1]
    assert epochs(1) == epochs(1)
    assert epochs(1)[0] != epochs(2)[0]


def test_rows_of_a_window_that_is_used_up_stay_as_they_were(rows):
    iterator = StreamingIterator(rows, 10, True, shuffle_window=20)
    batches = [(batch, batch["a"].tolist()) for batch in iterator]
    assert all(batch["a"].tolist() == before for batch, before in batches)


def test_small_row_groups_are_one_block_and_large_ones_are_cut_into_slices(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "SLICE_ROWS", 20)
    columns, feature_map = make_columns(100), make_feature_map()
    path = write_encoded(tmp_path / "small.parquet", columns, row_group_size=7)
    small = open_parquet(path, feature_map)
    assert [b.num_rows for b in small.blocks] == [14, 14, 14, 14, 14, 14, 16]
    path = write_encoded(tmp_path / "giant.parquet", columns, row_group_size=100)
    giant = open_parquet(path, feature_map)
    assert len(giant.blocks) == 1
    assert [data.num_rows for data in giant.read(giant.blocks[0])] == [20] * 5


@pytest.mark.parametrize("num_workers", [0, 1, 3])
@pytest.mark.parametrize("row_group_size", [5, 1000])
def test_no_more_than_two_windows_and_some_slices_are_decoded_ahead(
    tmp_path, monkeypatch, num_workers, row_group_size
):
    monkeypatch.setattr(parquet, "SLICE_ROWS", 10)
    path = write_encoded(
        tmp_path / "rows.parquet", make_columns(1000), row_group_size=row_group_size
    )
    rows = open_parquet(path, make_feature_map())
    decoded, read = [], rows.read

    def counted(block):
        for data in read(block):
            decoded.append(data.num_rows)
            yield data

    monkeypatch.setattr(rows, "read", counted)
    iterator = StreamingIterator(rows, 20, True, shuffle_window=100, num_workers=num_workers)
    taken = 0
    for batch in iterator:
        taken += batch.num_rows
        if taken in (20, 100, 500):
            wait_until_steady(decoded)
        assert sum(decoded) <= taken + 2 * 100 + 10 * (2 * num_workers + 1)
    assert sum(decoded) == taken == 1000


def wait_until_steady(items: list) -> None:
    size = -1
    while size != len(items):
        size = len(items)
        time.sleep(0.02)


@pytest.mark.parametrize("num_workers", [0, 1, 3])
@pytest.mark.parametrize("shuffle", [False, True])
def test_leaving_early_stops_the_threads(rows, shuffle, num_workers):
    before = threading.active_count()
    iterator = StreamingIterator(rows, 10, shuffle, shuffle_window=30, num_workers=num_workers)
    batches = iter(iterator)
    next(batches)
    assert threading.active_count() - before <= num_workers
    if num_workers:
        assert any(thread.name.startswith("read-ahead") for thread in threading.enumerate())
    del batches
    assert threading.active_count() == before
    for _ in iterator:
        break
    assert threading.active_count() == before
    assert sum(len(batch) for batch in epoch(iterator)) == 100
    assert threading.active_count() == before


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_a_bad_row_fails_where_it_is_asked_for(tmp_path, monkeypatch, num_workers):
    monkeypatch.setattr(parquet, "SLICE_ROWS", 8)
    columns = make_columns(100)
    columns["b"][61] = 1000
    path = write_encoded(tmp_path / "rows.parquet", columns, row_group_size=8)
    iterator = StreamingIterator(
        open_parquet(path, make_feature_map()), 10, num_workers=num_workers
    )
    taken = []
    with pytest.raises(DataError, match=r"rows.parquet: column 'b', row 62: id 1000 is outside"):
        for batch in iterator:
            taken += batch["a"].tolist()
    assert taken == list(range(50))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_file_that_is_damaged_later(rows, num_workers):
    iterator = StreamingIterator(rows, 10, num_workers=num_workers)
    assert sum(len(batch) for batch in epoch(iterator)) == 100
    path = rows.files[0]
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match="rows.parquet: not readable as parquet"):
        epoch(iterator)


def test_errors_of_threads_surface_as_themselves():
    class Strange(BaseException):
        pass

    def read(key):
        yield key
        if key == 2:
            raise Strange("as it is")

    for num_threads in (0, 1, 3):
        taken = []
        with pytest.raises(Strange, match="as it is"):
            for item in read_ahead(read, range(9), num_threads, 2):
                taken.append(item)
        assert taken == [0, 1, 2]


@given(
    lengths=st.lists(st.integers(0, 6), max_size=12),
    num_threads=st.integers(0, 5),
    depth=st.integers(1, 4),
    taken=st.integers(0, 40),
)
@settings(max_examples=60)
def test_reading_ahead_keeps_the_order_and_ends_its_threads(lengths, num_threads, depth, taken):
    def read(key):
        return ((key, item) for item in range(lengths[key]))

    before = threading.active_count()
    wanted = [(key, item) for key, length in enumerate(lengths) for item in range(length)]
    with closing(read_ahead(read, range(len(lengths)), num_threads, depth)) as items:
        assert list(itertools.islice(items, taken)) == wanted[:taken]
    assert threading.active_count() == before


def test_decoding_in_the_calling_thread_starts_none(rows):
    callers = set()

    def read(key):
        callers.add(threading.current_thread())
        yield key

    assert list(read_ahead(read, range(4), 0, 1)) == [0, 1, 2, 3]
    assert callers == {threading.current_thread()}
    callers.clear()
    assert list(read_ahead(read, range(4), 3, 1)) == [0, 1, 2, 3]
    assert len(callers) == 3
    assert threading.current_thread() not in callers


def test_a_last_row_of_its_own_joins_the_batch_before(rows):
    iterator = StreamingIterator(rows, 33, True, shuffle_window=10)
    assert [len(batch) for batch in epoch(iterator)] == [33, 33, 34]
    assert len(iterator) == 3


@pytest.mark.parametrize("streaming", [False, True])
def test_rank_dataloader_reads_the_same_rows_either_way(tmp_path, streaming):
    columns = make_columns(50)
    path = write_parts(tmp_path / "parts", columns, (10, 30))
    loader = RankDataLoader(
        make_feature_map(),
        train_data=path,
        valid_data=path,
        test_data=str(path / "part_*.parquet"),
        batch_size=20,
        streaming=streaming,
        shuffle_window=25,
        num_workers=2,
        group_id="user",
    )
    train, valid, test = loader
    assert isinstance(valid, StreamingIterator) == streaming
    assert (train.shuffle, valid.shuffle, test.shuffle) == (True, False, False)
    assert train.group_ids is None
    for split in (valid, test):
        assert (split.num_rows, split.batch_size) == (50, 20)
        users = [f"u{row % 4}" for row in range(50)]
        codes = dict(zip(users, split.group_ids.tolist(), strict=False))
        assert len(set(codes.values())) == 4
        assert split.group_ids.tolist() == [codes[user] for user in users]
        assert sum(epoch(split), []) == list(range(50))
    assert sorted(sum(epoch(train), [])) == list(range(50))
    if streaming:
        assert (train.shuffle_window, train.num_workers) == (25, 2)


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_only_parquet_is_streamed(tmp_path, suffix):
    path = write_encoded(tmp_path / f"rows{suffix}", make_columns())
    with pytest.raises(ConfigError, match=r"only parquet is streamed; key 'streaming'"):
        RankDataLoader(make_feature_map(), train_data=path, streaming=True)


def test_new_rows_are_streamed_without_labels(tmp_path):
    columns = make_columns()
    del columns["click"]
    path = write_encoded(tmp_path / "rows.parquet", columns)
    batches = StreamingIterator(open_parquet(path, make_feature_map(), labels=False), 100)
    assert_holds(next(iter(batches)), columns)


@needs_gpu
@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_arrive_on_the_gpu(rows, shuffle):
    on_cpu = epoch(StreamingIterator(rows, 7, shuffle, shuffle_window=30))
    on_gpu = StreamingIterator(rows, 7, shuffle, device="cuda", shuffle_window=30)
    batches = list(on_gpu)
    assert all(batch.ids.is_cuda and batch.values_matrix.is_cuda for batch in batches)
    assert [batch["a"].tolist() for batch in batches] == on_cpu
