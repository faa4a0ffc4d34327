"""Batches of rows that stay on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, islice, pairwise

import numpy as np
import torch

from fuxictr.pytorch.batch import Batch
from fuxictr.pytorch.dataloaders.columnar import ColumnarData, allocate, as_index
from fuxictr.pytorch.dataloaders.iterators import EpochIterator
from fuxictr.pytorch.dataloaders.parquet import Block, ParquetRows
from fuxictr.pytorch.dataloaders.read_ahead import read_ahead
from fuxictr.pytorch.dataloaders.row_ranges import RowRanges
from fuxictr.pytorch.dataloaders.share import ALONE, Share


@dataclass(frozen=True)
class _Window:
    """Rows that were read, or a rank's rows of a window that all ranks share."""

    rows: ColumnarData  # the rank's rows
    num_rows: int  # rows of all ranks
    order: torch.Tensor | None = None  # to take the rank's rows in; None: as they are
    # Ascending int64: where in the window's order the rank's rows are; None: they are all.
    places: np.ndarray | None = None

    def take(self, start: int, stop: int) -> Batch:
        """Returns the rank's part of the rows [start, stop) of the window's order."""
        if self.places is not None:
            start, stop = np.searchsorted(self.places, (start, stop)).tolist()
        return self.rows.rows(slice(start, stop) if self.order is None else self.order[start:stop])


class StreamingIterator(EpochIterator):
    """Yields the batches of parquet files that may be larger than memory.

    Unshuffled, the rows come in file order. Shuffled, the blocks (row groups) come in a drawn
    order; their rows fill one window after another, and each window is put into a drawn order. Both
    are drawn, blocks first, from one generator seeded by (seed, epoch), so threads change nothing.

    Of several ranks each reads blocks of its own: shuffled, every P-th one in the drawn order;
    split by batch, those that have rows of its batches. Otherwise it reads all and keeps its own
    rows.

    Memory holds a window, about as many rows read ahead, and a slice per thread; of a shared
    window, the rank's own rows. Other arguments are those of EpochIterator.

    Args:
        shuffle_window: rows that are shuffled together, of all ranks.
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
        share: Share = ALONE,
        *,
        is_split_by_batch: bool = False,
    ) -> None:
        super().__init__(
            *(rows.num_rows, batch_size, shuffle, seed, device, rows.group_ids, share),
            is_split_by_batch,
        )
        self.rows = rows
        self.shuffle_window = shuffle_window
        self.num_workers = num_workers

    def __iter__(self) -> Iterator[Batch]:
        generator, num_skipped = self.begin_epoch()
        blocks, read = self.rows.blocks, self.rows.read
        if self.shuffle:
            order = torch.randperm(len(blocks), generator=generator)
            blocks = [blocks[index] for index in order.tolist()]
            own = self._own_places(blocks)
            blocks = blocks[self.share.rank :: self.share.world_size]
            bounds, ahead = self.bounds(), self.shuffle_window // self.share.world_size
        else:
            own = self.division.own_rows(self.num_rows)
            bounds, ahead = self.division.own_bounds(self.num_rows), self.batch_size
            blocks, read = self.rows.blocks_of(own), partial(read, own=own)
        depth = 1 + ahead // (self.rows.slice_rows * max(self.num_workers, 1))
        sizes = [stop - start for start, stop in bounds]
        with closing(read_ahead(read, blocks, self.num_workers, depth)) as slices:
            windows = self._windows(slices, own, generator) if self.shuffle else map(_all, slices)
            for batch in islice(self._batches(windows, sizes), num_skipped, None):
                yield self.deliver(batch)

    def _own_places(self, blocks: list[Block]) -> RowRanges:
        """Returns which rows, counted in the order of the blocks, are those of this rank."""
        bounds = list(pairwise(accumulate((block.num_rows for block in blocks), initial=0)))
        own = bounds[self.share.rank :: self.share.world_size]
        return RowRanges(np.array(own, dtype=np.int64).reshape(-1, 2), self.num_rows)

    def _windows(
        self, slices: Iterator[ColumnarData], own: RowRanges, generator: torch.Generator
    ) -> Iterator[_Window]:
        starts = range(0, self.num_rows, self.shuffle_window)
        bounds = [(start, min(start + self.shuffle_window, self.num_rows)) for start in starts]
        sizes = [own.count(*bound) for bound in bounds]
        # All windows use the same memory: a window is used up when the next one is filled.
        memory = allocate(self.rows.layout, max(sizes, default=0))
        rest = memory.take(slice(0, 0))
        for (start, stop), size in zip(bounds, sizes, strict=True):
            filled = 0
            while filled < size:
                if not rest.num_rows:
                    rest = next(slices)
                taken = min(size - filled, rest.num_rows)
                filled = memory.write(filled, rest.rows(slice(taken)))
                rest = rest.take(slice(taken, None))
            order = torch.randperm(stop - start, generator=generator)
            if self.share.is_all:
                yield _Window(memory, size, order)
                continue
            index = torch.full((stop - start,), -1, dtype=torch.int32)
            index[as_index(own.within(start, stop))] = torch.arange(size, dtype=torch.int32)
            found = index[order].numpy()
            places = np.flatnonzero(found >= 0)
            yield _Window(memory, stop - start, torch.from_numpy(found[places]), places)
        yield from map(_all, slices)  # no row is left, but this checks the last block to its end

    def _batches(self, windows: Iterator[_Window], sizes: list[int]) -> Iterator[Batch]:
        # Cuts the rows at the bounds of batches, across windows and slices.
        window, start = _all(allocate(self.rows.layout, 0)), 0
        for missing in sizes:
            parts: list[Batch] = []
            while missing:
                if start == window.num_rows:
                    window, start = next(windows), 0
                stop = min(start + missing, window.num_rows)
                parts.append(window.take(start, stop))
                missing -= stop - start
                start = stop
            yield _join(parts) if parts else allocate(self.rows.layout, 0).rows(slice(None))
        for _ in windows:  # no window is left, but this checks the files to their end
            pass


def _all(rows: ColumnarData) -> _Window:
    return _Window(rows, rows.num_rows)


def _join(parts: list[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    ids = torch.cat([part.ids for part in parts])
    return Batch(parts[0].layout, ids, torch.cat([part.values_matrix for part in parts]))
