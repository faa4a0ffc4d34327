"""Batches of one split, epoch by epoch."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import accumulate, pairwise

import numpy as np
import torch

from fuxictr.pytorch.batch import Batch
from fuxictr.pytorch.dataloaders.columnar import ColumnarData
from fuxictr.pytorch.dataloaders.share import ALONE, Division, Share, batch_bounds

logger = logging.getLogger(__name__)

# The share of a GPU's free memory that the rows may take; the rest is the model's.
_DEVICE_SHARE = 0.5


class EpochIterator(ABC):
    """Yields the batches of one split; every pass over it is one epoch.

    The order of the rows follows from the rows, seed and epoch alone. Every batch has
    ``batch_size`` rows, but the last one: it has what is left, or one row more.

    Several processes (ranks) share the rows. Batches, their sizes and order are the same as those
    of one process. A rank yields its own rows of them, and as many batches as every other rank:

    - not split by batch: its batch k has its own rows of batch k, in order, or none.
    - split by batch: it yields a run of whole batches, and an empty one at the end where others
      have one more. The rows of all ranks, one rank after the other, are in order.

    Args:
        num_rows: rows of the split.
        device: where batches are wanted.
        group_ids: np.int64 (num_rows,), equal where rows are of one group; None: no groups.
        is_split_by_batch: ranks have whole batches, which is not possible when shuffled.

    Attributes:
        group_ids: None on all ranks but the first one.
        epoch: number of passes begun; the next one is shuffled by (seed, epoch).
    """

    def __init__(
        self,
        num_rows: int,
        batch_size: int,
        shuffle: bool,
        seed: int,
        device: torch.device | str,
        group_ids: np.ndarray | None,
        share: Share = ALONE,
        is_split_by_batch: bool = False,
    ) -> None:
        self.num_rows = num_rows
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.device = torch.device(device)
        self.group_ids = group_ids if share.is_first else None
        self.share = share
        self.is_split_by_batch = is_split_by_batch
        self.division = Division(batch_size, shuffle, is_split_by_batch, share)
        self.epoch = 0
        self._num_skipped = 0

    def __len__(self) -> int:
        return len(self.bounds())

    @abstractmethod
    def __iter__(self) -> Iterator[Batch]:
        """Yields the batches of the next epoch."""

    def bounds(self) -> list[tuple[int, int]]:
        """Returns the first row of each batch, and the row behind its last one."""
        return batch_bounds(self.num_rows, self.batch_size)

    @property
    def own_rows(self) -> tuple[int, int]:
        """The first row of this rank, and the one behind its last, of rows split by batch."""
        if not self.is_split_by_batch and not self.share.is_all:
            raise ValueError(
                "is_split_by_batch: found false, but rows that several processes evaluate must be "
                "split by batch"
            )
        return self.division.own_rows(self.num_rows).hull(0, self.num_rows)

    def resume_at(self, epoch: int, num_batches: int) -> None:
        """Makes the next pass start in the middle of an epoch, after ``num_batches`` of every rank.

        ``epoch`` is counted as the attribute ``epoch`` counts it after the epoch's start.
        """
        self.epoch = max(epoch - 1, 0)
        self._num_skipped = num_batches

    def begin_epoch(self) -> tuple[torch.Generator, int]:
        """Counts an epoch; returns the generator of its order and how many batches to skip."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        self.epoch += 1
        num_skipped, self._num_skipped = self._num_skipped, 0
        return generator, num_skipped

    def deliver(self, batch: Batch) -> Batch:
        """Returns the batch on the device; it is copied there asynchronously."""
        if self.device.type == "cuda" and not batch.ids.is_cuda and batch.num_rows:
            ids, values = batch.ids.pin_memory(), batch.values_matrix.pin_memory()
            batch = Batch(batch.layout, ids, values)
        return batch.to(self.device)


class BatchIterator(EpochIterator):
    """Yields the batches of rows in memory.

    Rows are on the device if they fit there, so that a batch is gathered without leaving it.
    Otherwise they stay in host memory and are copied batch by batch. Other arguments are those of
    EpochIterator.

    Args:
        data: the rows of the split, of which a rank copies its own; or only those (``data.cut``).

    Attributes:
        data: the rank's own rows.
    """

    def __init__(
        self,
        data: ColumnarData,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 2019,
        device: torch.device | str = "cpu",
        share: Share = ALONE,
        *,
        is_split_by_batch: bool = False,
    ) -> None:
        super().__init__(
            *(data.num_split_rows, batch_size, shuffle, seed, device, data.group_ids, share),
            is_split_by_batch,
        )
        own = self.division.own_rows(self.num_rows)
        if data.cut is None and not share.is_all:
            data = data.cut_to(own)
        elif data.cut is not None and data.cut != own:
            raise ValueError(
                f"data: found {data.num_rows:,} rows that were cut from {self.num_rows:,}, but not "
                f"the {own.num_rows:,} of rank {share.rank} of {share.world_size}"
            )
        self.data = self._place(data)

    def __iter__(self) -> Iterator[Batch]:
        generator, num_skipped = self.begin_epoch()
        order = None
        if self.shuffle:
            order, bounds = self._draw(generator)
            order = order.to(self.data.ids.device)
        else:
            bounds = self.division.own_bounds(self.num_rows)
        for start, stop in bounds[num_skipped:]:
            index = slice(start, stop) if order is None else order[start:stop]
            yield self.deliver(self.data.rows(index))

    def _draw(self, generator: torch.Generator) -> tuple[torch.Tensor, list[tuple[int, int]]]:
        """Returns an epoch's order of this rank's rows, and the bounds of batches in it."""
        bounds = self.bounds()
        if self.share.is_all:
            return torch.randperm(self.num_rows, generator=generator), bounds
        # int32 gives the same order as int64 in half the memory; every rank draws all rows.
        dtype = torch.int32 if self.num_rows < 2**31 else torch.int64
        order = torch.randperm(self.num_rows, generator=generator, dtype=dtype).numpy()
        first, stop = self.share.part(self.num_rows)
        is_own = (order >= first) & (order < stop)
        sizes = (int(np.count_nonzero(is_own[slice(*bound)])) for bound in bounds)
        own = order[is_own]
        own -= first
        return torch.from_numpy(own), list(pairwise(accumulate(sizes, initial=0)))

    def _place(self, data: ColumnarData) -> ColumnarData:
        if self.device.type != "cuda":
            return data
        free, _ = torch.cuda.mem_get_info(self.device)
        if data.num_bytes <= _DEVICE_SHARE * free:
            return data.to(self.device)
        logger.info(
            "%d rows do not fit on %s; they stay in host memory", data.num_rows, self.device
        )
        return data
