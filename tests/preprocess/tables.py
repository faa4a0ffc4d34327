"""Tiny raw tables, configs for them, and the plain-loop encoder that the fast one must equal."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import polars as pl

from fuxictr.config import DatasetConfig

SAMPLES = Path(__file__).parents[2].parent / "shared" / "data"


def categorical(name, **keys):
    return {"name": name, "dtype": "str", "type": "categorical", **keys}


def numeric(name, **keys):
    return {"name": name, "dtype": "float", "type": "numeric", **keys}


def config(folder, feature_cols, **keys):
    defaults = {
        "dataset_id": "tiny",
        "data_root": str(folder / "encoded"),
        "train_data": str(folder / "train.csv"),
        "label_col": {"name": "click", "dtype": "float"},
        "feature_cols": feature_cols,
    }
    return DatasetConfig.from_params({**defaults, **keys})


def write_csv(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(encoded, split="train"):
    return pl.read_parquet(encoded.paths[split]).to_dict(as_series=False)


def plain_vocabulary(values, min_count=1, fill=""):
    """{token: id} of texts, None or "" where missing."""
    counts = Counter(v for v in values if v not in (None, "", fill, "__PAD__", "__OOV__"))
    kept = sorted((t for t in counts if counts[t] >= min_count), key=lambda t: (-counts[t], t))
    return {token: index for index, token in enumerate(["__PAD__", *kept, "__OOV__"])}


def plain_encode(values, vocabulary):
    oov = vocabulary["__OOV__"]
    return [oov if v in (None, "__PAD__") else vocabulary.get(v, oov) for v in values]
