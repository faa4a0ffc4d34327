"""Pooling of sequences that a model embeds without one, see FeatureEmbeddingDict."""

from __future__ import annotations

import torch
from torch import nn


class MaskedAveragePooling(nn.Module):
    """Averages a sequence's positions without padding, which is zero, (B, L, D) -> (B, D).

    With a ``mask`` (B, L) the sum of all positions is divided by the number of those in the mask;
    padding must be zero all the same. The average is zero where there is no position.
    """

    def forward(
        self, embedding_matrix: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Returns the averages (B, D)."""
        total = embedding_matrix.sum(dim=1)
        if mask is not None:
            return total / (mask.sum(dim=1, keepdim=True) + 1e-12)
        num_positions = (embedding_matrix != 0).any(dim=2).sum(dim=1, keepdim=True)
        return total / num_positions.clamp(min=1)


class MaskedSumPooling(nn.Module):
    """Sums the positions of a sequence, (B, L, D) -> (B, D); padding is zero."""

    def forward(self, embedding_matrix: torch.Tensor) -> torch.Tensor:
        """Returns the sums (B, D)."""
        return embedding_matrix.sum(dim=1)


class KMaxPooling(nn.Module):
    """Keeps the k largest values along ``dim``, in the order in which they stand."""

    def __init__(self, k: int, dim: int) -> None:
        super().__init__()
        self.k, self.dim = k, dim

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Returns the values; the size of ``dim`` becomes k."""
        places = X.topk(self.k, dim=self.dim).indices.sort(dim=self.dim).values
        return X.gather(self.dim, places)
