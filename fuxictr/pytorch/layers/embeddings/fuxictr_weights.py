"""Weights of embedding layers under FuxiCTR's names, read into the layers of this project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fuxictr.errors import CheckpointError
from fuxictr.pytorch.layers.embeddings.field_layout import module_name
from fuxictr.pytorch.layers.embeddings.own_table import OwnTable

if TYPE_CHECKING:
    from fuxictr.pytorch.layers.embeddings.field_blocks import FieldBlocks

_TABLES, _ENCODERS = "embedding_layers.", "feature_encoders."


def rename_fuxictr_weights(layer: FieldBlocks, state: dict[str, Any], prefix: str) -> None:
    """Gives a layer's weights in ``state``, below ``prefix``, this project's names, in place.

    FuxiCTR keeps a table (V, D) for each field, ``embedding_layers.FIELD.weight``, and the map of a
    number (D, 1); the tables of one width are one weight here. A state without such names stays as
    it is.

    Raises:
        CheckpointError: a field's weight is missing, not used, or of another shape.
    """
    found = _take(state, prefix)
    if found:
        state.update({f"{prefix}{key}": weight for key, weight in _renamed(layer, found, prefix)})


def _take(state: dict[str, Any], prefix: str) -> dict[str, torch.Tensor]:
    """Removes the weights with FuxiCTR's names below a layer; returns them without the prefix."""
    found = {}
    for inner in (prefix, f"{prefix}embedding_layer."):
        for key in [k for k in state if k.startswith((inner + _TABLES, inner + _ENCODERS))]:
            found[key.removeprefix(inner)] = state.pop(key)
    return found


def _renamed(
    layer: FieldBlocks, found: dict[str, torch.Tensor], prefix: str
) -> list[tuple[str, torch.Tensor]]:
    given = _Given(found, prefix)
    layout, fields = layer.layout, layer.feature_map.fields
    renamed = []
    if layer.table is not None:
        shapes = {
            owner: (stop - start, layer.embedding_dim)
            for owner, (start, stop) in layout.table_rows.items()
        }
        tables = [given.take(f"{_TABLES}{n}.weight", shape) for n, shape in shapes.items()]
        renamed.append(("table", torch.cat(tables)))
    if layer.numeric_weight is not None:
        shape = (layer.embedding_dim, 1)
        maps = [given.take(f"{_TABLES}{n}.weight", shape)[:, 0] for n in layout.numeric]
        renamed.append(("numeric_weight", torch.stack(maps)))
    for name in layout.apart:
        owner = layout.table_owners[name]
        own = layer.own[module_name(owner)]
        place = f"own.{module_name(owner)}."
        if isinstance(own, OwnTable):
            renamed += [(place + key, w) for key, w in _own_weights(own, owner, given)]
        elif isinstance(own, nn.Linear):
            room = _TABLES if fields[name]["type"] == "numeric" else _ENCODERS
            weight = given.take(f"{room}{name}.weight", tuple(own.weight.shape))
            renamed.append((f"{place}weight", weight))
        renamed += _encoder_weights(layer, name, given)
    given.check_all_taken(set(layout.table_owners))
    return renamed


def _own_weights(own: OwnTable, name: str, given: _Given) -> list[tuple[str, torch.Tensor]]:
    place = f"{_TABLES}{name}."
    names = {"table": "weight"}
    if own.vectors is not None:
        names = {"table": "id_embedding.weight", "vectors": "pretrain_embedding.weight"}
    weights = {"table": own.table, "vectors": own.vectors}
    renamed = [
        (key, given.take(place + theirs, tuple(weight.shape)))
        for key, theirs in names.items()
        if (weight := weights[key]) is not None
    ]
    if own.projection is not None:
        shape = tuple(own.projection.weight.shape)
        projection = given.take(f"{place}proj.weight", shape)
        if own.is_joined:  # FuxiCTR joins the vector and then the learnt row, here it is E, then P
            num_given = shape[1] - shape[0]
            projection = torch.cat([projection[:, num_given:], projection[:, :num_given]], dim=1)
        renamed.append(("projection.weight", projection))
    return renamed


def _encoder_weights(
    layer: FieldBlocks, name: str, given: _Given
) -> list[tuple[str, torch.Tensor]]:
    key = module_name(name)
    if key not in layer.encoders:
        return []
    encoder = layer.encoders[key]
    assert isinstance(encoder, nn.Sequential)
    is_list = isinstance(layer.feature_map.features[name]["feature_encoder"], list | tuple)
    return [
        (
            f"encoders.{key}.{own}",
            given.take(
                f"{_ENCODERS}{name}.{own if is_list else own.split('.', 1)[1]}", tuple(weight.shape)
            ),
        )
        for own, weight in encoder.named_parameters()
    ]


class _Given:
    """Weights under FuxiCTR's names, each taken once or more and checked."""

    def __init__(self, weights: dict[str, torch.Tensor], prefix: str) -> None:
        self._weights, self._prefix = weights, prefix
        self._taken: set[str] = set()

    def take(self, key: str, shape: tuple[int, ...]) -> torch.Tensor:
        """Returns a weight; CheckpointError if it is missing or of another shape."""
        weight = self._weights.get(key)
        found = None if weight is None else tuple(weight.shape)
        if weight is None or found != shape:
            raise CheckpointError(
                f"weights with FuxiCTR's names: '{self._prefix}{key}': found {found}, the model "
                f"needs {shape}; use the data and config that it was trained with"
            )
        self._taken.add(key)
        return weight

    def check_all_taken(self, fields: set[str]) -> None:
        """Raises CheckpointError for a weight that no field took; shared tables are there twice."""
        for key in self._weights.keys() - self._taken:
            is_repeated = any(key == f"{_TABLES}{field}.weight" for field in fields)
            if not is_repeated:
                raise CheckpointError(
                    f"weights with FuxiCTR's names: '{self._prefix}{key}': the model has no such "
                    "weight; use the data and config that it was trained with"
                )
