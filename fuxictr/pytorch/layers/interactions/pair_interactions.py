"""Interactions over the pairs of fields i < j, with a left and a right side."""

from __future__ import annotations

import torch


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
