"""What each of several ranks reads and holds of a split: its own rows."""

from __future__ import annotations

from contextlib import contextmanager

import pyarrow.parquet as pq
import pytest
import torch

from fuxictr.errors import DataError
from fuxictr.pytorch.dataloaders import (
    BatchIterator,
    RankDataLoader,
    RowRanges,
    Share,
    StreamingIterator,
    open_parquet,
    parquet,
    read_encoded,
    streaming,
)
from fuxictr.pytorch.dataloaders.share import Division
from tests.pytorch.encoded_rows import make_columns, write_encoded
from tests.pytorch.shared_rows import (
    FEATURE_MAP,
    LAYOUT,
    make_data,
    rows_of,
    shares,
)
from tests.pytorch.test_streaming import wait_until_steady

SUFFIXES = (".parquet", ".npz", ".h5")


@contextmanager
def counted_reads():
    """Yields a list of (row groups, columns, rows of each slice), one for each opened file."""
    reads, iter_batches = [], pq.ParquetFile.iter_batches

    def counting(self, batch_size, row_groups, columns, **options):
        sizes = []
        reads.append((row_groups, columns, sizes))
        for batch in iter_batches(self, batch_size, row_groups, columns, **options):
            sizes.append(batch.num_rows)
            yield batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pq.ParquetFile, "iter_batches", counting)
        yield reads


@pytest.mark.parametrize("num_ranks", [1, 2, 5])
@pytest.mark.parametrize("is_split_by_batch", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("num_rows", [0, 3, 61])
def test_own_rows_are_cut_from_every_format(
    tmp_path, monkeypatch, num_rows, suffix, shuffle, is_split_by_batch, num_ranks
):
    if shuffle and is_split_by_batch:
        return
    monkeypatch.setattr(parquet, "SLICE_ROWS", 6)
    columns = make_columns(num_rows)
    del columns["user"]
    options = {"row_group_size": 4} if suffix == ".parquet" else {}
    path = write_encoded(tmp_path / f"rows{suffix}", columns, **options)
    whole = make_data(num_rows)
    for share in shares(num_ranks):
        own = Division(7, shuffle, is_split_by_batch, share).own_rows(num_rows)
        data = read_encoded(path, FEATURE_MAP, "b", choose=lambda _, own=own: own)
        assert (data.cut, data.num_rows, data.num_split_rows) == (own, own.num_rows, num_rows)
        assert len(data.group_ids) == num_rows
        expected = whole.cut_to(own)
        assert torch.equal(data.ids, expected.ids)
        assert torch.equal(data.values, expected.values)
        assert [own[place] for place in range(own.num_rows)] == rows_of(data.rows(slice(None)))


def test_only_own_row_groups_are_read_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "SLICE_ROWS", 20)
    path = write_encoded(tmp_path / "rows.parquet", make_columns(100), row_group_size=5)

    def groups_read(by_batch: bool, share: Share) -> list[int]:
        kind = "test_data" if by_batch else "train_data"
        stage = "test" if by_batch else "train"
        with counted_reads() as reads:
            RankDataLoader(FEATURE_MAP, stage, batch_size=10, share=share, **{kind: path})
        return sum((groups for groups, _, _ in reads), [])

    # Rows 0..33, 33..66, 66..100 of training; batches 0..3, 3..6, 6..10 of 10 rows of test.
    trained = [groups_read(False, share) for share in shares(3)]
    assert trained == [list(range(7)), list(range(6, 14)), list(range(13, 20))]
    tested = [groups_read(True, share) for share in shares(3)]
    assert tested == [list(range(6)), list(range(6, 12)), list(range(12, 20))]
    assert groups_read(False, Share()) == list(range(20))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_only_own_row_groups_are_streamed(tmp_path, monkeypatch, num_workers):
    monkeypatch.setattr(parquet, "SLICE_ROWS", 10)
    path = write_encoded(tmp_path / "rows.parquet", make_columns(100), row_group_size=5)
    rows = open_parquet(path, FEATURE_MAP)

    def groups_read(share: Share, **options) -> list[int]:
        iterator = StreamingIterator(
            rows, 10, num_workers=num_workers, shuffle_window=30, share=share, **options
        )
        with counted_reads() as reads:
            num_parts = share.world_size if iterator.is_split_by_batch else 1
            assert len(list(iterator)) == -(-len(iterator) // num_parts)
        return sorted(sum((groups for groups, _, _ in reads), []))

    trained = [groups_read(share, shuffle=True) for share in shares(3)]
    assert sorted(sum(trained, [])) == list(range(20))
    assert [len(groups) for groups in trained] == [8, 6, 6]
    tested = [groups_read(share, is_split_by_batch=True) for share in shares(3)]
    assert tested == [list(range(6)), list(range(6, 12)), list(range(12, 20))]
    # Of each batch, two row groups, either rank has one.
    even, odd = list(range(0, 20, 2)), list(range(1, 20, 2))
    assert [groups_read(share) for share in shares(2)] == [even, odd]


def test_what_is_behind_the_own_rows_of_a_large_row_group_is_not_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "SLICE_ROWS", 10)
    columns = make_columns(100)
    columns["b"][[25, 61]] = 1000
    path = write_encoded(tmp_path / "rows.parquet", columns, row_group_size=100)
    rows, decoded = open_parquet(path, FEATURE_MAP), []
    decode = rows._decode
    monkeypatch.setattr(rows, "_decode", lambda *args: decoded.append(args[-1]) or decode(*args))
    first, stop = Division(10, False, True, Share(2, 5)).own_rows(100).hull(0, 100)
    assert (first, stop) == (40, 60)
    with counted_reads() as reads:
        rows.load(RowRanges.run(first, stop, 100))
    assert decoded == [40, 50]
    assert [sizes for _, _, sizes in reads] == [[10] * 6]


def test_rank_0_alone_reads_groups(tmp_path):
    path = write_encoded(tmp_path / "rows.parquet", make_columns(30), row_group_size=5)
    for is_streaming in (False, True):
        for share in shares(3):
            with counted_reads() as reads:
                loader = RankDataLoader(
                    FEATURE_MAP,
                    "test",
                    test_data=path,
                    batch_size=4,
                    streaming=is_streaming,
                    group_id="user",
                    share=share,
                )
            test = loader.make_iterator()
            of_groups = [groups for groups, names, _ in reads if "user" in names]
            assert sum(of_groups, []) == (list(range(6)) if share.is_first else [])
            assert (test.group_ids is None) == (not share.is_first)
    grouped = read_encoded(path, FEATURE_MAP, "user")
    assert BatchIterator(grouped, 4, share=Share(1, 2)).group_ids is None
    assert len(BatchIterator(grouped, 4, share=Share(0, 2)).group_ids) == 30


def test_a_rank_keeps_no_memory_of_rows_of_others():
    data = make_data(100)
    for shuffle, by_batch in ((True, False), (False, False), (False, True)):
        for share in shares(4):
            own = BatchIterator(data, 5, shuffle, share=share, is_split_by_batch=by_batch).data
            assert own.ids.untyped_storage().nbytes() == own.num_rows * LAYOUT.num_ids * 4
            assert own.values.untyped_storage().nbytes() == own.num_rows * LAYOUT.num_values * 4
            assert own.num_rows == (25 if shuffle or by_batch else own.num_rows) <= 40


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_a_window_holds_the_own_rows_only(tmp_path, monkeypatch, num_workers):
    monkeypatch.setattr(parquet, "SLICE_ROWS", 10)
    path = write_encoded(tmp_path / "rows.parquet", make_columns(1000), row_group_size=10)
    rows = open_parquet(path, FEATURE_MAP)
    allocated, decoded, allocate, read = [], [], streaming.allocate, rows.read
    monkeypatch.setattr(
        streaming, "allocate", lambda layout, size: allocated.append(size) or allocate(layout, size)
    )

    def counted(block):
        for data in read(block):
            decoded.append(data.num_rows)
            yield data

    monkeypatch.setattr(rows, "read", counted)
    iterator = StreamingIterator(
        rows, 20, True, shuffle_window=200, num_workers=num_workers, share=Share(1, 4)
    )
    taken = 0
    for number, batch in enumerate(iterator):
        taken += batch.num_rows
        if number in (0, 10, 30):
            wait_until_steady(decoded)
        assert sum(decoded) <= taken + 2 * 60 + 10 * (2 * num_workers + 1)
    assert sum(decoded) == taken == 250
    assert max(allocated) == 50


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("num_ranks", [1, 3])
def test_what_the_last_block_ends_with_is_heard(tmp_path, monkeypatch, shuffle, num_ranks):
    path = write_encoded(tmp_path / "rows.parquet", make_columns(30))
    rows = open_parquet(path, FEATURE_MAP)
    read = rows.read

    def damaged(block, **options):
        yield from read(block, **options)
        raise DataError("there are more rows")

    monkeypatch.setattr(rows, "read", damaged)
    with pytest.raises(DataError, match="there are more rows"):
        list(StreamingIterator(rows, 10, shuffle, share=Share(0, num_ranks)))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("shuffle", [False, True])
def test_errors_name_the_row_of_the_file(tmp_path, monkeypatch, suffix, shuffle):
    monkeypatch.setattr(parquet, "SLICE_ROWS", 6)
    columns = make_columns(60)
    columns["b"][41] = 1000
    path = write_encoded(tmp_path / f"rows{suffix}", columns)
    failed = 0
    for share in shares(3):
        try:
            RankDataLoader(FEATURE_MAP, "train", path, batch_size=9, shuffle=shuffle, share=share)
        except DataError as error:
            failed += 1
            assert f"rows{suffix}: column 'b', row 42: id 1000 is outside" in str(error)
    assert failed >= 1


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_columns_of_other_lengths_are_refused_by_every_rank(tmp_path, suffix):
    columns = make_columns(60)
    columns["x"] = columns["x"][:59]
    path = write_encoded(tmp_path / f"rows{suffix}", columns)
    for share in shares(3):
        with pytest.raises(DataError, match=r"column 'x': found shape \(59,\), expected 60 rows"):
            RankDataLoader(FEATURE_MAP, "train", path, share=share)
