"""Batches of several ranks, and what they have to be beside those of one process."""

from __future__ import annotations

import numpy as np
import torch

from fuxictr.pytorch.batch import Batch
from fuxictr.pytorch.dataloaders import ColumnarData, Share, from_arrays, make_layout
from tests.pytorch.encoded_rows import make_columns, make_feature_map

FEATURE_MAP = make_feature_map()
LAYOUT = make_layout(FEATURE_MAP)
COLUMNS = make_columns(1000)


def shares(num_ranks: int) -> list[Share]:
    return [Share(rank, num_ranks) for rank in range(num_ranks)]


def rows_of(batch: Batch) -> list[int]:
    """The rows that a batch says it has; all its columns must be theirs."""
    assert batch.ids.shape == (batch.num_rows, LAYOUT.num_ids)
    assert batch.values_matrix.shape == (batch.num_rows, LAYOUT.num_values)
    assert (batch.ids.dtype, batch.values_matrix.dtype) == (torch.int32, torch.float32)
    rows = batch["vector"][:, 0].long()
    for name in ("a", "tags", "vector", "click"):
        assert np.array_equal(batch[name].numpy(), COLUMNS[name][rows.numpy()]), name
    return rows.tolist()


def epoch(iterator) -> list[list[int]]:
    return [rows_of(batch) for batch in iterator]


def assert_shared(whole: list[list[int]], parts: list[list[list[int]]]) -> None:
    """Batch k of all ranks is batch k of one process, and each rank has it in the same order."""
    assert [len(part) for part in parts] == [len(whole)] * len(parts)
    for batch, *own in zip(whole, *parts, strict=True):
        assert sorted(sum(own, [])) == sorted(batch)
        for rows in own:
            assert rows == [row for row in batch if row in set(rows)]


def assert_split_by_batch(whole: list[Batch], iterators: list) -> None:
    """The batches of one rank after the other are those of one process, bit for bit."""
    parts = [list(iterator) for iterator in iterators]
    fewest = -(-len(whole) // len(parts))
    found, next_row = [], 0
    for iterator, part in zip(iterators, parts, strict=True):
        assert len(iterator) == len(whole)
        assert len(part) == fewest
        sizes = [batch.num_rows for batch in part]
        assert 0 not in sizes[: np.count_nonzero(sizes)]
        assert all(rows_of(batch) == [] for batch in part[np.count_nonzero(sizes) :])
        found += part[: np.count_nonzero(sizes)]
        first, stop = iterator.own_rows
        assert stop - first == sum(sizes)
        if sizes[:1] > [0]:
            assert first == next_row
            next_row = stop
    assert next_row == iterators[0].num_rows
    for ours, theirs in zip(found, whole, strict=True):
        assert torch.equal(ours.ids, theirs.ids)
        assert torch.equal(ours.values_matrix, theirs.values_matrix)


def make_data(num_rows: int) -> ColumnarData:
    return from_arrays(make_columns(num_rows), FEATURE_MAP)
