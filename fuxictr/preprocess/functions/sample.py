"""Rows on which a user's preprocess functions were tried, and the values they made.

A hash of the code misses what it reads or imports, and hash(text), which differs by process. Rows
kept beside the encoders show such changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from fuxictr.errors import DataError
from fuxictr.files import atomic_path
from fuxictr.preprocess.columns.values import to_arrow
from fuxictr.preprocess.functions.row_wise import equal
from fuxictr.preprocess.sources.csv_rows import shown

FUNCTION_SAMPLE = "preprocess_sample.parquet"
# Most rows kept; their inputs differ.
_MOST_ROWS = 10_000
_INPUT, _MADE = "input:", "made:"


class FunctionSample:
    """Different rows of the first frames, with the values that functions made of them."""

    def __init__(self) -> None:
        self._tables: list[pa.Table] = []
        self._num_rows = 0

    def add(self, inputs: Mapping[str, pl.Series], made: Mapping[str, pl.Series]) -> None:
        """Keeps rows of a frame (missing inputs filled) as long as there is room."""
        room = _MOST_ROWS - self._num_rows
        if room <= 0 or not made:
            return
        columns = {f"{_INPUT}{name}": to_arrow(series) for name, series in inputs.items()}
        columns |= {f"{_MADE}{name}": to_arrow(series) for name, series in made.items()}
        rows = np.arange(len(next(iter(made.values()))))
        if inputs:
            different = pl.DataFrame(list(inputs.values())).with_row_index("", 0)
            names = different.columns[1:]
            rows = different.unique(names, keep="first", maintain_order=True)[""].to_numpy()
        table = pa.table(columns).take(pa.array(rows[:room]))
        self._tables.append(table)
        self._num_rows += table.num_rows

    def save(self, folder: Path) -> None:
        """Writes the rows, if there are any."""
        if self._tables:
            table = pa.concat_tables(self._tables, promote_options="permissive")
            with atomic_path(folder / FUNCTION_SAMPLE) as path:
                pq.write_table(table, path)


def changed_value(
    folder: Path, functions: Mapping[str, Callable[[Mapping[str, pl.Series], int], pl.Series]]
) -> str | None:
    """Returns how values of ``functions`` (of inputs, number of rows) changed, or None."""
    if not functions:
        return None
    try:
        kept = pl.DataFrame(pl.from_arrow(pq.read_table(folder / FUNCTION_SAMPLE))).reverse()
    except (OSError, pa.ArrowException):
        raise DataError(
            f"{folder / FUNCTION_SAMPLE}: no such file, or not readable; build the dataset again"
        ) from None
    inputs = {
        n[len(_INPUT) :]: kept[n].alias(n[len(_INPUT) :]) for n in kept.columns if _INPUT in n
    }
    for column, function in functions.items():
        if f"{_MADE}{column}" not in kept.columns:
            raise DataError(f"{folder / FUNCTION_SAMPLE}: no column '{column}'; build it again")
        known = kept[f"{_MADE}{column}"]
        try:
            found = pl.Series(
                pl.from_arrow(pa.chunked_array([to_arrow(function(inputs, kept.height))]))
            )
        except Exception as error:  # a user's function may raise anything
            text = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            return f"column '{column}': its preprocess function now fails ({text})"
        same = equal(known, found) if len(known) == len(found) else np.zeros(len(known), bool)
        if not same.all():
            row = int(np.argmin(same))
            here, there = shown(repr(known[row])), shown(repr(found[min(row, len(found) - 1)]))
            return (
                f"column '{column}': its preprocess function gave {here} for a row and gives "
                f"{there} now; what it reads or imports changed, or it depends on the process "
                "(hash of a text) or on the rows before"
            )
    return None
