"""Tables whose rows lie on several processes: lookups fetch them, gradients go back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from fuxictr.pytorch.distributed.ranks import Ranks
from fuxictr.pytorch.layers.embeddings.lookup import RowGroups
from fuxictr.pytorch.optim.sparse_lookup import RowFinder, TableReader, look_up_groups
from fuxictr.pytorch.sharding.replicated import cut_columns


@dataclass
class _Fetch:
    """The distinct rows of a batch, brought here from the ranks that hold them.

    Attributes:
        rows: the rows that were asked for, (B, F).
        groups: which position asks for which of the U distinct ones.
        inverse: which of the distinct ones each position asks for, (B, F).
        order: the distinct ones by owner, (U,).
        asked: how many of them each rank owns.
        answered: how many rows each rank asks this one for.
        numbers: which, as rows of the own share, (R,).
        weights: of each table, (U, D).
        is_trained: whether the weights may get a gradient.
        served: the tables that were asked for.
    """

    rows: torch.Tensor
    groups: RowGroups
    inverse: torch.Tensor
    order: torch.Tensor
    asked: list[int]
    answered: list[int]
    numbers: torch.Tensor
    weights: list[torch.Tensor]
    is_trained: bool
    served: set[int] = field(default_factory=set)


class ShardGroup:
    """Tables whose layers read the same rows of a batch, so that one exchange serves all of them.

    A lookup sends the numbers of the U distinct rows of the batch, 4 bytes each, to the ranks that
    own them, and gets their weights; after the backward pass the gradients go the same way back
    and are added up by the owner. Of U rows (P - 1) / P belong to others: a step sends
    4 U (1 + 2 D) (P - 1) / P bytes, whatever the number of ranks.

    Args:
        tables: what reads the own rows of each table.
        ranks: the processes.
    """

    def __init__(self, tables: Sequence[TableReader], ranks: Ranks) -> None:
        self.tables = list(tables)
        self._ranks = ranks
        self._finder = RowFinder()
        self._fetch: _Fetch | None = None  # what the last lookup brought
        self._trained: list[_Fetch] = []  # those that may have a gradient

    def serve(self, index: int, rows: torch.Tensor) -> _Fetch:
        """Returns what holds the weights of the rows of a table.

        All tables are fetched with the first one of a forward pass that is asked for; a table that
        is asked for again begins another pass. So all ranks fetch at the same places.

        Raises:
            RuntimeError: two tables of one pass are asked for other rows.
        """
        is_trained = torch.is_grad_enabled()
        fetch = self._fetch
        if fetch is None or index in fetch.served or fetch.is_trained != is_trained:
            fetch = self._fetch = self._bring(rows, is_trained)
            if is_trained:
                self._trained.append(fetch)
        elif not (fetch.rows is rows or torch.equal(fetch.rows, rows)):
            raise RuntimeError(
                "two embedding layers of the same fields read other rows in one forward pass, "
                "which embedding_sharding: row does not know; set none"
            )
        fetch.served.add(index)
        return fetch

    def return_gradients(self) -> None:
        """Sends all gradients to the owners of the rows, as the mean over ranks."""
        numbers, gradients = [], []
        for fetch in self._trained:
            found = [_gradient(weights) for weights in fetch.weights]
            own = torch.cat(found, dim=1).index_select(0, fetch.order)
            numbers.append(fetch.numbers)
            gradients.append(self._ranks.exchange_rows(own, fetch.asked, fetch.answered))
        self.forget()
        if numbers:
            rows, sums = torch.cat(numbers), torch.cat(gradients).div_(self._ranks.size)
            for table, part in zip(self.tables, cut_columns(sums, self.tables), strict=True):
                table.put_gradients(rows, part)

    def forget(self) -> None:
        """Forgets what was fetched, as the weights change."""
        self._fetch = None
        self._trained.clear()

    @torch.no_grad()
    def _bring(self, rows: torch.Tensor, is_trained: bool) -> _Fetch:
        groups, inverse = self._finder.find(rows)
        size = self._ranks.size
        owners = groups.rows % size
        order = torch.sort(owners, stable=True).indices
        asked = torch.bincount(owners, minlength=size).tolist()
        answered = self._ranks.exchange_counts(asked)
        wanted = (groups.rows.index_select(0, order) // size).int()
        numbers = self._ranks.exchange_rows(wanted, asked, answered).long()
        held = torch.cat([table.read_rows(numbers) for table in self.tables], dim=1)
        found = self._ranks.exchange_rows(held, answered, asked)  # (U, D_1 + D_2 ..)
        whole = torch.empty_like(found).index_copy_(0, order, found)
        weights = [part.contiguous() for part in cut_columns(whole, self.tables)]
        for part in weights:
            part.requires_grad_(is_trained)
        return _Fetch(rows, groups, inverse, order, asked, answered, numbers, weights, is_trained)


class ShardReader:
    """Stands between the lookups of a layer and its rows, which lie on all ranks.

    Args:
        group: the tables that are fetched together.
        index: which of them is the layer's.
    """

    def __init__(self, group: ShardGroup, index: int) -> None:
        self._group, self._index = group, index

    @property
    def own_rows(self) -> TableReader:
        """What reads the rows of this rank."""
        return self._group.tables[self._index]

    def look_up(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns the vectors (..., D) of rows (...)."""
        fetch = self._group.serve(self._index, rows)
        weights = fetch.weights[self._index]
        if not fetch.is_trained:
            return F.embedding(fetch.inverse, weights)
        return look_up_groups(weights, fetch.inverse, fetch.groups)

    def narrow(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns rows and a table in which these have the vectors that are looked for."""
        fetch = self._group.serve(self._index, rows)
        return fetch.inverse, fetch.weights[self._index]

    def flush(self) -> None:
        """Brings the own rows up to date."""
        self.own_rows.flush()


def _gradient(weights: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(weights) if weights.grad is None else weights.grad
