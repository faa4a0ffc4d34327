"""IPNN, inner-product neural network (Qu et al., ICDM 2016), discriminative and generative."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch

from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import (
    BatchNorm,
    FeatureEmbedding,
    MLP_Block,
    build_generators,
    idle_without_layers,
    pair_products,
    target_side,
)
from fuxictr.pytorch.models import BaseModel


class PNN(BaseModel):
    """logit = MLP([v_1 .. v_F ; <z_i, v_j> for i < j]).

    GEN: z_i is generated from all fields; DIS: z_i = v_i. The raw embeddings stay in the MLP's
    input in both.

    Args:
        feature_map: the fields.
        embedding_dim: width D of an embedding.
        hidden_units: widths of the MLP's hidden layers.
        hidden_activations: their activation.
        net_dropout: dropout rate of the MLP.
        batch_norm: batch normalisation in the MLP; no_bias: without a bias in front of it.
        product_type: inner, the product of IPNN.
        **params: the other keys of the config.
    """

    def __init__(
        self,
        feature_map: FeatureMap,
        embedding_dim: int = 10,
        hidden_units: list[int] | None = None,
        hidden_activations: str | list[str] = "relu",
        net_dropout: float | list[float] = 0.0,
        batch_norm: BatchNorm = False,
        product_type: Literal["inner"] = "inner",
        **params: Any,
    ) -> None:
        super().__init__(feature_map, **params)
        num_fields = feature_map.num_fields
        dropout = params.get("embedding_dropout", 0.0)
        self.embedding_layer = FeatureEmbedding(
            feature_map, embedding_dim, dropout=dropout
        ).checked()
        self.generator = build_generators(feature_map, embedding_dim, params)
        self.mlp = MLP_Block(
            input_dim=num_fields * embedding_dim + num_fields * (num_fields - 1) // 2,
            hidden_units=hidden_units,
            hidden_activations=hidden_activations,
            output_dim=1,
            dropout_rates=net_dropout,
            batch_norm=batch_norm,
        )
        self.reset_parameters()

    @classmethod
    def idle_keys(cls, params: Mapping[str, Any]) -> dict[str, str]:
        """Returns the keys without an effect beside other keys -> reason."""
        return idle_without_layers(
            "hidden_units", params, "hidden_activations", "net_dropout", "batch_norm"
        )

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Returns {"y_pred", "logit"}, both (B, 1)."""
        feature_emb = self.embedding_layer(self.get_inputs(inputs))  # (B, F, D)
        gen = self.generator(feature_emb)  # (B, F, D); identity for DIS
        right = target_side(self.generator, gen, feature_emb)
        products = pair_products(gen, right)  # (B, F (F - 1) / 2)
        hidden = torch.cat([feature_emb.flatten(start_dim=1), products], dim=-1)
        self.record_all(feature_emb=feature_emb, gen=gen, left=gen, right=right)
        self.record("final_representation", hidden)
        return self.output(self.mlp(hidden))
