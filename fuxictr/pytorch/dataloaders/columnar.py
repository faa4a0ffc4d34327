"""Encoded data as two matrices in memory, read from parquet column by column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fuxictr.errors import DataError, did_you_mean
from fuxictr.features import FeatureMap
from fuxictr.pytorch.batch import Batch, ColumnLayout


@dataclass(frozen=True)
class ColumnarData:
    """All rows of a split.

    Attributes:
        layout: names of the columns.
        ids: (rows, number of categorical fields), int32.
        values: (rows, number of numeric fields and labels), float32.
    """

    layout: ColumnLayout
    ids: torch.Tensor
    values: torch.Tensor

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self.ids.shape[0]

    @property
    def num_bytes(self) -> int:
        """Bytes of both matrices: 4 x columns x rows."""
        return self.ids.nbytes + self.values.nbytes

    def rows(self, index: torch.Tensor | slice) -> Batch:
        """Returns the chosen rows as a batch: a view for a slice, a gather for an index tensor."""
        if isinstance(index, slice):
            return Batch(self.layout, self.ids[index], self.values[index])
        ids, values = self.ids.index_select(0, index), self.values.index_select(0, index)
        return Batch(self.layout, ids, values)

    def to(self, device: torch.device) -> ColumnarData:
        """Returns the data on ``device``."""
        return ColumnarData(self.layout, self.ids.to(device), self.values.to(device))

    def pin_memory(self) -> ColumnarData:
        """Returns the data in page-locked host memory, from which copies run asynchronously."""
        return ColumnarData(self.layout, self.ids.pin_memory(), self.values.pin_memory())


def make_layout(feature_map: FeatureMap) -> ColumnLayout:
    """Returns the layout of a dataset: its fields in order, then its labels."""
    fields = feature_map.fields
    categorical = tuple(n for n, s in fields.items() if s["type"] == "categorical")
    numeric = tuple(n for n, s in fields.items() if s["type"] == "numeric")
    return ColumnLayout(categorical, (*numeric, *feature_map.labels))


def from_arrays(columns: Mapping[str, np.ndarray], feature_map: FeatureMap) -> ColumnarData:
    """Builds the data from arrays (rows,) of encoded ids, numeric values and labels.

    Raises:
        DataError: a column is missing or an id is outside its vocabulary.
    """
    layout = make_layout(feature_map)
    _check_columns(columns, layout, "the given arrays")
    num_rows = len(next(iter(columns.values())))
    data = _allocate(layout, num_rows)
    _fill(data, 0, columns, feature_map, "the given arrays")
    return data


def read_parquet(path: str | Path, feature_map: FeatureMap) -> ColumnarData:
    """Reads an encoded parquet file, or a folder of part files, one row group at a time.

    Raises:
        DataError: a file is missing or no parquet, a column is missing, an id is outside its
            vocabulary; names the file, the column and the row.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    paths: Sequence[Path] = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not paths or not paths[0].is_file():
        raise DataError(f"{path}: no such encoded data")
    layout = make_layout(feature_map)
    try:
        files = [pq.ParquetFile(p) for p in paths]
        data = _allocate(layout, sum(f.metadata.num_rows for f in files))
        start = 0
        for file_path, file in zip(paths, files, strict=True):
            _check_columns(file.schema_arrow.names, layout, str(file_path))
            names = [*layout.id_columns, *layout.value_columns]
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=names)
                columns = {name: table.column(name).to_numpy() for name in names}
                start = _fill(data, start, columns, feature_map, str(file_path))
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path}: not readable as parquet ({error}); rebuild the dataset"
        ) from error
    return data


def _allocate(layout: ColumnLayout, num_rows: int) -> ColumnarData:
    return ColumnarData(
        layout,
        torch.empty(num_rows, len(layout.id_columns), dtype=torch.int32),
        torch.empty(num_rows, len(layout.value_columns), dtype=torch.float32),
    )


def _fill(
    data: ColumnarData,
    start: int,
    columns: Mapping[str, np.ndarray],
    feature_map: FeatureMap,
    where: str,
) -> int:
    stop = start + len(next(iter(columns.values())))
    ids, values = data.ids.numpy(), data.values.numpy()
    for position, name in enumerate(data.layout.id_columns):
        size = feature_map.features[name]["vocab_size"]
        _check_ids(columns[name], size, f"{where}: column '{name}'", start)
        ids[start:stop, position] = columns[name]
    for position, name in enumerate(data.layout.value_columns):
        values[start:stop, position] = columns[name]
    return stop


def _check_columns(found: Sequence[str] | Mapping, layout: ColumnLayout, where: str) -> None:
    for name in (*layout.id_columns, *layout.value_columns):
        if name not in found:
            raise DataError(f"{where}: column '{name}' is missing{did_you_mean(name, found)}")


def _check_ids(column: np.ndarray, size: int, where: str, start: int) -> None:
    # An id past its own vocabulary would read another field's rows of the common table.
    outside = ~((column >= 0) & (column < size))
    if outside.any():
        row = int(outside.argmax())
        raise DataError(
            f"{where}, row {start + row + 1}: id {column[row]} is outside 0..{size - 1} "
            "of the feature map; rebuild the dataset"
        )
