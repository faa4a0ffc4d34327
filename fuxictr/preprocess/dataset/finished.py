"""Finished encoded datasets: found, checked, and their encoders used again."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from fuxictr.config import DatasetConfig
from fuxictr.errors import DataError
from fuxictr.features import FeatureMap
from fuxictr.preprocess.columns.tally import Counts
from fuxictr.preprocess.dataset.cache import (
    ENCODER_VERSION,
    changed_keys,
    config_key,
    load_key,
    only_encoding,
)
from fuxictr.preprocess.dataset.custom import load_processor
from fuxictr.preprocess.dataset.encoder_files import FEATURE_MAP, hash_encoders
from fuxictr.preprocess.dataset.processor import FeatureProcessor
from fuxictr.preprocess.dataset.publishing import changed_file


@dataclass(frozen=True)
class EncodedDataset:
    """An encoded dataset: its fields and files, and whether it was built just now.

    ``paths`` are split -> parquet file, or folder of parts. Equal rows and vocabularies have an
    equal ``data_hash`` on every machine. ``encoders_hash`` and ``trained`` (column -> counts of
    training cells) are empty where they are unknown.
    """

    feature_map: FeatureMap
    paths: dict[str, Path]
    data_hash: str
    rebuilt: bool
    encoders_hash: str = ""
    trained: dict[str, Counts] = field(default_factory=dict)


def load_encoders(
    config: DatasetConfig, base_dir: str | Path = "."
) -> tuple[FeatureProcessor, EncodedDataset]:
    """Returns the processor that a dataset was built with; needs no raw files.

    Raises:
        DataError: the dataset was not built here, or its config or encoders changed since.
    """
    processor, encoded = find_built(config, base_dir)
    folder = dataset_folder(config, Path(base_dir))
    if encoded.encoders_hash != hash_encoders(folder):
        raise DataError(f"{folder}: its encoders are not those of the build; train the expid again")
    return processor.load(folder), encoded


def find_built(
    config: DatasetConfig, base_dir: str | Path = "."
) -> tuple[FeatureProcessor, EncodedDataset]:
    """Returns an unfitted processor and a finished build as it is; raises as load_encoders."""
    folder = dataset_folder(config, Path(base_dir))
    known = load_key(folder)
    if not folder.is_dir() and not config.is_encoded:
        raise DataError(
            f"{folder}: no such folder, so no dataset that was encoded here from raw rows; train "
            "the expid first, or say where its data were moved to: --set data_root=/new/data"
        )
    if known is None or config.is_encoded:
        raise DataError(
            f"{folder}: no dataset that was encoded here from raw rows, so no encoders for others; "
            "train the expid on raw data first"
        )
    processor = load_processor(config.processor, Path(base_dir)).from_config(config)
    if known.get("encoder_version") != ENCODER_VERSION:
        raise DataError(f"{folder}: was encoded by another version; train the expid again")
    key = json.loads(json.dumps(config_key(processor)))
    changed = changed_keys(*(only_encoding(found) for found in (known["config"], key)))
    if changed:
        raise DataError(
            f"{folder}: was encoded with another config ({', '.join(changed)}); train the expid "
            "again, or use the config that it was trained with"
        )
    return processor, read_finished(folder, config.dataset_id)


def check_unchanged(config: DatasetConfig, base_dir: str | Path = ".") -> None:
    """Raises DataError where a file of a build is gone or has changed."""
    folder = dataset_folder(config, Path(base_dir))
    known = load_key(folder)
    damaged = changed_file(folder, known) if known is not None else None
    if damaged is not None:
        raise DataError(
            f"{folder}: its rows and encoders are not those of the build ({damaged} was changed); "
            "train the expid again"
        )


def check_current(encoded: EncodedDataset, config: DatasetConfig, base_dir: str | Path) -> None:
    """Raises DataError where another process rebuilt the dataset while its rows were opened."""
    if config.is_encoded:
        return
    folder = dataset_folder(config, Path(base_dir))
    key = load_key(folder)
    if key is None or key["data_hash"] != encoded.data_hash:
        raise DataError(f"{folder}: another process rebuilt the dataset meanwhile; start again")


def dataset_folder(config: DatasetConfig, base_dir: Path) -> Path:
    """Returns the folder of a dataset's encoded files, <data_root>/<dataset_id>."""
    return (base_dir / Path(config.data_root).expanduser() / config.dataset_id).resolve()


def read_finished(folder: Path, dataset_id: str) -> EncodedDataset:
    """Returns the finished build in a folder that had one before; DataError where it is gone."""
    key = load_key(folder)
    if key is None:
        raise DataError(f"{folder}: the encoded dataset was removed during the load; start again")
    is_single = {name: f"{name}.parquet" in key["files"] for name in key["rows"]}
    paths = {n: folder / (f"{n}.parquet" if single else n) for n, single in is_single.items()}
    feature_map = FeatureMap.load(folder / FEATURE_MAP, dataset_id)
    encoders_hash = key.get("encoders_hash", "")
    cells = key.get("cells", {}).get("train", {})
    trained = {name: Counts(**counts) for name, counts in cells.items()}
    return EncodedDataset(feature_map, paths, key["data_hash"], False, encoders_hash, trained)
