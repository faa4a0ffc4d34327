"""FwFM, field-weighted FM (Pan et al., WWW 2018), discriminative and generative."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import nn

from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import (
    FeatureEmbedding,
    LogisticRegression,
    WeightedPairSum,
    build_generators,
    target_side,
)
from fuxictr.pytorch.models import BaseModel


class FwFM(BaseModel):
    """logit = linear(x) + sum_{i<j} r_ij <z_i, v_j>.

    The linear part is LR (LW), b + sum_i <v_i, w_i[x_i]> with a vector per value (FeLV), or
    b + sum_i <v_i, w_i> with a vector per field (FiLV). GEN: z_i is generated from all fields by an
    encoder with a bias; DIS: z_i = v_i.

    Args:
        feature_map: the fields.
        embedding_dim: width D of an embedding.
        linear_type: LW, FeLV or FiLV.
        **params: the other keys of the config.
    """

    def __init__(
        self,
        feature_map: FeatureMap,
        embedding_dim: int = 10,
        linear_type: Literal["LW", "FeLV", "FiLV"] = "FiLV",
        **params: Any,
    ) -> None:
        super().__init__(feature_map, **params)
        dropout = params.get("embedding_dropout", 0.0)
        self.embedding_layer = FeatureEmbedding(
            feature_map, embedding_dim, dropout=dropout
        ).checked()
        self.linear_type = linear_type
        if linear_type == "LW":
            self.linear: nn.Module = LogisticRegression(feature_map)
        elif linear_type == "FeLV":
            self.linear = FeatureEmbedding(feature_map, embedding_dim)
            self.bias = nn.Parameter(torch.zeros(1))
        else:
            self.linear = nn.Linear(feature_map.sum_emb_out_dim(embedding_dim), 1)
        self.generator = build_generators(feature_map, embedding_dim, params, bias=True)
        self.interaction = WeightedPairSum(feature_map.num_fields)
        self.reset_parameters()

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Returns {"y_pred", "logit"}, both (B, 1)."""
        X = self.get_inputs(inputs)
        feature_emb = self.embedding_layer(X)  # (B, F, D)
        gen = self.generator(feature_emb)  # (B, F, D); identity for DIS
        right = target_side(self.generator, gen, feature_emb)
        interaction = self.interaction(gen, right)  # (B, D)
        self.record_all(feature_emb=feature_emb, gen=gen, left=gen, right=right)
        self.record("final_representation", interaction)
        logit = self.linear_part(X, feature_emb) + interaction.sum(dim=-1, keepdim=True)
        return self.output(logit)

    def linear_part(self, X: Mapping[str, torch.Tensor], feature_emb: torch.Tensor) -> torch.Tensor:
        """Returns the first-order logit (B, 1)."""
        if self.linear_type == "LW":
            return self.linear(X)
        if self.linear_type == "FeLV":
            products = (feature_emb * self.linear(X)).flatten(start_dim=1)  # (B, F*D)
            return products.sum(dim=-1, keepdim=True) + self.bias
        return self.linear(feature_emb.flatten(start_dim=1))
