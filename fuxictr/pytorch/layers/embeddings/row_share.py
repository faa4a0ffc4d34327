"""Which rows of a table one of several processes holds."""

from __future__ import annotations

from dataclasses import dataclass

import torch


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
