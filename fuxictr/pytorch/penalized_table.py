"""A large table with a penalty, whose gradient is written once a step, into the same memory."""

from __future__ import annotations

import torch
from torch import nn

from fuxictr.pytorch.table_reader import RowFinder, TableReader


class PenalizedTable(TableReader):
    """Makes the gradient of a table with penalties (lambda / p) ||w||_p^p in one pass.

    It has the bits of autograd's gradient to which the penalty's is added, lambda w or
    lambda sign(w). What is saved is memory that is fresh in every step, hence slow, its filling
    with zeros, and one of two passes.

    Args:
        table: weights (N, D).
        finder: what finds the rows of a batch.
        penalties: p and lambda of each penalty, at least one.
    """

    def __init__(
        self, table: nn.Parameter, finder: RowFinder, penalties: list[tuple[int, float]]
    ) -> None:
        super().__init__(table, finder)
        self._penalties = penalties
        self._gradient = torch.zeros_like(table, requires_grad=False)

    @torch.no_grad()
    def write_gradient(self) -> None:
        """Sets ``table.grad``, penalties included, if a lookup has a gradient."""
        if self.touched() is None:
            return
        (leaf,) = self._leaves
        self._leaves = []
        gradient, weights = leaf.weights.grad, self.table.index_select(0, leaf.numbers)
        for p, factor in self._penalties:
            gradient.add_(weights if p == 2 else weights.sign(), alpha=factor)
        (p, factor), *others = self._penalties
        first = self.table if p == 2 else torch.sign(self.table, out=self._gradient)
        torch.mul(first, factor, out=self._gradient)
        for p, factor in others:
            self._gradient.add_(self.table if p == 2 else self.table.sign(), alpha=factor)
        self._gradient.index_copy_(0, leaf.numbers, gradient)
        if self.table.grad is not None:  # of something other than a lookup
            self._gradient.add_(self.table.grad)
        self.table.grad = self._gradient
