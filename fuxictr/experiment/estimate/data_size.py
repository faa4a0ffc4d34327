"""The fields and sizes of a dataset, known without its rows or even before it exists."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from fuxictr.config import ExperimentConfig
from fuxictr.datasets import registry
from fuxictr.datasets.demo import DEFAULT_ROWS, SPLIT_SHARES
from fuxictr.datasets.planted_model import field_sizes
from fuxictr.errors import FuxiCTRError
from fuxictr.experiment.run.run import load_dataset, select_features
from fuxictr.experiment.zoo.models import ROOT
from fuxictr.features import FeatureMap
from fuxictr.preprocess import find_built
from fuxictr.preprocess.dataset.cache import read_key
from fuxictr.preprocess.dataset.finished import dataset_folder
from fuxictr.pytorch.dataloaders import make_layout, open_parquet

_NUM_SPECIAL = 2  # ids per field that stand for no value: padding and unseen values
# Demo fields that a column function derives.
_DERIVED_SIZES = {"weekday": 7, "weekend": 2}


@dataclass(frozen=True)
class DataFacts:
    """Fields and sizes of a dataset, encoded or not; ``rows`` is split -> number of rows."""

    feature_map: FeatureMap
    rows: dict[str, int]
    is_encoded: bool

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in memory."""
        layout = make_layout(self.feature_map)
        return 4 * (layout.num_ids + layout.num_values)


def describe_data(config: ExperimentConfig) -> DataFacts | None:
    """Returns fields and sizes of a config's data, or None where they are not known.

    Without encoded data, those of the paper's datasets and of the demo data follow from the
    config's columns and the registry.
    """
    dataset = config.dataset
    try:
        encoded = (
            load_dataset(config) if dataset.is_encoded else find_built(dataset, config.data_dir)[1]
        )
    except FuxiCTRError:
        return _stand_in(config)
    feature_map = select_features(config, encoded)
    if dataset.is_encoded:
        counts = {n: open_parquet(p, feature_map).num_rows for n, p in encoded.paths.items()}
    else:
        counts = (read_key(dataset_folder(dataset, config.data_dir)) or {}).get("rows", {})
    return DataFacts(feature_map, counts, True)


def _stand_in(config: ExperimentConfig) -> DataFacts | None:
    """Returns fields and sizes of a dataset of the registry that is not encoded yet."""
    dataset = config.dataset
    if not registry.is_known(dataset.dataset_id):
        return None
    raw = registry.resolve(dataset.dataset_id)
    rows, sizes = dict(zip(registry.SPLITS, raw.rows, strict=False)), dict(raw.vocab_sizes)
    total = raw.num_features
    if registry.alias_of(raw.name) == "demo":
        rows, sizes = _demo_sizes()
        total = sum(sizes.values())
    columns = dataset.columns()
    is_plain = all(c.type in ("categorical", "numeric") and not c.pretrained_emb for c in columns)
    if not rows or not total or not is_plain:
        return None
    ids = [column.name for column in columns if column.type == "categorical"]
    unknown = [name for name in ids if name not in sizes]
    if unknown:  # they share the remaining values evenly
        left = total - (len(columns) - len(ids)) - sum(sizes.get(name, 0) for name in ids)
        share, rest = divmod(max(left, 0), len(unknown))
        evenly = {name: share + (i < rest) for i, name in enumerate(unknown)}
        sizes |= {name: max(size, _NUM_SPECIAL + 1) for name, size in evenly.items()}
    feature_map = FeatureMap(dataset.dataset_id)
    feature_map.labels = [label.name for label in dataset.labels()]
    for column in columns:
        spec: dict[str, Any] = {"type": column.type}
        if column.type == "categorical":
            spec["vocab_size"] = sizes[column.name]
        for key in ("embedding_dim", "emb_output_dim", "share_embedding"):
            if getattr(column, key) is not None:
                spec[key] = getattr(column, key)
        feature_map.features[column.name] = spec
    selected = feature_map.select(config.run.use_features, config.run.feature_specs)
    return DataFacts(selected, rows, False)


def _demo_sizes() -> tuple[dict[str, int], dict[str, int]]:
    """Returns split -> rows and field -> ids of the demo data, as generated or by default."""
    path = registry.raw_dir(ROOT, registry.resolve("demo")) / registry.GROUND_TRUTH
    try:
        total = int(json.loads(path.read_text(encoding="utf-8"))["rows"])
    except (OSError, ValueError, LookupError, TypeError):
        total = DEFAULT_ROWS
    sizes = {**field_sizes(total), **_DERIVED_SIZES}
    rows = {split: round(total * share) for split, share in SPLIT_SHARES.items()}
    return rows, {name: size + _NUM_SPECIAL for name, size in sizes.items()}
