"""The first-order (linear) part of a CTR model."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers.embeddings import FeatureEmbedding


class LogisticRegression(nn.Module):
    """LR: b + sum_i w_i[x_i] for categorical fields, plus sum_i w_i x_i for numeric fields.

    Shape:
        input: mapping of field name -> (B,).
        output: logits (B, 1).
    """

    def __init__(self, feature_map: FeatureMap, use_bias: bool = True) -> None:
        super().__init__()
        self.embedding_layer = FeatureEmbedding(feature_map, embedding_dim=1, own_widths=False)
        self.bias = nn.Parameter(torch.zeros(1)) if use_bias else None

    def forward(self, X: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Returns the logits (B, 1)."""
        logit = self.embedding_layer(X).sum(dim=1)  # (B, F, 1) -> (B, 1)
        return logit if self.bias is None else logit + self.bias
