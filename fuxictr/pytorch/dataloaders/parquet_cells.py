"""Cells of parquet columns, checked, as arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fuxictr.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


def check_present(column: pa.Array, where: str, first_row: int) -> None:
    """Raises DataError, which names the row, if a row has no value; see ``to_numpy``."""
    if column.null_count:
        row = int(column.is_null().to_numpy(zero_copy_only=False).argmax())
        raise DataError(
            f"{where}, row {first_row + row + 1}: found no value, expected one in every row"
        )


def to_numpy(column: pa.Array, width: int | None, where: str, first_row: int) -> np.ndarray:
    """Returns a column's cells, (rows,) or (rows, width); without a copy where types allow it.

    ``width`` is the length of each cell's list; None: cells are numbers. ``first_row`` is the
    number of rows of the file before these.

    Raises:
        DataError: a cell is missing, not a number, or a list of another length; names the row.
    """
    import pyarrow as pa

    check_present(column, where, first_row)
    cells = column if width is None else _elements(column, width, where, first_row)
    kind = cells.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise DataError(f"{where}: found {column.type}, expected {_expected(width)}")
    # Array.to_numpy would import pandas; a boolean is one bit, which numpy cannot view.
    is_bits = pa.types.is_boolean(kind)
    array: np.ndarray = np.from_dlpack(cells.cast(pa.uint8()) if is_bits else cells)
    array = array.view(np.bool_) if is_bits else array
    return array if width is None else array.reshape(-1, width)


def _elements(column: pa.Array, width: int, where: str, first_row: int) -> pa.Array:
    import pyarrow as pa

    if pa.types.is_fixed_size_list(column.type):
        lengths = np.full(len(column), column.type.list_size)
    elif pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        lengths = np.diff(np.from_dlpack(column.offsets))
    else:
        raise DataError(f"{where}: found {column.type}, expected {_expected(width)}")
    wrong = lengths != width
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{where}, row {first_row + row + 1}: found a list of {lengths[row]}, "
            f"expected {_expected(width)}"
        )
    elements = column.flatten()
    if elements.null_count:
        row = int(elements.is_null().to_numpy(zero_copy_only=False).argmax()) // width
        raise DataError(f"{where}, row {first_row + row + 1}: found a list with an empty element")
    return elements


def _expected(width: int | None) -> str:
    return "a number in every row" if width is None else f"a list of {width} numbers in every row"
