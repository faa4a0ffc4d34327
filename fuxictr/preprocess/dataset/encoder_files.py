"""Fitted encoders on disk: feature map, vocabularies, and other learnt values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fuxictr.errors import DataError
from fuxictr.features import FeatureMap
from fuxictr.files import atomic_path, write_atomically
from fuxictr.preprocess.columns.column import Column
from fuxictr.preprocess.columns.token_columns import TokenColumn
from fuxictr.preprocess.columns.vocabulary import Vocabulary
from fuxictr.preprocess.sources.raw_types import RawTypes

FEATURE_MAP, FEATURE_VOCAB = "feature_map.json", "feature_vocab.json"
NORMALIZERS, RAW_TYPES = "normalizers.json", "raw_types.json"


def save_encoders(
    folder: Path, feature_map: FeatureMap, columns: Sequence[Column], types: RawTypes
) -> None:
    """Writes what fitted columns learnt, except for pretrained vectors."""
    feature_map.save(folder / FEATURE_MAP)
    # Column by column: the texts of all columns need not be in memory at once.
    with atomic_path(folder / FEATURE_VOCAB) as path, open(path, "w", encoding="utf-8") as file:
        file.write("{")
        for index, column in enumerate(_with_vocabulary(columns)):
            tokens = json.dumps(column.vocabulary.to_dict(), ensure_ascii=False)
            file.write(f"{',' if index else ''}\n{json.dumps(column.name)}: {tokens}")
        file.write("\n}\n")
    states = {column.name: column.state() for column in columns}
    states = {name: state for name, state in states.items() if state}
    write_atomically(folder / NORMALIZERS, json.dumps(states, indent=2) + "\n")
    write_atomically(folder / RAW_TYPES, json.dumps(types.known, indent=2) + "\n")


def restore_encoders(
    folder: Path, dataset_id: str, columns: Sequence[Column], types: RawTypes
) -> FeatureMap:
    """Gives columns what save_encoders wrote; DataError where it is absent or does not fit."""
    vocabularies = _read_json(folder / FEATURE_VOCAB)
    states, known = _read_json(folder / NORMALIZERS), _read_json(folder / RAW_TYPES)
    feature_map = FeatureMap.load(folder / FEATURE_MAP, dataset_id)
    try:
        for column in _with_vocabulary(columns):
            ids = vocabularies[column.name]
            column.vocabulary = Vocabulary.from_dict(ids, not column.config.remap)
        for any_column in columns:
            spec = feature_map.features[any_column.name]
            any_column.restore(states.get(any_column.name, {}), spec)
        types.known.update({name: str(known[name]) for name in types.known})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder}: saved encoders do not fit the config ({error})") from error
    return feature_map


def hash_encoders(folder: Path) -> str:
    """Returns 16 hex digits over all that rows are encoded with."""
    digest = hashlib.sha256()
    names = (FEATURE_MAP, FEATURE_VOCAB, NORMALIZERS)
    for path in [folder / name for name in names] + sorted(folder.glob("pretrained_*.npy")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _with_vocabulary(columns: Sequence[Column]) -> list[TokenColumn]:
    return [column for column in columns if isinstance(column, TokenColumn)]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; build the dataset first") from None
    except ValueError as error:
        raise DataError(f"{path}: not readable as JSON ({error}); delete it to rebuild") from error
