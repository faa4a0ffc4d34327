"""The embedding layers of a model: one tensor of all fields, or a dictionary of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from fuxictr.errors import ConfigError, as_names
from fuxictr.features import POOLINGS, FeatureMap
from fuxictr.pytorch.layers.embeddings.by_name import (
    Names,
    choose_fields,
    embed_by_name,
    is_whole,
    join_fields,
)
from fuxictr.pytorch.layers.embeddings.encoder_layers import DEFAULT_INITIALIZER, Initializer
from fuxictr.pytorch.layers.embeddings.field_blocks import FieldBlocks
from fuxictr.pytorch.layers.embeddings.field_layout import Place, cut


class FeatureEmbedding(FieldBlocks):
    """Embeds every field, one vector of width D each; see FieldBlocks for how, and for ``fields``.

    Shape:
        input: mapping of field name -> (B,), a sequence (B, L), a vector (B, E).
        output: (B, F, D), fields in the order of the feature map.
    """

    def __init__(
        self,
        feature_map: FeatureMap,
        embedding_dim: int,
        embedding_initializer: str | Initializer = DEFAULT_INITIALIZER,
        *args: Any,
        dropout: float = 0.0,
        **fields: Any,
    ) -> None:
        super().__init__(feature_map, embedding_dim, embedding_initializer, *args, **fields)
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()
        self._runs = _runs(self.layout.places)
        widths = set(self.feature_map.embedding_dims(embedding_dim))
        self._is_even = widths == {embedding_dim} and not self.layout.num_vectors

    def checked(self) -> FeatureEmbedding:
        """Returns the layer; ConfigError unless each field is one vector of width D."""
        check_one_vector_per_field(self.feature_map)
        widths = self.feature_map.embedding_dims(self.embedding_dim)
        other = {
            n: w for n, w in zip(self.layout.places, widths, strict=True) if w != self.embedding_dim
        }
        if other:
            raise ConfigError(
                f"all fields need embedding_dim {self.embedding_dim} in this model, found {other}; "
                "DCNv2 and CrossNet take fields of different widths, and a field's emb_output_dim "
                "brings it to another one"
            )
        return self

    def forward(
        self,
        X: Mapping[str, torch.Tensor],
        feature_source: Names = (),
        feature_type: Names = (),
        flatten_emb: bool = False,
    ) -> torch.Tensor:
        """Returns the embeddings (B, F, D), or with ``flatten_emb`` (B, sum of D_i).

        The fields are those of X that ``choose_fields`` chooses. ConfigError without
        ``flatten_emb`` where they have different widths, or one is a sequence without pooling.
        """
        if not (self._is_even and is_whole(self, X)):
            embedded = embed_by_name(self, X, feature_source, feature_type)
            return self.dropout(join_fields(self.feature_map, embedded, flatten_emb))
        parts = cut(self.blocks(X), self._runs)
        embedded = self.dropout(parts[0] if len(parts) == 1 else torch.cat(parts, dim=1))
        if feature_source or feature_type:
            fields = list(self.layout.places)
            names = choose_fields(self.feature_map, feature_source, feature_type)
            embedded = torch.stack([embedded[:, fields.index(name)] for name in names], dim=1)
        return embedded.flatten(start_dim=1) if flatten_emb else embedded

    @property
    def embedding_layer(self) -> NamedFields:
        """The same embeddings by name, as FuxiCTR's inner FeatureEmbeddingDict gives them."""
        return NamedFields(self)

    def as_fields(self) -> tuple[FeatureMap, int]:
        """Returns the fields and the width of each, for layers that read the output.

        ConfigError as ``checked``.
        """
        self.checked()
        return self.feature_map, self.embedding_dim


class FeatureEmbeddingDict(FieldBlocks):
    """Embeds every field under its name, for models that treat fields differently.

    A model of sequences gives them ``feature_encoder: null`` and pools them itself::

        self.embedding_layer = FeatureEmbeddingDict(feature_map, embedding_dim)   # in __init__
        emb = self.embedding_layer(X)                                             # in forward
        emb["clicks"] = attention(emb["item"], emb["clicks"])      # (B, D), (B, L, D) -> (B, D)
        hidden = self.embedding_layer.dict2tensor(emb, flatten_emb=True)          # (B, F * D)

    Args and errors are those of FieldBlocks.

    Shape:
        input: mapping of field name -> (B,), a sequence (B, L), a vector (B, E).
        output: mapping of field name -> (B, D), or (B, L, D) of a sequence without pooling; D is
            the field's own width where it has one.
    """

    def forward(
        self,
        inputs: Mapping[str, torch.Tensor],
        feature_source: Names = (),
        feature_type: Names = (),
    ) -> dict[str, torch.Tensor]:
        """Returns the embedding of each field of the inputs that ``choose_fields`` chooses.

        They come in the order of the inputs, for a Batch in that of the feature map. Inputs may
        lack fields, and then sequences may have any length. ConfigError for an unknown name.
        """
        return embed_by_name(self, inputs, feature_source, feature_type)

    def dict2tensor(
        self,
        embedding_dict: Mapping[str, torch.Tensor],
        flatten_emb: bool = False,
        feature_list: Names = (),
        feature_source: Names = (),
        feature_type: Names = (),
    ) -> torch.Tensor:
        """Returns the embeddings of a dictionary next to each other, as ``join_fields``.

        The last three arguments choose fields; empty means all.
        """
        names = choose_fields(self.feature_map, feature_source, feature_type)
        listed = as_names(feature_list, "feature_list") or names
        chosen = {n: embedding_dict[n] for n in names if n in embedding_dict and n in listed}
        return join_fields(self.feature_map, chosen, flatten_emb)


class NamedFields:
    """Calls a FeatureEmbedding as a FeatureEmbeddingDict, with its weights."""

    def __init__(self, layer: FeatureEmbedding) -> None:
        self.feature_map = layer.feature_map
        self._layer = layer

    def __call__(
        self,
        inputs: Mapping[str, torch.Tensor],
        feature_source: Names = (),
        feature_type: Names = (),
    ) -> dict[str, torch.Tensor]:
        """Returns what FeatureEmbeddingDict returns, with the layer's dropout."""
        embedded = embed_by_name(self._layer, inputs, feature_source, feature_type)
        return {name: self._layer.dropout(vectors) for name, vectors in embedded.items()}

    dict2tensor = FeatureEmbeddingDict.dict2tensor


def check_one_vector_per_field(feature_map: FeatureMap) -> None:
    """Raises ConfigError where a sequence has no pooling, so that it has several vectors."""
    for name, spec in feature_map.fields.items():
        if feature_map.num_vectors(name) is not None:
            found = spec.get("feature_encoder") or "null"
            raise ConfigError(
                f"column '{name}': key 'feature_encoder': found {found}, allowed: "
                f"{', '.join(POOLINGS)}; this model needs one vector per field "
                "(FeatureEmbeddingDict gives one per position, (B, L, D))"
            )


def _runs(places: Mapping[str, Place]) -> list[Place]:
    """Returns the places with neighbours of one block joined, so that fewer parts are copied."""
    runs: list[Place] = []
    for place in places.values():
        if runs and (runs[-1].block, runs[-1].stop) == (place.block, place.start):
            runs[-1] = runs[-1]._replace(stop=place.stop)
        else:
            runs.append(place)
    return runs
