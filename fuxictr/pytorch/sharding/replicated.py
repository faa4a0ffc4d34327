"""Gradients of tables that every process holds in full: only the batch's rows are exchanged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from fuxictr.pytorch.distributed.ranks import Ranks
from fuxictr.pytorch.layers.embeddings import FieldBlocks
from fuxictr.pytorch.optim.sparse_lookup import TableReader


class RowExchange:
    """Makes the gradient of a table the mean over ranks, from the rows that their batches hold.

    Every rank gets the numbers (4 bytes each) and the gradients (U_r, D) of all other ranks' rows.
    It adds them up in the order of the ranks, so that all have the same bits. A step receives
    4 (P - 1) U (D + 1) bytes, an all-reduce of the table 8 N D (P - 1) / P. Layers of the same
    fields share an exchange.
    """

    def __init__(self, tables: Iterable[tuple[FieldBlocks, TableReader]], ranks: Ranks) -> None:
        self._ranks = ranks
        self._groups = group_by_rows(tables)

    def exchange(self) -> None:
        """Exchanges the gradients of all lookups since the last exchange."""
        for readers in self._groups:
            numbers, gradients = join_columns([reader.take_gradients() for reader in readers])
            found = torch.cat(self._ranks.gather_rows(numbers.int()))
            sums = torch.cat(self._ranks.gather_rows(gradients)).div_(self._ranks.size)
            for reader, part in zip(readers, split_columns(sums, readers), strict=True):
                reader.put_gradients(found, part)


def group_by_rows(tables: Iterable[tuple[FieldBlocks, TableReader]]) -> list[list[TableReader]]:
    """Returns the readers in groups of tables whose layers read the same rows of a batch."""
    groups: dict[tuple, list[TableReader]] = {}
    for block, reader in tables:
        groups.setdefault(block.row_key, []).append(reader)
    return list(groups.values())


def join_columns(
    parts: Sequence[tuple[torch.Tensor, torch.Tensor]],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns rows (U,) and gradients (U, D_1 + D_2 ..) of several tables, zero where none."""
    first = parts[0][0]
    if all(numbers is first or torch.equal(numbers, first) for numbers, _ in parts):
        return first, torch.cat([gradients for _, gradients in parts], dim=1)
    union, places = torch.unique(torch.cat([numbers for numbers, _ in parts]), return_inverse=True)
    columns = []
    for (_, gradients), at in zip(parts, places.split([len(n) for n, _ in parts]), strict=True):
        column = gradients.new_zeros(len(union), gradients.shape[1])
        columns.append(column.index_copy_(0, at, gradients))
    return union, torch.cat(columns, dim=1)


def split_columns(values: torch.Tensor, readers: Sequence[TableReader]) -> tuple[torch.Tensor, ...]:
    """Returns each table's columns of values (U, D_1 + D_2 ..)."""
    return values.split([reader.table.shape[1] for reader in readers], dim=1)
