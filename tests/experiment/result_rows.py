"""Rows of results for tests: made up, of expids that model_zoo has."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from fuxictr.errors import ConfigError
from fuxictr.experiment.results.identity import PresentData, run_key
from fuxictr.experiment.results.record import RunRecord
from fuxictr.experiment.zoo.models import find_folder, load_experiment

SEEDS = (2019, 2020, 2021)
DEMO = "demo_x1"


@functools.cache
def present_hashes(expid: str) -> dict[str, str]:
    """Returns the hashes of a run of the expid as it would be now; words for an unknown expid."""
    words = {"config_hash": "unknown", "data_hash": "data", "code_hash": "code"}
    try:
        config, model_class = load_experiment(expid, find_folder(expid.split("_")[0]))
    except ConfigError:
        return words
    key = run_key(config, model_class, PresentData().data_hash(config) or "data")
    return {name: getattr(key, name) for name in words}


def records(rows: Iterable[dict[str, Any]]) -> list[RunRecord]:
    """Returns rows, as their lines have them, in the form that readers of the results get."""
    return [RunRecord.from_json(row) for row in rows]


def make_row(expid: str, seed: int, auc: float, dataset_id: str = DEMO, **changes: Any) -> dict:
    """Returns the row of one finished run."""
    is_gen = "_gen" in expid
    row = {
        "expid": expid,
        "variant": "gen" if is_gen else "dis",
        "dataset_id": dataset_id,
        "seed": seed,
        **present_hashes(expid),
        "test": {"AUC": auc, "logloss": 1.2 - auc},
        "rows": {"train": 800, "valid": 100, "test": 100},
        "parameters": 1500 if is_gen else 1000,
        "train_seconds": 12.0 if is_gen else 10.0,
        "train_rows_per_second": 80.0 if is_gen else 100.0,
        "peak_memory_bytes": 3 << 20 if is_gen else 2 << 20,
        "peak_gpu_bytes": None,
        "device": "cpu (x86_64, 2 threads)",
    }
    return {**row, **changes}


def make_failed(expid: str, seed: int, reason: str, dataset_id: str = DEMO) -> dict:
    """Returns the row of one failed run."""
    row = make_row(expid, seed, 0.5, dataset_id, failed=reason)
    return {key: value for key, value in row.items() if key not in ("test", "parameters")}


def make_pair(backbone: str, dis: list[float], gen: list[float], alias: str = "demo", **changes):
    """Returns the rows of DIS and GEN, one AUC a seed."""
    expids = {f"{backbone}_{alias}": dis, f"{backbone}_{alias}_gen": gen}
    return [
        make_row(expid, seed, auc, **changes)
        for expid, aucs in expids.items()
        for seed, auc in zip(SEEDS, aucs, strict=False)
    ]
