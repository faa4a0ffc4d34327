"""Recordings and results as the figures read them, with numbers that a test can foresee."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fuxictr.analysis.records import RecordMeta, Records
from fuxictr.experiment.results.record import RunRecord

AVAZU = (
    "hour C1 banner_pos site_id site_domain site_category app_id app_domain app_category device_id "
    "device_ip device_model device_type device_conn_type C14 C15 C16 C17 C18 C19 C20 C21 weekday "
    "weekend"
).split()
CRITEO = [f"I{i}" for i in range(1, 14)] + [f"C{i}" for i in range(1, 27)]
LONG = [f"a_rather_long_name_of_field_{i}" for i in range(39)]
FIELDS = {"avazu": AVAZU, "criteo": CRITEO, "long names": LONG, "one field": ["only"]}


def make_records(
    expid: str = "DCNv2_avazu",
    variant: str = "dis",
    fields: list[str] | None = None,
    embedding_dim: int = 4,
    num_layers: int = 1,
    num_rows: int = 60,
    num_numeric: int = 0,
    **other: Any,
) -> Records:
    """Returns random embeddings, whose fields have 2, 4, 8, ... values, the first ones none.

    The layers of a GEN run differ, those of a DIS run are one.
    """
    fields = fields if fields is not None else ["hour", "site_id", "app_id"]
    rng = np.random.default_rng(sum(map(ord, expid)))
    shape = (num_layers if variant == "gen" else 1, num_rows, len(fields), embedding_dim)
    decay = np.exp(-np.arange(embedding_dim) * (0.2 if variant == "gen" else 1.0))
    layers = (rng.normal(size=shape) * decay).astype(np.float32)
    arrays = {f"net.layers.{i}/gen": layers[i % len(layers)] for i in range(num_layers)}
    counts = [0 if i < num_numeric else 2 ** (1 + i % 20) for i in range(len(fields))]
    meta = {
        "model": "DCNv2",
        "expid": expid,
        "variant": variant,
        "dataset_id": "avazu_x4_3bbbc4c9",
        "split": "valid",
        "num_rows": num_rows,
        "seed": 2019,
        "fields": fields,
        "embedding_dim": embedding_dim,
        "checkpoint_sha256": "f",
        "cardinalities": counts,
        "train_seed": 2021,
    }
    return Records(arrays, RecordMeta(**(meta | other)))


def make_pair(**other: Any) -> list[Records]:
    """Returns a DIS and a GEN recording."""
    return [
        make_records("DCNv2_avazu", "dis", **other),
        make_records("DCNv2_avazu_gen", "gen", **other),
    ]


def make_row(variant: str = "dis", seed: int = 2019, num: int = 5, **other: Any) -> RunRecord:
    """Returns a row of results with a history and a collapse curve of ``num`` evaluations."""
    rng = np.random.default_rng(seed + len(variant))
    history = [
        {
            "epoch": i + 1,
            "step": 4 * (i + 1),
            "rows": 400 * (i + 1),
            "train_loss": float(1 / (i + 1) + rng.uniform()),
            "metrics": {"AUC": float(rng.uniform())},
        }
        for i in range(num)
    ]
    collapse = [
        {
            "epoch": (i + 1) // 2,
            "step": 2 * i,
            "rankme": float(rng.uniform(1, 9)),
            "information_abundance": float(rng.uniform(1, 4)),
            "effective_dimensions": 9 - i % 9,
            "num_dimensions": 9,
        }
        for i in range(2 * num + 1)
    ]
    row = RunRecord(
        expid=f"DCNv2_demo{'_gen' * (variant == 'gen')}",
        dataset_id="demo_x1",
        variant=variant,
        seed=seed,
        history=history,
        collapse=collapse,
        rows={"train": 400, "valid": 60_000},
    )
    return replace(row, **other)
