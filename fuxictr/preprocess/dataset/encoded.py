"""Datasets that FuxiCTR or the user encoded elsewhere (``rebuild_dataset: false``)."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fuxictr.array_files import find_encoded
from fuxictr.config import ColumnConfig, DatasetConfig
from fuxictr.errors import ConfigError, DataError
from fuxictr.features import ID_TYPES, FeatureMap, fuxictr_pooling
from fuxictr.preprocess.columns.pretrained import place_by_id, read_pretrained
from fuxictr.preprocess.columns.values import WrongCell, read_values
from fuxictr.preprocess.dataset.cache import fingerprint
from fuxictr.preprocess.sources import typed_files
from fuxictr.preprocess.sources.splitting import SPLITS

logger = logging.getLogger(__name__)


def read_encoded(
    config: DatasetConfig, base_dir: Path, folder: Path
) -> tuple[FeatureMap, dict[str, Path], str]:
    """Returns feature map, split -> path and file hash of a dataset that is encoded already.

    A split is what the config names: a file, folder or glob. Where it names none or a raw csv, the
    split is ``<split>.parquet`` (.npz, .h5) or ``<split>/`` in the dataset's folder. Without a
    feature_map.json, the fields are those of feature_cols, and columns of ids need vocab_size.

    Raises:
        DataError: there is no encoded training split, or a named split is absent.
    """
    paths = {}
    for split in SPLITS:
        path = _find(config, split, base_dir, folder)
        if path is not None:
            paths[split] = path
    if "train" not in paths:
        raise DataError(
            f"{folder}: no encoded train.parquet, train.npz, train.h5 or train/; key "
            "'rebuild_dataset': found false, set true to build it from the raw files"
        )
    maps = [path / "feature_map.json" for path in (folder, paths["train"].parent)]
    known = next((path for path in maps if path.is_file()), None)
    if known is not None:
        feature_map = FeatureMap.load(known)
        feature_map.dataset_id = config.dataset_id
        _load_pretrained(feature_map, known.parent)
    elif not config.feature_cols:
        tried = " and ".join(dict.fromkeys(str(path) for path in maps))
        raise DataError(
            f"dataset '{config.dataset_id}': no {tried}, and the config has no feature_cols that "
            "say what the encoded columns are"
        )
    else:
        feature_map = _from_columns(config, paths["train"], base_dir)
    return feature_map, paths, hash_files(config, feature_map, paths)


def hash_files(config: DatasetConfig, feature_map: FeatureMap, paths: Mapping[str, Path]) -> str:
    """Returns 16 hex digits over encoded files (as ``source_hash`` says) and their fields."""
    digest = hashlib.sha256(json.dumps(feature_map.to_json(), sort_keys=True).encode())
    for split, path in paths.items():
        for file in find_encoded(path):
            known = fingerprint(file, config.source_hash == "full")
            digest.update(f"{split} {json.dumps(known, sort_keys=True)}".encode())
    return digest.hexdigest()[:16]


def _find(config: DatasetConfig, split: str, base_dir: Path, folder: Path) -> Path | None:
    key = f"{split}_data"
    given = getattr(config, key)
    if given is None or _names_raw_rows(given):
        path = folder / split
        try:
            files = find_encoded(path)
        except DataError as error:
            if given is None or split == "train":  # the caller says what is missing
                return None
            raise DataError(
                f"key '{key}': {given} is raw rows, which 'rebuild_dataset: false' does not "
                f"encode, and there is no encoded split in their place: {error}"
            ) from error
        if given is not None:
            logger.info(
                "key '%s': %s is raw rows; the encoded ones of %s are read", key, given, path
            )
    else:
        path = (base_dir / Path(given).expanduser()).resolve()
        try:
            files = find_encoded(path)
        except DataError as error:
            raise DataError(f"key '{key}': found {given}; {error}") from error
    return files[0] if len(files) == 1 and not path.is_dir() else path


def _names_raw_rows(given: str) -> bool:
    return Path(given).name.removesuffix(".gz").endswith(".csv")


def _from_columns(config: DatasetConfig, train: Path, base_dir: Path) -> FeatureMap:
    feature_map = FeatureMap(config.dataset_id, train.parent)
    feature_map.labels = [label.name for label in config.labels()]
    files = find_encoded(train)
    widths = next((found for found in map(typed_files.list_widths, files) if found), {})
    for column in config.columns():
        spec = _spec(column, widths, str(files[0]))
        feature_map.features[column.name] = spec
        if column.pretrained_emb is not None:
            path = (base_dir / Path(column.pretrained_emb).expanduser()).resolve()
            keys, vectors = read_pretrained(path, column.name, column.pretrain_dim)
            ids = np.arange(spec["vocab_size"])
            tokens = pl.Series(ids).cast(pl.String)
            try:
                keys = read_values(keys, "int").cast(pl.String)
                placed = place_by_id(tokens, ids, keys, vectors, len(ids))
            except WrongCell as error:
                raise DataError(f"{path}: key {error.value!r}: allowed: an id") from None
            except ValueError as error:
                raise DataError(f"{path}: column '{column.name}': {error}") from None
            spec["pretrained_emb"], spec["pretrain_dim"] = path.name, vectors.shape[1]
            spec["pretrain_usage"], spec["freeze_emb"] = column.pretrain_usage, column.freeze_emb
            feature_map.pretrained[column.name] = placed
    return feature_map


def _spec(column: ColumnConfig, widths: dict[str, int], where: str) -> dict[str, Any]:
    spec: dict[str, Any] = {"type": column.type, "source": column.source}
    for key in ("embedding_dim", "emb_output_dim", "share_embedding"):
        if getattr(column, key) is not None:
            spec[key] = getattr(column, key)
    if column.type in ID_TYPES:
        if column.vocab_size is None:
            raise ConfigError(
                f"column '{column.name}': key 'vocab_size' is missing; data that are encoded "
                "already (rebuild_dataset: false, no feature_map.json) need it: one past the "
                "largest id"
            )
        spec["vocab_size"] = column.vocab_size
    if column.type in ("sequence", "embedding") and not widths.get(column.name):
        raise DataError(
            f"{where}: column '{column.name}': found one value a row, or no such column; allowed: "
            f"rows of equal length, as its type is {column.type}"
        )
    if column.type == "sequence":
        spec["padding_idx"] = 0
        spec["feature_encoder"] = fuxictr_pooling(column.feature_encoder)
        spec["max_len"] = widths[column.name]
    elif column.type == "embedding":
        spec["pretrain_dim"] = widths[column.name]
    return spec


def _load_pretrained(feature_map: FeatureMap, folder: Path) -> None:
    """Reads the vectors that FuxiCTR wrote as files of key -> vector."""
    for name, spec in feature_map.features.items():
        given = spec.get("pretrained_emb")
        if not given or str(given).endswith(".npy"):
            continue
        path = Path(given) if Path(given).is_file() else folder / given
        keys, vectors = read_pretrained(path, name, spec.get("pretrain_dim"))
        try:
            content = json.loads((folder / "feature_vocab.json").read_text(encoding="utf-8"))
            tokens = pl.Series(list(content[name]), dtype=pl.String)
            ids = np.array(list(content[name].values()), dtype=np.int64)
            size = spec["vocab_size"]
            placed = place_by_id(tokens, ids, keys.cast(pl.String), vectors, size)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise DataError(
                f"{folder / 'feature_vocab.json'}: column '{name}' has pretrained vectors, but no "
                f"vocabulary that says which id a key has ({error})"
            ) from error
        spec["pretrain_dim"] = vectors.shape[1]
        spec.setdefault("pretrain_usage", "init")
        spec.setdefault("freeze_emb", True)
        feature_map.pretrained[name] = placed
