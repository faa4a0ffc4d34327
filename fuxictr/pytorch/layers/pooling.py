"""Pooling of sequences that a model embeds without one, see FeatureEmbeddingDict."""

from __future__ import annotations

import torch
from torch import nn


class MaskedAveragePooling(nn.Module):
    """Averages a sequence's positions without padding, (B, L, D) -> (B, D).

    out = sum_l x_l / n. Padding is zero, so that it adds nothing; n counts the other positions, or
    those of ``mask``. The average is zero where all positions are padding.
    """

    def forward(
        self, embedding_matrix: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Returns the averages (B, D); ``mask`` (B, L) is 1 at the positions that count."""
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
    """Keeps the k largest values along ``dim``, in the order in which they stand there.

    [3, 1, 5, 4] with k = 2 gives [5, 4]. From: Kalchbrenner et al., A Convolutional Neural Network
    for Modelling Sentences, ACL 2014.

    Shape:
        input: any, with k values at least along ``dim``.
        output: the same, with k values along ``dim``.
    """

    def __init__(self, k: int, dim: int) -> None:
        super().__init__()
        self.k = k
        self.dim = dim

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Returns the k largest values."""
        positions = X.topk(self.k, dim=self.dim).indices.sort(dim=self.dim).values
        return X.gather(self.dim, positions)
