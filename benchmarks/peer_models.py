"""The backbones on FuxiCTR's own layers, for comparisons: its wheel has no model_zoo with them.

Each class is written as FuxiCTR's documentation shows a new model: layers in ``__init__``,
then compile, reset_parameters and model_to_device; ``forward`` returns {"y_pred": ...}. The layers
are those of the package wherever it has one. It has none for FmFM, whose pairs are formed and
mapped one matrix per pair, as its formula reads. Runs only in an environment with FuxiCTR 2.3.10.
"""

import torch
from torch import nn

from fuxictr.pytorch.layers import (
    CompressedInteractionNet,
    CrossNetV2,
    FactorizationMachine,
    FeatureEmbedding,
    InnerProductInteraction,
    LogisticRegression,
    MLP_Block,
)
from fuxictr.pytorch.models import BaseModel


class PeerModel(BaseModel):
    """What the backbones share: embeddings, an optional MLP, and the order of construction."""

    def __init__(self, feature_map, embedding_dim=16, hidden_units=(), **params):
        super().__init__(feature_map, **params)
        self.embedding_layer = FeatureEmbedding(feature_map, embedding_dim)
        self.num_fields = feature_map.num_fields
        self.width = self.num_fields * embedding_dim
        self.embedding_dim = embedding_dim
        self._build(feature_map, list(hidden_units), params)
        self.compile(params["optimizer"], params["loss"], params["learning_rate"])
        self.reset_parameters()
        self.model_to_device()

    def _build(self, feature_map, hidden_units, params):
        """Builds the layers of the backbone."""
        raise NotImplementedError

    def _logit(self, X, feature_emb):
        """Returns the logit (B, 1)."""
        raise NotImplementedError

    def forward(self, inputs):
        """Returns {"y_pred": click probability (B, 1)}."""
        X = self.get_inputs(inputs)
        return {"y_pred": self.output_activation(self._logit(X, self.embedding_layer(X)))}


class FM(PeerModel):
    """LR plus the sum of the inner products of all pairs."""

    def _build(self, feature_map, hidden_units, params):
        self.fm = FactorizationMachine(feature_map)

    def _logit(self, X, feature_emb):
        return self.fm(X, feature_emb)


class DeepFM(FM):
    """FM plus an MLP of the embeddings."""

    def _build(self, feature_map, hidden_units, params):
        super()._build(feature_map, hidden_units, params)
        self.mlp = MLP_Block(self.width, hidden_units, "relu", output_dim=1)

    def _logit(self, X, feature_emb):
        return super()._logit(X, feature_emb) + self.mlp(feature_emb.flatten(start_dim=1))


class PNN(PeerModel):
    """An MLP of the embeddings and the inner products of all pairs (IPNN)."""

    def _build(self, feature_map, hidden_units, params):
        num_pairs = self.num_fields * (self.num_fields - 1) // 2
        self.products = InnerProductInteraction(self.num_fields, output="inner_product")
        self.mlp = MLP_Block(self.width + num_pairs, hidden_units, "relu", output_dim=1)

    def _logit(self, X, feature_emb):
        products = self.products(feature_emb)
        return self.mlp(torch.cat([feature_emb.flatten(start_dim=1), products], dim=1))


class DCNv2(PeerModel):
    """A cross network and an MLP, in parallel."""

    def _build(self, feature_map, hidden_units, params):
        self.cross = CrossNetV2(self.width, params["num_cross_layers"])
        self.mlp = MLP_Block(self.width, hidden_units, "relu")
        self.fc = nn.Linear(self.width + hidden_units[-1], 1)

    def _logit(self, X, feature_emb):
        flat = feature_emb.flatten(start_dim=1)
        return self.fc(torch.cat([self.cross(flat), self.mlp(flat)], dim=-1))


class xDeepFM(PeerModel):
    """LR, a compressed interaction network and an MLP."""

    def _build(self, feature_map, hidden_units, params):
        self.lr = LogisticRegression(feature_map, use_bias=False)
        self.cin = CompressedInteractionNet(self.num_fields, params["cin_hidden_units"])
        self.mlp = MLP_Block(self.width, hidden_units, "relu", output_dim=1)

    def _logit(self, X, feature_emb):
        deep = self.mlp(feature_emb.flatten(start_dim=1))
        return self.lr(X) + self.cin(feature_emb) + deep


class FmFM(PeerModel):
    """LR plus sum_{i<j} <v_i M_ij, v_j>, all pairs at once."""

    def _build(self, feature_map, hidden_units, params):
        pairs = torch.triu_indices(self.num_fields, self.num_fields, offset=1)
        self.register_buffer("pairs", pairs)
        shape = (pairs.shape[1], self.embedding_dim, self.embedding_dim)
        self.matrices = nn.Parameter(torch.empty(shape))
        nn.init.xavier_normal_(self.matrices)
        self.lr = LogisticRegression(feature_map, use_bias=True)

    def _logit(self, X, feature_emb):
        left = feature_emb.index_select(1, self.pairs[0])  # (B, P, D)
        right = feature_emb.index_select(1, self.pairs[1])
        mapped = torch.matmul(left.unsqueeze(2), self.matrices).squeeze(2)
        return self.lr(X) + (mapped * right).sum(dim=(1, 2)).unsqueeze(-1)
