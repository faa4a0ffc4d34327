"""Trains models of several labels, and of a regression, with the installed fuxictr; prints figures.

    PEER/bin/python tests/fuxictr_facts/record_multitask.py > tests/fuxictr_facts/multitask.json

The same file runs with FuxiCTR 2.3.10 and here: it is the Python loop that FuxiCTR documents.
"""

import json
import logging
import sys
import tempfile
from pathlib import Path

import numpy as np

SEEDS = (1, 2, 3)
FIELDS = ("a", "b", "c", "d")
VOCAB_SIZE = 30
ROWS = {"train": 6000, "valid": 2000, "test": 4000}
PARAMS = {
    "model_id": "multitask",
    "dataset_id": "rows",
    "gpu": -1,
    "task": ["binary_classification", "binary_classification"],
    "num_tasks": 2,
    "loss": ["binary_crossentropy", "binary_crossentropy"],
    "metrics": ["logloss", "AUC"],
    "monitor": "AUC",
    "monitor_mode": "max",
    "optimizer": "adam",
    "learning_rate": 1e-2,
    "embedding_dim": 4,
    "embedding_regularizer": 1e-4,
    "net_regularizer": 1e-4,
    "batch_size": 200,
    "epochs": 8,
    "early_stop_patience": 10,
    "verbose": 0,
    "data_format": "npz",
    "num_workers": 1,
}


def write_rows(folder):
    """Writes the splits and the feature map: clicks, and purchases that lean on them."""
    rng = np.random.default_rng(0)
    effects = rng.normal(size=(2, len(FIELDS), VOCAB_SIZE))
    for split, rows in ROWS.items():
        ids = rng.integers(1, VOCAB_SIZE, size=(rows, len(FIELDS)))
        logits = effects[:, np.arange(len(FIELDS)), ids].sum(axis=2) / 2
        click = rng.random(rows) < 1 / (1 + np.exp(0.7 - logits[0]))
        buy = rng.random(rows) < 1 / (1 + np.exp(1.0 - logits[0] / 2 - logits[1]))
        columns = {name: ids[:, i].astype(np.int64) for i, name in enumerate(FIELDS)}
        labels = {"click": click.astype(np.float64), "buy": buy.astype(np.float64)}
        np.savez(folder / f"{split}.npz", **columns, **labels)
    spec = {"source": "", "type": "categorical", "padding_idx": 0, "vocab_size": VOCAB_SIZE}
    feature_map = {
        "dataset_id": "rows",
        "num_fields": len(FIELDS),
        "total_features": VOCAB_SIZE * len(FIELDS),
        "input_length": len(FIELDS),
        "labels": ["click", "buy"],
        "features": [{name: spec} for name in FIELDS],
    }
    (folder / "feature_map.json").write_text(json.dumps(feature_map))


def train(kind, folder, seed, make_loader, feature_map):
    """Returns the test metrics of one training, and the mean score of each label."""
    from fuxictr.pytorch.torch_utils import seed_everything

    params = {**PARAMS, "data_root": str(folder.parent), "model_root": str(folder / "checkpoints")}
    (folder / "checkpoints" / "rows").mkdir(parents=True, exist_ok=True)
    seed_everything(seed=seed)
    model = kind(feature_map, **params)
    training, validation = make_loader("train", params)
    model.fit(training, validation_data=validation, **params)
    found = {k: float(v) for k, v in model.evaluate(make_loader("test", params)).items()}
    scores = model.predict(make_loader("test", params))
    return {**found, **{f"{label}_mean": float(np.mean(v)) for label, v in scores.items()}}


# FuxiCTR knows no metric of a regression, so its labels are clicks, and AUC is monitored.
REGRESSION = {"task": "regression", "metrics": ["AUC"]}


def train_regression(loss, folder, seed, make_loader, feature_map):
    """Returns test AUC and root mean squared error of one training on the first label."""
    import hook_models

    from fuxictr.pytorch.torch_utils import seed_everything

    params = {**PARAMS, **REGRESSION, "loss": loss}
    del params["num_tasks"]
    params |= {"data_root": str(folder.parent), "model_root": str(folder / "checkpoints")}
    seed_everything(seed=seed)
    model = hook_models.Plain(feature_map, **params)
    training, validation = make_loader("train", params)
    model.fit(training, validation_data=validation, **params)
    found = model.evaluate(make_loader("test", params))
    labels = np.load(folder / "test.npz")["click"]
    errors = model.predict(make_loader("test", params)) - labels
    return {"AUC": float(found["AUC"]), "RMSE": float(np.sqrt(np.mean(errors**2)))}


def record():
    """Returns class -> the figures of each seed."""
    import multitask_models

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

        found = {
            kind.__name__: [train(kind, folder, s, make_loader, feature_map) for s in SEEDS]
            for kind in multitask_models.CLASSES
        }
        for loss in ("mse_loss", "l1_loss"):
            rest = (make_loader, feature_map)
            found[loss] = [train_regression(loss, folder, seed, *rest) for seed in SEEDS]
        return found


if __name__ == "__main__":
    json.dump(record(), sys.stdout, indent=1)
    print()
