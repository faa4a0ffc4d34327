"""Which rows of a table one of several processes holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch

# Drawn at once. Torch fills a tensor in blocks of 16 numbers and its last 16 again, so that parts
# of a multiple of that hold the numbers of the whole.
_ROWS_AT_ONCE = 1 << 16

_wanted: ContextVar[tuple[int, int] | None] = ContextVar("wanted", default=None)


@dataclass(frozen=True)
class RowShare:
    """Row i of a table of N rows lies on rank i mod P, as its row i div P.

    Neighbours lie apart since ids mostly are sorted by frequency: so each rank has as many of the
    frequent ones.

    Attributes:
        rank: whose rows.
        num_ranks: number P of processes.
        num_rows: number N of rows of the whole table.
    """

    rank: int
    num_ranks: int
    num_rows: int

    @property
    def num_own(self) -> int:
        """Rows of this rank."""
        return self.num_rows_of(self.rank)

    def num_rows_of(self, rank: int) -> int:
        """Returns how many rows a rank has."""
        return len(range(rank, self.num_rows, self.num_ranks))

    def own(self, whole: torch.Tensor) -> torch.Tensor:
        """Returns this rank's rows of a whole table (N, ...), a view."""
        return whole[self.rank :: self.num_ranks]

    def draw_normal(self, own: torch.Tensor, std: float) -> None:
        """Fills this rank's rows with those of a whole table from N(0, std^2), in little memory.

        The numbers are those that ``normal_`` gives the whole table, and as many are drawn.
        """
        stops = [*range(_ROWS_AT_ONCE, self.num_rows - 16, _ROWS_AT_ONCE), self.num_rows]
        start = 0
        for stop in stops:
            rows = own.new_empty(stop - start, *own.shape[1:]).normal_(std=std)
            first = -(start - self.rank) % self.num_ranks
            found = rows[first :: self.num_ranks]
            place = (start + first) // self.num_ranks
            own[place : place + len(found)] = found
            start = stop


@contextmanager
def keeping_shares(rank: int, num_ranks: int) -> Iterator[None]:
    """Context in which layers are made with this rank's rows of their common table only."""
    token = _wanted.set((rank, num_ranks))
    try:
        yield
    finally:
        _wanted.reset(token)


def wanted_share(num_rows: int) -> RowShare | None:
    """Returns the share of a table that is to be made here; null = all of it."""
    wanted = _wanted.get()
    return None if wanted is None else RowShare(*wanted, num_rows)
