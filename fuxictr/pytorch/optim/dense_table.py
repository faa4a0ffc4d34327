"""A table whose whole gradient is written once per step, into the same memory."""

from __future__ import annotations

import torch
from torch import nn

from fuxictr.pytorch.optim.sparse_lookup import TableReader, UniqueRows


class DenseTable(TableReader):
    """Makes the gradient of a table, with penalties (lambda / p) ||w||_p^p, in one pass.

    It has the bits of autograd's gradient with lambda w or lambda sign(w) added. Autograd would
    need fresh, hence slow, memory in every step, fill it with zeros, and go over it twice. The
    ``penalties`` are pairs (p, lambda).
    """

    def __init__(
        self, table: nn.Parameter, unique: UniqueRows, penalties: list[tuple[int, float]]
    ) -> None:
        super().__init__(table, unique)
        self._penalties = penalties
        self._gradient = torch.zeros_like(table, requires_grad=False)
        self._written: torch.Tensor | None = None  # the rows that are not zero

    @torch.no_grad()
    def write_gradient(self) -> None:
        """Sets ``table.grad``, penalties included, if a lookup has a gradient."""
        if self.row_gradients() is None:
            return
        block = self._blocks.pop()
        gradient = block.weights.grad
        assert gradient is not None, "only rows with a gradient are kept"
        if self._penalties:
            _penalize(gradient, self.table.index_select(0, block.numbers), self._penalties)
            self._write_penalties()
        elif self._written is not None:
            self._gradient.index_fill_(0, self._written, 0)
        self._gradient.index_copy_(0, block.numbers, gradient)
        self._written = block.numbers
        if self.table.grad is not None:  # of something other than a lookup
            self._gradient.add_(self.table.grad)
            self._written = torch.arange(len(self.table), device=self.table.device)
        self.table.grad = self._gradient

    def _write_penalties(self) -> None:
        (p, factor), *others = self._penalties
        first = self.table if p == 2 else torch.sign(self.table, out=self._gradient)
        torch.mul(first, factor, out=self._gradient)
        _penalize(self._gradient, self.table, others)


def _penalize(
    gradient: torch.Tensor, weights: torch.Tensor, penalties: list[tuple[int, float]]
) -> None:
    for p, factor in penalties:
        gradient.add_(weights if p == 2 else weights.sign(), alpha=factor)
