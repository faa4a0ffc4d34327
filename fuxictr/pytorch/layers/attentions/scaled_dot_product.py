"""Scaled dot-product attention."""

from __future__ import annotations

import torch
from torch import nn

MASKED = -1.0e9


class ScaledDotProductAttention(nn.Module):
    """softmax(Q K^T / scale) V (Vaswani et al. 2017), with dropout on the weights."""

    def __init__(self, dropout_rate: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout_rate) if dropout_rate > 0 else None

    def forward(
        self,
        Q: torch.Tensor,
        K: torch.Tensor,
        V: torch.Tensor,
        scale: float | None = None,
        mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the output (..., L_q, D_v) and the weights (..., L_q, L_k) after dropout.

        Scores are divided by ``scale``, unless it is None or 0. A ``mask`` of as many values as
        scores hides a position by 0.
        """
        scores = torch.matmul(Q, K.transpose(-1, -2))
        if scale:
            scores = scores / scale
        if mask is not None:
            scores = scores.masked_fill(mask.view_as(scores) == 0, MASKED)
        weights = scores.softmax(dim=-1)
        if self.dropout is not None:
            weights = self.dropout(weights)
        return torch.matmul(weights, V), weights
