"""Column functions: what ``preprocess: <name>`` of a column means, as polars expressions.

A function takes the name of the column that it makes and returns an expression over raw columns.
"""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

ColumnFunction = Callable[[str], pl.Expr]
COLUMN_FUNCTIONS: dict[str, ColumnFunction] = {}


def column_function(function: ColumnFunction) -> ColumnFunction:
    """Registers a function under its name."""
    COLUMN_FUNCTIONS[function.__name__] = function
    return function


def _date_of_hour() -> pl.Expr:
    """The date of Avazu's hour YYMMDDHH; null where it is none."""
    return ("20" + pl.col("hour").cast(pl.String).str.head(6)).str.to_date("%Y%m%d", strict=False)


@column_function
def convert_hour(column: str) -> pl.Expr:
    """Hour of the day, 0..23: the last two digits of Avazu's ``hour`` (YYMMDDHH)."""
    text = pl.col("hour").cast(pl.String)
    hour = text.str.slice(6, 2).cast(pl.Int64, strict=False)
    is_valid = (text.str.len_chars() == 8) & hour.is_between(0, 23)
    return pl.when(is_valid).then(hour).otherwise(None)


@column_function
def convert_weekday(column: str) -> pl.Expr:
    """Day of the week of Avazu's ``hour`` (YYMMDDHH), Sunday = 0 to Saturday = 6."""
    return _date_of_hour().dt.weekday().cast(pl.Int64) % 7


@column_function
def convert_weekend(column: str) -> pl.Expr:
    """1 on Saturdays and Sundays, 0 otherwise, from Avazu's ``hour`` (YYMMDDHH)."""
    return (_date_of_hour().dt.weekday() >= 6).cast(pl.Int64)


@column_function
def convert_to_bucket(column: str) -> pl.Expr:
    """Criteo's numeric fields as buckets: floor(ln(x)^2) for x > 2, int(x) otherwise."""
    x = pl.col(column).cast(pl.Float64)
    return pl.when(x > 2).then((x.log() ** 2).floor()).otherwise(x).cast(pl.Int64)
