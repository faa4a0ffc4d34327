"""RankDataLoader: splits in, batches out."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from fuxictr.errors import ConfigError
from fuxictr.features import FeatureMap
from fuxictr.pytorch.batch import Batch
from fuxictr.pytorch.dataloaders.columnar import ColumnarData, read_parquet

logger = logging.getLogger(__name__)

# The share of a GPU's free memory that the rows may take; the rest is the model's.
_DEVICE_SHARE = 0.5


class BatchIterator:
    """Yields the batches of one split; every pass over it is one epoch.

    The order follows from (seed, epoch) alone. Rows lie on the device when they fit there, so that
    a batch is gathered without leaving it; otherwise they are page-locked and copied by batches.

    Args:
        data: the rows.
        batch_size: rows of a batch; the last batch holds what is left, or one row more.
        shuffle: draw a new order every epoch.
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
        self.device = torch.device(device)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0
        self.data = self._place(data)

    def __len__(self) -> int:
        return len(self._starts())

    @property
    def num_rows(self) -> int:
        """Number of rows of the split."""
        return self.data.num_rows

    def __iter__(self) -> Iterator[Batch]:
        order = self._order()
        self.epoch += 1
        starts = self._starts()
        for start, stop in zip(starts, [*starts[1:], self.num_rows], strict=True):
            index = slice(start, stop) if order is None else order[start:stop]
            yield self.data.rows(index).to(self.device)

    def _starts(self) -> list[int]:
        starts = list(range(0, self.num_rows, self.batch_size))
        # Batch normalisation cannot train on one row: a last batch of one joins the one before.
        if len(starts) > 1 and self.num_rows - starts[-1] == 1:
            starts.pop()
        return starts

    def _order(self) -> torch.Tensor | None:
        if not self.shuffle:
            return None
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.num_rows, generator=generator)
        return order.to(self.data.ids.device)

    def _place(self, data: ColumnarData) -> ColumnarData:
        if self.device.type != "cuda":
            return data
        free, _ = torch.cuda.mem_get_info(self.device)
        if data.num_bytes <= _DEVICE_SHARE * free:
            return data.to(self.device)
        logger.info(
            "%d rows do not fit on %s; they stay in host memory", data.num_rows, self.device
        )
        return data.pin_memory()


class RankDataLoader:
    """Reads the encoded splits of a ranking (CTR) dataset.

    Args:
        feature_map: the fields and labels to read.
        stage: ``train`` (train and valid), ``test``, or ``both``.
        train_data, valid_data, test_data: encoded parquet files or folders; null = no such split.
        batch_size: rows of a batch.
        shuffle: whether the training rows are shuffled each epoch.
        seed: seed of the order.
        device: where batches are wanted.
        **kwargs: other keys of a config; they do not change what is loaded.
    """

    def __init__(
        self,
        feature_map: FeatureMap,
        stage: str = "both",
        train_data: str | Path | None = None,
        valid_data: str | Path | None = None,
        test_data: str | Path | None = None,
        batch_size: int = 10000,
        shuffle: bool = True,
        seed: int = 2019,
        device: torch.device | str = "cpu",
        **kwargs: Any,
    ) -> None:
        if stage not in ("train", "test", "both"):
            raise ConfigError(f"stage '{stage}': allowed: train, test, both")
        self.stage = stage

        def load(path: str | Path | None, is_train: bool = False) -> BatchIterator | None:
            if path is None:
                return None
            data = read_parquet(path, feature_map)
            return BatchIterator(data, batch_size, shuffle and is_train, seed, device)

        trains, tests = stage in ("train", "both"), stage in ("test", "both")
        self.train_gen = load(train_data, is_train=True) if trains else None
        self.valid_gen = load(valid_data) if trains else None
        self.test_gen = load(test_data) if tests else None

    def __iter__(self) -> Iterator[BatchIterator | None]:
        """Yields the splits of the stage: ``train, valid = RankDataLoader(...)`` unpacks them."""
        splits = self.make_iterator()
        return iter(splits if isinstance(splits, tuple) else (splits,))

    def make_iterator(self) -> Any:
        """Returns (train, valid), test, or (train, valid, test), after the stage."""
        if self.stage == "train":
            return self.train_gen, self.valid_gen
        if self.stage == "test":
            return self.test_gen
        return self.train_gen, self.valid_gen, self.test_gen
