"""Columns that a ``preprocess`` function makes from raw columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import polars as pl
import pyarrow as pa

from fuxictr.config import ColumnConfig, DatasetConfig
from fuxictr.datasets.column_functions import COLUMN_FUNCTIONS
from fuxictr.errors import ConfigError, DataError, did_you_mean
from fuxictr.preprocess.sources import Frame
from fuxictr.preprocess.values import naming_cell, read_values, to_arrow, to_series

# A function's name with the name of a column, as copy_from(user).
_CALL = re.compile(r"(\w+)\(\s*([^()]+?)\s*\)")


class Expressions:
    """The polars expressions of a dataset's preprocessed columns, and how their inputs are read.

    An expression sees each raw column with the dtype of the entry that has its name (an inactive
    entry counts too; str where there is none) and with missing cells filled, as in FuxiCTR.

    Args:
        config: the dataset config.
        columns: all of its active columns, the label included.
        methods: functions ``(col_name) -> pl.Expr`` by name; they come before COLUMN_FUNCTIONS.

    Raises:
        ConfigError: a function is unknown.
    """

    def __init__(
        self, config: DatasetConfig, columns: list[ColumnConfig], methods: dict[str, Any]
    ) -> None:
        functions = {**COLUMN_FUNCTIONS, **methods}
        self.by_column: dict[str, pl.Expr] = {}
        for column in columns:
            if column.preprocess:
                self.by_column[column.name] = _make(column, functions)
        self._raw = _raw_entries(config)

    def inputs(self, columns: Sequence[str]) -> list[str]:
        """Returns the names of the raw columns that the expressions of ``columns`` read."""
        chosen = [e for name, e in self.by_column.items() if name in columns]
        return list(dict.fromkeys(name for e in chosen for name in e.meta.root_names()))

    def apply(self, frame: Frame, columns: Sequence[str]) -> dict[str, pa.ChunkedArray]:
        """Returns those of ``columns`` that are made (rows,), by name.

        Raises:
            DataError: an input does not fit its dtype, or an expression fails on the rows.
        """
        chosen = {name: e for name, e in self.by_column.items() if name in columns}
        if not chosen:
            return {}
        inputs = pl.DataFrame([self._read(frame, name) for name in self.inputs(columns)])
        made = {}
        for name, expression in chosen.items():
            try:
                values = inputs.select(expression.alias(name))[name]
            except Exception as error:  # a user's function may raise anything
                text = (str(error).splitlines() or [""])[0]
                raise DataError(
                    f"{frame.locate(0)} and after, column '{name}': its preprocess function "
                    f"failed: {type(error).__name__}: {text}"
                ) from error
            num_rows = frame.table.num_rows
            if len(values) == 1:  # a constant
                values = values.new_from_index(0, num_rows)
            if len(values) != num_rows:
                raise DataError(
                    f"{frame.locate(0)} and after, column '{name}': its preprocess function gave "
                    f"{len(values)} values, allowed: {num_rows}, one a row"
                )
            made[name] = pa.chunked_array([to_arrow(values)])
        return made

    def raw_entry(self, name: str) -> tuple[str, Any]:
        """Returns the dtype and fill_na with which an input is read."""
        return self._raw.get(name, ("str", None))

    def _read(self, frame: Frame, name: str) -> pl.Series:
        dtype, fill = self.raw_entry(name)
        with naming_cell(frame, name):
            values = read_values(to_series(frame.table.column(name)), dtype)
        if fill is None:
            fill = "" if dtype == "str" else 0
        filler = pl.Series([fill]).cast(values.dtype, strict=False)[0]
        return values.fill_null(filler).alias(name) if filler is not None else values.alias(name)


def _make(column: ColumnConfig, functions: dict[str, Any]) -> pl.Expr:
    call = _CALL.fullmatch(str(column.preprocess))
    name, argument = call.groups() if call else (str(column.preprocess), column.name)
    if name not in functions:
        raise ConfigError(
            f"column '{column.name}': key 'preprocess': no function '{name}'"
            f"{did_you_mean(name, functions)}; allowed: {', '.join(sorted(functions))}, or a "
            "method of your own FeatureProcessor (key 'processor')"
        )
    expression = functions[name](argument)
    if not isinstance(expression, pl.Expr):
        raise ConfigError(
            f"column '{column.name}': key 'preprocess': function '{name}' returned "
            f"{type(expression).__name__}, allowed: a polars expression (pl.Expr)"
        )
    return expression


def _raw_entries(config: DatasetConfig) -> dict[str, tuple[str, Any]]:
    label = config.label_col if isinstance(config.label_col, list) else [config.label_col]
    entries = {}
    for entry in [*config.feature_cols, *label]:
        names = entry["name"] if isinstance(entry["name"], list) else [entry["name"]]
        for name in names:
            entries[name] = (entry.get("dtype", "str"), entry.get("fill_na"))
    return entries
