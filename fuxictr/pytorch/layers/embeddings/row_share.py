"""Which rows of a table a process holds, and tables that are drawn once that is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from fuxictr.errors import ConfigError

# A multiple of 16: torch fills a tensor in blocks of 16 numbers, then its last 16 again.
_CHUNK_ROWS = 1 << 16
_WRITTEN = (
    "the model reads or writes the table of an embedding layer while it is built, before the "
    "processes have shared its rows; set embedding_sharding: none"
)


@dataclass(frozen=True)
class RowShare:
    """Rank i mod P holds row i of a table of N rows, as row i div P of its part.

    Ids are mostly sorted by frequency, so every rank gets as many of the frequent ones.
    """

    rank: int
    world_size: int
    num_rows: int  # of the full table

    @property
    def num_own(self) -> int:
        """Rows of this rank."""
        return self.num_rows_of(self.rank)

    def num_rows_of(self, rank: int) -> int:
        """Returns how many rows a rank holds."""
        return len(range(rank, self.num_rows, self.world_size))

    def own(self, full: torch.Tensor) -> torch.Tensor:
        """Returns this rank's rows of a full table (N, ...), a view."""
        return full[self.rank :: self.world_size]

    def draw_normal(self, own: torch.Tensor, std: float) -> None:
        """Fills this rank's rows with those ``normal_`` would give the full table, in chunks."""
        for start, rows in _normal_chunks(self.num_rows, own, std):
            first = -(start - self.rank) % self.world_size
            found = rows[first :: self.world_size]
            position = (start + first) // self.world_size
            own[position : position + len(found)] = found


class DeferredTable(nn.Parameter):
    """A table (N, D) on the meta device: no process holds more of it than it will keep.

    It takes its numbers from the random generator where it would be drawn, so that all later draws
    are the same. ``draw`` repeats them for the rows that are kept.
    """

    def defer(self, std: float, padding: torch.Tensor) -> None:
        """Draws all numbers, N(0, std^2), without keeping them, and notes the generator's state.

        The rows ``padding`` are to be zero.
        """
        self._std, self._padding = std, padding
        self._random_state, self._known_version = torch.get_rng_state(), self._version
        for _ in _normal_chunks(len(self), torch.empty(0, self.shape[1]), std):
            pass

    @property
    def data(self) -> torch.Tensor:
        """Refused: what is written through it would be lost, and nothing would notice."""
        raise ConfigError(_WRITTEN)

    @data.setter
    def data(self, value: torch.Tensor) -> None:
        raise ConfigError(_WRITTEN)

    @torch.no_grad()
    def draw(self, share: RowShare | None) -> torch.Tensor:
        """Returns the rows of a share (None: all rows); the generator is left as it is.

        Raises ConfigError where something wrote into the deferred table, which has no effect.
        """
        if self._version != self._known_version:
            raise ConfigError(_WRITTEN)
        share = share or RowShare(0, 1, len(self))
        own = torch.empty(share.num_own, self.shape[1])
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._random_state)
            share.draw_normal(own, self._std)
        is_own = self._padding % share.world_size == share.rank
        own[self._padding[is_own] // share.world_size] = 0.0
        return own


def _normal_chunks(
    num_rows: int, like: torch.Tensor, std: float
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yields rows of a table from N(0, std^2) and the number of the first one."""
    stops = [*range(_CHUNK_ROWS, num_rows - 16, _CHUNK_ROWS), num_rows]
    start = 0
    for stop in stops:
        yield start, like.new_empty(stop - start, *like.shape[1:]).normal_(std=std)
        start = stop
