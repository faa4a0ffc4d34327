"""Which rows of a split, and of each of its batches, one of several processes has."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from fuxictr.pytorch.dataloaders.row_ranges import RowRanges


@dataclass(frozen=True)
class Share:
    """The place of one process (rank), from 0, among those that share a split's rows."""

    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank {self.rank}: allowed: 0..{self.world_size - 1}")

    @property
    def is_all(self) -> bool:
        """Whether there is no other process."""
        return self.world_size == 1

    @property
    def is_first(self) -> bool:
        """Whether it is the one that knows the groups of all rows."""
        return self.rank == 0

    def part(self, number: int) -> tuple[int, int]:
        """Returns this rank's run of ``number`` things: [n r / P, n (r + 1) / P), rounded down."""
        first, stop = number * self.rank, number * (self.rank + 1)
        return first // self.world_size, stop // self.world_size


ALONE = Share()


def batch_bounds(num_rows: int, batch_size: int) -> list[tuple[int, int]]:
    """Returns [start, stop) of each batch; the last one has what is left, or one row more."""
    starts = list(range(0, num_rows, batch_size))
    # Batch normalisation cannot train on one row: a last batch of one joins the one before.
    if len(starts) > 1 and num_rows - starts[-1] == 1:
        starts.pop()
    return list(pairwise([*starts, num_rows]))


@dataclass(frozen=True)
class Division:
    """How a split's rows are divided among the ranks; ``batch_size`` is that of all ranks.

    If shuffled, a rank has a run of the rows. If ``is_split_by_batch``, it has a run of whole
    batches; otherwise a run of the rows of every batch. Shuffled rows cannot be split by batch.
    """

    batch_size: int
    shuffle: bool
    is_split_by_batch: bool
    share: Share

    def __post_init__(self) -> None:
        if self.shuffle and self.is_split_by_batch:
            raise ValueError("is_split_by_batch: found true, but shuffled rows are not")

    def own_rows(self, num_rows: int) -> RowRanges:
        """Returns which of a split's ``num_rows`` rows belong to the rank."""
        if self.shuffle:
            return RowRanges.run(*self.share.part(num_rows), num_rows)
        parts = np.array(self._own_parts(num_rows), dtype=np.int64).reshape(-1, 2)
        return RowRanges(parts, num_rows)

    def own_bounds(self, num_rows: int) -> list[tuple[int, int]]:
        """Returns the bounds of each batch among the rank's own rows, which are not shuffled.

        All ranks have equally many; where batches are whole, the last one may be empty.
        """
        sizes = (stop - start for start, stop in self._own_parts(num_rows))
        return list(pairwise(accumulate(sizes, initial=0)))

    def _own_parts(self, num_rows: int) -> list[tuple[int, int]]:
        # The rank's rows of each batch that it yields: the first one, and the one behind the last.
        bounds = batch_bounds(num_rows, self.batch_size)
        if self.is_split_by_batch:
            own = bounds[slice(*self.share.part(len(bounds)))]
            num_batches = -(-len(bounds) // self.share.world_size)
            return own + [(0, 0)] * (num_batches - len(own))
        parts = ((start, *self.share.part(stop - start)) for start, stop in bounds)
        return [(start + first, start + stop) for start, first, stop in parts]
