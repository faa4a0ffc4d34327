"""FeatureMap: which fields a dataset has, in which order, and how many values each takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fuxictr.errors import ConfigError, DataError, did_you_mean
from fuxictr.files import write_atomically

FIELD_TYPES = ("categorical", "numeric")


class FeatureMap:
    """The fields of an encoded dataset, in FuxiCTR's form.

    Attributes:
        dataset_id: name of the dataset.
        features: field name -> spec; a spec holds type (categorical|numeric|meta), source and,
            where categorical, vocab_size, padding_idx and oov_idx; embedding_dim where the field
            has a width of its own.
        labels: names of the label columns.
        data_dir: folder of the encoded files, or None.
    """

    def __init__(self, dataset_id: str, data_dir: str | Path | None = None) -> None:
        self.dataset_id = dataset_id
        self.data_dir = Path(data_dir) if data_dir is not None else None
        self.features: dict[str, dict[str, Any]] = {}
        self.labels: list[str] = []

    @property
    def fields(self) -> dict[str, dict[str, Any]]:
        """The features that a model embeds: all but meta columns, in order."""
        return {n: s for n, s in self.features.items() if s["type"] in FIELD_TYPES}

    @property
    def num_fields(self) -> int:
        """Number of fields F that a model embeds."""
        return len(self.fields)

    @property
    def total_features(self) -> int:
        """Number of rows of all vocabularies, plus one for each numeric field."""
        return sum(spec.get("vocab_size", 1) for spec in self.fields.values())

    @property
    def input_length(self) -> int:
        """Number of input columns."""
        return len(self.features)

    def embedding_dims(self, embedding_dim: int) -> list[int]:
        """Returns each field's width: its own embedding_dim, or the model's where it has none."""
        return [spec.get("embedding_dim", embedding_dim) for spec in self.fields.values()]

    def sum_emb_out_dim(self, embedding_dim: int) -> int:
        """Returns the width of the flattened embeddings, F * D where all widths are equal."""
        return sum(self.embedding_dims(embedding_dim))

    def select(
        self,
        use_features: list[str] | None = None,
        feature_specs: list[dict] | dict | None = None,
    ) -> FeatureMap:
        """Returns a feature map of the chosen fields, with changed specs.

        Raises:
            ConfigError: a name is not a field of the dataset.
        """
        chosen = FeatureMap(self.dataset_id, self.data_dir)
        chosen.labels = list(self.labels)
        names = list(self.features) if use_features is None else use_features
        self._check_names(names, "use_features")
        chosen.features = {name: dict(self.features[name]) for name in names}
        changes = feature_specs or []
        if isinstance(changes, dict):
            changes = [{"name": name, **spec} for name, spec in changes.items()]
        for change in changes:
            self._check_names([change.get("name")], "feature_specs")
            if change["name"] in chosen.features:
                spec = {k: v for k, v in change.items() if k != "name"}
                chosen.features[change["name"]].update(spec)
        if not chosen.num_fields:
            raise ConfigError(f"dataset '{self.dataset_id}': use_features leaves no field")
        return chosen

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
        """Writes feature_map.json, whole or not at all."""
        write_atomically(path, json.dumps(self.to_json(), indent=2) + "\n")

    @classmethod
    def load(cls, path: str | Path, dataset_id: str | None = None) -> FeatureMap:
        """Reads feature_map.json.

        Args:
            path: the file.
            dataset_id: the dataset that it must belong to, where given.

        Raises:
            DataError: the file is absent, is no feature map, or is another dataset's.
        """
        path = Path(path)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            feature_map = cls(content["dataset_id"], path.parent)
            feature_map.labels = list(content["labels"])
            for entry in content["features"]:
                for name, spec in entry.items():
                    feature_map.features[name] = _checked_spec(name, spec)
        except FileNotFoundError:
            raise DataError(f"{path}: no such feature map; build the dataset first") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: not a feature map ({error}); delete it to rebuild") from error
        if dataset_id is not None and feature_map.dataset_id != dataset_id:
            raise DataError(
                f"{path}: belongs to dataset '{feature_map.dataset_id}', expected '{dataset_id}'"
            )
        return feature_map

    def _check_names(self, names: list[Any], key: str) -> None:
        for name in names:
            if name not in self.features:
                hint = did_you_mean(str(name), self.features)
                raise ConfigError(
                    f"key '{key}': '{name}' is not a field of dataset '{self.dataset_id}'{hint}"
                )


def _checked_spec(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    kind = spec["type"]
    if kind not in (*FIELD_TYPES, "meta"):
        raise ValueError(f"feature '{name}': type '{kind}', allowed: categorical, numeric, meta")
    if kind == "categorical" and not (
        isinstance(spec["vocab_size"], int) and spec["vocab_size"] >= 1
    ):
        raise ValueError(f"feature '{name}': vocab_size {spec['vocab_size']!r}, allowed: int >= 1")
    return dict(spec)
