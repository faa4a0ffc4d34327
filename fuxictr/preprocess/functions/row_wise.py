"""Whether a preprocess function depends on one row alone, not on the rows around it."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from fuxictr.preprocess.sources.csv_rows import shown

# Most rows of a sample, of those with different values, tried alone, and copied around others.
_MOST_ROWS, _MOST_DIFFERENT, _MOST_ALONE, _MOST_COPIED = 1000, 16, 24, 8
# Relative difference of two float results of one row that the order of additions explains.
_TOLERANCE: dict[type, float] = {pl.Float32: 1e-5, pl.Float64: 1e-9}

# From raw columns to one value per row.
RowFunction = Callable[[pl.DataFrame], pl.Series]


@dataclass(frozen=True)
class Difference:
    """A row (its index in the frame) whose value depends on the rows around it."""

    row: int
    found: str


class RowWise:
    """Tries a function on the rows of each frame again, among other rows and alone.

    A function that counts, ranks, averages, shifts, sorts, draws, or fills a cell from others would
    encode the same row differently in another frame. All rows are tried in two halves. Rows with
    missing, extreme or odd inputs, and made-up ones, are tried alone and among copies of one row.
    """

    def __init__(self, function: RowFunction) -> None:
        self._function = function

    def find(
        self, rows: pl.DataFrame, values: pl.Series, filler: pl.DataFrame
    ) -> Difference | None:
        """Returns a row whose value is another elsewhere, or None; ``filler`` has missing cells."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the frame itself had them already
            marked = _marked(rows, values, filler)
            for index in _trials(values, marked):
                difference = self._compare(rows, values, index)
                if difference is not None:
                    return difference
            strange = self._alone(_mixed(rows, filler), values.dtype)
            for index, copied in _among(values, marked):
                difference = self._compare(rows, values, index, copied=copied) or (
                    self._compare(rows, values, index, strange, copied)
                )
                if difference is not None:
                    return difference
        return None

    def _alone(
        self, strange: pl.DataFrame, dtype: pl.DataType | type[pl.DataType]
    ) -> tuple[pl.DataFrame, pl.Series]:
        """Returns the strange rows that the function can take, and the value of each alone."""
        places, values = [], [pl.Series("made", [], dtype=dtype)]
        for place in range(strange.height):
            try:
                value = self._function(strange[place])
            except Exception:  # a user's function may raise anything
                continue
            if len(value) == 1 and value.dtype in (dtype, pl.Null):
                places.append(place)
                values.append(value.cast(dtype) if value.dtype == pl.Null else value)
        return strange[places], pl.concat(values)

    def _compare(
        self,
        rows: pl.DataFrame,
        values: pl.Series,
        index: np.ndarray,
        strange: tuple[pl.DataFrame, pl.Series] | None = None,
        copied: int | None = None,
    ) -> Difference | None:
        """Returns a row of ``index`` whose value changes among strange rows and copies, or None."""
        tried, expected = rows[index], values[index]
        if strange is not None:
            made_up, their_values = strange
            tried = pl.concat([made_up, tried, made_up], how="vertical_relaxed")
            expected = pl.concat([their_values, expected, their_values])
        num_copies = 0 if copied is None else len(tried) + 1
        if copied is not None:
            copies = rows[[copied] * num_copies]
            tried = pl.concat([copies, tried, copies], how="vertical_relaxed")
        try:
            found = self._function(tried)
            if len(found) != len(tried):
                raise ValueError(f"found {len(found)} values, allowed: {len(tried)}")
        except Exception as error:  # a user's function may raise anything
            if strange is not None:
                return None
            text = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            return Difference(int(index[0]), f"fails where other rows are around it ({text})")
        if strange is not None and found.dtype != expected.dtype:  # guessed from the first of them
            return None
        found = found[num_copies : num_copies + len(expected)]
        wrong = np.flatnonzero(~equal(expected, found))
        if not len(wrong):
            return None
        here, there = (shown(repr(series[int(wrong[0])])) for series in (expected, found))
        place = int(wrong[0]) - (0 if strange is None else strange[0].height)
        if not 0 <= place < len(index):
            return Difference(
                int(index[0]),
                f"gives {here} for a row with missing cells alone, but {there} where others are "
                "around it",
            )
        is_alone = len(index) == 1 and strange is None and copied is None
        elsewhere = "alone" if is_alone else "where others are around it"
        return Difference(int(index[place]), f"gives {here}, but {there} {elsewhere}")


def _trials(values: pl.Series, marked: np.ndarray) -> Iterator[np.ndarray]:
    """Yields rows to try together: each half backwards, a sample twice and in part, some alone."""
    order, half = np.arange(len(values))[::-1], len(values) // 2
    yield from (part for part in (order[half:], order[:half]) if len(part))
    sample = _sample(values, marked)
    yield np.concatenate([sample, sample])
    if len(values) > 1:
        yield sample[: (len(sample) + 1) // 2]
        yield from np.unique([0, *marked[:_MOST_ALONE], *_different(values)])[:, None]


def _among(values: pl.Series, marked: np.ndarray) -> Iterator[tuple[np.ndarray, int | None]]:
    """Yields rows to try between made-up ones, and the row whose copies stand around them."""
    yield _sample(values, marked), None
    some = np.unique([*marked, *_different(values)])
    step = -(-len(some) // _MOST_COPIED)
    yield from ((some, int(row)) for row in some[::step])


def _mixed(rows: pl.DataFrame, filler: pl.DataFrame) -> pl.DataFrame:
    """Returns made-up rows: one all missing, and the first row with each cell missing in turn."""
    first = rows[[0] * rows.width]
    mixed = []
    for place, column in enumerate(first):
        missing = filler.to_series(place)
        cells = [missing, column[:place], missing, column[place + 1 :]]
        mixed.append(pl.concat([cell.cast(column.dtype) for cell in cells]))
    return pl.DataFrame(mixed)


def _marked(rows: pl.DataFrame, values: pl.Series, filler: pl.DataFrame) -> np.ndarray:
    """Returns indices of unusual rows: extreme or missing cells, odd texts or numbers."""
    marks = [values]
    for place, column in enumerate(rows):
        marks += [column, column.eq_missing(filler.to_series(place)[0])]
        if column.dtype == pl.String:
            numbers = column.cast(pl.Float64, strict=False)
            marks += [numbers, numbers.is_null(), column.str.len_chars()]
    found: list[int | None] = []
    for mark in marks:
        with contextlib.suppress(pl.exceptions.PolarsError, TypeError):  # has no order
            found += [mark.is_null().arg_max(), mark.arg_min(), mark.arg_max()]
    return np.array(list(dict.fromkeys(row for row in found if row is not None)), dtype=np.int64)


def _sample(values: pl.Series, marked: np.ndarray) -> np.ndarray:
    """Returns indices of rows from all over a frame, with the marked and different ones."""
    step = -(-len(values) // _MOST_ROWS)
    return np.unique([*range(0, len(values), step), *marked, *_different(values)])


def _different(values: pl.Series) -> np.ndarray:
    """Returns indices of some rows that differ in their values."""
    try:
        return values.arg_unique().to_numpy()[-_MOST_DIFFERENT:]
    except pl.exceptions.PolarsError:  # values of a type that has no order
        return np.arange(len(values))[-_MOST_DIFFERENT:]


def equal(expected: pl.Series, found: pl.Series) -> np.ndarray:
    """Returns which values are the same, (rows,); missing equals missing, NaN equals NaN."""
    if isinstance(expected.dtype, (pl.Categorical, pl.Enum)):
        expected, found = expected.cast(pl.String), found.cast(pl.String)
    if isinstance(expected.dtype, pl.Object):
        pairs = zip(expected.to_list(), found.to_list(), strict=True)
        return np.array([str(a) == str(b) for a, b in pairs])
    if expected.dtype != found.dtype:
        found = found.cast(expected.dtype, strict=False)
    same = expected.eq_missing(found).to_numpy()
    tolerance = _TOLERANCE.get(type(expected.dtype))
    if tolerance is not None and not same.all():
        a, b = (s.cast(pl.Float64).fill_null(np.nan).to_numpy() for s in (expected, found))
        same = same | (np.abs(a - b) <= tolerance * np.maximum(np.abs(a), np.abs(b)))
    return same
