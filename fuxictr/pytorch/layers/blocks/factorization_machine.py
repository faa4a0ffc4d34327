"""FM as one layer: the linear part and all pairs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers.blocks.logistic_regression import LogisticRegression
from fuxictr.pytorch.layers.interactions.inner_product import InnerProductInteraction


class FactorizationMachine(nn.Module):
    """LR(x) + sum_{i<j} <v_i, v_j> (Rendle 2010): a batch and its v (B, F, D) -> (B, 1)."""

    def __init__(self, feature_map: FeatureMap) -> None:
        super().__init__()
        self.fm_layer = InnerProductInteraction(feature_map.num_fields, output="product_sum")
        self.lr_layer = LogisticRegression(feature_map, use_bias=True)

    def forward(self, X: Mapping[str, torch.Tensor], feature_emb: torch.Tensor) -> torch.Tensor:
        """Returns the logits (B, 1)."""
        return self.lr_layer(X) + self.fm_layer(feature_emb)
