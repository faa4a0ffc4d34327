"""Files of encoded rows, read into memory or opened for streaming."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fuxictr.array_files import find_encoded, naming_damage, open_arrays, read_whole, require_memory
from fuxictr.errors import ConfigError, DataError
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders.columnar import (
    ColumnarData,
    check_columns,
    check_groups_present,
    collect_columns,
    make_layout,
)
from fuxictr.pytorch.dataloaders.parquet import ParquetRows
from fuxictr.pytorch.dataloaders.row_ranges import RowRanges

# Says which rows of a split are read, given their number.
Choice = Callable[[int], RowRanges]


def read_encoded(
    path: str | Path,
    feature_map: FeatureMap,
    group_id: str | None = None,
    labels: bool = True,
    choose: Choice | None = None,
) -> ColumnarData:
    """Reads encoded rows into memory, which holds one slice or column beside them while it reads.

    In parquet a sequence or vector is a list. An .npz has one array per column, an .h5 one dataset;
    a sequence or vector is (rows, width) there. Only the feature map's columns are read.

    ``choose`` says which rows are wanted (None: all); groups are always read of all rows. Only a
    part of the file is read then: the row groups of a parquet, the slice of an .h5 from the first
    row to the last, one column of an .npz at a time.

    Raises:
        ConfigError: the column ``group_id`` is missing.
        DataError: a file or column is missing or not readable, or a cell is invalid; names file,
            column and row.
    """
    files = find_encoded(path)
    if files[0].suffix == ".parquet":
        rows = ParquetRows(files, feature_map, group_id, labels)
        return rows.load(None if choose is None else choose(rows.num_rows))
    return _read_arrays(files[0], feature_map, group_id, labels, choose)


def open_parquet(
    path: str | Path, feature_map: FeatureMap, group_id: str | None = None, labels: bool = True
) -> ParquetRows:
    """Returns encoded parquet rows, which stay on disk; ConfigError for another format."""
    files = find_encoded(path)
    if files[0].suffix != ".parquet":
        raise ConfigError(
            f"{files[0]}: only parquet is streamed; key 'streaming': found true, set false"
        )
    return ParquetRows(files, feature_map, group_id, labels)


def _read_arrays(
    path: Path, feature_map: FeatureMap, group_id: str | None, labels: bool, choose: Choice | None
) -> ColumnarData:
    layout = make_layout(feature_map, labels)
    own = None
    with open_arrays(path) as (names, find):
        check_columns(names, layout.positions, str(path), group_id)
        if choose is not None:
            shape = find(next(iter(layout.positions))).shape
            own = choose(shape[0] if shape else 0)
        pairs = ((name, _read_own(path, name, find(name), own)) for name in layout.positions)
        data = collect_columns(pairs, layout, feature_map, str(path), own)
        if group_id is None:
            return data
        where = f"{path}: column '{group_id}' (key 'group_id')"
        groups = read_whole(path, group_id, find(group_id))
        return replace(data, group_ids=_group_codes(groups, data.num_split_rows, where))


def _read_own(path: Path, name: str, found: Any, own: RowRanges | None) -> np.ndarray:
    if own is None:
        return read_whole(path, name, found)
    where = f"{path}: column '{name}'"
    if found.shape[:1] != (own.num_split_rows,):
        raise DataError(f"{where}: found shape {found.shape}, expected {own.num_split_rows} rows")
    first, stop = own.hull(0, own.num_split_rows)
    with naming_damage(path, name):
        if not isinstance(found, np.ndarray):  # a dataset of an h5, still on disk
            require_memory(found.nbytes // max(len(found), 1) * (stop - first), where)
        part: np.ndarray = found[first:stop]
    return part[own.within(first, stop)]


def _group_codes(column: np.ndarray, num_rows: int, where: str) -> np.ndarray:
    if column.shape != (num_rows,):
        raise DataError(f"{where}: found shape {column.shape}, expected ({num_rows},)")
    check_groups_present(column, where)
    return np.unique(column, return_inverse=True)[1].astype(np.int64)
