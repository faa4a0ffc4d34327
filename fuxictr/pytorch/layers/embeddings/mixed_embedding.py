"""Embeddings of fields that have widths of their own."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers.embeddings.feature_embedding import FeatureEmbedding


class MixedEmbedding(nn.Module):
    """Embeds every field at its own width; fields of equal width share one table.

    Its output is one long vector a row, for backbones that read the concatenation of all fields and
    nothing else. For their layers it counts as one field of width W = sum_i D_i.

    Shape:
        input: mapping of field name -> (B,).
        output: (B, 1, W), fields in the order of the feature map.
    """

    def __init__(self, feature_map: FeatureMap, embedding_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.widths = dict(
            zip(feature_map.fields, feature_map.embedding_dims(embedding_dim), strict=True)
        )
        self.tables = nn.ModuleDict()
        for width in sorted(set(self.widths.values())):
            names = [name for name, found in self.widths.items() if found == width]
            fields = feature_map.select(use_features=names)
            self.tables[str(width)] = FeatureEmbedding(fields, width)
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()

    def forward(self, X: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Returns the embeddings (B, 1, W)."""
        found = {width: iter(table(X).unbind(dim=1)) for width, table in self.tables.items()}
        pieces = [next(found[str(width)]) for width in self.widths.values()]  # each (B, D_i)
        return self.dropout(torch.cat(pieces, dim=1).unsqueeze(1))

    def as_fields(self) -> tuple[FeatureMap, int]:
        """Returns one field of width W, which is how the output looks to other layers."""
        merged = FeatureMap("merged")
        merged.features["all_fields"] = {"type": "categorical", "vocab_size": 1}
        return merged, sum(self.widths.values())


def make_embedding(
    feature_map: FeatureMap, embedding_dim: int, dropout: float = 0.0
) -> FeatureEmbedding | MixedEmbedding:
    """Returns FeatureEmbedding where all widths are equal, MixedEmbedding otherwise."""
    is_mixed = set(feature_map.embedding_dims(embedding_dim)) != {embedding_dim}
    return (MixedEmbedding if is_mixed else FeatureEmbedding)(feature_map, embedding_dim, dropout)
