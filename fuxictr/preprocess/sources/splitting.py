"""Divides the rows of one source into train, valid and test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from fuxictr.array_files import require_memory
from fuxictr.config import DatasetConfig
from fuxictr.errors import DataError
from fuxictr.preprocess.sources.frames import Frame

SPLITS = ("train", "valid", "test")


def split_codes(config: DatasetConfig, num_rows: int) -> np.ndarray:
    """Returns the split of every row, as an index into SPLITS, uint8 (rows,).

    ``sequential``: the last rows are test, those before them valid. ``random``: both are drawn by
    ``split_seed``; rows keep their order within a split. Sizes below 1 are shares, rounded down;
    others are numbers of rows. DataError: a split that is asked for, or train, gets none.
    """
    num_test = _count(config, "test_size", num_rows)
    num_valid = _count(config, "valid_size", num_rows)
    if num_test + num_valid >= num_rows:
        raise DataError(
            f"dataset '{config.dataset_id}': keys 'valid_size', 'test_size': {num_valid} and "
            f"{num_test} of {num_rows} rows leave none for training"
        )
    require_memory(9 * num_rows, f"dataset '{config.dataset_id}': {num_rows:,} rows to divide")
    codes = np.zeros(num_rows, dtype=np.uint8)
    order = np.arange(num_rows)[::-1]
    if config.split_type == "random":
        order = np.random.Generator(np.random.PCG64(config.split_seed)).permutation(num_rows)
    codes[order[:num_test]] = SPLITS.index("test")
    codes[order[num_test : num_test + num_valid]] = SPLITS.index("valid")
    return codes


def rows_of(frames: Iterable[Frame], codes: np.ndarray, split: str) -> Iterator[Frame]:
    """Yields the frames of the source with only the rows of one split."""
    start = 0
    for frame in frames:
        mask = next_codes(codes, start, frame.table.num_rows) == SPLITS.index(split)
        if mask.any():
            yield frame.select(mask)
        start += frame.table.num_rows


def next_codes(codes: np.ndarray, start: int, num_rows: int) -> np.ndarray:
    """Returns the splits of the next rows; DataError where there are more than were counted."""
    if start + num_rows > len(codes):
        raise DataError(
            f"the raw files changed while they were read: found more than {len(codes):,} rows, "
            "which were counted before; start again"
        )
    return codes[start : start + num_rows]


def _count(config: DatasetConfig, key: str, num_rows: int) -> int:
    size = getattr(config, key)
    count = int(size if size >= 1 else size * num_rows + 1e-6)  # 0.29 * 100 is 28.999...
    if size and not count:
        raise DataError(
            f"dataset '{config.dataset_id}': key '{key}': {size} of {num_rows} rows is less than "
            "one row"
        )
    return count
