"""Batches of one split, epoch by epoch."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import torch

from fuxictr.pytorch.batch import Batch
from fuxictr.pytorch.dataloaders.columnar import ColumnarData

logger = logging.getLogger(__name__)

# The share of a GPU's free memory that the rows may take; the rest is the model's.
_DEVICE_SHARE = 0.5


class EpochIterator(ABC):
    """Yields the batches of one split; every pass over it is one epoch.

    The order of the rows follows from the rows, seed and epoch alone. Every batch has
    ``batch_size`` rows, but the last one: it has what is left, or one row more.

    Args:
        num_rows: rows of the split.
        batch_size: rows of a batch.
        shuffle: draw a new order every epoch.
        seed: seed of the order.
        device: where batches are wanted.
        group_ids: np.int64 (num_rows,), equal where rows are of one group; null = no groups.

    Attributes:
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
    ) -> None:
        self.num_rows = num_rows
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.device = torch.device(device)
        self.group_ids = group_ids
        self.epoch = 0
        self._num_passed_over = 0

    def __len__(self) -> int:
        return len(self.bounds())

    @abstractmethod
    def __iter__(self) -> Iterator[Batch]:
        """Yields the batches of the next epoch."""

    def bounds(self) -> list[tuple[int, int]]:
        """Returns the first row of each batch, and the row behind its last one."""
        starts = list(range(0, self.num_rows, self.batch_size))
        # Batch normalisation cannot train on one row: a last batch of one joins the one before.
        if len(starts) > 1 and self.num_rows - starts[-1] == 1:
            starts.pop()
        return list(zip(starts, [*starts[1:], self.num_rows], strict=True)) if starts else []

    def go_on(self, epoch: int, num_batches: int) -> None:
        """Makes the next pass go on in the middle of an epoch.

        Args:
            epoch: which one, as attribute ``epoch`` counted it when it had begun.
            num_batches: batches of it that are passed over.
        """
        self.epoch = max(epoch - 1, 0)
        self._num_passed_over = num_batches

    def begin_epoch(self) -> tuple[torch.Generator, int]:
        """Counts an epoch.

        Returns:
            The source of its order, seeded with seed * 1000003 + epoch, and how many of its first
            batches are not wanted: 0 unless ``go_on`` was called.
        """
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        self.epoch += 1
        num_passed_over, self._num_passed_over = self._num_passed_over, 0
        return generator, num_passed_over

    def deliver(self, batch: Batch) -> Batch:
        """Returns the batch on the device; from the host it goes there asynchronously."""
        if self.device.type == "cuda" and not batch.ids.is_cuda:
            ids, values = batch.ids.pin_memory(), batch.values_matrix.pin_memory()
            batch = Batch(batch.layout, ids, values)
        return batch.to(self.device)


class BatchIterator(EpochIterator):
    """Yields the batches of rows in memory.

    Rows lie on the device when they fit there, so that a batch is gathered without leaving it;
    otherwise they stay in host memory and are copied by batches.

    Args:
        data: the rows.
        batch_size: rows of a batch; the last batch holds what is left, or one row more.
        shuffle: draw a new order of all rows every epoch.
        seed: seed of the order.
        device: where batches are wanted.
    """

    def __init__(
        self,
        data: ColumnarData,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 2019,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(data.num_rows, batch_size, shuffle, seed, device, data.group_ids)
        self.data = self._place(data)

    def __iter__(self) -> Iterator[Batch]:
        generator, num_passed_over = self.begin_epoch()
        order = None
        if self.shuffle:
            order = torch.randperm(self.num_rows, generator=generator).to(self.data.ids.device)
        for start, stop in self.bounds()[num_passed_over:]:
            index = slice(start, stop) if order is None else order[start:stop]
            yield self.deliver(self.data.rows(index))

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
