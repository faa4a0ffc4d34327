"""A model and data that train in no time."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import ColumnarData, from_arrays
from fuxictr.pytorch.layers import FeatureEmbedding, LogisticRegression
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.torch_utils import seed_everything

NUM_ROWS = 600


class TinyModel(BaseModel):
    """LR(x) + Linear(v): a table, a linear layer and a bias to regularise."""

    def __init__(self, feature_map, embedding_dim=4, **params):
        super().__init__(feature_map, **params)
        self.embedding_layer = FeatureEmbedding(feature_map, embedding_dim)
        self.lr_layer = LogisticRegression(feature_map)
        self.head = nn.Linear(feature_map.sum_emb_out_dim(embedding_dim), 1)
        self.reset_parameters()

    def forward(self, inputs):
        X = self.get_inputs(inputs)
        return self.output(self.lr_layer(X) + self.head(self.embedding_layer(X).flatten(1)))


def tiny_map() -> FeatureMap:
    feature_map = FeatureMap("d")
    feature_map.features = {
        "a": {"type": "categorical", "vocab_size": 20},
        "x": {"type": "numeric"},
    }
    feature_map.labels = ["click"]
    return feature_map


def tiny_data(feature_map: FeatureMap) -> ColumnarData:
    rng = np.random.default_rng(0)
    a, x = rng.integers(1, 20, NUM_ROWS), rng.normal(size=NUM_ROWS)
    chance = 1 / (1 + np.exp(-(np.sin(a) + x)))
    return from_arrays({"a": a, "x": x, "click": rng.random(NUM_ROWS) < chance}, feature_map)


def make(feature_map: FeatureMap, seed: int = 1, kind: type = TinyModel, **params: Any) -> Any:
    seed_everything(seed)
    return kind(feature_map, **params)
