"""Interactions over the pairs of fields i < j, with a left and a right side, each (B, F, D)."""

from __future__ import annotations

import torch
from torch import nn


def pair_sum(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Sums the element-wise products of all pairs: sum_{i<j} left_i * right_j.

    A running sum over the fields, sum_j (sum_{i<j} left_i) * right_j, keeps it at O(F * D) a row;
    the F^2 pairs are never in memory. Its sum over D is the interaction of FM (Rendle 2010),
    sum_{i<j} <left_i, right_j>, with the lower index on the left.

    Args:
        left: (B, F, D).
        right: (B, F, D).

    Returns:
        (B, D).
    """
    prefix = left[:, :-1].cumsum(dim=1)  # (B, F-1, D): prefix_j = sum_{i<j} left_i
    return (prefix * right[:, 1:]).sum(dim=1)


def pair_products(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Returns the inner product of every pair, <left_i, right_j> for i < j (IPNN, Qu et al. 2016).

    Args:
        left: (B, F, D).
        right: (B, F, D).

    Returns:
        (B, F (F - 1) / 2), pairs in the order (0, 1), (0, 2), ..., (1, 2), ...
    """
    num_fields = left.shape[1]
    rows, columns = torch.triu_indices(num_fields, num_fields, offset=1, device=left.device)
    products = torch.bmm(left, right.transpose(1, 2))  # (B, F, F)
    return products.flatten(start_dim=1)[:, rows * num_fields + columns]


class WeightedPairSum(nn.Module):
    """FwFM (Pan et al. 2018): sum_{i<j} r_ij left_i * right_j with a learnt weight a pair.

    The r_ij are xavier-normal as the weights of one Linear(F (F - 1) / 2, 1).

    Shape:
        left, right: (B, F, D).
        output: (B, D).
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
    """FmFM (Sun et al. 2021): sum_{i<j} <left_i M_ij, right_j> with a learnt matrix a pair.

    All pairs are one product of the flattened left side with an (F D x F D) matrix whose block
    (i, j) is M_ij for i < j and zero elsewhere. ``vectorized`` learns the diagonals only, M_ij in
    R^D, for which left_i M_ij is an element-wise product.

    Shape:
        left, right: (B, F, D).
        output: (B, D), whose sum over D is the interaction.
    """

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
            mapped = (left.flatten(start_dim=1) @ matrix).view_as(right)
        return (mapped * right).sum(dim=1)
