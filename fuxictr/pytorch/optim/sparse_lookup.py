"""Reads of a table that give autograd only the rows that a batch holds."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from fuxictr.pytorch.layers.embeddings.lookup import RowGroups, group_rows, sum_by_row


class RowFinder:
    """Finds which rows a batch holds, and remembers the last answer.

    The tables of a model mostly are of the same fields; they share one.
    """

    def __init__(self) -> None:
        self._answer: tuple[torch.Tensor, RowGroups, torch.Tensor] | None = None

    @torch.inference_mode(False)  # whose tensors autograd would refuse later
    def find(self, rows: torch.Tensor) -> tuple[RowGroups, torch.Tensor]:
        """Returns the groups of the rows, and where among the distinct ones each of them is."""
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


class Leaf(NamedTuple):
    """Rows of a table as a matrix of their own.

    Attributes:
        numbers: the rows, (U,), ascending.
        weights: their weights (U, D), whose ``grad`` is that of the rows.
        state: what else was read of them.
    """

    numbers: torch.Tensor
    weights: torch.Tensor
    state: Any


class TableReader:
    """Looks up rows such that the table itself gets no gradient, (N, D), but only they do, (U, D).

    ``table.grad`` stays null. The gradients are kept until they are used or forgotten, summed over
    all lookups as autograd would; what is looked up and thrown away leaves nothing behind.

    Args:
        table: weights (N, D).
        finder: what finds the rows of a batch.

    Attributes:
        table: as given.
        finder: as given.
    """

    is_behind = False  # whether some rows of the table are not what they should be

    def __init__(self, table: nn.Parameter, finder: RowFinder) -> None:
        self.table = table
        self.finder = finder
        self._leaves: list[Leaf] = []  # those that have a gradient

    def look_up(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns the vectors (..., D) of rows (...)."""
        inverse, weights = self.narrow(rows)
        if not weights.requires_grad:
            return F.embedding(inverse, weights)
        return look_up_groups(weights, inverse, self.finder.find(rows)[0])

    def narrow(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns rows and a table in which these have the vectors that are looked for."""
        is_trained = torch.is_grad_enabled()
        if not is_trained and not self.is_behind:
            return rows, self.table.detach()
        groups, inverse = self.finder.find(rows)
        numbers, weights, state = self._read(groups.rows)

        def keep(leaf: torch.Tensor) -> None:
            if all(known.weights is not leaf for known in self._leaves):
                self._leaves.append(Leaf(numbers, leaf, state))

        if is_trained:
            weights.requires_grad_().register_post_accumulate_grad_hook(keep)
        return inverse, weights

    def touched(self) -> torch.Tensor | None:
        """Returns weights (U, D) whose ``grad`` is all of the table's; null where it has none.

        The gradient may be changed in place.
        """
        if len(self._leaves) > 1 or not all(map(self._is_fresh, self._leaves)):
            self._leaves = [self._join(*self._take())]
        return self._leaves[0].weights if self._leaves else None

    def read_rows(self, numbers: torch.Tensor) -> torch.Tensor:
        """Returns the weights of rows (U,) as they are by now, (U, D), without gradients."""
        if not self.is_behind:
            return self.table.detach().index_select(0, numbers)
        return self._read(numbers).weights

    def take_gradients(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the rows (P,) that have a gradient, and those (P, D), and forgets them."""
        if self.touched() is None:
            rows = torch.empty(0, dtype=torch.int64, device=self.table.device)
            return rows, self.table.detach()[:0]
        return self._take()

    def put_gradients(self, numbers: torch.Tensor, gradients: torch.Tensor) -> None:
        """Makes these the gradients of all lookups up to now.

        Args:
            numbers: rows (P,); those of one row are added up, in their order.
            gradients: their gradients (P, D).
        """
        self.forget_gradients()
        self._leaves = [self._join(numbers, gradients)]

    def forget_gradients(self) -> None:
        """Does to the gradients what ``zero_grad`` does."""
        for leaf in self._leaves:
            leaf.weights.grad = None
        self._leaves.clear()

    def flush(self) -> None:
        """Brings the whole table up to date."""

    def _take(self) -> tuple[torch.Tensor, torch.Tensor]:
        parts = [(leaf.numbers, leaf.weights.grad) for leaf in self._leaves]
        self.forget_gradients()  # a second backward through them counts as new
        if len(parts) == 1:
            return parts[0]
        numbers, gradients = zip(*parts, strict=True)
        return torch.cat(numbers), torch.cat(gradients)

    @torch.no_grad()
    def _read(self, numbers: torch.Tensor) -> Leaf:
        return Leaf(numbers, self.table.index_select(0, numbers), None)

    def _is_fresh(self, leaf: Leaf) -> bool:
        """Returns whether the rows are what they would be if they were read now."""
        return True

    @torch.no_grad()
    def _join(self, numbers: torch.Tensor, gradients: torch.Tensor) -> Leaf:
        """Returns rows (P,), of which some are equal, and their gradients (P, D) as one leaf."""
        groups, _ = self.finder.find(numbers)
        joined = self._read(groups.rows)
        joined.weights.requires_grad_().grad = sum_by_row(groups, gradients)
        return joined


def look_up_groups(weights: torch.Tensor, inverse: torch.Tensor, groups: RowGroups) -> torch.Tensor:
    """Returns F.embedding(inverse, weights), whose gradient is one sum a row.

    Args:
        weights: of the distinct rows, (U, D).
        inverse: which of them each position reads, (...).
        groups: the positions, grouped by row.
    """
    return _LookUp.apply(weights, inverse, groups)


class _LookUp(torch.autograd.Function):
    """F.embedding of the distinct rows of a batch, whose positions are grouped already."""

    @staticmethod
    def forward(
        ctx: Any, weights: torch.Tensor, inverse: torch.Tensor, groups: RowGroups
    ) -> torch.Tensor:
        ctx.groups = groups
        return F.embedding(inverse, weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return sum_by_row(ctx.groups, grads[0].reshape(-1, grads[0].shape[-1])), None, None
