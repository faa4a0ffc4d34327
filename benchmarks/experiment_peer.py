"""Runs one whole experiment with FuxiCTR 2.3.10, as its documentation shows, and prints what came.

    python -I benchmarks/experiment_peer.py PARAMS.json

PARAMS.json holds the keys of a config, dataset and model together, with absolute paths; with
``is_encoded`` the dataset of an earlier run is read again. This file imports nothing of ours but
peer_models.py.
"""

import json
import sys
import time
from pathlib import Path

START = time.perf_counter()


def encode(params):
    """Builds the parquet files, or finds those of an earlier run; changes the paths in params."""
    from fuxictr.preprocess import FeatureProcessor, build_dataset

    folder = Path(params["data_root"]) / params["dataset_id"]
    if params["is_encoded"]:
        paths = [str(folder / f"{split}.parquet") for split in ("train", "valid", "test")]
    else:
        paths = build_dataset(FeatureProcessor(**params), **params)
    params |= dict(zip(("train_data", "valid_data", "test_data"), paths, strict=True))
    params["data_format"] = "parquet"
    return folder


def main():
    """Reads the config, trains until early stop, evaluates, and prints the row as JSON."""
    params = json.loads(Path(sys.argv[1]).read_text())
    sys.path.insert(0, str(Path(__file__).parent))
    import logging

    import peer_models

    from fuxictr.features import FeatureMap
    from fuxictr.pytorch.dataloaders import RankDataLoader
    from fuxictr.pytorch.torch_utils import seed_everything

    logging.disable(logging.INFO)
    imported = time.perf_counter()
    seed_everything(params["seed"])
    folder = encode(params)
    encoded = time.perf_counter()
    feature_map = FeatureMap(params["dataset_id"], str(folder))
    feature_map.load(str(folder / "feature_map.json"), params)
    model = getattr(peer_models, params["model"])(feature_map, **params)
    train, valid = RankDataLoader(feature_map, stage="train", **params)
    epochs = []
    train_epoch = model.train_epoch

    def counted(*args, **kwargs):
        epochs.append(1)
        return train_epoch(*args, **kwargs)

    model.train_epoch = counted
    model.fit(train, validation_data=valid, **params)
    fitted = time.perf_counter()
    scores = {"valid": model.evaluate(valid)}
    scores["test"] = model.evaluate(RankDataLoader(feature_map, stage="test", **params))
    found = {
        name: {key: float(value) for key, value in metrics.items()}
        for name, metrics in scores.items()
    }
    found |= {
        "epochs": len(epochs),
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "import_seconds": imported - START,
        "build_seconds": encoded - imported,
        "fit_seconds": fitted - encoded,
    }
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main()
