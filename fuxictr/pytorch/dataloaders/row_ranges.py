"""Some of a split's rows."""

from __future__ import annotations

import numpy as np


class RowRanges:
    """Some of the rows of a split, in order; ``ranges[i]`` is the split's row that is the i-th.

    ``bounds``, np.int64 (R, 2), has the first row of each range and the one behind its last. Ranges
    ascend and do not overlap; empty ones are dropped, neighbours joined.
    """

    def __init__(self, bounds: np.ndarray, num_split_rows: int) -> None:
        bounds = bounds[bounds[:, 0] < bounds[:, 1]]
        is_kept = np.ones(bounds.size, dtype=bool)
        is_kept[1:-1] = np.repeat(bounds[1:, 0] != bounds[:-1, 1], 2)  # where there is a gap
        self.bounds = bounds.reshape(-1)[is_kept].reshape(-1, 2)
        self.num_split_rows = num_split_rows
        stops = np.concatenate([[0], np.cumsum(self.bounds[:, 1] - self.bounds[:, 0])])
        self._first_places, self.num_rows = stops[:-1], int(stops[-1])

    @classmethod
    def run(cls, first: int, stop: int, num_split_rows: int) -> RowRanges:
        """Returns the rows [first, stop) of a split."""
        return cls(np.array([[first, stop]], dtype=np.int64), num_split_rows)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, RowRanges)
            and self.num_split_rows == other.num_split_rows
            and np.array_equal(self.bounds, other.bounds)
        )

    def __len__(self) -> int:
        return self.num_rows

    def __getitem__(self, place: int) -> int:
        index = int(np.searchsorted(self._first_places, place, side="right")) - 1
        return int(self.bounds[index, 0] - self._first_places[index]) + place

    def count(self, start: int, stop: int) -> int:
        """Returns how many of the split's rows [start, stop) are among these."""
        bounds = self._clipped(start, stop)
        return int((bounds[:, 1] - bounds[:, 0]).sum())

    def hull(self, start: int, stop: int) -> tuple[int, int]:
        """Returns the first of the split's rows [start, stop) that is one, and behind the last."""
        bounds = self._clipped(start, stop)
        return (int(bounds[0, 0]), int(bounds[-1, 1])) if len(bounds) else (start, start)

    def within(self, start: int, stop: int) -> slice | np.ndarray:
        """Returns which of the split's rows [start, stop) are among these, counted from ``start``.

        A slice where they are next to each other, otherwise np.int64 (rows,).
        """
        bounds = self._clipped(start, stop) - start
        if len(bounds) < 2:
            return slice(*bounds[0].tolist()) if len(bounds) else slice(0, 0)
        sizes = bounds[:, 1] - bounds[:, 0]
        stops = np.cumsum(sizes)
        places: np.ndarray = np.arange(stops[-1])
        return places + np.repeat(bounds[:, 0] - stops + sizes, sizes)

    def _clipped(self, start: int, stop: int) -> np.ndarray:
        first = np.searchsorted(self.bounds[:, 1], start, side="right")
        last = np.searchsorted(self.bounds[:, 0], stop, side="left")
        return np.clip(self.bounds[first:last], start, stop)
