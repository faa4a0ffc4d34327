"""Lookups of a table that give autograd only the rows that a batch holds."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from fuxictr.pytorch.layers.embeddings.lookup import (
    RowGroups,
    group_rows,
    look_up_groups,
    sum_by_row,
)


class UniqueRows:
    """Finds the distinct rows of a batch; tables of the same fields share its last answer."""

    def __init__(self) -> None:
        self._answer: tuple[torch.Tensor, RowGroups, torch.Tensor] | None = None

    @torch.inference_mode(False)  # autograd refuses tensors of inference mode
    def find(self, rows: torch.Tensor) -> tuple[RowGroups, torch.Tensor]:
        """Returns the positions grouped by row, and the index of each position's group."""
        if self._answer is not None:
            known, groups, inverse = self._answer
            if known is rows or torch.equal(known, rows):
                return groups, inverse
        groups = group_rows(rows)
        numbers = torch.zeros(rows.numel(), dtype=torch.int32, device=rows.device)
        numbers.index_fill_(0, groups.starts[1:], 1)
        inverse = torch.empty_like(numbers)
        inverse.scatter_(0, groups.positions, numbers.cumsum(0, dtype=torch.int32))
        self._answer = rows, groups, inverse.view(rows.shape)
        return self._answer[1:]


class RowBlock(NamedTuple):
    """Rows of a table as a matrix of their own."""

    numbers: torch.Tensor  # the rows, (U,), ascending
    weights: torch.Tensor  # theirs (U, D), whose ``grad`` is the rows' gradient
    state: Any  # what else was read of them


class TableReader:
    """Looks up rows so that their weights (U, D) get a gradient, not the table (N, D).

    ``table.grad`` stays None. Gradients of all lookups are summed as autograd would, and kept until
    they are used or forgotten. A lookup whose result is thrown away leaves nothing behind.
    """

    is_behind = False  # whether some rows of the table are not up to date

    def __init__(self, table: nn.Parameter, unique: UniqueRows) -> None:
        self.table = table
        self.unique = unique
        self._blocks: list[RowBlock] = []  # those that have a gradient

    def look_up(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns the vectors (..., D) of rows (...)."""
        inverse, weights = self.narrow(rows)
        if not weights.requires_grad:
            return F.embedding(inverse, weights)
        return look_up_groups(weights, inverse, self.unique.find(rows)[0])

    def narrow(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns a table (U, D) with the vectors that are looked for, and their rows in it."""
        is_trained = torch.is_grad_enabled()
        if not is_trained and not self.is_behind:
            return rows, self.table.detach()
        groups, inverse = self.unique.find(rows)
        numbers, weights, state = self._read(groups.rows)

        def keep(held: torch.Tensor) -> None:  # does not keep the weights alive
            if all(known.weights is not held for known in self._blocks):
                self._blocks.append(RowBlock(numbers, held, state))

        if is_trained:
            weights.requires_grad_().register_post_accumulate_grad_hook(keep)
        return inverse, weights

    def row_gradients(self) -> torch.Tensor | None:
        """Returns weights (U, D) whose ``grad`` is the table's and may be changed; None if none."""
        if len(self._blocks) > 1 or not all(map(self._is_fresh, self._blocks)):
            self._blocks = [self._merge(*self._take())]
        return self._blocks[0].weights if self._blocks else None

    def read_rows(self, numbers: torch.Tensor) -> torch.Tensor:
        """Returns the present weights (U, D) of rows (U,), without gradients."""
        if not self.is_behind:
            return self.table.detach().index_select(0, numbers)
        return self._read(numbers).weights

    def take_gradients(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the rows (P,) that have a gradient, and the gradients (P, D); forgets them."""
        if self.row_gradients() is None:
            rows = torch.empty(0, dtype=torch.int64, device=self.table.device)
            return rows, self.table.detach()[:0]
        return self._take()

    def put_gradients(self, numbers: torch.Tensor, gradients: torch.Tensor) -> None:
        """Replaces the gradients so far by those (P, D) of rows (P,), added up by row in order."""
        self.forget_gradients()
        self._blocks = [self._merge(numbers, gradients)]

    def forget_gradients(self) -> None:
        """Does to the gradients what ``zero_grad`` does."""
        for block in self._blocks:
            block.weights.grad = None
        self._blocks.clear()

    def flush(self) -> None:
        """Brings the whole table up to date."""

    def _take(self) -> tuple[torch.Tensor, torch.Tensor]:
        parts = [(block.numbers, block.weights.grad) for block in self._blocks]
        self.forget_gradients()  # a second backward through them counts as new
        if len(parts) == 1:
            return parts[0]
        numbers, gradients = zip(*parts, strict=True)
        return torch.cat(numbers), torch.cat(gradients)

    @torch.no_grad()
    def _read(self, numbers: torch.Tensor) -> RowBlock:
        return RowBlock(numbers, self.table.index_select(0, numbers), None)

    def _is_fresh(self, block: RowBlock) -> bool:
        """Returns whether the rows would be the same if they were read now."""
        return True

    @torch.no_grad()
    def _merge(self, numbers: torch.Tensor, gradients: torch.Tensor) -> RowBlock:
        groups, _ = self.unique.find(numbers)
        merged = self._read(groups.rows)
        merged.weights.requires_grad_().grad = sum_by_row(groups, gradients)
        return merged
