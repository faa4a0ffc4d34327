"""DeepFM (Guo et al., IJCAI 2017), discriminative and generative."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import (
    BatchNorm,
    FeatureEmbedding,
    LogisticRegression,
    MLP_Block,
    build_generators,
    idle_without_layers,
    pair_sum,
    target_side,
)
from fuxictr.pytorch.models import BaseModel


class DeepFM(BaseModel):
    """logit = LR(x) + sum_{i<j} <z_i, v_j> + MLP([v_1 .. v_F]).

    GEN: z_i is generated from all fields; DIS: z_i = v_i. The DNN reads the raw embeddings in both.

    Args:
        feature_map: the fields.
        embedding_dim: width D of an embedding.
        hidden_units: widths of the DNN's hidden layers.
        hidden_activations: their activation.
        net_dropout: dropout rate of the DNN.
        batch_norm: batch normalisation in the DNN; no_bias: without a bias in front of it.
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
        **params: Any,
    ) -> None:
        super().__init__(feature_map, **params)
        dropout = params.get("embedding_dropout", 0.0)
        self.embedding_layer = FeatureEmbedding(
            feature_map, embedding_dim, dropout=dropout
        ).checked()
        self.lr_layer = LogisticRegression(feature_map)
        self.generator = build_generators(feature_map, embedding_dim, params)
        self.mlp = MLP_Block(
            input_dim=feature_map.sum_emb_out_dim(embedding_dim),
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
        X = self.get_inputs(inputs)
        feature_emb = self.embedding_layer(X)  # (B, F, D)
        gen = self.generator(feature_emb)  # (B, F, D); identity for DIS
        right = target_side(self.generator, gen, feature_emb)
        interaction = pair_sum(gen, right)  # (B, D)
        deep = self.mlp(feature_emb.flatten(start_dim=1))  # (B, F*D) -> (B, 1)
        self.record_all(feature_emb=feature_emb, gen=gen, left=gen, right=right)
        self.record("final_representation", interaction)
        return self.output(self.lr_layer(X) + interaction.sum(dim=-1, keepdim=True) + deep)
