"""Whether a preprocess function gives a row the same value whatever rows are around it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from fuxictr.preprocess.csv_rows import shown

# Rows of a frame that are tried again, and those of them that are tried alone.
_MOST_ROWS, _MOST_ALONE = 1000, 8
# How far two results of one row may be apart where they are floats: an order of additions.
_TOLERANCE: dict[type, float] = {pl.Float32: 1e-5, pl.Float64: 1e-9}

# From raw columns to one value a row.
RowFunction = Callable[[pl.DataFrame], pl.Series]


@dataclass(frozen=True)
class Difference:
    """A row whose value depends on the rows around it.

    Attributes:
        row: its index in the frame.
        found: what it has there, and elsewhere.
    """

    row: int
    found: str


class RowWise:
    """Tries a function on some rows of each frame anew, among others and alone.

    A function of the row alone gives each row what it gave in the frame. One that counts, ranks,
    averages, shifts, sorts or draws does not, and would encode the same rows differently in another
    frame, such as one to score. The 1st, 2nd, 4th, 8th, ... frame is tried as a whole and more.

    Args:
        function: what is tried.
    """

    def __init__(self, function: RowFunction) -> None:
        self._function = function
        self._num_frames = 0

    def find(
        self, rows: pl.DataFrame, values: pl.Series, filler: pl.DataFrame
    ) -> Difference | None:
        """Returns a row of a frame whose value is another elsewhere, or None.

        Args:
            rows: the raw columns.
            values: what the function made of them.
            filler: one row, of missing cells as the function sees them.
        """
        self._num_frames += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the frame itself had them already
            for index in self._trials(values):
                difference = self._compare(rows, values, index)
                if difference is not None:
                    return difference
            for strange in (filler, _mixed(rows, filler))[: 1 + self._is_whole]:
                difference = self._compare(rows, values, _sample(values), strange)
                if difference is not None:
                    return difference
        return None

    @property
    def _is_whole(self) -> bool:
        return self._num_frames & (self._num_frames - 1) == 0

    def _trials(self, values: pl.Series) -> Iterator[np.ndarray]:
        """Yields the rows to try together: in other order, twice, without the others, alone."""
        sample = _sample(values)
        yield np.arange(len(values))[::-1] if self._is_whole else sample[::-1]
        yield np.concatenate([sample, sample])
        if len(values) > 1:
            yield sample[: (len(sample) + 1) // 2]
            alone = [0, *_different(values, _MOST_ALONE if self._is_whole else 2)]
            yield from np.unique(alone)[:, None]

    def _compare(
        self,
        rows: pl.DataFrame,
        values: pl.Series,
        index: np.ndarray,
        strange: pl.DataFrame | None = None,
    ) -> Difference | None:
        """Returns a row that has another value among the rows of an index, or None.

        With strange rows these stand between them. A function need not be able to take such.
        """
        tried = rows[index]
        if strange is not None:
            tried = pl.concat([strange, tried, strange], how="vertical_relaxed")
        try:
            found = self._function(tried)
            if len(found) != len(tried):
                raise ValueError(f"found {len(found)} values, allowed: {len(tried)}")
        except Exception as error:  # a user's function may raise anything
            if strange is not None:
                return None
            text = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            return Difference(int(index[0]), f"fails where other rows are around it ({text})")
        expected = values[index]
        if strange is not None:
            if found.dtype != expected.dtype:  # guessed from the first of them
                return None
            found = found[strange.height : -strange.height]
        wrong = np.flatnonzero(~_equal(expected, found))
        if not len(wrong):
            return None
        place = int(wrong[0])
        here, there = (shown(repr(series[place])) for series in (expected, found))
        elsewhere = "alone" if len(index) == 1 and strange is None else "where others are around it"
        return Difference(int(index[place]), f"gives {here}, but {there} {elsewhere}")


def _mixed(rows: pl.DataFrame, filler: pl.DataFrame) -> pl.DataFrame:
    """Returns rows whose cells are of different rows: each column of the filler, the others not."""
    first = rows[[0] * rows.width]
    mixed = []
    for place, column in enumerate(first):
        cells = [column[:place], filler.to_series(place), column[place + 1 :]]
        mixed.append(pl.concat([cell.cast(column.dtype) for cell in cells]))
    return pl.DataFrame(mixed)


def _sample(values: pl.Series) -> np.ndarray:
    """Returns indices of rows from all over a frame, among them such with different values."""
    step = -(-len(values) // _MOST_ROWS)
    return np.union1d(np.arange(0, len(values), step), _different(values, 2 * _MOST_ALONE))


def _different(values: pl.Series, count: int) -> np.ndarray:
    """Returns indices of up to ``count`` rows that differ in their values, the last ones."""
    try:
        return values.arg_unique().to_numpy()[-count:]
    except pl.exceptions.PolarsError:  # values of a type that has no order
        return np.arange(len(values))[-count:]


def _equal(expected: pl.Series, found: pl.Series) -> np.ndarray:
    """Returns which values are the same (rows,); two missing ones are, and two that are NaN."""
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
