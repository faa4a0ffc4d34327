"""One fixed, shuffled sample of rows, and what a model records on it."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch

from fuxictr.analysis.recorder import Recorder
from fuxictr.analysis.sample import Sample
from fuxictr.pytorch.batch import Batch
from fuxictr.pytorch.dataloaders import (
    BatchIterator,
    ColumnarData,
    EpochIterator,
    ParquetRows,
    RowRanges,
    StreamingIterator,
)
from fuxictr.pytorch.dataloaders.columnar import allocate
from fuxictr.pytorch.distributed.ranks import Ranks
from fuxictr.pytorch.models import BaseModel

# Rows of one forward pass, which bound the activations in memory.
PASS_ROWS = 10_000


def draw_sample(
    rows: ColumnarData | ParquetRows, num_rows: int = Sample.num_rows, seed: int = Sample.seed
) -> Batch:
    """Returns at most ``num_rows`` random rows of a split, in host memory.

    Rows and their order depend only on ``seed`` and the size of the split. Of rows on disk, only
    the sample stays in memory. Raises DataError if they cannot be read.
    """
    return _take(rows, _draw(rows.num_rows, num_rows, seed))


def draw_shared_sample(
    split: EpochIterator, ranks: Ranks, num_rows: int = Sample.num_rows, seed: int = Sample.seed
) -> Batch:
    """Returns the whole sample of ``draw_sample`` from a split that is shared among processes.

    The split is unshuffled, and split by batch if there are several processes.
    """
    order = _draw(split.num_rows, num_rows, seed)
    first, stop = split.own_rows
    is_own = (order >= first) & (order < stop)
    cut = None if split.share.is_all else RowRanges.run(first, stop, split.num_rows)
    with ranks.raise_on_any_rank():
        own = _take(_rows_of(split), order[is_own] - first, cut)
    sample = allocate(own.layout, len(order))
    places = torch.cat(ranks.gather_rows(is_own.nonzero().reshape(-1)))
    sample.ids[places] = torch.cat(ranks.gather_rows(own.ids))
    sample.values[places] = torch.cat(ranks.gather_rows(own.values_matrix))
    return sample.rows(slice(None))


def record_sample(
    model: BaseModel,
    sample: Batch,
    device: torch.device,
    names: Collection[str] | None = None,
    pass_rows: int = PASS_ROWS,
) -> dict[str, np.ndarray]:
    """Returns what a model records of the sample, {"<module path>/<name>": (rows, ...)}.

    The model, which lies on ``device``, runs in eval mode without gradients, ``pass_rows`` rows at
    a time. Its mode and the random number generators are restored. Only records of the given
    ``names`` are kept; None = all. Raises CheckpointError as ``Recorder``.
    """
    was_training = model.training
    devices = [device] if device.type == "cuda" else []
    pieces: dict[str, list[np.ndarray]] = {}
    model.eval()
    try:
        with (
            torch.random.fork_rng(devices),
            torch.inference_mode(),
            Recorder(model) as recorder,
        ):
            for start in range(0, sample.num_rows, pass_rows):
                rows = slice(start, start + pass_rows)
                model(Batch(sample.layout, sample.ids[rows], sample.values_matrix[rows]).to(device))
                for key, array in recorder.collect().items():
                    if names is None or key.rpartition("/")[2] in names:
                        pieces.setdefault(key, []).append(array)
    finally:
        model.train(was_training)
    return {key: np.concatenate(pieces.pop(key)) for key in list(pieces)}


def _draw(num_split_rows: int, num_rows: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed * 1_000_003)  # as a BatchIterator's first epoch
    return torch.randperm(num_split_rows, generator=generator)[:num_rows]


def _take(
    rows: ColumnarData | ParquetRows, order: torch.Tensor, own: RowRanges | None = None
) -> Batch:
    """Returns rows of a split; ``order`` counts within ``rows``, which may be this process's part.

    ``own`` then says which rows of the split it holds.
    """
    if isinstance(rows, ColumnarData):
        return rows.rows(order.to(rows.ids.device)).to(torch.device("cpu"))
    sample = allocate(rows.layout, len(order))
    chosen, places = order.sort()
    first = 0
    blocks = rows.blocks if own is None else rows.blocks_of(own)
    for part in (part for block in blocks for part in rows.read(block, own=own)):
        bounds = torch.tensor([first, first + part.num_rows])
        start, stop = torch.searchsorted(chosen, bounds).tolist()
        found = part.rows(chosen[start:stop] - first)
        sample.ids[places[start:stop]] = found.ids
        sample.values[places[start:stop]] = found.values_matrix
        first += part.num_rows
    return sample.rows(slice(None))


def _rows_of(split: EpochIterator) -> ColumnarData | ParquetRows:
    if isinstance(split, BatchIterator):
        return split.data
    assert isinstance(split, StreamingIterator), "a third kind of iterator needs a branch here"
    return split.rows
