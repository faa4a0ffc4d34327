"""RankDataLoader: splits in, batches out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from fuxictr.errors import ConfigError
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders.encoded import open_parquet, read_encoded
from fuxictr.pytorch.dataloaders.iterators import BatchIterator, EpochIterator
from fuxictr.pytorch.dataloaders.share import ALONE, Division, Share
from fuxictr.pytorch.dataloaders.streaming import StreamingIterator


class RankDataLoader:
    """Reads the encoded splits of a ranking (CTR) dataset.

    Where several processes (ranks) share the rows, training batches are split by rows, the others
    by batches; see ``EpochIterator``. Other keys of a config are accepted and change nothing.

    Args:
        stage: ``train`` (train and valid), ``test``, or ``both``.
        train_data: a .parquet, .npz or .h5 file, with or without that suffix; a folder or a glob of
            .parquet parts; None: no such split. The same for valid_data and test_data.
        streaming: read the rows from parquet in every epoch, not once into memory.
        shuffle_window: streaming: rows that are shuffled together.
        num_workers: streaming: threads that decode rows; they change no order.
        group_id: column whose equal values make groups, read for valid and test, by the first rank;
            None: no groups.

    Raises:
        ConfigError: an unknown stage, a ``data_loader``, no column ``group_id``, or streaming
            of another format.
        DataError: rows that cannot be read.
    """

    def __init__(
        self,
        feature_map: FeatureMap,
        stage: str = "both",
        train_data: str | Path | None = None,
        valid_data: str | Path | None = None,
        test_data: str | Path | None = None,
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int = 2019,
        device: torch.device | str = "cpu",
        streaming: bool = False,
        shuffle_window: int = 1_000_000,
        num_workers: int = 1,
        group_id: str | None = None,
        share: Share = ALONE,
        **kwargs: Any,
    ) -> None:
        if stage not in ("train", "test", "both"):
            raise ConfigError(f"stage '{stage}': allowed: train, test, both")
        if kwargs.get("data_loader") is not None:
            raise ConfigError(
                f"data_loader: found {kwargs['data_loader']!r:.100}; loaders of your own are not "
                "called here; allowed: None"
            )
        self.stage = stage

        def load(path: str | Path | None, is_train: bool = False) -> EpochIterator | None:
            if path is None:
                return None
            groups = group_id if share.is_first and not is_train else None
            shuffled, by_batch = shuffle and is_train, not is_train
            order = (batch_size, shuffled, seed, device)
            if streaming:
                rows = open_parquet(path, feature_map, groups)
                more = (shuffle_window, num_workers, share)
                return StreamingIterator(rows, *order, *more, is_split_by_batch=by_batch)
            division = Division(batch_size, shuffled, by_batch, share)
            choose = None if share.is_all else division.own_rows
            data = read_encoded(path, feature_map, groups, choose=choose)
            return BatchIterator(data, *order, share, is_split_by_batch=by_batch)

        trains, tests = stage in ("train", "both"), stage in ("test", "both")
        self.train_gen = load(train_data, is_train=True) if trains else None
        self.valid_gen = load(valid_data) if trains else None
        self.test_gen = load(test_data) if tests else None

    def __iter__(self) -> Iterator[EpochIterator | None]:
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
