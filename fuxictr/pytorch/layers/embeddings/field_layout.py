"""How the fields of a feature map are divided among the tables of an embedding layer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch

from fuxictr.features import FeatureMap


class Place(NamedTuple):
    """Where an embedding is: its block (B, n, width), its first row there, and the one after it."""

    block: int
    start: int
    stop: int


class FieldLayout:
    """Which fields are in the common table of width D, in the numeric weight, or apart.

    Fields are apart that have vectors given, take vectors in, have another width than D, or an
    encoder other than a pooling; and with them all fields that share a table with one of them.

    Attributes:
        table_owners: field -> the field whose table it uses.
        poolings: sequence -> its pooling in the lookup; None: one vector per position.
        num_vectors: sequence that stays one -> how many vectors it has.
        lengths: field -> its number of ids.
        places: field -> where its embedding is found among the blocks.
        table_rows: owner of rows in the common table -> its first row, and the one after its last.
        offsets: of every id of a row of the batch, the first row of its field's table.
        sum_starts: positions among these ids at which a sum begins.
    """

    def __init__(self, feature_map: FeatureMap, embedding_dim: int) -> None:
        fields = feature_map.fields
        self.table_owners = {name: feature_map.table_owner(name) for name in fields}
        kinds = {name: spec["type"] for name, spec in fields.items()}
        self.poolings = {n: feature_map.pooling(n) for n in fields if kinds[n] == "sequence"}
        counts = {name: feature_map.num_vectors(name) for name in fields}
        self.num_vectors = {name: n for name, n in counts.items() if n is not None}
        self.lengths = {n: fields[n]["max_len"] if n in self.poolings else 1 for n in fields}
        self.apart = self._fields_apart(feature_map, embedding_dim)
        common = {name: kind for name, kind in kinds.items() if name not in self.apart}
        self.categorical = tuple(n for n, kind in common.items() if kind == "categorical")
        self.sequences = tuple(n for n, kind in common.items() if kind == "sequence")
        self.numeric = tuple(n for n, kind in common.items() if kind == "numeric")
        self.places = self._find_places(fields)
        self.num_rows = 0
        self.offsets: list[int] = []
        self.sum_starts: list[int] = []
        self._lay_out_common_table(feature_map)

    @property
    def ids(self) -> tuple[str, ...]:
        """The fields of the common table."""
        return (*self.categorical, *self.sequences)

    def _fields_apart(self, feature_map: FeatureMap, embedding_dim: int) -> list[str]:
        outputs = feature_map.embedding_dims(embedding_dim)
        owners_apart = set()
        for (name, owner), output in zip(self.table_owners.items(), outputs, strict=True):
            width = feature_map.table_dim(name, embedding_dim)
            has_vectors = feature_map.features[owner].get("pretrained_emb")
            is_vector = feature_map.features[name]["type"] == "embedding"
            is_equal = width == output == embedding_dim
            if has_vectors or is_vector or not is_equal or feature_map.has_encoder(name):
                owners_apart.add(owner)
        return [name for name, owner in self.table_owners.items() if owner in owners_apart]

    def _find_places(self, names_in_order: Iterable[str]) -> dict[str, Place]:
        blocks = [self.ids, self.numeric, *((name,) for name in self.apart)]
        places = {}
        for number, names in enumerate(names for names in blocks if names):
            start = 0
            for name in names:
                stop = start + self.num_vectors.get(name, 1)
                places[name] = Place(number, start, stop)
                start = stop
        return {name: places[name] for name in names_in_order}

    def _lay_out_common_table(self, feature_map: FeatureMap) -> None:
        self.table_rows: dict[str, tuple[int, int]] = {}
        for name in self.ids:
            owner = self.table_owners[name]
            if owner not in self.table_rows:
                stop = self.num_rows + feature_map.features[owner]["vocab_size"]
                self.table_rows[owner] = self.num_rows, stop
                self.num_rows = stop
            length, place = self.lengths[name], self.places[name]
            start = len(self.offsets)
            self.offsets += [self.table_rows[owner][0]] * length
            self.sum_starts += range(start, start + length, length // (place.stop - place.start))


def cut(blocks: list[torch.Tensor], places: Iterable[Place]) -> list[torch.Tensor]:
    """Returns the part of the blocks at each place; the places hold every row of a block once."""
    wanted = list(places)
    if len(wanted) == 1:
        return blocks
    parts: dict[Place, torch.Tensor] = {}
    for number, block in enumerate(blocks):
        inside = sorted(place for place in wanted if place.block == number)
        sizes = [place.stop - place.start for place in inside]
        pieces = [block] if len(sizes) == 1 else block.split(sizes, dim=1)
        parts |= zip(inside, pieces, strict=True)
    return [parts[place] for place in wanted]


def module_name(name: str) -> str:
    """Returns the name of a field's module: without dots, and no attribute of a dict."""
    return "field_" + name.replace("%", "%25").replace(".", "%2E")
