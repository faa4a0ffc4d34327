"""Embeddings field by field: chosen ones, of inputs that may lack fields, and joined again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from fuxictr.errors import ConfigError, DataError, did_you_mean
from fuxictr.features import FIELD_TYPES, FeatureMap
from fuxictr.pytorch.batch import Batch, stack_columns
from fuxictr.pytorch.layers.embeddings.field_blocks import FieldBlocks
from fuxictr.pytorch.layers.embeddings.field_layout import cut
from fuxictr.pytorch.layers.embeddings.lookup import look_up
from fuxictr.pytorch.layers.embeddings.own_table import pooling_weights

Names = str | Sequence[str]


def embed_by_name(
    layer: FieldBlocks,
    inputs: Mapping[str, torch.Tensor],
    feature_source: Names = (),
    feature_type: Names = (),
) -> dict[str, torch.Tensor]:
    """Returns field -> embedding (n, D), or (n, L, D) of a sequence that stays one.

    All fields are embedded at once if the inputs have them all, in the lengths of the feature map.
    """
    wanted = choose_fields(layer.feature_map, feature_source, feature_type)
    if not is_whole(layer, inputs) or not _has_lengths(layer, inputs):
        check_names(layer, inputs)
        names = wanted if isinstance(inputs, Batch) else [n for n in inputs if n in wanted]
        return {name: embed_field(layer, inputs, name) for name in names if name in inputs}
    parts = cut(layer.blocks(inputs), layer.layout.places.values())
    embedded = {
        name: part if name in layer.layout.num_vectors else part.squeeze(1)
        for name, part in zip(layer.layout.places, parts, strict=True)
    }
    names = wanted if isinstance(inputs, Batch) else [n for n in inputs if n in wanted]
    return {name: embedded[name] for name in names}


def join_fields(
    feature_map: FeatureMap, embedded: Mapping[str, torch.Tensor], flatten_emb: bool
) -> torch.Tensor:
    """Returns the embeddings of fields in the order of the feature map, as one tensor.

    Vectors (B, D_i) give (B, F, D), or with ``flatten_emb`` (B, sum of D_i); sequences
    (B, L, D_i) give (B, F, L, D) and (B, L, sum of D_i). ConfigError where there is no field, they
    are vectors and sequences, or the D_i differ without ``flatten_emb``.
    """
    vectors = {name: embedded[name] for name in feature_map.fields if name in embedded}
    shapes = {name: tuple(vector.shape) for name, vector in vectors.items()}
    if len({shape[:-1] if flatten_emb else shape for shape in shapes.values()}) != 1:
        wanted = "(B, D_i)" if flatten_emb else "(B, D), one D for all, unless flatten_emb"
        raise ConfigError(
            f"embeddings of fields as one tensor: found fields of shapes {shapes}, allowed: "
            f"{wanted}; all of them vectors, or all sequences of one length"
        )
    found = list(vectors.values())
    return torch.cat(found, dim=-1) if flatten_emb else torch.stack(found, dim=1)


def _has_lengths(layer: FieldBlocks, inputs: Mapping[str, torch.Tensor]) -> bool:
    """Returns whether sequences have the lengths of the feature map; a Batch is not asked."""
    lengths = layer.layout.lengths
    return isinstance(inputs, Batch) or all(
        inputs[name].numel() == len(inputs[name]) * lengths[name] for name in layer.layout.poolings
    )


def choose_fields(
    feature_map: FeatureMap, feature_source: Names = (), feature_type: Names = ()
) -> list[str]:
    """Returns the fields of the given sources and types; empty: all.

    ConfigError for a source that no field has, and a type that there is not.
    """
    chosen = list(feature_map.fields)
    for key, names in (("source", feature_source), ("type", feature_type)):
        wanted = {names} if isinstance(names, str) and names else set(names)
        found = {feature_map.features[name].get(key, "") for name in chosen}
        chosen = [n for n in chosen if not wanted or feature_map.features[n].get(key, "") in wanted]
        if not chosen and not (key == "type" and wanted <= {*FIELD_TYPES, "meta"}):
            hint = did_you_mean(str(min(wanted)), found)
            raise ConfigError(
                f"feature_{key}: no field has {sorted(wanted)}, found: {sorted(found)}{hint}"
            )
    return chosen


def is_whole(layer: FieldBlocks, X: Mapping[str, torch.Tensor]) -> bool:
    """Returns whether X has all fields, each with a row of the batch, so that blocks work."""
    if isinstance(X, Batch):
        return all(name in X.layout.positions for name in layer.layout.places)
    if not all(name in X for name in layer.layout.places):
        return False
    sizes = {len(X[name]) for name in layer.layout.places}
    is_flat = all(X[name].numel() == len(X[name]) for name in layer.layout.categorical)
    return len(sizes) == 1 and is_flat


def check_names(layer: FieldBlocks, X: Mapping[str, torch.Tensor]) -> None:
    """Raises ConfigError for a name of X that is neither a feature nor a label.

    Raises DataError for a field that a Batch lacks; another mapping may lack fields.
    """
    missing = [name for name in layer.layout.places if name not in X]
    if missing and isinstance(X, Batch):
        raise DataError(f"column '{missing[0]}': the batch does not have it")
    for name in X:
        if name not in layer.known_names:
            raise ConfigError(
                f"column '{name}': not a feature of dataset '{layer.feature_map.dataset_id}'"
                f"{did_you_mean(name, layer.known_names)}"
            )


def embed_field(layer: FieldBlocks, X: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
    """Returns the embedding of one field alone, for inputs that lack others.

    Ids (n,) give (n, D), (n, m) give (n, m, D); a sequence (n, L) of any length L gives (n, D),
    or (n, L, D) without pooling. Id 0 is padding, whose vector is zero.
    """
    layout = layer.layout
    if name in layout.apart:
        embedded = layer.embed_apart(X, name)  # (n, positions, W)
        return embedded if name in layout.num_vectors else embedded.squeeze(1)
    if name in layout.numeric:
        assert layer.numeric_weight is not None
        values = stack_columns(X, (name,), integer=False)  # (n, 1)
        return values * layer.numeric_weight[layout.numeric.index(name)]
    assert layer.table is not None
    ids = X[name].long()
    rows = ids + layout.table_rows[layout.table_owners[name]][0]
    found = look_up(layer.table, rows) if layer.reader is None else layer.reader.look_up(rows)
    if name in layout.categorical:
        return found * (ids != 0).unsqueeze(-1)
    pooling = layout.poolings[name]
    found = found * pooling_weights(ids, pooling, found.dtype).unsqueeze(-1)  # (n, L, D)
    return found if pooling is None else found.sum(dim=1)
