"""Tables whose rows are held by several processes: lookups fetch rows, gradients go back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from fuxictr.pytorch.distributed.ranks import Ranks
from fuxictr.pytorch.layers.embeddings.lookup import RowGroups, look_up_groups
from fuxictr.pytorch.optim.sparse_lookup import TableReader, UniqueRows
from fuxictr.pytorch.sharding.replicated import split_columns


@dataclass
class _Fetch:
    """The distinct rows of a batch, fetched from the ranks that hold them."""

    rows: torch.Tensor  # that are looked up, (B, F)
    groups: RowGroups  # the positions, grouped by distinct row (U of them)
    inverse: torch.Tensor  # which of the distinct rows each position reads, (B, F)
    order: torch.Tensor  # of the distinct rows by owner, (U,)
    asked: list[int]  # how many of them each rank owns
    answered: list[int]  # how many rows each rank asks this one for
    numbers: torch.Tensor  # which, as rows of this rank's part, (R,)
    weights: list[torch.Tensor]  # of each table, (U, D)
    is_trained: bool  # whether the weights may get a gradient
    served: set[int] = field(default_factory=set)  # the tables that were looked up


class ShardGroup:
    """Tables whose layers read the same rows of a batch, so that one exchange serves all of them.

    A lookup sends the numbers of the U distinct rows of the batch, 4 bytes each, to the ranks that
    own them, and gets their weights. After the backward pass the gradients go the same way back;
    the owner adds them up. A step sends 4 U (1 + 2 D) (P - 1) / P bytes, whatever the number of
    ranks.
    """

    def __init__(self, tables: Sequence[TableReader], ranks: Ranks) -> None:
        self.tables = list(tables)
        self._ranks = ranks
        self._unique = UniqueRows()
        self._latest: _Fetch | None = None
        self._trained: list[_Fetch] = []  # those that may have a gradient

    def fetch(self, index: int, rows: torch.Tensor) -> _Fetch:
        """Returns the weights of the rows of a table; tables of one pass must read the same rows.

        The first lookup of a forward pass fetches the rows of all tables; a second lookup of one
        table begins another pass. So all ranks fetch at the same places.
        """
        is_trained = torch.is_grad_enabled()
        fetch = self._latest
        if fetch is None or index in fetch.served or fetch.is_trained != is_trained:
            fetch = self._latest = self._fetch(rows, is_trained)
            if is_trained:
                self._trained.append(fetch)
        elif not (fetch.rows is rows or torch.equal(fetch.rows, rows)):
            raise RuntimeError(
                "two embedding layers of the same fields read different rows in one forward pass, "
                "which embedding_sharding: row does not support; set none"
            )
        fetch.served.add(index)
        return fetch

    def send_gradients(self) -> None:
        """Sends all gradients to the owners of the rows, as the mean over ranks."""
        numbers, gradients = [], []
        for fetch in self._trained:
            found = [
                torch.zeros_like(weights) if weights.grad is None else weights.grad
                for weights in fetch.weights
            ]
            own = torch.cat(found, dim=1).index_select(0, fetch.order)
            numbers.append(fetch.numbers)
            gradients.append(self._ranks.exchange_rows(own, fetch.asked, fetch.answered))
        self.forget()
        if numbers:
            rows, sums = torch.cat(numbers), torch.cat(gradients).div_(self._ranks.size)
            for table, part in zip(self.tables, split_columns(sums, self.tables), strict=True):
                table.put_gradients(rows, part)

    def forget(self) -> None:
        """Forgets what was fetched, since the weights change."""
        self._latest = None
        self._trained.clear()

    @torch.no_grad()
    def _fetch(self, rows: torch.Tensor, is_trained: bool) -> _Fetch:
        groups, inverse = self._unique.find(rows)
        size = self._ranks.size
        owners = groups.rows % size
        order = torch.sort(owners, stable=True).indices
        asked = torch.bincount(owners, minlength=size).tolist()
        answered = self._ranks.exchange_counts(asked)
        wanted = (groups.rows.index_select(0, order) // size).int()
        numbers = self._ranks.exchange_rows(wanted, asked, answered).long()
        held = torch.cat([table.read_rows(numbers) for table in self.tables], dim=1)
        found = self._ranks.exchange_rows(held, answered, asked)  # (U, D_1 + D_2 ..)
        sorted_back = torch.empty_like(found).index_copy_(0, order, found)
        weights = [part.contiguous() for part in split_columns(sorted_back, self.tables)]
        for part in weights:
            part.requires_grad_(is_trained)
        return _Fetch(rows, groups, inverse, order, asked, answered, numbers, weights, is_trained)


class ShardReader:
    """Looks up the rows of one table of a group, wherever they are held."""

    def __init__(self, group: ShardGroup, index: int) -> None:
        self._group, self._index = group, index

    @property
    def own_rows(self) -> TableReader:
        """What reads the rows of this rank."""
        return self._group.tables[self._index]

    def look_up(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns the vectors (..., D) of rows (...)."""
        fetch = self._group.fetch(self._index, rows)
        weights = fetch.weights[self._index]
        if not fetch.is_trained:
            return F.embedding(fetch.inverse, weights)
        return look_up_groups(weights, fetch.inverse, fetch.groups)

    def narrow(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns a table (U, D) with the vectors that are looked for, and their rows in it."""
        fetch = self._group.fetch(self._index, rows)
        return fetch.inverse, fetch.weights[self._index]

    def flush(self) -> None:
        """Brings this rank's rows up to date."""
        self.own_rows.flush()
