"""Encoded rows as two matrices in memory, and the checks that every column passes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from fuxictr.array_files import require_memory
from fuxictr.errors import ConfigError, DataError, did_you_mean
from fuxictr.features import FeatureMap
from fuxictr.pytorch.batch import Batch, ColumnLayout
from fuxictr.pytorch.dataloaders.row_ranges import RowRanges


@dataclass(frozen=True)
class ColumnarData:
    """Rows of a split: all of them, or the cut that one of several processes has.

    Attributes:
        ids: (rows, layout.num_ids), int32.
        values: (rows, layout.num_values), float32.
        group_ids: np.int64, one for each row of the whole split, equal within a group; None: no
            groups.
        cut: which rows of the split these are; None: all.
    """

    layout: ColumnLayout
    ids: torch.Tensor
    values: torch.Tensor
    group_ids: np.ndarray | None = None
    cut: RowRanges | None = None

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self.ids.shape[0]

    @property
    def num_split_rows(self) -> int:
        """Number of rows of the split."""
        return self.num_rows if self.cut is None else self.cut.num_split_rows

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

    def take(self, index: torch.Tensor | slice) -> ColumnarData:
        """Returns the chosen rows without groups, as ``rows`` does."""
        rows = self.rows(index)
        return ColumnarData(self.layout, rows.ids, rows.values_matrix)

    def cut_to(self, own: RowRanges) -> ColumnarData:
        """Returns a copy of some rows of a whole split."""
        assert self.cut is None, "rows are cut once"
        index = as_index(own.within(0, self.num_rows))
        ids, values = self.ids[index].clone(), self.values[index].clone()
        return replace(self, ids=ids, values=values, cut=own)

    def write(self, start: int, rows: Batch) -> int:
        """Copies ``rows`` in from row ``start`` on; returns the row behind the last one."""
        stop = start + rows.num_rows
        self.ids[start:stop] = rows.ids
        self.values[start:stop] = rows.values_matrix
        return stop

    def to(self, device: torch.device) -> ColumnarData:
        """Returns the data on ``device``."""
        return replace(self, ids=self.ids.to(device), values=self.values.to(device))


def make_layout(feature_map: FeatureMap, labels: bool = True) -> ColumnLayout:
    """Returns the layout of a dataset; ``labels`` says whether its rows have labels.

    The integer matrix holds the categorical fields, then the sequences; the float matrix the
    numeric fields, the vectors, then the labels. Each kind keeps the order of the feature map,
    and so does a batch that lists its names.
    """
    fields = feature_map.fields

    def of_type(kind: str) -> list[str]:
        return [name for name, spec in fields.items() if spec["type"] == kind]

    sequences, vectors = of_type("sequence"), of_type("embedding")
    widths = {name: fields[name]["max_len"] for name in sequences}
    widths |= {name: fields[name]["pretrain_dim"] for name in vectors}
    last = feature_map.labels if labels else []
    ids = (*of_type("categorical"), *sequences)
    values = (*of_type("numeric"), *vectors, *last)
    return ColumnLayout(ids, values, widths, tuple(last), tuple(fields))


def as_index(places: slice | np.ndarray) -> slice | torch.Tensor:
    """Returns places as an index that ``ColumnarData.rows`` takes."""
    return places if isinstance(places, slice) else torch.from_numpy(places)


def allocate(layout: ColumnLayout, num_rows: int) -> ColumnarData:
    """Returns uninitialised matrices for ``num_rows`` rows."""
    return ColumnarData(
        layout,
        torch.empty(num_rows, layout.num_ids, dtype=torch.int32),
        torch.empty(num_rows, layout.num_values, dtype=torch.float32),
    )


def from_arrays(
    columns: Mapping[str, np.ndarray], feature_map: FeatureMap, labels: bool = True
) -> ColumnarData:
    """Builds the data from arrays of encoded ids, values and labels, (rows,) or (rows, width).

    Columns that the feature map does not name are left out. Raises DataError as ``store_column``,
    and where a column is missing.
    """
    layout = make_layout(feature_map, labels)
    check_columns(columns, layout.positions, "the given arrays")
    pairs = ((name, np.asarray(columns[name])) for name in layout.positions)
    return collect_columns(pairs, layout, feature_map, "the given arrays")


def collect_columns(
    columns: Iterable[tuple[str, np.ndarray]],
    layout: ColumnLayout,
    feature_map: FeatureMap,
    where: str,
    own: RowRanges | None = None,
) -> ColumnarData:
    """Builds the data from (name, column) pairs, of which it holds one at a time.

    ``own`` are the rows of the split that the columns hold; None: all. Errors are those of
    ``from_arrays`` and name the file ``where``.
    """
    data = None
    for name, column in columns:
        if data is None:
            num_rows = len(column) if column.ndim else 0
            num_bytes = 4 * num_rows * (layout.num_ids + layout.num_values)
            require_memory(num_bytes, f"{where}: {num_rows:,} rows")
            data = allocate(layout, num_rows)
        store_column(data, name, column, feature_map, where, own)
    assert data is not None, "a feature map has a field"
    return replace(data, cut=own)


def store_column(
    data: ColumnarData,
    name: str,
    column: np.ndarray,
    feature_map: FeatureMap,
    where: str,
    numbers: Sequence[int] | RowRanges | None = None,
) -> None:
    """Checks a column (rows,) or (rows, width) of the file ``where``; copies it into its matrix.

    ``numbers`` are the numbers, from 0, of these rows in that file; None: 0, 1, 2 and so on.

    Raises:
        DataError: its shape or type is wrong, an id is outside its vocabulary or a value is not
            finite; names file, column and row.
    """
    is_id, position = data.layout.positions[name]
    width = data.layout.widths.get(name)
    where = f"{where}: column '{name}'"
    numbers = range(data.num_rows) if numbers is None else numbers
    expected = (data.num_rows,) if width is None else (data.num_rows, width)
    if column.shape != expected:
        raise DataError(f"{where}: found shape {column.shape}, expected {expected}")
    matrix = (data.ids if is_id else data.values).numpy()
    target = matrix[:, position] if width is None else matrix[:, position : position + width]
    if is_id:
        _check_ids(column, feature_map.features[name]["vocab_size"], where, numbers)
        target[...] = column
        return
    if column.dtype.kind not in "biuf":
        raise DataError(f"{where}: found dtype {column.dtype}, expected numbers")
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite
        target[...] = column
    broken = ~np.isfinite(target)
    _reject(broken, column, numbers, where, "found {}, expected a finite float32")
    if name in feature_map.labels and name not in feature_map.regression_labels:
        broken = (target != 0) & (target != 1)
        _reject(broken, column, numbers, where, "found {}, expected a label 0 or 1")


def check_columns(
    found: Iterable[str], wanted: Iterable[str], where: str, group_id: str | None = None
) -> None:
    """Checks that a file has each wanted column once (DataError) and ``group_id`` (ConfigError)."""
    found = list(found)
    for name in wanted:
        if name not in found:
            raise DataError(f"{where}: column '{name}' is missing{did_you_mean(name, found)}")
        if found.count(name) > 1:
            raise DataError(f"{where}: found {found.count(name)} columns '{name}', expected one")
    if group_id is not None and group_id not in found:
        raise ConfigError(
            f"key 'group_id': found '{group_id}', but {where} has no such column"
            f"{did_you_mean(group_id, found)}"
        )


def check_groups_present(column: np.ndarray, where: str, first_row: int = 0) -> None:
    """Raises DataError if a group is NaN, or a float so large that it may stand for several."""
    if column.dtype.kind != "f":
        return
    numbers = range(first_row, first_row + len(column))
    _reject(np.isnan(column), column, numbers, where, "found {}, expected a group in every row")
    digits = np.finfo(column.dtype).nmant + 1
    message = (
        f"found {{:.0f}} as {column.dtype}, in which ids of 2^{digits} or more merge; expected "
        "integers or texts: a column of type meta with dtype: int or str"
    )
    merged = np.isfinite(column) & (np.abs(column) >= 2.0**digits)
    _reject(merged, column, numbers, where, message)


def _check_ids(
    column: np.ndarray, size: int, where: str, numbers: Sequence[int] | RowRanges
) -> None:
    # An id past its own vocabulary would read another field's rows of the common table.
    if column.dtype.kind not in "iuf":
        raise DataError(f"{where}: found dtype {column.dtype}, expected integer ids")
    if column.dtype.kind == "f":
        broken = column != np.trunc(column)
        _reject(broken, column, numbers, where, "found {}, expected an integer id")
    if column.size and (column.min() < 0 or column.max() >= size):
        message = f"id {{}} is outside 0..{size - 1} of the feature map; rebuild the dataset"
        _reject((column < 0) | (column >= size), column, numbers, where, message)


def _reject(
    broken: np.ndarray,
    column: np.ndarray,
    numbers: Sequence[int] | RowRanges,
    where: str,
    message: str,
) -> None:
    """Raises DataError about the first broken cell, if any; ``message`` takes its value."""
    if broken.any():
        index = int(broken.argmax())
        row = numbers[index // (column.size // len(column))] + 1
        raise DataError(f"{where}, row {row}: {message.format(column.reshape(-1)[index])}")
