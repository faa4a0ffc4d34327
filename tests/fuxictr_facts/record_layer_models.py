"""Trains the classes of layer_models.py with the fuxictr that is installed; prints what they gave.

    PEER/bin/python tests/fuxictr_facts/record_layer_models.py > layer_models.json

The same file runs with FuxiCTR 2.3.10 and here.
"""

import json
import logging
import sys
import tempfile
from pathlib import Path

import numpy as np

SEEDS = (1, 2, 3)
FIELDS = ("a", "b", "c", "d")
VOCAB_SIZE, LENGTH = 20, 4
ROWS = {"train": 4000, "valid": 2000, "test": 4000}
PARAMS = {
    "model_id": "layers",
    "dataset_id": "rows",
    "gpu": -1,
    "task": "binary_classification",
    "loss": "binary_crossentropy",
    "metrics": ["logloss", "AUC"],
    "monitor": "AUC",
    "monitor_mode": "max",
    "optimizer": "adam",
    "learning_rate": 5e-3,
    "embedding_dim": 8,
    "embedding_regularizer": 1e-4,
    "net_regularizer": 1e-5,
    "batch_size": 200,
    "epochs": 4,
    "early_stop_patience": 10,
    "verbose": 0,
    "data_format": "npz",
    "num_workers": 1,
}


def write_rows(folder):
    """Writes the splits and the feature map; s counts how often it holds the value of a."""
    rng = np.random.default_rng(0)
    effects = rng.normal(size=(len(FIELDS), VOCAB_SIZE))
    left, right = rng.normal(size=(2, VOCAB_SIZE, 3))
    for split, rows in ROWS.items():
        ids = rng.integers(1, VOCAB_SIZE, size=(rows, len(FIELDS)))
        history = rng.integers(1, VOCAB_SIZE, size=(rows, LENGTH))
        lengths = rng.integers(0, LENGTH + 1, size=rows)
        history[np.arange(LENGTH) >= lengths[:, None]] = 0
        logit = effects[np.arange(len(FIELDS)), ids].sum(axis=1) / 2 - 0.5
        logit += (left[ids[:, 0]] * right[ids[:, 1]]).sum(axis=1) / 2
        logit += (history == ids[:, :1]).sum(axis=1) * 2
        click = rng.random(rows) < 1 / (1 + np.exp(-logit))
        columns = {name: ids[:, i].astype(np.int64) for i, name in enumerate(FIELDS)}
        columns |= {"s": history.astype(np.int64), "click": click.astype(np.float64)}
        np.savez(folder / f"{split}.npz", **columns)
    spec = {"source": "", "type": "categorical", "padding_idx": 0, "vocab_size": VOCAB_SIZE}
    sequence = {
        **spec,
        "type": "sequence",
        "feature_encoder": "layers.MaskedAveragePooling()",
        "max_len": LENGTH,
    }
    feature_map = {
        "dataset_id": "rows",
        "num_fields": len(FIELDS) + 1,
        "total_features": VOCAB_SIZE * (len(FIELDS) + 1),
        "input_length": len(FIELDS) + LENGTH,
        "labels": ["click"],
        "features": [*({name: spec} for name in FIELDS), {"s": sequence}],
    }
    (folder / "feature_map.json").write_text(json.dumps(feature_map))


def train(kind, folder, seed, params):
    """Returns the test metrics of one training."""
    from fuxictr.features import FeatureMap
    from fuxictr.pytorch.dataloaders import RankDataLoader
    from fuxictr.pytorch.torch_utils import seed_everything

    (folder / "checkpoints" / "rows").mkdir(parents=True, exist_ok=True)
    params = {**params, "data_root": str(folder.parent), "model_root": str(folder / "checkpoints")}
    paths = {f"{split}_data": str(folder / f"{split}.npz") for split in ROWS}
    feature_map = FeatureMap("rows", str(folder))
    feature_map.load(str(folder / "feature_map.json"), params)

    def load(stage):
        loaded = RankDataLoader(feature_map, stage=stage, **paths, **params)
        return loaded.make_iterator() if hasattr(loaded, "make_iterator") else loaded

    seed_everything(seed=seed)
    model = kind(feature_map, **params)
    training, validation = load("train")
    model.fit(training, validation_data=validation, **params)
    return {name: float(value) for name, value in model.evaluate(load("test")).items()}


def record(seeds=SEEDS, names=None):
    """Returns class -> the figures of each seed, for the classes of these names; None: all."""
    import layer_models

    logging.disable(logging.INFO)
    unpooled = {"feature_specs": [{"name": "s", "feature_encoder": None}]}
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "rows"
        folder.mkdir()
        write_rows(folder)
        found = {}
        for kind in layer_models.CLASSES:
            if names is None or kind.__name__ in names:
                more = unpooled if kind in layer_models.SEQUENTIAL else {}
                runs = [train(kind, folder, seed, PARAMS | more) for seed in seeds]
                found[kind.__name__] = runs
        logging.disable(logging.NOTSET)
        return found


if __name__ == "__main__":
    json.dump(record(), sys.stdout, indent=1)
    print()
