"""The demo data: a synthetic click log in Avazu's form with known click probabilities."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fuxictr.datasets.download import check_free_disk
from fuxictr.datasets.planted_model import (
    MAIN,
    PAIR,
    PAIRS,
    TRIPLE,
    TRIPLES,
    PlantedModel,
    draw_values,
    plant_model,
    sigmoid,
)
from fuxictr.datasets.registry import GROUND_TRUTH, SPLITS
from fuxictr.errors import ConfigError, DataError
from fuxictr.files import naming_full_disk, sync_file, sync_folder, write_atomically
from fuxictr.metrics import auc, logloss
from fuxictr.progress import progress_bar

logger = logging.getLogger(__name__)

DEFAULT_ROWS = 200_000
DEFAULT_SEED = 2019
SPLIT_SHARES = {"train": 0.8, "valid": 0.1, "test": 0.1}

_HEX_FIELDS = ("site_", "app_", "device_id", "device_ip", "device_model")
_INTEGER_BASE = {
    "C1": 1001,
    "C14": 375,
    "C15": 120,
    "C16": 20,
    "C17": 112,
    "C19": 33,
    "C20": 100000,
}
_CHUNK_ROWS = 100_000
_BYTES_PER_ROW = 170  # csv and true_ctr together; measured: 160


def generate(folder: Path, rows: int = DEFAULT_ROWS, seed: int = DEFAULT_SEED) -> bool:
    """Writes train.csv, valid.csv, test.csv, true_ctr_*.parquet and ground_truth.json.

    They are made beside ``folder`` and moved in when all are whole, ground_truth.json last.
    ``rows`` counts all splits. Returns False if ``folder`` already holds these data. Raises
    ConfigError for fewer than 1,000 rows or a negative seed, DiskFullError for too little space.
    """
    if rows < 1_000:
        raise ConfigError(f"--rows {rows}: allowed: >= 1000")
    if seed < 0:
        raise ConfigError(f"--seed {seed}: allowed: >= 0")
    model = plant_model(rows, seed)
    truth = _describe(model, rows, seed)
    staging = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)  # left by a killed command
    if _is_generated(folder, truth):
        return False
    staging.mkdir(parents=True)
    try:
        check_free_disk(staging, rows * _BYTES_PER_ROW)
        tokens = {name: _tokens(name, size) for name, size in model.sizes.items()}
        with naming_full_disk(staging), progress_bar(rows, "Generating") as advance:
            start = 0
            for split in SPLITS:
                count = round(rows * SPLIT_SHARES[split])
                count = rows - start if split == SPLITS[-1] else count
                scores = _write_split(staging, split, count, start, model, tokens, seed, advance)
                truth["splits"][split] = scores
                start += count
        made = sorted(staging.iterdir())
        for path in made:
            sync_file(path)
        write_atomically(staging / GROUND_TRUTH, json.dumps(truth, indent=2) + "\n")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / GROUND_TRUTH).unlink(missing_ok=True)
        for path in [*made, staging / GROUND_TRUTH]:
            path.replace(folder / path.name)
        sync_folder(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return True


def load_bayes_ceiling(folder: Path, split: str = "test") -> dict[str, float]:
    """Returns AUC and logloss of the true click probabilities; DataError if the folder has none."""
    path = Path(folder) / GROUND_TRUTH
    try:
        scores = json.loads(path.read_text(encoding="utf-8"))["splits"][split]
        return {"AUC": float(scores["AUC"]), "logloss": float(scores["logloss"])}
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: no ground truth; run: bash 1.prepare.sh demo") from error


def _describe(model: PlantedModel, rows: int, seed: int) -> dict[str, Any]:
    """Returns the content of ground_truth.json, its splits still empty."""
    return {
        "rows": rows,
        "seed": seed,
        "bias": model.bias,
        "field_sizes": model.sizes,
        "variances": {"main": MAIN, "pairs": PAIR, "triples": TRIPLE},
        "pairs": PAIRS,
        "triples": TRIPLES,
        "splits": {},
    }


def _is_generated(folder: Path, truth: dict[str, Any]) -> bool:
    """Returns whether the folder holds the log that ``truth`` describes.

    The bias is fitted to all other parameters, so it differs for another planted model.
    """
    try:
        found = json.loads((folder / GROUND_TRUTH).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    names = [n for split in SPLITS for n in (f"{split}.csv", f"true_ctr_{split}.parquet")]
    return (
        isinstance(found, dict)
        and {**found, "splits": {}} == json.loads(json.dumps(truth))
        and all((folder / name).is_file() for name in names)
    )


def _tokens(name: str, size: int) -> np.ndarray:
    """The text of each value of a field, in Avazu's form: eight hex digits, or an integer."""
    index = np.arange(size, dtype=np.uint64)
    if name.startswith(_HEX_FIELDS):
        # An odd multiplier is a bijection modulo 2^32: no two values of a field share a text.
        offset = sum(ord(letter) << (8 * (i % 4)) for i, letter in enumerate(name))
        codes = ((index + np.uint64(offset)) * np.uint64(2654435761)) & np.uint64(0xFFFFFFFF)
        return np.array([f"{code:08x}" for code in codes.tolist()])
    return (index.astype(np.int64) + _INTEGER_BASE.get(name, 0)).astype(str)


def _write_split(
    folder: Path,
    split: str,
    rows: int,
    first_row: int,
    model: PlantedModel,
    tokens: dict[str, np.ndarray],
    seed: int,
    advance: Callable[[int], None],
) -> dict[str, float]:
    """Writes one split in chunks; returns rows, click rate and, except for train, Bayes ceiling."""
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

    series = {name: pl.Series(name, texts) for name, texts in tokens.items() if name != "hour"}
    labels, chances, num_clicks = [], [], 0
    schema = pa.schema([("true_ctr", pa.float64())])
    with (
        open(folder / f"{split}.csv", "wb") as csv,
        pq.ParquetWriter(folder / f"true_ctr_{split}.parquet", schema) as truth,
    ):
        for chunk, start in enumerate(range(0, rows, _CHUNK_ROWS)):
            count = min(_CHUNK_ROWS, rows - start)
            rng = np.random.default_rng([seed, 2, SPLITS.index(split), chunk])
            values = draw_values(model, rng, count)
            chance = sigmoid(model.logit(values))
            click = (rng.random(count) < chance).astype(np.uint8)
            num_clicks += int(click.sum())
            if split != "train":  # probabilities of the large split stay on disk
                labels.append(click)
                chances.append(chance)
            first = first_row + start
            ids = np.uint64(10**19) + np.arange(first, first + count, dtype=np.uint64)
            hour = 14102100 + 100 * values["day"] + values["hour"]
            frame = pl.DataFrame({"id": ids, "click": click, "hour": hour}).with_columns(
                column.gather(values[name]) for name, column in series.items()
            )
            frame.write_csv(csv, include_header=start == 0)
            truth.write_table(pa.table({"true_ctr": chance}, schema=schema))
            advance(count)
    scores = {"rows": rows, "click_rate": num_clicks / rows}
    if labels:
        y_true, y_pred = np.concatenate(labels), np.concatenate(chances)
        scores |= {"AUC": auc(y_true, y_pred), "logloss": logloss(y_true, y_pred)}
    return scores
