"""Columns that a ``preprocess`` function makes from raw columns."""

from __future__ import annotations

import contextlib
import functools
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from fuxictr.config import ColumnConfig, DatasetConfig
from fuxictr.datasets.column_functions import COLUMN_FUNCTIONS, copy_from
from fuxictr.errors import ConfigError, DataError, did_you_mean
from fuxictr.preprocess.columns.values import naming_cell, read_values, to_arrow, to_series
from fuxictr.preprocess.functions.row_wise import RowWise
from fuxictr.preprocess.functions.sample import FunctionSample, changed_value
from fuxictr.preprocess.sources.frames import Frame

# A function's name with the name of a column, as copy_from(user).
_CALL = re.compile(r"(\w+)\(\s*([^()]+?)\s*\)")

# An expression that uses the codes of a polars category, which depend on the order of texts.
_NUMBERED = re.compile(
    r"cast\(Categorical\)(?:\.(?:strict_)?cast\(U?Int|.*\.to_physical\(\))", re.DOTALL
)


class Expressions:
    """The polars expressions of a dataset's preprocessed columns, and how inputs are read.

    A raw column has the dtype of its entry, active or not, else str; missing cells are filled, as
    in FuxiCTR. ``columns`` are the active ones and the label. ``methods`` are functions
    ``(col_name) -> pl.Expr`` that come before COLUMN_FUNCTIONS.
    """

    def __init__(
        self, config: DatasetConfig, columns: list[ColumnConfig], methods: dict[str, Any]
    ) -> None:
        functions = {**COLUMN_FUNCTIONS, **methods}
        self.by_column: dict[str, pl.Expr] = {}
        self._functions = {c.name: str(c.preprocess) for c in columns if c.preprocess}
        self._checks: dict[str, RowWise] = {}
        self._sample = FunctionSample()
        self._raw = _raw_entries(config)
        for column in columns:
            if column.preprocess:
                self.by_column[column.name], is_own = _make(column, functions)
                if is_own:  # a second one, which has no memory of the values that the first one saw
                    again = functools.partial(_evaluate, _make(column, functions)[0])
                    self._checks[column.name] = RowWise(again)

    def inputs(self, columns: Sequence[str]) -> list[str]:
        """Returns the raw columns that the expressions of ``columns`` read."""
        chosen = [e for name, e in self.by_column.items() if name in columns]
        return list(dict.fromkeys(name for e in chosen for name in e.meta.root_names()))

    def apply(self, frame: Frame, columns: Sequence[str]) -> dict[str, pa.ChunkedArray]:
        """Returns those of ``columns`` that are made (rows,), by name.

        Raises:
            DataError: a cell does not fit, or an expression fails or depends on other rows.
        """
        chosen = {name: e for name, e in self.by_column.items() if name in columns}
        if not chosen:
            return {}
        num_rows = frame.table.num_rows
        inputs = {name: self._read(frame, name) for name in self.inputs(columns)}
        made = {}
        for name, expression in chosen.items():
            rows = self._rows_of(name, inputs, num_rows)
            where = f"column '{name}': its preprocess function '{self._functions[name]}'"
            try:
                values = _evaluate(expression, rows)
            except Exception as error:  # a user's function may raise anything
                text = (str(error).splitlines() or [""])[0]
                raise DataError(
                    f"{frame.locate(0)} and after, {where} failed: {type(error).__name__}: {text}"
                ) from error
            if len(values) != num_rows:
                raise DataError(
                    f"{frame.locate(0)} and after, {where} gave {len(values)} values, allowed: "
                    f"{num_rows}, one a row"
                )
            self._check(name, frame, rows, values)
            made[name] = values
        self._keep(inputs, made)
        return {name: pa.chunked_array([to_arrow(values)]) for name, values in made.items()}

    def save_sample(self, folder: Path) -> None:
        """Writes some rows that users' functions met, and the values they made."""
        self._sample.save(folder)

    def changed_value(self, folder: Path) -> str | None:
        """Returns how a function's values for the saved rows changed, or None."""

        def make(name: str, inputs: Mapping[str, pl.Series], num_rows: int) -> pl.Series:
            return _evaluate(self.by_column[name], self._rows_of(name, inputs, num_rows))

        return changed_value(folder, {n: functools.partial(make, n) for n in self._checks})

    def _keep(self, inputs: Mapping[str, pl.Series], made: Mapping[str, pl.Series]) -> None:
        own = {name: values for name, values in made.items() if name in self._checks}
        if len(own) == len(self._checks):
            self._sample.add({name: inputs[name] for name in self.inputs(list(own))}, own)

    def _rows_of(self, name: str, inputs: Mapping[str, pl.Series], num_rows: int) -> pl.DataFrame:
        read = [inputs[raw] for raw in self.inputs([name])]
        return pl.DataFrame(read or {"row": np.zeros(num_rows, dtype=np.int8)})

    def raw_entry(self, name: str) -> tuple[str, Any]:
        """Returns the dtype and fill_na with which an input is read."""
        return self._raw.get(name, ("str", None))

    def _read(self, frame: Frame, name: str) -> pl.Series:
        dtype, _ = self.raw_entry(name)
        with naming_cell(frame, name):
            values = read_values(to_series(frame.table.column(name)), dtype)
        filler = self._filler(values.alias(name))[0]
        return values.fill_null(filler).alias(name) if filler is not None else values.alias(name)

    def _filler(self, values: pl.Series) -> pl.Series:
        """Returns what fills an input's missing cells, as one cell."""
        dtype, fill = self.raw_entry(values.name)
        if fill is None:
            fill = "" if dtype == "str" else 0
        return pl.Series(values.name, [fill]).cast(values.dtype, strict=False)

    def _check(self, name: str, frame: Frame, rows: pl.DataFrame, values: pl.Series) -> None:
        if name not in self._checks:
            return
        filler = pl.DataFrame([self._filler(column) for column in rows])
        difference = self._checks[name].find(rows, values, filler)
        if difference is not None:
            raise DataError(
                f"{frame.locate(difference.row)}, column '{name}': its preprocess function "
                f"'{self._functions[name]}' depends on other rows: it {difference.found}; allowed: "
                "what depends on its own row alone (docs/data.md)"
            )


def _evaluate(expression: pl.Expr, rows: pl.DataFrame) -> pl.Series:
    with _quiet():
        values = rows.select(expression.alias("made"))["made"]
    return values.new_from_index(0, rows.height) if len(values) == 1 else values  # a constant


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # A loop over cells is slow, but correct.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pl.exceptions.PolarsInefficientMapWarning)
        yield


def _make(column: ColumnConfig, functions: dict[str, Any]) -> tuple[pl.Expr, bool]:
    """Returns a column's expression, and whether its function is a user's own."""
    call = _CALL.fullmatch(str(column.preprocess))
    name, argument = call.groups() if call else (str(column.preprocess), None)
    if name not in functions:
        raise ConfigError(
            f"column '{column.name}': key 'preprocess': no function '{name}'"
            f"{did_you_mean(name, functions)}; allowed: {', '.join(sorted(functions))}, or a "
            "method of your own FeatureProcessor (key 'processor')"
        )
    is_own = functions[name].__module__ != copy_from.__module__
    if is_own:
        with _quiet():
            expression = functions[name](argument or column.name)
    else:
        expression = functions[name](column.name, argument)
    if not isinstance(expression, pl.Expr):
        raise ConfigError(
            f"column '{column.name}': key 'preprocess': function '{name}' returned "
            f"{type(expression).__name__}, allowed: a polars expression (pl.Expr)"
        )
    if is_own and _NUMBERED.search(str(expression)):
        raise ConfigError(
            f"column '{column.name}': key 'preprocess': function '{name}' takes the number of a "
            "category, which depends on the rows that the process met before; allowed: the "
            "category's text, or pl.Enum"
        )
    return expression, is_own


def _raw_entries(config: DatasetConfig) -> dict[str, tuple[str, Any]]:
    label = config.label_col if isinstance(config.label_col, list) else [config.label_col]
    entries = {}
    for entry in [*config.feature_cols, *label]:
        names = entry["name"] if isinstance(entry["name"], list) else [entry["name"]]
        for name in names:
            entries[name] = (entry.get("dtype", "str"), entry.get("fill_na"))
    return entries
