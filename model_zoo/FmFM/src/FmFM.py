"""FmFM, field-matrixed FM (Sun et al., WWW 2021), discriminative and generative."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch

from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import (
    FeatureEmbedding,
    LogisticRegression,
    MatrixPairSum,
    build_generators,
    target_side,
)
from fuxictr.pytorch.models import BaseModel


class FmFM(BaseModel):
    """logit = LR(x) + sum_{i<j} <v_i M_ij, z_j>.

    GEN: the field of higher index, z_j, is generated from all fields; DIS: z_j = v_j.

    Args:
        feature_map: the fields.
        embedding_dim: width D of an embedding.
        field_interaction_type: matrixed, M_ij in R^{D x D}, or vectorized, M_ij in R^D.
        **params: the other keys of the config.
    """

    def __init__(
        self,
        feature_map: FeatureMap,
        embedding_dim: int = 10,
        field_interaction_type: Literal["matrixed", "vectorized"] = "matrixed",
        **params: Any,
    ) -> None:
        super().__init__(feature_map, **params)
        dropout = params.get("embedding_dropout", 0.0)
        self.embedding_layer = FeatureEmbedding(
            feature_map, embedding_dim, dropout=dropout
        ).checked()
        self.lr_layer = LogisticRegression(feature_map)
        self.generator = build_generators(feature_map, embedding_dim, params)
        is_vectorized = field_interaction_type == "vectorized"
        self.interaction = MatrixPairSum(feature_map.num_fields, embedding_dim, is_vectorized)
        self.reset_parameters()

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Returns {"y_pred", "logit"}, both (B, 1)."""
        X = self.get_inputs(inputs)
        feature_emb = self.embedding_layer(X)  # (B, F, D)
        gen = self.generator(feature_emb)  # (B, F, D); identity for DIS
        left = target_side(self.generator, gen, feature_emb)
        interaction = self.interaction(left, gen)  # (B, D)
        self.record_all(feature_emb=feature_emb, gen=gen, left=left, right=gen)
        self.record("final_representation", interaction)
        return self.output(self.lr_layer(X) + interaction.sum(dim=-1, keepdim=True))
