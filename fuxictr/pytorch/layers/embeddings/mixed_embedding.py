"""Embeddings of fields that have widths of their own."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers.embeddings.feature_embedding import (
    FeatureEmbedding,
    FeatureEmbeddingDict,
    check_one_vector_per_field,
)


class MixedEmbedding(nn.Module):
    """Embeds every field at its own width; fields whose tables have one width share one.

    Its output (B, 1, W), W = sum_i D_i, is one long vector per row, in the order of the feature
    map. It is for backbones that read only the concatenation of all fields: for their layers it is
    one field of width W. A sequence without pooling is a ConfigError.
    """

    def __init__(self, feature_map: FeatureMap, embedding_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        check_one_vector_per_field(feature_map)
        self.fields = list(feature_map.fields)
        self.width = feature_map.sum_emb_out_dim(embedding_dim)
        widths = {name: feature_map.table_dim(name, embedding_dim) for name in self.fields}
        self.tables = nn.ModuleDict()
        for width in sorted(set(widths.values())):
            names = [name for name, found in widths.items() if found == width]
            self.tables[str(width)] = FeatureEmbeddingDict(feature_map.select(names), width)
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()

    def forward(self, X: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Returns the embeddings (B, 1, W)."""
        found = {name: v for table in self.tables.values() for name, v in table(X).items()}
        vectors = [found[name] for name in self.fields]  # each (B, D_i)
        return self.dropout(torch.cat(vectors, dim=1).unsqueeze(1))

    def as_fields(self) -> tuple[FeatureMap, int]:
        """Returns the output as other layers see it: one field of width W."""
        merged = FeatureMap("merged")
        merged.features["all_fields"] = {"type": "categorical", "vocab_size": 1}
        return merged, self.width


def make_embedding(
    feature_map: FeatureMap, embedding_dim: int, dropout: float = 0.0
) -> FeatureEmbedding | MixedEmbedding:
    """Returns FeatureEmbedding where all widths are equal, MixedEmbedding otherwise."""
    if set(feature_map.embedding_dims(embedding_dim)) != {embedding_dim}:
        return MixedEmbedding(feature_map, embedding_dim, dropout)
    return FeatureEmbedding(feature_map, embedding_dim, dropout=dropout).checked()
