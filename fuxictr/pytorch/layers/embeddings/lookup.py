"""Rows of a table by number, with a gradient that costs little on the CPU."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F


class RowGroups(NamedTuple):
    """Which positions read which row of a table."""

    rows: torch.Tensor  # the rows that are read, each once, rising, int64 (U,)
    positions: torch.Tensor  # in order of their row, those of one row rising (P,)
    starts: torch.Tensor  # where the positions of each row begin (U,)


def group_rows(rows: torch.Tensor) -> RowGroups:
    """Groups the positions of ``rows``, its elements in order, by the row that they read."""
    ordered, positions = torch.sort(rows.reshape(-1), stable=True)  # integers by radix on the CPU
    found, counts = torch.unique_consecutive(ordered, return_counts=True)
    return RowGroups(found.long(), positions, counts.cumsum(0) - counts)


def sum_by_row(groups: RowGroups, values: torch.Tensor) -> torch.Tensor:
    """Returns the sum of the values (P, D) of each row's positions, in their order: (U, D)."""
    return F.embedding_bag(groups.positions, values, groups.starts, mode="sum")


def look_up(table: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Returns table[rows], with the values and gradients of F.embedding to the bit.

    A table (N, D) and rows (B, F), or of another shape, give (B, F, D). On the CPU torch adds up
    the gradient of an embedding one position after another, at a cost that hardly depends on D.
    Here each group of positions of one row is one sum; for D = 1 the gradient is a plain scatter.
    """
    needs_gradient = torch.is_grad_enabled() and table.requires_grad
    if table.is_cpu and needs_gradient and not torch.compiler.is_compiling():
        return _LookUp.apply(table, rows, None)
    return F.embedding(rows, table)


def look_up_groups(table: torch.Tensor, rows: torch.Tensor, groups: RowGroups) -> torch.Tensor:
    """Returns table[rows] of rows (...) that are grouped already, and are all rows of the table."""
    return _LookUp.apply(table, rows, groups)


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, table: torch.Tensor, rows: torch.Tensor, groups: RowGroups | None
    ) -> torch.Tensor:
        ctx.save_for_backward(rows)
        ctx.num_rows, ctx.groups = len(table), groups
        return F.embedding(rows, table)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (rows,) = ctx.saved_tensors
        width = grads[0].shape[-1]
        values = grads[0].reshape(-1, width)
        if ctx.groups is not None:
            return sum_by_row(ctx.groups, values), None, None
        table_grad = values.new_zeros(ctx.num_rows, width)
        if width == 1:
            table_grad.view(-1).index_add_(0, rows.reshape(-1), values.view(-1))
        else:
            groups = group_rows(rows)
            table_grad[groups.rows] = sum_by_row(groups, values)
        return table_grad, None, None
