"""Integers read exactly from cells of any form: 7, 7.0, ' 07 ' and '7.00' are one number."""

from __future__ import annotations

import polars as pl

# From the smallest int64 to the largest uint64: ids are often 64-bit hashes.
LOWEST, HIGHEST = -(1 << 63), (1 << 64) - 1
# The first integer to which another one is rounded.
_INEXACT = {pl.Float16: 1 << 11, pl.Float32: 1 << 24, pl.Float64: 1 << 53}
_WHOLE = r"^[+-]?[0-9]+\.0*$"


def read_integers(raw: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Returns cells as Int64, else UInt64, else Int128, and which are no integers, (rows,)."""
    if raw.dtype == pl.String:
        return _from_texts(raw)
    if raw.dtype in (pl.UInt64, pl.Int128, pl.UInt128) or raw.dtype.is_decimal():
        values = raw.cast(pl.Int128, strict=False)
        wrong = (values.is_null() & raw.is_not_null()) | _out_of_range(values)
        if raw.dtype.is_decimal():
            wrong |= (raw != raw.floor()).fill_null(False)
        return _narrowed(values), wrong
    values = raw.cast(pl.Int64, strict=False)
    wrong = values.is_null() & raw.is_not_null()
    if raw.dtype.is_float():
        wrong |= (raw != values.cast(raw.dtype)).fill_null(False)
    return values, wrong


def allowed_integer(found: object) -> str:
    """Returns what is allowed instead of a cell that is no integer, or is too large."""
    allowed = "an integer, or an empty cell (dtype: int)"
    number = pl.Series([str(found).strip()]).cast(pl.Float64, strict=False)
    is_integer = str(found).strip().lstrip("+-").isdecimal()
    merged, reason = merged_floats(number)
    if merged.any() and not is_integer:
        return f"{allowed}; {reason}"
    return f"{allowed} from -2^63 to 2^64-1, others with dtype: str" if is_integer else allowed


def merged_floats(values: pl.Series) -> tuple[pl.Series, str]:
    """Returns which floats (rows,) may stand for several integers, and what is allowed.

    From 2^53 on (2^24 in float32) several integers share one float, so that ids merge.
    """
    bound = next(bound for kind, bound in _INEXACT.items() if values.dtype == kind)
    allowed = (
        f"a float below 2^{bound.bit_length() - 1}: from there on ids merge; write them as "
        "integers or texts, and set dtype: int or str"
    )
    return ((values.abs() >= bound) & values.is_finite()).fill_null(False), allowed


def merged_integers(raw: pl.Series) -> tuple[int, int] | None:
    """Returns two integers among the cells that are one number in float64, or None."""
    if raw.dtype.is_float():
        return None
    integers = raw.cast(pl.Int128, strict=False).drop_nulls().unique().sort()
    is_same = (integers.cast(pl.Float64).diff() == 0).fill_null(False)
    if not is_same.any():
        return None
    place = int(is_same.arg_true()[0])
    return int(integers[place - 1]), int(integers[place])


def _from_texts(raw: pl.Series) -> tuple[pl.Series, pl.Series]:
    values = raw.cast(pl.Int64, strict=False)
    other = values.is_null() & raw.is_not_null() & (raw != "")
    if not other.any():
        return values, other
    # Larger than int64, or written as a float: 7.0, 7., 1e6.
    texts = raw.filter(other)
    is_whole = texts.str.contains(_WHOLE)
    cut = texts.zip_with(~is_whole, texts.str.replace(r"\.0*$", ""))
    read = cut.cast(pl.Int128, strict=False)
    floats = texts.cast(pl.Float64, strict=False).fill_nan(None)
    is_exact = (floats == floats.floor()) & ~merged_floats(floats)[0]
    whole = floats.set(~is_exact, None).cast(pl.Int128, strict=False)
    read = read.zip_with(read.is_not_null(), whole)
    is_wrong = (read.is_null() & (texts.str.to_lowercase() != "nan")) | _out_of_range(read)
    places = other.arg_true()
    wrong = pl.repeat(False, len(raw), dtype=pl.Boolean, eager=True).scatter(places, is_wrong)
    return _narrowed(values.cast(pl.Int128).scatter(places, read)), wrong


def _out_of_range(values: pl.Series) -> pl.Series:
    return ((values < LOWEST) | (values > HIGHEST)).fill_null(False)


def _narrowed(values: pl.Series) -> pl.Series:
    for dtype in (pl.Int64, pl.UInt64):
        narrow = values.cast(dtype, strict=False)
        if narrow.null_count() == values.null_count():
            return narrow
    return values
