"""Models as users write them, which do with their layers what no built-in one does."""

from __future__ import annotations

import torch
from torch import nn

from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import FeatureEmbedding
from fuxictr.pytorch.models import BaseModel, MultiTaskModel


class OneTable(BaseModel):
    """Two layers with one table."""

    def __init__(self, feature_map: FeatureMap) -> None:
        super().__init__(feature_map)
        self.first = FeatureEmbedding(feature_map, 4)
        self.second = FeatureEmbedding(feature_map, 4)
        self.second.table = self.first.table
        self.head = nn.Linear(feature_map.sum_emb_out_dim(4), 1)
        self.reset_parameters()

    def forward(self, inputs):
        """Returns {"y_pred", "logit"}, both (B, 1)."""
        vectors = self.first(inputs) * 2 + self.second(inputs)
        return self.output(self.head(vectors.flatten(1)))


class TwiceCalled(BaseModel):
    """A layer that is called twice, and one that is never used."""

    def __init__(self, feature_map: FeatureMap) -> None:
        super().__init__(feature_map)
        self.embedding_layer = FeatureEmbedding(feature_map, 4)
        self.unused = nn.Linear(2, 2)
        self.head = nn.Linear(feature_map.sum_emb_out_dim(4), 1)
        self.reset_parameters()

    def forward(self, inputs):
        """Returns {"y_pred", "logit"}, both (B, 1)."""
        vectors = self.embedding_layer(inputs) + self.embedding_layer(inputs) ** 2
        return self.output(self.head(vectors.flatten(1)))


class OtherFields(BaseModel):
    """Two layers of different fields; what it returns is a probability alone."""

    def __init__(self, feature_map: FeatureMap) -> None:
        super().__init__(feature_map)
        self.first = FeatureEmbedding(feature_map, 4, required_feature_columns=["a", "b"])
        self.second = FeatureEmbedding(feature_map, 4, required_feature_columns=["b", "c", "x"])
        self.head = nn.Linear(20, 1)
        self.reset_parameters()

    def forward(self, inputs):
        """Returns {"y_pred": (B, 1)}."""
        vectors = torch.cat([self.first(inputs), self.second(inputs)], dim=1)
        return {"y_pred": self.output_activation(self.head(vectors.flatten(1)))}


class TableRead(BaseModel):
    """A model that reads its table otherwise than by a lookup."""

    def __init__(self, feature_map: FeatureMap) -> None:
        super().__init__(feature_map)
        self.embedding_layer = FeatureEmbedding(feature_map, 4)
        self.head = nn.Linear(feature_map.sum_emb_out_dim(4), 1)
        self.reset_parameters()

    def forward(self, inputs):
        """Returns {"y_pred", "logit"}, both (B, 1)."""
        logit = self.head(self.embedding_layer(inputs).flatten(1))
        return self.output(logit + self.embedding_layer.table.mean())


class TwoLabels(MultiTaskModel):
    """A head for each of two labels, the second one counted half."""

    def __init__(self, feature_map: FeatureMap) -> None:
        feature_map.labels = ["click", "buy"]
        loss = ["binary_crossentropy", "mse_loss"]
        super().__init__(feature_map, num_tasks=2, loss=loss, loss_weight=[1, 0.5])
        self.embedding_layer = FeatureEmbedding(feature_map, 4)
        width = feature_map.sum_emb_out_dim(4)
        self.heads = nn.ModuleList(nn.Linear(width, 1) for _ in range(2))
        self.reset_parameters()

    def forward(self, inputs):
        """Returns {"click_pred", "buy_pred"}, both (B, 1)."""
        vectors = self.embedding_layer(inputs).flatten(1)
        logits = {f"{label}_pred": head(vectors) for label, head in self._pairs()}
        return {name: self.output_activation[0](logit) for name, logit in logits.items()}

    def _pairs(self):
        return zip(self.feature_map.labels, self.heads, strict=True)


OWN_MODELS = {
    kind.__name__: kind for kind in (OneTable, TwiceCalled, OtherFields, TableRead, TwoLabels)
}
