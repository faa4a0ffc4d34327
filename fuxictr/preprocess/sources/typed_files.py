"""Parquet, npz and h5 files as tables of typed columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fuxictr.array_files import DAMAGE, brief, naming_damage, open_arrays, parquet
from fuxictr.errors import DataError
from fuxictr.preprocess.sources.arrow_types import check_table, is_list
from fuxictr.preprocess.sources.csv_files import check_columns


def read_typed(
    path: Path, data_format: str, columns: Sequence[str], num_rows: int
) -> Iterator[pa.Table]:
    """Yields up to ``num_rows`` rows at a time; the arrays of an npz are in memory at once."""
    if data_format == "parquet":
        yield from _read_parquet(path, columns, num_rows)
        return
    with open_arrays(path) as (names, find):
        check_columns(names, columns, str(path))
        yield from _slices(path, {name: find(name) for name in columns}, num_rows)


def _read_parquet(path: Path, columns: Sequence[str], num_rows: int) -> Iterator[pa.Table]:
    check_columns(_schema(path).names, columns, str(path))
    row = 0
    with open_parquet(path) as file:
        declared = file.metadata.num_rows
        try:
            for batch in file.iter_batches(num_rows, columns=list(columns)):
                table = pa.Table.from_batches([batch])
                check_table(table, str(path), row)
                row += table.num_rows
                if row <= declared:
                    yield table
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path}: a damaged parquet file ({brief(error)})") from error
    if row != declared:
        raise DataError(f"{path}: damaged: found {row:,} rows, but it declares {declared:,}")


def open_parquet(path: Path) -> pq.ParquetFile:
    """Opens a parquet file; DataError where it is empty, damaged or of another format."""
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty")
    try:
        return parquet.open_parquet(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: damaged, or not a parquet file ({brief(error)})") from error


def array_names(path: Path, data_format: str) -> list[str]:
    """Returns the names of the columns."""
    if data_format == "parquet":
        return list(_schema(path).names)
    with open_arrays(path) as (names, _):
        return list(names)


def array_schema(
    path: Path, data_format: str, columns: Sequence[str] | None = None
) -> dict[str, pa.DataType]:
    """Returns column -> Arrow type of its values, for the ``columns`` in the file."""
    if data_format == "parquet":
        fields = {field.name: field.type for field in _schema(path)}
        return {name: kind for name, kind in fields.items() if columns is None or name in columns}
    found = {}
    with open_arrays(path) as (names, find):
        for name in [name for name in names if columns is None or name in columns]:
            try:
                found[name] = _array_type(find(name))
            except (*DAMAGE, IndexError):
                found[name] = pa.null()  # asking for its rows will say what is wrong
    return found


def list_widths(path: Path) -> dict[str, int]:
    """Returns column -> width of its first row, for columns of lists."""
    data_format = path.suffix.removeprefix(".")
    schema = array_schema(path, data_format)
    names = [name for name, kind in schema.items() if is_list(kind)]
    rows = next(read_typed(path, data_format, names, 1), None) if names else None
    if rows is None or not rows.num_rows:
        return {}
    return {name: len(rows[name][0].as_py() or ()) for name in names}


def count_rows(path: Path, data_format: str, column: str) -> int:
    """Returns the number of rows in a column of a parquet, npz or h5 file."""
    if data_format == "parquet":
        with open_parquet(path) as file:
            return file.metadata.num_rows
    with open_arrays(path) as (names, find):
        check_columns(names, [column], str(path))
        shape = find(column).shape
        return shape[0] if shape else 0


def _slices(path: Path, arrays: dict[str, Any], num_rows: int) -> Iterator[pa.Table]:
    for name, array in arrays.items():
        if not array.shape or 0 in array.shape[1:]:
            raise DataError(
                f"{path}: column '{name}': found shape {array.shape}, allowed: one value a row or "
                "more"
            )
    lengths = {name: array.shape[0] for name, array in arrays.items()}
    first = next(iter(arrays))
    for name, length in lengths.items():
        if length != lengths[first]:
            raise DataError(
                f"{path}: column '{name}': found {length} rows, allowed: {lengths[first]}, "
                f"as in '{first}'"
            )
    for start in range(0, lengths[first], num_rows):
        columns = {}
        for name, array in arrays.items():
            with naming_damage(path, name):
                columns[name] = _to_arrow(array[start : start + num_rows])
        table = pa.table(columns)
        check_table(table, str(path), start)
        yield table


def _to_arrow(values: np.ndarray) -> pa.Array:
    if values.ndim > 1:
        flat = _to_arrow(values.reshape(-1))
        offsets = np.arange(len(values) + 1, dtype=np.int64) * int(np.prod(values.shape[1:]))
        return pa.LargeListArray.from_arrays(pa.array(offsets), flat)
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8")
    elif values.dtype.kind == "O":  # texts of variable width, as h5py gives them
        values = np.array([v.decode() if isinstance(v, bytes) else v for v in values], dtype=object)
        return pa.array(values, type=pa.string())
    if values.dtype.kind not in "biufUM" or values.dtype.itemsize > 8 and values.dtype.kind == "f":
        raise ValueError(f"values of type {values.dtype}, allowed: numbers or texts")
    return pa.array(values.astype(values.dtype.newbyteorder("="), copy=False))


def _array_type(array: Any) -> pa.DataType:
    element = _to_arrow(np.asarray(array[:0]).reshape(-1)).type
    return element if len(array.shape) == 1 else pa.large_list(element)


def _schema(path: Path) -> pa.Schema:
    try:
        with open_parquet(path) as file:
            return file.schema_arrow
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: damaged: a column's name is not UTF-8 ({brief(error)})"
        ) from error
