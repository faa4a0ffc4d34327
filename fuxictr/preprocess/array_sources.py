"""Parquet, npz and h5 files as tables of typed columns."""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fuxictr.errors import DataError
from fuxictr.preprocess.csv_source import check_columns

_FAULTS = (
    *(pa.ArrowException, OSError, ValueError, KeyError, EOFError),
    *(zipfile.BadZipFile, zlib.error, NotImplementedError),
)


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


def read_npz(path: Path, columns: Sequence[str], num_rows: int) -> Iterator[pa.Table]:
    """Yields up to ``num_rows`` rows at a time of an npz file, one array a column.

    The arrays of the columns are in memory at once: numpy cannot read a part of one.
    """
    with open_npz(path) as file:
        check_columns(file.files, columns, str(path))
        yield from _slices(path, {name: _npz_array(path, file, name) for name in columns}, num_rows)


def read_h5(path: Path, columns: Sequence[str], num_rows: int) -> Iterator[pa.Table]:
    """Yields up to ``num_rows`` rows at a time of an h5 file, one dataset a column."""
    import h5py

    with _open_h5(path) as file:
        datasets = {name: item for name, item in file.items() if isinstance(item, h5py.Dataset)}
        check_columns(list(datasets), columns, str(path))
        yield from _slices(path, {name: datasets[name] for name in columns}, num_rows)


def array_schema(path: Path, data_format: str) -> dict[str, str]:
    """Returns column -> kind of its values: text, int, float, list, null, or Arrow's own name.

    Raises:
        DataError: the file is not readable.
    """
    if data_format == "parquet":
        return {field.name: _arrow_kind(field.type) for field in open_parquet(path).schema_arrow}
    if data_format == "npz":
        with open_npz(path) as file:
            arrays = {name: _npz_array(path, file, name)[:1] for name in file.files}
            return {name: _array_kind(array) for name, array in arrays.items()}
    with _open_h5(path) as file:
        return {name: _array_kind(item) for name, item in file.items() if hasattr(item, "shape")}


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
    readers = {"parquet": read_parquet, "npz": read_npz, "h5": read_h5}
    rows = next(readers[data_format](path, names, 1), None) if names else None
    return {} if rows is None else {name: len(rows[name][0].as_py() or ()) for name in names}


def count_rows(path: Path, data_format: str) -> int:
    """Returns the number of rows of a parquet, npz or h5 file.

    Raises:
        DataError: the file is not readable.
    """
    if data_format == "parquet":
        return open_parquet(path).metadata.num_rows
    if data_format == "npz":
        with open_npz(path) as file:
            return len(_npz_array(path, file, file.files[0])) if file.files else 0
    with _open_h5(path) as file:
        return max((len(item) for item in file.values() if getattr(item, "shape", ())), default=0)


@contextlib.contextmanager
def open_npz(path: Path) -> Iterator[Any]:
    """Yields the arrays of an npz file by name; none is unpickled.

    Raises:
        DataError: it is damaged, or no npz file.
    """
    with open(path, "rb") as handle:  # np.load leaves the file open where it fails
        try:
            file = np.load(handle, allow_pickle=False)
        except _FAULTS as error:
            raise DataError(f"{path}: damaged, or not an npz file ({error})") from error
        if not hasattr(file, "files"):
            raise DataError(f"{path}: a single array, allowed: an npz file of one array a column")
        with file:
            yield file


def _npz_array(path: Path, file: Any, name: str) -> np.ndarray:
    try:
        return file[name]
    except _FAULTS as error:
        found = "an array of Python objects" if "pickle" in str(error) else str(error)
        raise DataError(
            f"{path}: column '{name}': found {found}; allowed: numbers or texts of fixed width"
        ) from error


def _open_h5(path: Path) -> Any:
    import h5py

    try:
        return h5py.File(path, "r")
    except _FAULTS as error:
        raise DataError(f"{path}: damaged, or not an h5 file ({error})") from error


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
            try:
                columns[name] = _to_arrow(array[start : start + num_rows])
            except _FAULTS as error:
                rows = f"rows {start + 1} and after"
                raise DataError(f"{path}: {rows}, column '{name}': {error}") from error
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
    return {"i": "int", "u": "int", "b": "int", "f": "float"}.get(array.dtype.kind, "text")


def _arrow_kind(kind: pa.DataType) -> str:
    tests = {
        "int": (pa.types.is_integer, pa.types.is_boolean),
        "float": (pa.types.is_floating, pa.types.is_decimal),
        "text": (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
        "list": (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list),
        "null": (pa.types.is_null,),
    }
    if pa.types.is_dictionary(kind):
        return _arrow_kind(kind.value_type)
    return next((name for name, known in tests.items() if any(t(kind) for t in known)), str(kind))
