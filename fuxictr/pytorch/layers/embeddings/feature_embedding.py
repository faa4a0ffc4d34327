"""The embedding layers of a model: one tensor of all fields, or a dictionary of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from fuxictr.errors import ConfigError, did_you_mean
from fuxictr.features import POOLINGS, FeatureMap
from fuxictr.pytorch.layers.embeddings.field_blocks import FieldBlocks
from fuxictr.pytorch.layers.embeddings.field_layout import Place, cut

Names = str | Sequence[str]


class FeatureEmbedding(FieldBlocks):
    """Embeds every field, one vector of width D each; see FieldBlocks for how, and for ``fields``.

    Raises:
        ConfigError: a field's embedding has another width than D, or a sequence has no pooling.

    Shape:
        input: mapping of field name -> (B,), a sequence (B, L), a vector (B, E).
        output: (B, F, D), fields in the order of the feature map.
    """

    def __init__(
        self, feature_map: FeatureMap, embedding_dim: int, dropout: float = 0.0, **fields: Any
    ) -> None:
        super().__init__(feature_map, embedding_dim, **fields)
        check_one_vector_per_field(self.feature_map)
        widths = self.feature_map.embedding_dims(embedding_dim)
        other = {
            n: w for n, w in zip(self.layout.places, widths, strict=True) if w != embedding_dim
        }
        if other:
            raise ConfigError(
                f"all fields need embedding_dim {embedding_dim} in this model, found {other}; "
                "DCNv2 and CrossNet take fields of different widths, and a field's emb_output_dim "
                "brings it to another one"
            )
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()
        self._runs = _runs(self.layout.places)

    def forward(
        self,
        X: Mapping[str, torch.Tensor],
        feature_source: Names = (),
        feature_type: Names = (),
        flatten_emb: bool = False,
    ) -> torch.Tensor:
        """Returns the embeddings (B, F, D), or with ``flatten_emb`` (B, F * D).

        The fields are those that ``choose_fields`` chooses.
        """
        parts = cut(self.blocks(X), self._runs)
        embedded = self.dropout(parts[0] if len(parts) == 1 else torch.cat(parts, dim=1))
        if feature_source or feature_type:
            fields = list(self.layout.places)
            names = choose_fields(self.feature_map, feature_source, feature_type)
            embedded = torch.stack([embedded[:, fields.index(name)] for name in names], dim=1)
        return embedded.flatten(start_dim=1) if flatten_emb else embedded

    def as_fields(self) -> tuple[FeatureMap, int]:
        """Returns the fields and the width of each, for layers that read the output."""
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
        """Returns the embedding of each field that ``choose_fields`` chooses."""
        parts = cut(self.blocks(inputs), self.layout.places.values())
        embedded = {
            name: part if self.layout.poolings.get(name, "") is None else part.squeeze(1)
            for name, part in zip(self.layout.places, parts, strict=True)
        }
        wanted = choose_fields(self.feature_map, feature_source, feature_type)
        return {name: embedded[name] for name in wanted}

    def dict2tensor(
        self,
        embedding_dict: Mapping[str, torch.Tensor],
        flatten_emb: bool = False,
        feature_list: Names = (),
        feature_source: Names = (),
        feature_type: Names = (),
    ) -> torch.Tensor:
        """Returns the vectors (B, D_i) of a dictionary next to each other.

        ``flatten_emb`` gives (B, sum of D_i). Without it the result is (B, F, D), and all D_i must
        be equal. The last three arguments choose fields; empty means all.

        Raises:
            ConfigError: no field is left, or one is not a vector of the common width.
        """
        listed = [feature_list] if isinstance(feature_list, str) else feature_list
        names = [
            name
            for name in choose_fields(self.feature_map, feature_source, feature_type)
            if name in embedding_dict and (not listed or name in listed)
        ]
        shapes = {name: tuple(embedding_dict[name].shape) for name in names}
        sizes = {shape if not flatten_emb else len(shape) for shape in shapes.values()}
        if len(sizes) != 1 or len(next(iter(shapes.values()))) != 2:
            wanted = "(B, D_i)" if flatten_emb else "(B, D), one D for all, unless flatten_emb"
            raise ConfigError(f"dict2tensor: found fields of shapes {shapes}, allowed: {wanted}")
        vectors = [embedding_dict[name] for name in names]
        return torch.cat(vectors, dim=1) if flatten_emb else torch.stack(vectors, dim=1)


def check_one_vector_per_field(feature_map: FeatureMap) -> None:
    """Raises ConfigError where a sequence has no pooling, so that it has several vectors."""
    for name, spec in feature_map.fields.items():
        if spec["type"] == "sequence" and feature_map.pooling(name) is None:
            raise ConfigError(
                f"column '{name}': key 'feature_encoder': found null, allowed: "
                f"{', '.join(POOLINGS)}; this model needs one vector per field "
                "(FeatureEmbeddingDict gives one per position, (B, L, D))"
            )


def choose_fields(
    feature_map: FeatureMap, feature_source: Names = (), feature_type: Names = ()
) -> list[str]:
    """Returns the fields of the given sources and types (empty: all); ConfigError if none."""
    chosen = list(feature_map.fields)
    for key, names in (("source", feature_source), ("type", feature_type)):
        wanted = {names} if isinstance(names, str) and names else set(names)
        found = {feature_map.features[name].get(key, "") for name in chosen}
        chosen = [n for n in chosen if not wanted or feature_map.features[n].get(key, "") in wanted]
        if not chosen:
            hint = did_you_mean(str(min(wanted)), found)
            raise ConfigError(
                f"feature_{key}: no field has {sorted(wanted)}, found: {sorted(found)}{hint}"
            )
    return chosen


def _runs(places: Mapping[str, Place]) -> list[Place]:
    """Returns the places with neighbours of one block joined, so that fewer parts are copied."""
    runs: list[Place] = []
    for place in places.values():
        if runs and (runs[-1].block, runs[-1].stop) == (place.block, place.start):
            runs[-1] = runs[-1]._replace(stop=place.stop)
        else:
            runs.append(place)
    return runs
