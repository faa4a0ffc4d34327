"""Trains the classes of hook_models.py with the fuxictr that is installed; prints what they gave.

    PEER/bin/python tests/fuxictr_facts/record_hooks.py > tests/fuxictr_facts/hooks.json

The same file runs with FuxiCTR 2.3.10 and here: it is the Python loop that FuxiCTR documents.
"""

import json
import logging
import re
import sys
import tempfile
from pathlib import Path

import numpy as np

SEEDS = (1, 2, 3)
FIELDS = ("a", "b", "c", "d")
VOCAB_SIZE = 30
ROWS = {"train": 4000, "valid": 2000, "test": 4000}
PARAMS = {
    "model_id": "hooked",
    "dataset_id": "rows",
    "gpu": -1,
    "task": "binary_classification",
    "loss": "binary_crossentropy",
    "metrics": ["logloss", "AUC"],
    "monitor": "AUC",
    "monitor_mode": "max",
    "optimizer": "adam",
    "learning_rate": 1e-2,
    "embedding_regularizer": 1e-4,
    "net_regularizer": 1e-4,
    "batch_size": 200,
    "epochs": 4,
    "early_stop_patience": 10,
    "verbose": 0,
    "data_format": "npz",
    "num_workers": 1,
}


def write_rows(folder):
    """Writes the splits and the feature map."""
    rng = np.random.default_rng(0)
    effects = rng.normal(size=(len(FIELDS), VOCAB_SIZE))
    for split, rows in ROWS.items():
        ids = rng.integers(1, VOCAB_SIZE, size=(rows, len(FIELDS)))
        logit = effects[np.arange(len(FIELDS)), ids].sum(axis=1) / 2 - 0.7
        click = rng.random(rows) < 1 / (1 + np.exp(-logit))
        columns = {name: ids[:, i].astype(np.int64) for i, name in enumerate(FIELDS)}
        np.savez(folder / f"{split}.npz", **columns, click=click.astype(np.float64))
    spec = {"source": "", "type": "categorical", "padding_idx": 0, "vocab_size": VOCAB_SIZE}
    feature_map = {
        "dataset_id": "rows",
        "num_fields": len(FIELDS),
        "total_features": VOCAB_SIZE * len(FIELDS),
        "input_length": len(FIELDS),
        "labels": ["click"],
        "features": [{name: spec} for name in FIELDS],
    }
    (folder / "feature_map.json").write_text(json.dumps(feature_map))


class TrainLosses(logging.Handler):
    """Collects the training losses of the log."""

    def __init__(self):
        super().__init__()
        self.found = []

    def emit(self, record):
        match = re.match(r"Train loss: ([\d.]+)", record.getMessage())
        if match:
            self.found.append(float(match.group(1)))


def train(kind, folder, seed, make_loader, feature_map):
    """Returns training losses and test metrics of one training."""
    from fuxictr.pytorch.torch_utils import seed_everything

    params = {**PARAMS, "data_root": str(folder.parent), "model_root": str(folder / "checkpoints")}
    (folder / "checkpoints" / "rows").mkdir(parents=True, exist_ok=True)
    handler = TrainLosses()
    logging.getLogger().addHandler(handler)
    seed_everything(seed=seed)
    model = kind(feature_map, **params)
    training, validation = make_loader("train", params)
    model.fit(training, validation_data=validation, **params)
    found = model.evaluate(make_loader("test", params))
    logging.getLogger().removeHandler(handler)
    return {"train_loss": handler.found[-1], **{k: float(v) for k, v in found.items()}}


def record():
    """Returns class -> the figures of each seed."""
    import hook_models

    from fuxictr.features import FeatureMap
    from fuxictr.pytorch.dataloaders import RankDataLoader

    logging.getLogger().setLevel(logging.INFO)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "rows"
        folder.mkdir()
        write_rows(folder)
        feature_map = FeatureMap("rows", str(folder))
        feature_map.load(str(folder / "feature_map.json"), PARAMS)
        paths = {f"{split}_data": str(folder / f"{split}.npz") for split in ROWS}

        def make_loader(stage, params):
            loaded = RankDataLoader(feature_map, stage=stage, **paths, **params)
            return loaded.make_iterator() if hasattr(loaded, "make_iterator") else loaded

        return {
            kind.__name__: [train(kind, folder, s, make_loader, feature_map) for s in SEEDS]
            for kind in hook_models.CLASSES
        }


if __name__ == "__main__":
    json.dump(record(), sys.stdout, indent=1)
    print()
