"""A small encoded dataset with a field of every type, in every format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fuxictr.features import FeatureMap
from fuxictr.pytorch.batch import Batch


def make_feature_map() -> FeatureMap:
    feature_map = FeatureMap("d")
    feature_map.features = {
        "tags": {"type": "sequence", "vocab_size": 50, "max_len": 3},
        "a": {"type": "categorical", "vocab_size": 1000},
        "vector": {"type": "embedding", "pretrain_dim": 2},
        "x": {"type": "numeric"},
        "user": {"type": "meta"},
        "b": {"type": "categorical", "vocab_size": 1000},
    }
    feature_map.labels = ["click"]
    return feature_map


def make_columns(num_rows: int = 25) -> dict[str, np.ndarray]:
    row = np.arange(num_rows)
    return {
        "a": (row % 1000).astype(np.int32),
        "b": (row[::-1] % 1000).astype(np.int32),
        "tags": (row[:, None] * [1, 2, 3] % 50).astype(np.int32),
        "x": np.linspace(0, 1, num_rows, dtype=np.float32),
        "vector": np.stack([row, -row], axis=1).astype(np.float32),
        "click": (row % 2).astype(np.float32),
        "user": np.array([f"u{r % 4}" for r in row], dtype=np.str_),
    }


def to_table(columns: dict[str, Any], list_type=pa.list_) -> pa.Table:
    """2-D arrays become lists; ``list_type`` makes their type of a type of elements."""
    arrays = {}
    for name, column in columns.items():
        if isinstance(column, np.ndarray) and column.ndim == 2:
            column = pa.array(list(column), type=list_type(pa.from_numpy_dtype(column.dtype)))
        arrays[name] = column
    return pa.table(arrays)


def write_encoded(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **columns)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            for name, column in columns.items():
                is_text = column.dtype.kind == "U"
                file[name] = column.astype(object) if is_text else column
    else:
        pq.write_table(to_table(columns), path, **options)
    return path


def write_parts(folder: Path, columns: dict[str, Any], cuts: tuple[int, ...]) -> Path:
    folder.mkdir()
    bounds = [0, *cuts, len(columns["a"])]
    for number, (start, stop) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
        part = {name: column[start:stop] for name, column in columns.items()}
        write_encoded(folder / f"part_{number:05d}.parquet", part)
    return folder


def assert_holds(batch: Batch, columns: dict[str, Any]) -> None:
    for name in batch.layout.positions:
        np.testing.assert_array_equal(batch[name].numpy(), columns[name], err_msg=name)
