"""Checks of the splits before the first training step."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing

import torch
from torch import nn

from fuxictr.errors import ConfigError, DataError
from fuxictr.metrics import check_defined, check_groups
from fuxictr.pytorch.dataloaders import EpochIterator
from fuxictr.pytorch.distributed.ranks import Ranks
from fuxictr.pytorch.training.tasks import TaskColumns

_BATCH_NORMS = nn.modules.batchnorm._BatchNorm  # SyncBatchNorm is one, too


def check_splits(
    columns: TaskColumns,
    metrics: Sequence[str],
    train: EpochIterator,
    valid: EpochIterator | None,
    ranks: Ranks,
) -> None:
    """Checks that a model can train on one split and be evaluated on the other, if there is one.

    It reads validation batches until all metrics are defined, most often one. Where several
    processes share them, it reads all. All ranks raise what one of them finds.

    Raises:
        ConfigError: the training batches are those of another process, the validation batches lack
            the group ids that a metric needs, or batch normalisation gets a batch of one row.
        DataError: a split has no rows or no labels.
        UndefinedMetricError: a metric is not defined for the validation labels, as AUC for one
            class.
    """
    _check_share(train, ranks)
    for name, split in (("training", train), ("validation", valid)):
        if split is not None and split.num_rows == 0:
            raise DataError(f"the {name} split has no rows")
    if valid is not None:
        ranks.from_rank_zero(lambda: check_groups(metrics, valid.group_ids))
        for place in range(len(columns.tasks)):
            _check_labels(columns, place, metrics, valid, ranks)
    norms = [
        name for name, layer in columns.model.named_modules() if isinstance(layer, _BATCH_NORMS)
    ]
    if norms and any(stop - start == 1 for start, stop in train.bounds()):
        raise ConfigError(
            f"batch normalisation (layer '{norms[0]}') needs batches of two rows or more: found "
            f"batch_size {train.batch_size} and {train.num_rows:,} training rows"
        )


def _check_share(train: EpochIterator, ranks: Ranks) -> None:
    share = train.share
    is_split_otherwise = train.is_split_by_batch and ranks.size > 1
    if (share.rank, share.world_size) != (ranks.rank, ranks.size) or is_split_otherwise:
        raise ConfigError(
            f"training batches: found those of rank {share.rank} of {share.world_size}, this is "
            f"rank {ranks.rank} of {ranks.size}; give the loader share=Share(rank, world_size), "
            "and let training rows not be split by batch"
        )


def _gathered(labels: Iterator[torch.Tensor], ranks: Ranks) -> Iterator[torch.Tensor]:
    """Returns the labels of all ranks, in the order of the rows, on the first one."""
    with ranks.raise_on_any_rank():
        own = torch.cat([part.cpu() for part in labels])
    return iter(ranks.gather_to_first(own))


def _check_labels(
    columns: TaskColumns,
    place: int,
    metrics: Sequence[str],
    valid: EpochIterator,
    ranks: Ranks,
) -> None:
    """Raises DataError if the labels of the task at a place do not fit its metrics."""
    task = columns.tasks[place]
    own = columns.metrics_of(task, metrics)
    where = columns.where("the validation split", task)
    with closing(_labels(columns, place, valid)) as found:
        labels = found if valid.share.world_size == 1 else _gathered(found, ranks)
        ranks.from_rank_zero(lambda: check_defined(own, labels, valid.group_ids, where))


def _labels(
    columns: TaskColumns, place: int, batches: EpochIterator
) -> Generator[torch.Tensor, None, None]:
    for batch in batches:
        yield columns.each(columns.labels(batch))[place][1]
