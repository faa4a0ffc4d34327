"""Column functions: the meaning of ``preprocess: <name>`` of a column, as polars expressions.

A function takes the name of the column that it makes and, as in ``convert_hour(ts)``, the raw
column to read; its expression is over raw columns.
"""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

ColumnFunction = Callable[..., pl.Expr]
COLUMN_FUNCTIONS: dict[str, ColumnFunction] = {}


def column_function(function: ColumnFunction) -> ColumnFunction:
    """Registers a function under its name."""
    COLUMN_FUNCTIONS[function.__name__] = function
    return function


def _raw_hour(raw: str | None) -> pl.Expr:
    """Avazu's hour as text; null if it is not YYMMDDHH, for all three functions alike."""
    text = pl.col(raw or "hour").cast(pl.String)
    is_valid = text.str.contains(r"^\d{6}([01]\d|2[0-3])$") & _date(text).is_not_null()
    return pl.when(is_valid).then(text).otherwise(None)


def _date(text: pl.Expr) -> pl.Expr:
    return ("20" + text.str.head(6)).str.to_date("%Y%m%d", strict=False)


@column_function
def copy_from(column: str, raw: str | None = None) -> pl.Expr:
    """Copies another column, so that one raw column makes two fields."""
    return pl.col(raw or column)


@column_function
def convert_hour(column: str, raw: str | None = None) -> pl.Expr:
    """Hour of the day, 0..23: the last two digits of Avazu's ``hour``, or of ``raw`` (YYMMDDHH)."""
    return _raw_hour(raw).str.tail(2).cast(pl.Int64)


@column_function
def convert_weekday(column: str, raw: str | None = None) -> pl.Expr:
    """Day of the week of Avazu's ``hour``, or of ``raw`` (YYMMDDHH), Sunday = 0 to Saturday = 6."""
    return _date(_raw_hour(raw)).dt.weekday().cast(pl.Int64) % 7


@column_function
def convert_weekend(column: str, raw: str | None = None) -> pl.Expr:
    """1 on Saturdays and Sundays, 0 otherwise, from Avazu's ``hour``, or ``raw`` (YYMMDDHH)."""
    return (_date(_raw_hour(raw)).dt.weekday() >= 6).cast(pl.Int64)


@column_function
def convert_to_bucket(column: str, raw: str | None = None) -> pl.Expr:
    """Criteo's numeric fields as buckets: floor(ln(x)^2) for x > 2, int(x) otherwise."""
    x = pl.col(raw or column).cast(pl.Float64)
    return pl.when(x > 2).then((x.log() ** 2).floor()).otherwise(x).cast(pl.Int64)


@column_function
def extract_country_code(column: str, raw: str | None = None) -> pl.Expr:
    """KKBox's country: the first two characters of its ``isrc``; empty where there is none."""
    return pl.col(raw or column).cast(pl.String).str.slice(0, 2).fill_null("")


@column_function
def bucketize_age(column: str, raw: str | None = None) -> pl.Expr:
    """KKBox's age as text: 1 to 10 years "1", up to 20 "2", ..., up to 60 "6", up to 95 "7".

    It is empty for an age outside of 1 to 95, or none.
    """
    age = pl.col(raw or column).cast(pl.Float64, strict=False)
    decade = (age / 10).ceil().clip(1, 7).cast(pl.Int64).cast(pl.String)
    return pl.when(age.is_between(1, 95)).then(decade).otherwise(pl.lit(""))
