"""The embedding layer: one table for all categorical fields, one weight for all numeric ones."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import nn

from fuxictr.errors import ConfigError
from fuxictr.features import FeatureMap
from fuxictr.pytorch.batch import stack_columns


class FeatureEmbedding(nn.Module):
    """Embeds every field: v_i = E[offset_i + id_i] (categorical), v_i = x_i * w_i (numeric).

    The tables of all categorical fields lie in one matrix E, so that a batch is one lookup; w_i is
    the weight of a bias-free Linear(1, D) for numeric field i. Row 0 of a field (padding) is zero.

    Args:
        feature_map: the fields.
        embedding_dim: width D of an embedding.
        dropout: dropout rate on the output while training.
        own_widths: false ignores the embedding_dim of single fields.

    Raises:
        ConfigError: a field has an embedding_dim of its own that differs from D.

    Shape:
        input: mapping of field name -> (B,); a Batch is read without copies.
        output: (B, F, D), fields in the order of the feature map.
    """

    def __init__(
        self,
        feature_map: FeatureMap,
        embedding_dim: int,
        dropout: float = 0.0,
        own_widths: bool = True,
    ) -> None:
        super().__init__()
        fields = feature_map.fields
        if own_widths and set(feature_map.embedding_dims(embedding_dim)) != {embedding_dim}:
            other = {n: s["embedding_dim"] for n, s in fields.items() if "embedding_dim" in s}
            raise ConfigError(
                f"all fields need embedding_dim {embedding_dim} in this model, found {other}; "
                "DCNv2 and CrossNet take fields of different widths"
            )
        self.feature_map = feature_map
        self.embedding_dim = embedding_dim
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()
        self.categorical = tuple(n for n, s in fields.items() if s["type"] == "categorical")
        self.numeric = tuple(n for n, s in fields.items() if s["type"] == "numeric")
        sizes = [fields[name]["vocab_size"] for name in self.categorical]
        offsets = torch.tensor([0, *sizes[:-1]] if sizes else [], dtype=torch.int64).cumsum(0)
        self.register_buffer("offsets", offsets.to(torch.int32), persistent=False)
        self.table = nn.Parameter(torch.empty(sum(sizes), embedding_dim)) if sizes else None
        self.numeric_weight = (
            nn.Parameter(torch.empty(len(self.numeric), embedding_dim)) if self.numeric else None
        )
        self._runs = [
            (kind == "categorical", len(list(run)))
            for kind, run in groupby(spec["type"] for spec in fields.values())
        ]
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws E from N(0, 1e-4) and w_i xavier-normal, and zeroes the padding rows."""
        if self.table is not None:
            nn.init.normal_(self.table, std=1e-4)
            with torch.no_grad():
                self.table[self.offsets.long()] = 0.0
        if self.numeric_weight is not None:
            nn.init.normal_(self.numeric_weight, std=(2.0 / (1 + self.embedding_dim)) ** 0.5)

    def forward(self, X: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Returns the embeddings (B, F, D)."""
        parts: dict[bool, torch.Tensor] = {}
        if self.table is not None:
            ids = stack_columns(X, self.categorical, integer=True)
            parts[True] = F.embedding(ids + self.offsets, self.table)  # (B, F_cat, D)
        if self.numeric_weight is not None:
            values = stack_columns(X, self.numeric, integer=False)
            parts[False] = values.unsqueeze(-1) * self.numeric_weight  # (B, F_num, D)
        if len(self._runs) == 1:
            return self.dropout(next(iter(parts.values())))
        return self.dropout(torch.cat(self._in_field_order(parts), dim=1))

    def as_fields(self) -> tuple[FeatureMap, int]:
        """Returns the fields and the width of each, for layers that read the output."""
        return self.feature_map, self.embedding_dim

    def _in_field_order(self, parts: dict[bool, torch.Tensor]) -> list[torch.Tensor]:
        start = {True: 0, False: 0}
        pieces = []
        for is_categorical, length in self._runs:
            first = start[is_categorical]
            pieces.append(parts[is_categorical][:, first : first + length])
            start[is_categorical] += length
        return pieces
