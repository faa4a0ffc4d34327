"""Encoded rows for peers.py: parquet of ids, and RecBole's atomic files of the same ids.

Both are made once and read by all sides. ``ml100k`` is MovieLens-100K as RecBole's package ships
it, a rating of 4 or more being the click; ``1m`` has Avazu's shape, see avazu_encoded.py.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import avazu_encoded
import avazu_shaped
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

SEED = 2019
SPLITS = ("train", "valid", "test")
LEAST_RATING = 4.0
# Field -> file and column of ml-100k; of the genres the first one.
ML100K_FIELDS = {
    "user_id": ("user", "user_id:token"),
    "item_id": ("item", "item_id:token"),
    "age": ("user", "age:token"),
    "gender": ("user", "gender:token"),
    "occupation": ("user", "occupation:token"),
    "zip_code": ("user", "zip_code:token"),
    "release_year": ("item", "release_year:token"),
    "genre": ("item", "class:token_seq"),
}


def prepare(folder: str, size: str, rows: int, source: str) -> dict[str, Any]:
    """Writes the rows of one size.

    Args:
        folder: where to.
        size: ``ml100k`` or ``1m``.
        rows: of all splits in Avazu's shape; of ml100k the first ones.
        source: folder of ml-100k.inter, .user and .item.

    Returns:
        What a job says of its data: folder, atomic_files, name, label, rows, fields with the sizes
        of their tables, user_field, item_field.
    """
    if size == "ml100k":
        target, label = write_ml100k(Path(folder) / "ml100k", Path(source), rows), "label"
        ids: dict[str, Any] = {"user_field": "user_id", "item_field": "item_id"}
    else:
        target, label = avazu_encoded.write_encoded(folder, rows, full_vocab=False), "click"
        ids = {"user_field": None, "item_field": None}
    features = json.loads((target / "feature_map.json").read_text())["features"]
    fields = {name: spec["vocab_size"] for entry in features for name, spec in entry.items()}
    found = {"folder": str(target), "name": target.name, "label": label, "fields": fields, **ids}
    atomic = Path(folder) / "atomic" / target.name
    write_atomic_files(target, atomic, list(fields), label)
    counts = {split: pq.read_metadata(target / f"{split}.parquet").num_rows for split in SPLITS}
    return {**found, "rows": counts, "atomic_files": str(atomic.parent)}


def write_atomic_files(folder: Path, target: Path, fields: list[str], label: str) -> None:
    """Writes <name>.<split>.inter of the encoded splits: tab-separated, ``name:type`` as header."""
    target.mkdir(parents=True, exist_ok=True)
    names = [f"{name}:token" for name in fields] + [f"{label}:float"]
    options = pa_csv.WriteOptions(delimiter="\t", quoting_style="none", include_header=False)
    for split in SPLITS:
        table = pq.read_table(folder / f"{split}.parquet", columns=[*fields, label])
        with open(target / f"{target.name}.{split}.inter", "wb") as file:
            file.write("\t".join(names).encode() + b"\n")
            pa_csv.write_csv(table, file, options)


def write_ml100k(target: Path, source: Path, rows: int) -> Path:
    """Writes ml-100k in a random order as encoded splits of 80, 10 and 10 %; returns ``target``."""
    ratings = _read(source / "ml-100k.inter")
    order = np.random.default_rng(SEED).permutation(len(ratings))[:rows]
    ratings = [ratings[row] for row in order]
    tables = {
        "user": {row["user_id:token"]: row for row in _read(source / "ml-100k.user")},
        "item": {row["item_id:token"]: row for row in _read(source / "ml-100k.item")},
    }
    columns, sizes = {}, {}
    for name, (table, column) in ML100K_FIELDS.items():
        key = f"{table}_id:token"
        tokens = [tables[table][rating[key]][column].split(" ")[0] for rating in ratings]
        values, ids = np.unique(tokens, return_inverse=True)
        columns[name], sizes[name] = ids.astype(np.int32) + 1, len(values)
    stars = np.array([float(rating["rating:float"]) for rating in ratings])
    columns["label"] = (stars >= LEAST_RATING).astype(np.float32)
    frame = pa.table(columns)
    target.mkdir(parents=True, exist_ok=True)
    start = 0
    for split, count in avazu_shaped.split_rows(len(ratings)).items():
        pq.write_table(frame.slice(start, count), target / f"{split}.parquet")
        start += count
    (target / "feature_map.json").write_text(json.dumps(feature_map(target.name, sizes, "label")))
    return target


def feature_map(name: str, sizes: dict[str, int], label: str) -> dict[str, Any]:
    """Returns the feature map of categorical fields with ids 1..size.

    Id 0 is padding, the last one a value that was not seen.
    """
    reserved = avazu_encoded.RESERVED
    features = [
        {
            field: {
                "source": "",
                "type": "categorical",
                "padding_idx": 0,
                "oov_idx": size + reserved - 1,
                "vocab_size": size + reserved,
            }
        }
        for field, size in sizes.items()
    ]
    return {
        "dataset_id": name,
        "num_fields": len(sizes),
        "total_features": sum(sizes.values()) + reserved * len(sizes),
        "input_length": len(sizes),
        "labels": [label],
        "features": features,
    }


def _read(path: Path) -> list[dict[str, str]]:
    """Returns the rows of an atomic file: ``name:type`` -> cell."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
