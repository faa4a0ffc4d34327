"""Parquet, npz and h5 files as tables of typed columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fuxictr.array_files import naming_damage, open_arrays
from fuxictr.errors import DataError
from fuxictr.preprocess.csv_source import check_columns


def read_parquet(path: Path, columns: Sequence[str], num_rows: int) -> Iterator[pa.Table]:
    """Yields up to ``num_rows`` rows at a time of a parquet file."""
    file = open_parquet(path)
    check_columns(file.schema_arrow.names, columns, str(path))
    try:
        for batch in file.iter_batches(num_rows, columns=list(columns)):
            yield pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: a damaged parquet file ({error})") from error


def open_parquet(path: Path) -> pq.ParquetFile:
    """Opens a parquet file.

    Raises:
        DataError: it is empty, cut off or none.
    """
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty")
    try:
        # Buffered reads hold a part of a row group, however large it is.
        return pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: damaged, or not a parquet file ({error})") from error


def read_arrays(path: Path, columns: Sequence[str], num_rows: int) -> Iterator[pa.Table]:
    """Yields up to ``num_rows`` rows at a time of an npz or h5 file.

    The arrays of an npz are in memory at once: numpy cannot read a part of one.
    """
    with open_arrays(path) as (names, find):
        check_columns(names, columns, str(path))
        yield from _slices(path, {name: find(name) for name in columns}, num_rows)


def array_schema(path: Path, data_format: str) -> dict[str, str]:
    """Returns column -> kind of its values: text, int, float, list, null, or Arrow's own name.

    Raises:
        DataError: the file is not readable.
    """
    if data_format == "parquet":
        return {field.name: kind_of(field.type) for field in open_parquet(path).schema_arrow}
    with open_arrays(path) as (names, find):
        return {name: _array_kind(find(name)) for name in names}


def list_widths(path: Path) -> dict[str, int]:
    """Returns column -> width of its first row, of the columns that hold lists.

    Args:
        path: a parquet, npz or h5 file, known by its suffix.

    Raises:
        DataError: the file is not readable.
    """
    data_format = path.suffix.removeprefix(".")
    schema = array_schema(path, data_format)
    names = [name for name, kind in schema.items() if kind == "list"]
    reader = read_parquet if data_format == "parquet" else read_arrays
    rows = next(reader(path, names, 1), None) if names else None
    return {} if rows is None else {name: len(rows[name][0].as_py() or ()) for name in names}


def count_rows(path: Path, data_format: str) -> int:
    """Returns the number of rows of a parquet, npz or h5 file.

    Raises:
        DataError: the file is not readable.
    """
    if data_format == "parquet":
        return open_parquet(path).metadata.num_rows
    with open_arrays(path) as (names, find):
        return len(find(names[0])) if names else 0


def _slices(path: Path, arrays: dict[str, Any], num_rows: int) -> Iterator[pa.Table]:
    lengths = {name: array.shape[0] if array.shape else -1 for name, array in arrays.items()}
    first = next(iter(arrays))
    for name, length in lengths.items():
        if length != lengths[first] or length < 0:
            raise DataError(
                f"{path}: column '{name}': found {length} rows, allowed: {lengths[first]}, "
                f"as in '{first}'"
            )
    for start in range(0, lengths[first], num_rows):
        columns = {}
        for name, array in arrays.items():
            with naming_damage(path, name):
                columns[name] = _to_arrow(array[start : start + num_rows])
        yield pa.table(columns)


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
    return pa.array(values)


def _array_kind(array: Any) -> str:
    if len(array.shape) > 1:
        return "list"
    return {"i": "int", "u": "int", "b": "bool", "f": "float"}.get(array.dtype.kind, "text")


def kind_of(kind: pa.DataType) -> str:
    """Returns text, int, float, list or null, or Arrow's own name of another type."""
    tests = {
        "int": (pa.types.is_integer,),
        "float": (pa.types.is_floating,),
        "text": (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
        "list": (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list),
        "null": (pa.types.is_null,),
    }
    if pa.types.is_dictionary(kind):
        return kind_of(kind.value_type)
    return next((name for name, known in tests.items() if any(t(kind) for t in known)), str(kind))
