"""FM, factorization machine (Rendle, ICDM 2010), discriminative and generative."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import (
    FeatureEmbedding,
    LogisticRegression,
    build_generators,
    pair_sum,
    target_side,
)
from fuxictr.pytorch.models import BaseModel


class FM(BaseModel):
    """logit = LR(x) + sum_{i<j} <z_i, v_j>.

    GEN: z_i is generated from all fields; DIS: z_i = v_i.

    Args:
        feature_map: the fields.
        embedding_dim: width D of an embedding.
        **params: the other keys of the config.
    """

    def __init__(self, feature_map: FeatureMap, embedding_dim: int = 10, **params: Any) -> None:
        super().__init__(feature_map, **params)
        dropout = params.get("embedding_dropout", 0.0)
        self.embedding_layer = FeatureEmbedding(
            feature_map, embedding_dim, dropout=dropout
        ).checked()
        self.lr_layer = LogisticRegression(feature_map)
        self.generator = build_generators(feature_map, embedding_dim, params)
        self.reset_parameters()

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Returns {"y_pred", "logit"}, both (B, 1)."""
        X = self.get_inputs(inputs)
        feature_emb = self.embedding_layer(X)  # (B, F, D)
        gen = self.generator(feature_emb)  # (B, F, D); identity for DIS
        right = target_side(self.generator, gen, feature_emb)
        interaction = pair_sum(gen, right)  # (B, D)
        self.record_all(feature_emb=feature_emb, gen=gen, left=gen, right=right)
        self.record("final_representation", interaction)
        return self.output(self.lr_layer(X) + interaction.sum(dim=-1, keepdim=True))
