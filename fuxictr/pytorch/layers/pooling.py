"""Pooling of sequences that a model embeds without one, see FeatureEmbeddingDict."""

from __future__ import annotations

import torch
from torch import nn


class MaskedAveragePooling(nn.Module):
    """Averages a sequence's positions without padding, which is zero, (B, L, D) -> (B, D).

    The average is zero where all positions are padding.
    """

    def forward(self, embedding_matrix: torch.Tensor) -> torch.Tensor:
        """Returns the averages (B, D)."""
        num_positions = (embedding_matrix != 0).any(dim=2).sum(dim=1, keepdim=True)
        return embedding_matrix.sum(dim=1) / num_positions.clamp(min=1)


class MaskedSumPooling(nn.Module):
    """Sums the positions of a sequence, (B, L, D) -> (B, D); padding is zero."""

    def forward(self, embedding_matrix: torch.Tensor) -> torch.Tensor:
        """Returns the sums (B, D)."""
        return embedding_matrix.sum(dim=1)
