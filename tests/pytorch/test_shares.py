"""Shares of several ranks: together they are the batches of one process."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fuxictr.pytorch.batch import stack_columns
from fuxictr.pytorch.dataloaders import (
    BatchIterator,
    RankDataLoader,
    RowRanges,
    Share,
    StreamingIterator,
    open_parquet,
    parquet,
)
from fuxictr.pytorch.dataloaders.share import Division, batch_bounds
from tests.pytorch.encoded_rows import make_columns, write_encoded, write_parts
from tests.pytorch.shared_rows import (
    FEATURE_MAP,
    assert_shared,
    assert_split_by_batch,
    epoch,
    make_data,
    shares,
)

SIZES = {
    "num_rows": st.integers(0, 60),
    "batch_size": st.integers(1, 25),
    "num_ranks": st.integers(1, 5),
    "shuffle": st.booleans(),
    "seed": st.integers(0, 2**32 - 1),
}


@settings(max_examples=60)
@given(**SIZES, passed_over=st.integers(0, 5))
def test_ranks_share_the_batches_in_memory(
    num_rows, batch_size, num_ranks, shuffle, seed, passed_over
):
    data = make_data(num_rows)
    whole = BatchIterator(data, batch_size, shuffle, seed)
    own = [BatchIterator(data, batch_size, shuffle, seed, "cpu", s) for s in shares(num_ranks)]
    for iterator in own:
        assert (len(iterator), iterator.num_rows) == (len(whole), num_rows)
        assert iterator.bounds() == whole.bounds()
        assert len(iterator) == len(whole)
        assert iterator.data.num_rows in (num_rows // num_ranks, -(-num_rows // num_ranks)) or (
            not shuffle
        )
    assert sum(iterator.data.num_rows for iterator in own) == num_rows
    epochs = [epoch(whole) for _ in range(3)]
    for number in range(2):
        assert_shared(epochs[number], [epoch(iterator) for iterator in own])
    for iterator in own:
        iterator.resume_at(2, passed_over)
    assert_shared(epochs[1][passed_over:], [epoch(iterator) for iterator in own])
    assert_shared(epochs[2], [epoch(iterator) for iterator in own])
    evaluated = [
        BatchIterator(data, batch_size, share=share, is_split_by_batch=True)
        for share in shares(num_ranks)
    ]
    assert_split_by_batch(list(BatchIterator(data, batch_size)), evaluated)


@settings(max_examples=50)
@given(
    **SIZES,
    group=st.integers(1, 30),
    cuts=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    slice_rows=st.integers(1, 20),
    window=st.integers(1, 70),
    num_workers=st.sampled_from([0, 1, 3]),
    passed_over=st.integers(0, 5),
)
def test_ranks_share_the_batches_of_streamed_rows(
    num_rows,
    batch_size,
    num_ranks,
    shuffle,
    seed,
    group,
    cuts,
    slice_rows,
    window,
    num_workers,
    passed_over,
):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "SLICE_ROWS", slice_rows)
        columns = make_columns(num_rows)
        bounds = [0, *sorted(int(cut * num_rows) for cut in cuts), num_rows]
        for number, (start, stop) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
            part = {name: column[start:stop] for name, column in columns.items()}
            write_encoded(Path(folder, f"{number}.parquet"), part, row_group_size=group)
        rows = open_parquet(folder, FEATURE_MAP)
        order = (batch_size, shuffle, seed, "cpu", window, num_workers)
        whole = StreamingIterator(rows, *order)
        own = [StreamingIterator(rows, *order, share) for share in shares(num_ranks)]
        epochs = [epoch(whole) for _ in range(2)]
        for batches in epochs:
            assert sorted(sum(batches, [])) == list(range(num_rows))
            assert_shared(batches, [epoch(iterator) for iterator in own])
        for iterator in own:
            assert len(iterator) == len(whole)
            iterator.resume_at(1, passed_over)
        assert_shared(epochs[0][passed_over:], [epoch(iterator) for iterator in own])
        evaluated = [
            StreamingIterator(
                rows, batch_size, num_workers=num_workers, share=share, is_split_by_batch=True
            )
            for share in shares(num_ranks)
        ]
        assert_split_by_batch(list(StreamingIterator(rows, batch_size)), evaluated)


@pytest.mark.parametrize("is_streaming", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_rank_dataloader_gives_each_rank_its_own(tmp_path, monkeypatch, shuffle, is_streaming):
    monkeypatch.setattr(parquet, "SLICE_ROWS", 8)
    path = write_parts(tmp_path / "parts", make_columns(101), (10, 30, 77))

    def load(share: Share):
        return RankDataLoader(
            FEATURE_MAP,
            train_data=path,
            valid_data=path,
            test_data=path,
            batch_size=20,
            shuffle=shuffle,
            streaming=is_streaming,
            shuffle_window=35,
            group_id="user",
            share=share,
        )

    whole, own = list(load(Share())), [list(load(share)) for share in shares(3)]
    assert_shared(epoch(whole[0]), [epoch(splits[0]) for splits in own])
    for index in (1, 2):
        assert_split_by_batch(list(whole[index]), [splits[index] for splits in own])
        assert all(splits[index].is_split_by_batch for splits in own)
        assert own[0][index].group_ids.tolist() == whole[index].group_ids.tolist()
        assert [splits[index].group_ids for splits in own[1:]] == [None, None]
    for rank, splits in enumerate(own):
        assert all(split.share == Share(rank, 3) for split in splits)
        assert not splits[0].is_split_by_batch
        assert splits[0].group_ids is None


def test_order_follows_from_seed_and_epoch_alone(tmp_path):
    path = write_encoded(tmp_path / "rows.parquet", make_columns(90), row_group_size=7)
    rows, data = open_parquet(path, FEATURE_MAP), make_data(90)

    def epochs(kind, source, seed: int, num_ranks: int) -> list[list[list[int]]]:
        iterators = [kind(source, 16, True, seed, share=share) for share in shares(num_ranks)]
        for iterator in iterators[1:]:
            list(iterator)  # one rank more than another: only the counted epoch matters
            iterator.resume_at(1, 0)
        return [
            [sorted(sum(own, [])) for own in zip(*map(epoch, iterators), strict=True)]
            for _ in range(2)
        ]

    for kind, source in ((BatchIterator, data), (StreamingIterator, rows)):
        first = epochs(kind, source, 1, 1)
        assert first[0] != first[1]
        assert all(epochs(kind, source, 1, num_ranks) == first for num_ranks in (2, 3, 5))
        assert epochs(kind, source, 2, 3) != first


def test_data_that_were_cut_for_another_rank_are_refused():
    data = make_data(50)
    cut = BatchIterator(data, 10, True, share=Share(1, 2)).data
    assert epoch(BatchIterator(cut, 10, True, share=Share(1, 2))) == epoch(
        BatchIterator(data, 10, True, share=Share(1, 2))
    )
    for share, shuffle, by_batch in (
        (Share(0, 2), True, False),
        (Share(1, 2), False, False),
        (Share(1, 2), False, True),
        (Share(), True, False),
    ):
        with pytest.raises(ValueError, match="data: found 25 rows that were cut from 50"):
            BatchIterator(cut, 10, shuffle, share=share, is_split_by_batch=by_batch)


def test_what_cannot_be_shared_is_refused():
    for rank, num_ranks in ((-1, 2), (2, 2), (0, 0)):
        with pytest.raises(ValueError, match=f"rank {rank}"):
            Share(rank, num_ranks)
    with pytest.raises(ValueError, match="is_split_by_batch: found true"):
        BatchIterator(make_data(5), 2, True, is_split_by_batch=True)
    with pytest.raises(ValueError, match="is_split_by_batch: found false"):
        _ = BatchIterator(make_data(5), 2, share=Share(0, 2)).own_rows
    assert BatchIterator(make_data(5), 2, True).own_rows == (0, 5)


def test_a_batch_of_no_rows_has_its_columns():
    batch = make_data(0).rows(slice(None)).to(torch.device("cpu"))
    assert {name: tuple(batch[name].shape) for name in ("a", "tags", "vector", "click")} == {
        "a": (0,),
        "tags": (0, 3),
        "vector": (0, 2),
        "click": (0,),
    }
    assert stack_columns(batch, ("a", "b"), True).shape == (0, 2)
    assert stack_columns(dict(batch), ("tags", "a"), True).shape == (0, 4)
    assert stack_columns(dict(batch), ("vector", "x"), False).shape == (0, 3)


@given(
    ranges=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=8),
    window=st.tuples(st.integers(0, 40), st.integers(0, 40)),
)
def test_row_ranges(ranges, window):
    bounds, row = [], 0
    for gap, size in ranges:
        bounds.append((row + gap, row + gap + size))
        row += gap + size
    own = RowRanges(np.array(bounds, dtype=np.int64).reshape(-1, 2), 64)
    rows = [row for first, stop in bounds for row in range(first, stop)]
    assert [own[place] for place in range(len(own))] == rows
    assert own.num_rows == len(rows)
    start, stop = sorted(window)
    inside = [row for row in rows if start <= row < stop]
    assert own.count(start, stop) == len(inside)
    assert np.arange(start, 64)[own.within(start, stop)].tolist() == inside
    first, last = own.hull(start, stop)
    assert (first, last) == ((inside[0], inside[-1] + 1) if inside else (start, start))


@given(**{name: SIZES[name] for name in ("num_rows", "batch_size", "num_ranks")})
def test_runs_of_ranks_cover_everything_once(num_rows, batch_size, num_ranks):
    parts = [share.part(num_rows) for share in shares(num_ranks)]
    assert [row for part in parts for row in range(*part)] == list(range(num_rows))
    sizes = [stop - start for start, stop in parts]
    assert max(sizes) - min(sizes) <= 1
    for shuffle, by_batch in ((True, False), (False, False), (False, True)):
        own = [
            Division(batch_size, shuffle, by_batch, share).own_rows(num_rows)
            for share in shares(num_ranks)
        ]
        rows = sorted(ranges[place] for ranges in own for place in range(len(ranges)))
        assert rows == list(range(num_rows))
        if not shuffle and not by_batch:
            for start, stop in batch_bounds(num_rows, batch_size):
                counts = [ranges.count(start, stop) for ranges in own]
                assert max(counts) - min(counts) <= 1
