"""Arrow types of raw columns: which are readable, their kinds, and common types."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from fuxictr.array_files import brief
from fuxictr.errors import DataError

_KINDS = {
    "text": (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
    "int": (pa.types.is_integer,),
    "float": (pa.types.is_float64,),
    "float32": (pa.types.is_float32, pa.types.is_float16),
    "bool": (pa.types.is_boolean,),
    "decimal": (pa.types.is_decimal128,),
    "date": (pa.types.is_date,),
    "date and time": (pa.types.is_timestamp,),
    "time": (pa.types.is_time,),
    "null": (pa.types.is_null,),
}
# Pairs of kinds (known, met later) in which the same value has, or may have, the same text.
_ALIKE = {("text", "int"), ("int", "text"), ("float", "text"), ("float32", "text")}


def is_list(kind: pa.DataType) -> bool:
    """Returns whether a type holds lists."""
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(test(kind) for test in tests)


def is_text(kind: pa.DataType) -> bool:
    """Returns whether a type holds texts, not lists or a dictionary of them."""
    return any(test(kind) for test in _KINDS["text"])


def kind_of(kind: pa.DataType) -> str:
    """Returns text, int, float, ... of a type's values or list elements; else ValueError."""
    element = kind.value_type if is_list(kind) or pa.types.is_dictionary(kind) else kind
    for name, tests in _KINDS.items():
        if any(test(element) for test in tests):
            zone = pa.types.is_timestamp(element) and element.tz
            return f"{name} of {zone}" if zone else name
    raise ValueError(f"found values of type {kind}, allowed: texts, numbers, or lists of them")


def texts_agree(known: str, found: str) -> bool:
    """Returns whether equal values of two kinds have equal texts, unlike 7 and 7.0."""
    return found in (known, "null") or known == "null" or (known, found) in _ALIKE


def check_table(table: pa.Table, where: str, first_row: int = 0) -> None:
    """Raises DataError where a type is unreadable, or a text not UTF-8, which may crash."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        try:
            kind = kind_of(column.type)
        except ValueError as error:
            raise DataError(f"{where}: column '{name}': {error}") from None
        if kind != "text" and pa.types.is_primitive(column.type):
            continue
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            row = _first_unreadable(column)
            if row is None:
                raise DataError(f"{where}: column '{name}': damaged ({brief(error)})") from error
            raise DataError(
                f"{where}: row {first_row + row + 1}, column '{name}': found bytes that are not "
                "UTF-8, allowed: UTF-8 text"
            ) from error


def join(pieces: Sequence[tuple[Path, pa.ChunkedArray]], name: str) -> pa.ChunkedArray:
    """Returns a column's pieces (file, cells) in a common type; DataError where none fits."""
    types = list(dict.fromkeys(column.type for _, column in pieces))
    if len(types) == 1:
        return pa.chunked_array([c for _, column in pieces for c in column.chunks], type=types[0])
    target = _common([kind for kind in types if not pa.types.is_null(kind)])
    try:
        if target is None:
            raise pa.ArrowInvalid("no common type")
        chunks = [chunk.cast(target) for _, column in pieces for chunk in column.chunks]
        return pa.chunked_array(chunks, type=target)
    except pa.ArrowException as error:
        found = {str(column.type): path for path, column in pieces}
        shown = ", ".join(f"{kind} in {path}" for kind, path in found.items())
        raise DataError(f"column '{name}': found {shown}; write the files with one type") from error


def _common(types: Sequence[pa.DataType]) -> pa.DataType | None:
    if not types:
        return pa.null()
    if len(set(types)) == 1:
        return types[0]
    plain = [kind.value_type if pa.types.is_dictionary(kind) else kind for kind in types]
    if all(map(is_list, plain)):
        element = _common(
            [kind.value_type for kind in plain if not pa.types.is_null(kind.value_type)]
        )
        return None if element is None else pa.large_list(element)
    if any(map(is_list, plain)):
        return None
    kinds = {kind_of(kind) for kind in plain}
    if kinds <= {"int", "bool"}:
        if pa.uint64() not in plain:
            return pa.int64()
        # No integer type of Arrow holds both; as texts they are the same tokens and numbers.
        has_signed = any(map(pa.types.is_signed_integer, plain))
        return pa.large_string() if has_signed else pa.uint64()
    if kinds <= {"int", "bool", "float", "float32"}:
        return pa.float64()
    return pa.large_string() if kinds <= {"text", "int"} else None


def _first_unreadable(column: pa.ChunkedArray) -> int | None:
    for row, cell in enumerate(column):
        try:
            cell.as_py()
        except UnicodeDecodeError:
            return row
        except IndexError:  # outside its dictionary
            return None
    return None
