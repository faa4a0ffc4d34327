"""Interactions over the pairs of fields i < j, with a left and a right side, each (B, F, D)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from fuxictr.pytorch.precision import autocast_dtype

# An upper triangle of S strips costs (S + 1) / 2S of the square; thinner products are slower.
_NUM_STRIPS = 6


def pair_sum(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Sums the element-wise products of all pairs: sum_{i<j} left_i * right_j, (B, F, D) -> (B, D).

    A running sum over the fields, sum_j (sum_{i<j} left_i) * right_j, costs O(F * D) per row; the
    F^2 pairs are never in memory. Its sum over D is the interaction of FM (Rendle 2010),
    sum_{i<j} <left_i, right_j>. Where both sides are one tensor it is Rendle's
    ((sum_i v_i)^2 - sum_i v_i^2) / 2.
    """
    if left is right:
        return _SelfPairSum.apply(left)
    dtype = torch.promote_types(left.dtype, right.dtype)
    if _is_compiled_for_gpu(left):  # ``out`` of _PairSum is a view, which would split the graph
        return (left.cumsum(dim=1)[:, :-1] * right[:, 1:]).sum(dim=1)
    return _PairSum.apply(left.to(dtype), right.to(dtype))


def _is_compiled_for_gpu(tensor: torch.Tensor) -> bool:
    return tensor.is_cuda and torch.compiler.is_compiling()


class _PairSum(torch.autograd.Function):
    """pair_sum; the gradients are g * sum_{j>i} right_j on the left, g * sum_{i<j} left_i right."""

    @staticmethod
    def forward(ctx: Any, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        prefix = left.cumsum(dim=1)  # (B, F, D): prefix_j = sum_{i<=j} left_i
        ctx.save_for_backward(prefix, right)
        return (prefix[:, :-1] * right[:, 1:]).sum(dim=1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, ...]:
        prefix, right = ctx.saved_tensors
        grad = grads[0].unsqueeze(1)
        grad_right = torch.empty_like(right)
        grad_right[:, 0] = 0
        torch.mul(prefix[:, :-1], grad, out=grad_right[:, 1:])
        sums = right.cumsum(dim=1)
        suffix = torch.sub(sums[:, -1:].clone(), sums, out=sums)  # sum_{j>i} right_j
        return suffix.mul_(grad), grad_right


class _SelfPairSum(torch.autograd.Function):
    """pair_sum(v, v); the gradient is g * (sum_j v_j - v_i)."""

    @staticmethod
    def forward(ctx: Any, v: torch.Tensor) -> torch.Tensor:
        total = v.sum(dim=1)
        ctx.save_for_backward(v, total)
        return (total.square() - v.square().sum(dim=1)).mul_(0.5)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        v, total = ctx.saved_tensors
        return (total.unsqueeze(1) - v).mul_(grads[0].unsqueeze(1))


def pair_products(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Returns the inner product of every pair, <left_i, right_j> for i < j (IPNN, Qu et al. 2016).

    (B, F, D) -> (B, F (F - 1) / 2), pairs in the order (0, 1), (0, 2), ..., (1, 2), ...
    """
    num_fields = left.shape[1]
    lower, upper = torch.triu_indices(num_fields, num_fields, offset=1, device=left.device)
    dtype = autocast_dtype(left)
    return _PairProducts.apply(left.to(dtype), right.to(dtype), lower * num_fields + upper)


class _PairProducts(torch.autograd.Function):
    """pair_products; the gradient of the pairs goes back into the square that they are cut from."""

    @staticmethod
    def forward(
        ctx: Any, left: torch.Tensor, right: torch.Tensor, pairs: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(left, right, pairs)
        products = torch.bmm(left, right.transpose(1, 2))  # (B, F, F)
        return products.flatten(start_dim=1).index_select(1, pairs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        left, right, pairs = ctx.saved_tensors
        batch_size, num_fields, _ = left.shape
        square = grads[0].new_zeros(batch_size, num_fields * num_fields)
        square = square.index_copy_(1, pairs, grads[0]).view(-1, num_fields, num_fields)
        return torch.bmm(square, right), torch.bmm(square.transpose(1, 2), left), None


class WeightedPairSum(nn.Module):
    """FwFM (Pan et al. 2018): sum_{i<j} r_ij left_i * right_j, (B, F, D) -> (B, D).

    The learnt r_ij are xavier-normal as the weights of one Linear(F (F - 1) / 2, 1).
    """

    def __init__(self, num_fields: int) -> None:
        super().__init__()
        num_pairs = num_fields * (num_fields - 1) // 2
        self.num_fields = num_fields
        self.weight = nn.Parameter(torch.empty(num_pairs))
        pairs = torch.triu_indices(num_fields, num_fields, offset=1)
        self.register_buffer("pairs", pairs, persistent=False)
        nn.init.normal_(self.weight, std=(2.0 / (num_pairs + 1)) ** 0.5)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Returns the sums (B, D)."""
        lower, upper = self.pairs
        square = self.weight.new_zeros(self.num_fields, self.num_fields)
        square = square.index_put((upper, lower), self.weight)  # row j holds r_ij of i < j
        prefix = torch.matmul(square, left)  # (B, F, D): prefix_j = sum_{i<j} r_ij left_i
        return (prefix * right).sum(dim=1)


class MatrixPairSum(nn.Module):
    """FmFM (Sun et al. 2021): sum_{i<j} <left_i M_ij, right_j> with a learnt matrix per pair.

    All pairs are one product of the flattened left side with an (F D x F D) matrix. Its block
    (i, j) is M_ij for i < j and zero elsewhere. ``vectorized`` learns the diagonals only, M_ij in
    R^D: left_i M_ij is an element-wise product. Inputs are (B, F, D). The interaction is the sum
    over D of the output (B, D).
    """

    reference_penalties: ClassVar = {"weight": None}  # raw parameters in the paper's code

    def __init__(self, num_fields: int, embedding_dim: int, vectorized: bool = False) -> None:
        super().__init__()
        num_pairs = num_fields * (num_fields - 1) // 2
        self.num_fields, self.embedding_dim = num_fields, embedding_dim
        shape = (num_pairs, embedding_dim) if vectorized else (num_pairs, *[embedding_dim] * 2)
        self.weight = nn.Parameter(torch.empty(shape))
        pairs = torch.triu_indices(num_fields, num_fields, offset=1)
        self.register_buffer("pairs", pairs, persistent=False)
        nn.init.xavier_normal_(self.weight)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Returns the sums (B, D)."""
        lower, upper = self.pairs
        size = (self.num_fields, self.num_fields)
        if self.weight.dim() == 2:
            blocks = self.weight.new_zeros(*size, self.embedding_dim)
            blocks = blocks.index_put((upper, lower), self.weight)  # (F, F, D)
            mapped = torch.einsum("jid,bid->bjd", blocks, left)
        else:
            blocks = self.weight.new_zeros(*size, *[self.embedding_dim] * 2)
            blocks = blocks.index_put((lower, upper), self.weight)  # (F, F, D, D): M_ij
            matrix = blocks.transpose(1, 2).flatten(2, 3).flatten(0, 1)  # (F*D, F*D)
            dtype = autocast_dtype(left)
            flat = left.flatten(start_dim=1).to(dtype)
            multiply = torch.mm if left.is_cuda else _TriangularMap.apply  # one kernel on a GPU
            mapped = multiply(flat, matrix.to(dtype)).view_as(right)
        return (mapped * right).sum(dim=1)


class _TriangularMap(torch.autograd.Function):
    """x M without the products with most of the zeros: columns a..b of M have b rows at most."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, matrix)
        out = torch.empty_like(x)
        for columns, rows in _triangle(len(matrix)):
            torch.mm(x[:, rows], matrix[rows, columns], out=out[:, columns])
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x, matrix = ctx.saved_tensors
        grad_x, grad_matrix = torch.zeros_like(x), torch.zeros_like(matrix)
        for columns, rows in _triangle(len(matrix)):
            grad = grads[0][:, columns]
            grad_x[:, rows].addmm_(grad, matrix[rows, columns].t())
            torch.mm(x[:, rows].t(), grad, out=grad_matrix[rows, columns])
        return grad_x, grad_matrix


def _triangle(size: int) -> list[tuple[slice, slice]]:
    """Returns (columns, rows down to the diagonal) of an upper triangle cut into strips."""
    step = -(-size // _NUM_STRIPS)
    ends = [(start, min(start + step, size)) for start in range(0, size, step)]
    return [(slice(start, stop), slice(0, stop)) for start, stop in ends]
