"""FeatureMap: which fields a dataset has, in which order, and how many values each takes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fuxictr.errors import ConfigError, DataError, as_names, did_you_mean
from fuxictr.features.embedded_fields import EmbeddedFields
from fuxictr.features.reading import check_counts, find, list_features, list_labels, read_json
from fuxictr.features.specs import (
    ID_TYPES,
    SPEC_KEYS,
    check_change,
    check_spec,
    check_values,
    width,
)
from fuxictr.files import write_atomically

TABLE_KEYS = ("embedding_dim", "pretrained_emb", "pretrain_dim", "pretrain_usage", "freeze_emb")


class _Load:
    """``FeatureMap.load(path)`` reads a new map; on a map, ``load(path, params)`` fills it."""

    def __get__(self, feature_map: FeatureMap | None, owner: type[FeatureMap]) -> Any:
        return owner.read if feature_map is None else feature_map.fill


class FeatureMap(EmbeddedFields):
    """The fields of an encoded dataset, in FuxiCTR's form.

    A spec holds type (categorical, numeric, sequence, embedding or meta) and source, and

    - of ids (categorical, sequence): vocab_size; padding_idx and oov_idx if this project encoded
      them; share_embedding, the field whose table it uses; pretrained_emb with pretrain_dim,
      pretrain_usage and freeze_emb if its tokens have pretrained vectors;
    - of a sequence: max_len;
    - feature_encoder, what its embedding goes through (``parse_encoder``), a sequence's pooling;
    - of an embedding: pretrain_dim, the width of its vectors;
    - embedding_dim and emb_output_dim if the field has its own width.

    Attributes:
        features: field name -> spec.
        data_dir: folder of the encoded files, or None.
        pretrained: field name -> vectors (vocab_size, pretrain_dim) by id, if not in data_dir.
        default_emb_dim: width of an embedding that has no own, for ``sum_emb_out_dim()``; None if
            unknown.
        regression_labels: the labels that are any number; the others are 0 or 1.
        group_id: column that groups the rows for group metrics, or None.
        defer_tables: whether embedding layers leave their common tables undrawn until it is known
            which rows this process holds (``shard_tables``).
    """

    def __init__(self, dataset_id: str, data_dir: str | Path | None = None) -> None:
        self.dataset_id = dataset_id
        self.data_dir = Path(data_dir) if data_dir is not None else None
        self.features: dict[str, dict[str, Any]] = {}
        self.labels: list[str] = []
        self.pretrained: dict[str, np.ndarray] = {}
        self.default_emb_dim: int | None = None
        self.regression_labels: tuple[str, ...] = ()
        self.group_id: str | None = None
        self.defer_tables = False

    @property
    def num_fields(self) -> int:
        """Number of fields F that a model embeds."""
        return len(self.fields)

    @property
    def total_features(self) -> int:
        """Number of rows of all tables, each counted once, plus one per numeric field."""
        return sum(
            spec.get("vocab_size", 1)
            for spec in self.fields.values()
            if spec["type"] != "embedding" and not spec.get("share_embedding")
        )

    @property
    def input_length(self) -> int:
        """Number of input columns, with all positions of sequences and vectors."""
        return sum(map(width, self.features.values()))

    def pretrained_vectors(self, name: str) -> np.ndarray:
        """Returns the vectors (vocab_size, pretrain_dim) of a field's ids; NaN = no vector.

        Raises DataError if the file is missing, damaged, or of another shape.
        """
        spec = self.features[name]
        path = (self.data_dir or Path()) / spec["pretrained_emb"]
        wanted = (spec["vocab_size"], spec.get("pretrain_dim"))
        vectors = self.pretrained.get(name)
        if vectors is None:
            try:
                # Mapped, so that a damaged header cannot ask for more memory than the file has.
                vectors = np.lib.format.open_memmap(path, mode="r")
            except Exception as error:  # a damaged header can raise anything
                raise DataError(f"{path}: not readable ({error}); rebuild the dataset") from error
            if vectors.shape == wanted:
                vectors = np.array(vectors)
                if vectors.dtype.kind not in "fiu" or np.isinf(vectors).any():
                    raise DataError(f"{path}: found {vectors.dtype}, allowed: finite numbers")
        if vectors.shape != wanted:
            raise DataError(
                f"{path}: column '{name}': found vectors of shape {vectors.shape}, expected "
                f"{wanted}, (vocab_size, pretrain_dim); rebuild the dataset"
            )
        return vectors

    def sum_emb_out_dim(self, embedding_dim: int | str | Sequence[str] = ()) -> int:
        """Returns the width of the flattened embeddings, F * D if all widths are equal.

        As in FuxiCTR, the argument may be sources of fields, or none, and counts the fields of
        these sources (none: all) with ``default_emb_dim``. ConfigError where that is not known.
        """
        if isinstance(embedding_dim, int):
            return sum(self.embedding_dims(embedding_dim))
        chosen = self._of_sources(embedding_dim)
        if self.default_emb_dim is None and not all(
            spec.get("emb_output_dim") or spec.get("embedding_dim") for spec in chosen.values()
        ):
            raise ConfigError(
                "sum_emb_out_dim() counts with key 'embedding_dim' of the config: found none; "
                "allowed: to set it, also where the model has a default"
            )
        return sum(self.output_dim(name, self.default_emb_dim or 0) for name in chosen)

    def get_num_fields(self, feature_source: str | Sequence[str] = ()) -> int:
        """Returns the number of fields of these sources; none: of all."""
        return len(self._of_sources(feature_source))

    def _of_sources(self, sources: str | Sequence[str]) -> dict[str, dict[str, Any]]:
        names = [sources] if isinstance(sources, str) and sources else list(sources)
        fields = self.fields
        known = {str(spec.get("source", "")) for spec in fields.values()}
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ConfigError(
                f"feature_source '{unknown[0]}': no field of dataset '{self.dataset_id}' has it; "
                f"allowed: {', '.join(sorted(filter(None, known))) or 'none, as no field has one'}"
            )
        return {n: s for n, s in fields.items() if not names or s.get("source", "") in names}

    def select(
        self,
        use_features: list[str] | None = None,
        feature_specs: list[dict] | dict | None = None,
    ) -> FeatureMap:
        """Returns a feature map of the chosen fields, with changed specs.

        Raises ConfigError for a name that is no field, and a key or value that is not of a spec.
        """
        changed = FeatureMap(self.dataset_id, self.data_dir)
        changed.labels, changed.pretrained = list(self.labels), self.pretrained
        changed.defer_tables = self.defer_tables
        changed.regression_labels = self.regression_labels
        changed.default_emb_dim, changed.group_id = self.default_emb_dim, self.group_id
        changed.features = {name: dict(spec) for name, spec in self.features.items()}
        for name, change in _each_spec(feature_specs or []):
            self._check_names([name], "feature_specs")
            spec = {"feature_encoder" if k == "pooling" else k: v for k, v in change.items()}
            unknown = [key for key in spec if key not in SPEC_KEYS]
            if unknown:
                hint = did_you_mean(unknown[0], SPEC_KEYS)
                raise ConfigError(
                    f"key 'feature_specs': '{name}': unknown key '{unknown[0]}'{hint}"
                )
            changed.features[name].update(spec)
            try:
                check_values(name, spec)
                check_change(name, self.features[name], spec)
                if "type" in spec:
                    check_spec(name, changed.features[name])
            except ValueError as error:
                raise ConfigError(f"key 'feature_specs': {error}") from None
        if use_features is not None:
            use_features = as_names(use_features, "key 'use_features'")
            self._check_names(use_features, "use_features")
            changed._keep_only(use_features)
        if not changed.num_fields:
            raise ConfigError(f"dataset '{self.dataset_id}': use_features leaves no field")
        return changed

    @property
    def column_index(self) -> dict[str, int | list[int]]:
        """Name -> its column in a matrix of all input columns, a list for several; labels last."""
        found: dict[str, int | list[int]] = {}
        start = 0
        for name, spec in self.features.items():
            stop = start + width(spec)
            is_list = spec["type"] in ("sequence", "embedding")
            found[name] = list(range(start, stop)) if is_list else start
            start = stop
        return found | {name: start + i for i, name in enumerate(self.labels)}

    def set_column_index(self) -> None:
        """Does nothing; FuxiCTR's users call it. ``column_index`` always fits the fields."""

    def get_column_index(self, feature: str) -> int | list[int]:
        """Returns ``column_index`` of a feature or label; ConfigError for another name."""
        if feature not in self.labels:
            self._check_names([feature], "feature")
        return self.column_index[feature]

    def update_feature_specs(self, feature_specs: list[dict] | dict) -> None:
        """Changes specs in place; ConfigError as ``select``."""
        self.features = self.select(feature_specs=feature_specs).features

    def to_json(self) -> dict[str, Any]:
        """Returns the content of feature_map.json."""
        return {
            "dataset_id": self.dataset_id,
            "num_fields": self.num_fields,
            "total_features": self.total_features,
            "input_length": self.input_length,
            "labels": self.labels,
            "features": [{name: spec} for name, spec in self.features.items()],
        }

    def save(self, path: str | Path) -> None:
        """Writes feature_map.json, completely or not at all."""
        write_atomically(path, json.dumps(self.to_json(), indent=2) + "\n")

    load = _Load()

    def fill(self, json_file: str | Path, params: Mapping[str, Any]) -> None:
        """Takes over the fields of a file, with the keys of a config that choose and change them.

        These are ``use_features``, ``feature_specs``, ``embedding_dim``, ``group_id`` and ``task``.

        Raises:
            ConfigError: as ``select``.
            DataError: as ``read``.
        """
        found = self.read(json_file, self.dataset_id)
        chosen = found.select(params.get("use_features"), params.get("feature_specs"))
        self.data_dir = chosen.data_dir
        self.features, self.labels = chosen.features, chosen.labels
        self.default_emb_dim, self.group_id = params.get("embedding_dim"), params.get("group_id")
        self.set_tasks(params.get("task") or "binary_classification")

    def set_tasks(self, task: str | Sequence[str]) -> None:
        """Sets ``regression_labels`` by key ``task``, one for all labels or one for each."""
        tasks = [task] * len(self.labels) if isinstance(task, str) else list(task)
        pairs = zip(self.labels, tasks, strict=False)  # the model checks their number
        self.regression_labels = tuple(label for label, kind in pairs if kind == "regression")

    @classmethod
    def read(cls, path: str | Path, dataset_id: str | None = None) -> FeatureMap:
        """Reads feature_map.json; DataError if it is damaged or not of the given ``dataset_id``."""
        path = Path(path)
        if not path.exists():
            raise DataError(f"{path}: no such feature map; build the dataset first")
        try:
            content = read_json(path)
            feature_map = cls(find(content, "dataset_id", str), path.parent)
            feature_map.features = list_features(content)
            feature_map.labels = list_labels(content, feature_map.fields)
            check_counts(content, feature_map.to_json())
        except ValueError as error:
            raise DataError(f"{path}: not a feature map ({error}); delete it to rebuild") from error
        if dataset_id is not None and feature_map.dataset_id != dataset_id:
            raise DataError(
                f"{path}: belongs to dataset '{feature_map.dataset_id}', expected '{dataset_id}'"
            )
        return feature_map

    def _keep_only(self, names: list[str]) -> None:
        """Drops all other features; the first field that shares a dropped table will own it."""
        kept = {name: self.features[name] for name in names}
        sharing = [n for n, s in kept.items() if s["type"] in ID_TYPES and s.get("share_embedding")]
        heirs = {name: name for name in kept}
        owners = [self.table_owner(name) for name in sharing]
        for name, owner in zip(sharing, owners, strict=True):
            heir = heirs.setdefault(owner, name)
            kept[name]["share_embedding"] = heir if heir != name else None
            if heir == name:
                table = self.features[owner]
                kept[name].update({key: table[key] for key in TABLE_KEYS if key in table})
                if owner in self.pretrained:
                    self.pretrained = {**self.pretrained, name: self.pretrained[owner]}
        self.features = kept

    def _check_names(self, names: list[Any], key: str) -> None:
        for name in names:
            if name not in self.features:
                hint = did_you_mean(str(name), self.features)
                raise ConfigError(
                    f"key '{key}': '{name}' is not a field of dataset '{self.dataset_id}'{hint}"
                )


def _each_spec(changes: list[dict] | dict) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yields (field, changes) of feature_specs, a list of entries or {field: changes}."""
    entries = changes.items() if isinstance(changes, dict) else [(None, c) for c in changes]
    for given, change in entries:
        if not isinstance(change, dict):
            raise ConfigError(
                f"key 'feature_specs': found {change!r}, allowed: {{name: field, key: value}}"
            )
        names = change.get("name") if given is None else given
        spec = {key: value for key, value in change.items() if key != "name"}
        for name in names if isinstance(names, list) else [names]:
            yield name, spec
