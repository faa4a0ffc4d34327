"""Batches of rows that stay on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import islice

import torch

from fuxictr.pytorch.batch import Batch
from fuxictr.pytorch.dataloaders.columnar import ColumnarData, allocate
from fuxictr.pytorch.dataloaders.iterators import EpochIterator
from fuxictr.pytorch.dataloaders.parquet import ParquetRows
from fuxictr.pytorch.dataloaders.read_ahead import read_ahead

# Rows, and the order to take them in; None = as they are.
_Window = tuple[ColumnarData, torch.Tensor | None]


class StreamingIterator(EpochIterator):
    """Yields the batches of parquet files that may be larger than memory.

    Unshuffled, the rows come in file order. Shuffled, the blocks (row groups) come in a drawn
    order; their rows fill one window after another, and each window is put into a drawn order. Both
    are drawn, blocks first, from one generator seeded by (seed, epoch), so threads change nothing.

    Memory holds a window, about a window of rows read ahead, and a slice a thread.

    Args:
        rows: the files.
        batch_size: rows of a batch; the last batch holds what is left, or one row more.
        shuffle: draw a new order every epoch.
        seed: seed of the order.
        device: where batches are wanted.
        shuffle_window: rows that are shuffled together.
        num_workers: threads that decode rows ahead; 0 decodes in the calling thread.
    """

    def __init__(
        self,
        rows: ParquetRows,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 2019,
        device: torch.device | str = "cpu",
        shuffle_window: int = 1_000_000,
        num_workers: int = 1,
    ) -> None:
        super().__init__(rows.num_rows, batch_size, shuffle, seed, device, rows.group_ids)
        self.rows = rows
        self.shuffle_window = shuffle_window
        self.num_workers = num_workers

    def __iter__(self) -> Iterator[Batch]:
        generator, num_passed_over = self.begin_epoch()
        blocks = self.rows.blocks
        if self.shuffle:
            order = torch.randperm(len(blocks), generator=generator)
            blocks = [blocks[index] for index in order.tolist()]
        ahead = self.shuffle_window if self.shuffle else self.batch_size
        depth = 1 + ahead // (self.rows.slice_rows * max(self.num_workers, 1))
        with closing(read_ahead(self.rows.read, blocks, self.num_workers, depth)) as slices:
            windows = self._windows(slices, generator) if self.shuffle else _as_they_are(slices)
            for batch in islice(self._batches(windows), num_passed_over, None):
                yield self.deliver(batch)

    def _windows(
        self, slices: Iterator[ColumnarData], generator: torch.Generator
    ) -> Iterator[_Window]:
        # All windows use the same memory: a window is used up when the next one is asked for.
        window = allocate(self.rows.layout, min(self.shuffle_window, self.num_rows))
        filled = 0
        for rows in slices:
            start = 0
            while start < rows.num_rows:
                stop = min(start + window.num_rows - filled, rows.num_rows)
                filled = window.write(filled, rows.rows(slice(start, stop)))
                start = stop
                if filled == window.num_rows:
                    yield window, torch.randperm(filled, generator=generator)
                    filled = 0
        if filled:
            yield window, torch.randperm(filled, generator=generator)

    def _batches(self, windows: Iterator[_Window]) -> Iterator[Batch]:
        # Cuts the rows at the bounds of batches, across windows and slices.
        sizes = [stop - start for start, stop in self.bounds()]
        parts: list[Batch] = []
        missing = sizes.pop(0) if sizes else 0
        for rows, order in windows:
            start, end = 0, rows.num_rows if order is None else len(order)
            while start < end:
                stop = min(start + missing, end)
                index = slice(start, stop) if order is None else order[start:stop]
                parts.append(rows.rows(index))
                missing -= stop - start
                start = stop
                if not missing:
                    yield _join(parts)
                    parts = []
                    missing = sizes.pop(0) if sizes else 0


def _as_they_are(slices: Iterator[ColumnarData]) -> Iterator[_Window]:
    for rows in slices:
        yield rows, None


def _join(parts: list[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    ids = torch.cat([part.ids for part in parts])
    return Batch(parts[0].layout, ids, torch.cat([part.values_matrix for part in parts]))
