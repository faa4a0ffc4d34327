"""The first-order (linear) part of a CTR model."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers.embeddings import FeatureEmbedding

_FIRST_ORDER = {"embedding_dim": None, "emb_output_dim": None}


class LogisticRegression(nn.Module):
    """LR: b plus, for each field, w_i[x_i] of an id, w_i x_i of a number, w_i^T x_i of a vector.

    A sequence adds the w_i[x] of all its positions without padding: their sum, as in FuxiCTR,
    whatever its pooling. Every field has weights of its own, even where its embedding shares a
    table or has vectors given. The inputs are those of FeatureEmbedding, the output is (B, 1).
    """

    def __init__(self, feature_map: FeatureMap, use_bias: bool = True) -> None:
        super().__init__()
        pooled = {"feature_encoder": "sum"}
        first_order = feature_map.select(
            feature_specs={
                name: _FIRST_ORDER | (pooled if spec["type"] == "sequence" else {})
                for name, spec in feature_map.features.items()
            }
        )
        self.embedding_layer = FeatureEmbedding(
            first_order, embedding_dim=1, use_pretrain=False, use_sharing=False
        )
        self.bias = nn.Parameter(torch.zeros(1)) if use_bias else None

    def forward(self, X: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Returns the logits (B, 1)."""
        logit = self.embedding_layer(X).sum(dim=1)  # (B, F, 1) -> (B, 1)
        return logit if self.bias is None else logit + self.bias
