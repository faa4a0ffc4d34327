"""What the GPU benchmark trains: the Avazu expids' keys, and rows that it draws itself.

    python benchmarks/gpu_setup.py

copies the keys of the shipped Avazu expids to gpu_expids.json, so that the benchmark needs no YAML.
All else here needs torch and numpy alone.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import common

sys.path.insert(0, str(common.ROOT))

EXPIDS = Path(__file__).with_name("gpu_expids.json")
MODELS = ("FM", "FwFM", "FmFM", "PNN", "DCNv2", "CrossNet", "DeepFM", "xDeepFM")
SIDES = ("dis", "gen")
SEED = 2019
FULL_ROWS = 32_343_172
PENALTIES = {"embedding_regularizer": 1e-4, "net_regularizer": "l1_l2(1e-4, 1e-4)"}
# Keys of a training that the benchmark gives itself, and those that no model or training reads.
_NOT_COPIED = ("model", "dataset_id", "batch_size", "epochs", "seed", "learning_rate", "optimizer")
# Small sizes in place of the paper's, for comparisons and for a trial without a GPU.
SMALL = {
    "embedding_dim": 8,
    "hidden_units": [32, 16],
    "parallel_dnn_hidden_units": [32, 16],
    "dnn_hidden_units": [32, 16],
    "cin_hidden_units": [6, 4],
    "num_cross_layers": 2,
}


def shipped_expids() -> dict[str, dict[str, Any]]:
    """Returns expid -> its folder in model_zoo/ and the keys of its model; reads the YAML files."""
    from fuxictr.config import list_expids
    from fuxictr.experiment.zoo.models import ZOO, zoo_models

    names = {f"{model}_avazu{end}" for model in MODELS for end in ("", "_gen")}
    kept = {"embedding_regularizer", "net_regularizer", "regularizer", "regularizer_scope"}
    found = {}
    for folder in zoo_models():
        for expid, params in list_expids(ZOO / folder / "config").items():
            if expid in names:
                own = {k: v for k, v in params.items() if k in kept or not _is_of_run(k)}
                found[expid] = {"folder": folder, "keys": own}
    assert found.keys() == names, f"model_zoo/ lacks {names - found.keys()}"
    return found


def _is_of_run(key: str) -> bool:
    from fuxictr.config import RunConfig, TrainConfig

    return key in {*RunConfig.keys(), *TrainConfig.keys(), *_NOT_COPIED}


def model_keys(model: str, side: str, is_small: bool) -> dict[str, Any]:
    """Returns the keys of a backbone's Avazu expid, with the paper's sizes or small ones."""
    keys = json.loads(EXPIDS.read_text())[_expid(model, side)]["keys"]
    if is_small:
        keys |= {name: value for name, value in SMALL.items() if name in keys}
    return keys


def make_model(model: str, side: str, feature_map: Any, is_small: bool, **changed: Any) -> Any:
    """Returns a backbone on the CPU with weights drawn from SEED.

    Args:
        model: of MODELS.
        side: dis or gen.
        feature_map: its fields.
        is_small: small sizes instead of the paper's.
        **changed: keys that win over the expid's.
    """
    from fuxictr.pytorch.torch_utils import seed_everything

    folder = json.loads(EXPIDS.read_text())[_expid(model, side)]["folder"]
    source = str(common.ROOT / "model_zoo" / folder / "src")
    if source not in sys.path:
        sys.path.append(source)
    kind = getattr(importlib.import_module(folder), folder)
    seed_everything(SEED)
    return kind(feature_map, **{**model_keys(model, side, is_small), **changed})


def _expid(model: str, side: str) -> str:
    return f"{model}_avazu" + ("_gen" if side == "gen" else "")


def avazu_map(most_values: int | None = None) -> Any:
    """Returns 24 categorical fields in the shape of Avazu_x4, 3.75 million ids in all.

    Args:
        most_values: of a field; None: as many as Avazu has.
    """
    from fuxictr.datasets import registry
    from fuxictr.features import FeatureMap

    feature_map = FeatureMap("avazu_drawn")
    for name, size in registry.resolve("avazu").num_values.items():
        size = size if most_values is None else min(size, most_values)
        # Two more ids: 0 is padding, the last one stands for unknown values.
        feature_map.features[name] = {"type": "categorical", "vocab_size": size + 2}
    feature_map.labels = ["click"]
    return feature_map


def draw_rows(feature_map: Any, num_rows: int, device: Any, seed: int = SEED) -> Any:
    """Returns ColumnarData drawn on a device: ids by Zipf's law, clicks by a logistic model.

    The logit is a sum of sines of the ids, a fixed number for each value of a field, so that there
    is something to learn. Rows of a CPU and of a GPU differ.
    """
    import torch

    from fuxictr.pytorch.dataloaders import ColumnarData
    from fuxictr.pytorch.dataloaders.columnar import make_layout

    layout = make_layout(feature_map)
    generator = torch.Generator(device).manual_seed(seed)
    ids = torch.empty(num_rows, layout.num_ids, dtype=torch.int32, device=device)
    values = torch.empty(num_rows, layout.num_values, device=device)
    sizes = [feature_map.features[name]["vocab_size"] - 2 for name in layout.id_columns]
    chunk = 1_000_000
    for start in range(0, num_rows, chunk):
        part = ids[start : start + chunk]
        logit = torch.full((len(part),), -1.5, device=device)
        for column, size in enumerate(sizes):
            uniform = torch.rand(len(part), generator=generator, dtype=torch.float64, device=device)
            drawn = ((size + 1) ** uniform).long().clamp(1, size)  # 1 is the most frequent id
            part[:, column] = drawn
            if column % 4 == 0:
                logit += 0.7 * torch.sin(2.4 * drawn + column)
        chance = torch.rand(len(part), generator=generator, device=device)
        values[start : start + chunk, 0] = (chance < logit.sigmoid()).float()
    return ColumnarData(layout, ids, values)


def mixed_rows(num_rows: int, seed: int = SEED) -> tuple[Any, Any]:
    """Returns a feature map with fields of all types, and its rows on the CPU."""
    import numpy as np

    from fuxictr.features import FeatureMap
    from fuxictr.pytorch.dataloaders import from_arrays

    rng = np.random.default_rng(seed)
    feature_map = FeatureMap("mixed")
    columns: dict[str, Any] = {}
    for name, size in (("user", 3000), ("item", 400), ("city", 30), ("hour", 24)):
        feature_map.features[name] = {"type": "categorical", "vocab_size": size}
        columns[name] = rng.zipf(1.3, num_rows).clip(1, size - 1)
    feature_map.features |= {
        "clicks": {"type": "sequence", "vocab_size": 400, "max_len": 4, "share_embedding": "item"},
        "price": {"type": "numeric"},
        "vector": {"type": "embedding", "pretrain_dim": 6},
        "title": {
            "type": "categorical",
            "vocab_size": 50,
            "pretrained_emb": "given below",
            "pretrain_dim": 5,
            "pretrain_usage": "sum",
        },
    }
    feature_map.pretrained["title"] = rng.normal(size=(50, 5)).astype(np.float32)
    columns["title"] = rng.integers(1, 50, num_rows)
    columns["clicks"] = rng.integers(0, 400, (num_rows, 4)) * (rng.random((num_rows, 4)) < 0.7)
    columns["price"] = rng.normal(size=num_rows)
    columns["vector"] = rng.normal(size=(num_rows, 6))
    effects = np.sin(2.4 * columns["item"]) + np.sin(columns["city"]) * columns["price"]
    logit = -0.5 + effects + 0.5 * columns["vector"][:, 0]
    columns["click"] = rng.random(num_rows) < 1 / (1 + np.exp(-logit))
    feature_map.labels = ["click"]
    return feature_map, from_arrays(columns, feature_map)


def train_config(**keys: Any) -> Any:
    """Returns the config of a training with AUC and logloss."""
    from fuxictr.config import TrainConfig

    return TrainConfig(**{"seed": SEED, "table_updates": "dense", **keys})


if __name__ == "__main__":
    EXPIDS.write_text(json.dumps(shipped_expids(), indent=1) + "\n")
    print(f"wrote {EXPIDS.name}")
