"""xDeepFM (Lian et al., KDD 2018), discriminative and generative."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import (
    BatchNorm,
    FeatureEmbedding,
    GenerativeCIN,
    LogisticRegression,
    MLP_Block,
    generator_config,
    idle_without_layers,
)
from fuxictr.pytorch.models import BaseModel


class xDeepFM(BaseModel):
    """logit = LR(x) + CIN(v) + MLP([v_1 .. v_F]).

    CIN layer l combines Z^(l) with X_l. GEN: Z^(l) is generated from v by the layer's own
    encoder; DIS: Z^(l) = v. The DNN reads the raw embeddings in both.

    Args:
        feature_map: the fields.
        embedding_dim: width D of an embedding.
        cin_hidden_units: number of maps of each CIN layer.
        dnn_hidden_units: widths of the DNN's hidden layers.
        dnn_activations: their activation.
        net_dropout: dropout rate of the DNN.
        batch_norm: batch normalisation in the DNN; no_bias: without a bias in front of it.
        **params: the other keys of the config.
    """

    def __init__(
        self,
        feature_map: FeatureMap,
        embedding_dim: int = 10,
        cin_hidden_units: list[int] | None = None,
        dnn_hidden_units: list[int] | None = None,
        dnn_activations: str | list[str] = "relu",
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
        units = [16, 16] if cin_hidden_units is None else cin_hidden_units
        self.cin = GenerativeCIN(feature_map, embedding_dim, units, generator_config(params))
        self.mlp = MLP_Block(
            input_dim=feature_map.sum_emb_out_dim(embedding_dim),
            hidden_units=dnn_hidden_units,
            hidden_activations=dnn_activations,
            output_dim=1,
            dropout_rates=net_dropout,
            batch_norm=batch_norm,
        )
        self.reset_parameters()

    @classmethod
    def idle_keys(cls, params: Mapping[str, Any]) -> dict[str, str]:
        """Returns the keys without an effect beside other keys -> reason."""
        return idle_without_layers(
            "dnn_hidden_units", params, "dnn_activations", "net_dropout", "batch_norm"
        )

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Returns {"y_pred", "logit"}, both (B, 1)."""
        X = self.get_inputs(inputs)
        feature_emb = self.embedding_layer(X)  # (B, F, D)
        maps = self.cin.pooled(feature_emb)  # (B, sum of the CIN's maps)
        deep = self.mlp(feature_emb.flatten(start_dim=1))  # (B, F*D) -> (B, 1)
        self.record_all(feature_emb=feature_emb, final_representation=maps)
        return self.output(self.lr_layer(X) + self.cin.fc(maps) + deep)
