"""DCN V2 and CrossNet V2 (Wang et al., WWW 2021), discriminative and generative."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch

from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import (
    BatchNorm,
    GenerativeCrossNet,
    MLP_Block,
    generator_config,
    make_embedding,
)
from fuxictr.pytorch.models import BaseModel


class DCNv2(BaseModel):
    """logit = head(final) of a cross network and a DNN.

    final is X_L (crossnet_only), DNN(X_L) (stacked), [X_L ; DNN(v)] (parallel), or
    [DNN(X_L) ; DNN(v)] (stacked_parallel).

    X_L is the cross network of the raw embeddings, X_{l+1} = Drop(X_l + Z_l * (W_l X_l)). GEN: Z_l
    is generated from X_l, one encoder per layer; DIS: Z_l = X_0. CrossNet V2 is crossnet_only. A
    field may have its own embedding_dim.

    Args:
        feature_map: the fields.
        embedding_dim: width D of an embedding.
        model_structure: crossnet_only, stacked, parallel or stacked_parallel.
        num_cross_layers: number of cross layers.
        use_gen_rst: generate from the current layer (true) or from X_0 (false).
        cross_drop: dropout rate after each cross layer.
        stacked_dnn_hidden_units, parallel_dnn_hidden_units: widths of the two DNNs.
        dnn_activations, net_dropout: of both DNNs.
        batch_norm: batch normalisation in both; no_bias: without a bias in front of it.
        head: mlp, Linear(n, 2n)-ReLU-Linear(2n, 1), or linear, Linear(n, 1), the classic one.
        use_low_rank_mixture: only false; configs of FuxiCTR carry the key.
        low_rank, num_experts: of that mixture, without effect.
        **params: the other keys of the config.
    """

    def __init__(
        self,
        feature_map: FeatureMap,
        embedding_dim: int = 10,
        model_structure: Literal[
            "crossnet_only", "stacked", "parallel", "stacked_parallel"
        ] = "parallel",
        num_cross_layers: int = 3,
        use_gen_rst: bool = False,
        cross_drop: float = 0.0,
        stacked_dnn_hidden_units: list[int] | None = None,
        parallel_dnn_hidden_units: list[int] | None = None,
        dnn_activations: str | list[str] = "relu",
        net_dropout: float | list[float] = 0.0,
        batch_norm: BatchNorm = False,
        head: Literal["mlp", "linear"] = "mlp",
        use_low_rank_mixture: Literal[False] = False,
        low_rank: int | None = None,
        num_experts: int | None = None,
        **params: Any,
    ) -> None:
        super().__init__(feature_map, **params)
        width = feature_map.sum_emb_out_dim(embedding_dim)
        dropout = params.get("embedding_dropout", 0.0)
        self.embedding_layer = make_embedding(feature_map, embedding_dim, dropout)
        config = generator_config(params)
        self.cross_net = GenerativeCrossNet(
            *self.embedding_layer.as_fields(), num_cross_layers, config, use_gen_rst, cross_drop
        )

        def dnn(hidden_units: list[int] | None) -> MLP_Block:
            return MLP_Block(
                width, hidden_units, dnn_activations, None, None, net_dropout, batch_norm
            )

        self.stacked_dnn = self.parallel_dnn = None
        final_width = width
        if model_structure in ("stacked", "stacked_parallel"):
            self.stacked_dnn = dnn(stacked_dnn_hidden_units)
            final_width = self.stacked_dnn.output_dim
        if model_structure in ("parallel", "stacked_parallel"):
            self.parallel_dnn = dnn(parallel_dnn_hidden_units)
            final_width += self.parallel_dnn.output_dim
        hidden = [2 * final_width] if head == "mlp" else []
        self.head = MLP_Block(final_width, hidden, "relu", output_dim=1)
        self.reset_parameters()

    @classmethod
    def idle_keys(cls, params: Mapping[str, Any]) -> dict[str, str]:
        """Returns the keys without an effect beside other keys -> reason."""
        structure = params.get("model_structure", "parallel")
        idle = dict.fromkeys(("low_rank", "num_experts"), "use_low_rank_mixture is false")
        units = {"stacked": "stacked_dnn_hidden_units", "parallel": "parallel_dnn_hidden_units"}
        unused = [key for word, key in units.items() if word not in structure.split("_")]
        if structure == "crossnet_only":
            unused += ["dnn_activations", "net_dropout", "batch_norm"]
        if generator_config(params).is_identity:
            idle["use_gen_rst"] = "nothing is generated"
        return idle | dict.fromkeys(unused, f"model_structure is {structure}")

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Returns {"y_pred", "logit"}, both (B, 1)."""
        feature_emb = self.embedding_layer(self.get_inputs(inputs))  # (B, F, D)
        final = self.cross_net(feature_emb)  # (B, F*D)
        if self.stacked_dnn is not None:
            final = self.stacked_dnn(final)
        if self.parallel_dnn is not None:
            final = torch.cat([final, self.parallel_dnn(feature_emb.flatten(start_dim=1))], dim=-1)
        self.record_all(feature_emb=feature_emb, final_representation=final)
        return self.output(self.head(final))
