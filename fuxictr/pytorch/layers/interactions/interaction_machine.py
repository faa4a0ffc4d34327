"""The interaction machine of DeepIM."""

from __future__ import annotations

import torch
from torch import nn

_MAX_ORDER = 5


class InteractionMachine(nn.Module):
    """All interactions up to an order (Yu et al. 2020), v (B, F, D) -> (B, 1).

    e_k = sum_{i_1 < ... < i_k} v_{i_1} * ... * v_{i_k} per dimension, by e_k <- e_k + v_i e_{k-1}
    over the fields: O(F D k), no product of fields is enumerated. [e_1 ; ... ; e_order] goes
    through BatchNorm, if asked for, and one Linear.

    Raises:
        ValueError: ``order`` is not 1 to 5.
    """

    def __init__(self, embedding_dim: int, order: int = 2, batch_norm: bool = False) -> None:
        super().__init__()
        if not 1 <= order <= _MAX_ORDER:
            raise ValueError(f"order: found {order}, allowed: 1 to {_MAX_ORDER}")
        self.order = order
        self.bn = nn.BatchNorm1d(embedding_dim * order) if batch_norm else None
        self.fc = nn.Linear(order * embedding_dim, 1)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Returns the logits (B, 1)."""
        sums = [torch.ones_like(X[:, 0])] + [torch.zeros_like(X[:, 0])] * self.order
        for field in X.unbind(dim=1):
            for k in range(self.order, 0, -1):
                sums[k] = torch.addcmul(sums[k], field, sums[k - 1])
        hidden = torch.cat(sums[1:], dim=-1)
        return self.fc(hidden if self.bn is None else self.bn(hidden))
