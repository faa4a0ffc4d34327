"""Trains and evaluates one backbone with the fuxictr that is found; prints seconds and metrics.

    python -I benchmarks/throughput_child.py PARAMS.json [ROOT]

PARAMS.json holds ``folder`` (encoded splits), ``rows`` (split -> rows), ``model``, ``gpu`` and
``params`` (keys of a config).
With ROOT, this project's folder, its own backbones are used; without it the installed package and
peer_models.py. Training is timed without loading, evaluation and files; evaluation with its
metrics. This file imports nothing else of ours, as it also runs beside FuxiCTR 2.3.10.
"""

import json
import sys
import time
from pathlib import Path

SPLITS = ("train", "valid", "test")


class Clock:
    """Adds up the seconds of the calls of a function."""

    def __init__(self):
        self.seconds, self.num_calls = 0.0, 0

    def timed(self, function):
        """Returns the function, timed."""

        def call(*args, **kwargs):
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - start
                self.num_calls += 1

        return call


def run_ours(folder, model, gpu, params, rows):
    """Trains with this project: RankDataLoader and Trainer, as run_expid.py does."""
    import torch

    from fuxictr.config import TrainConfig
    from fuxictr.experiment.zoo.models import load_model_class
    from fuxictr.features import FeatureMap
    from fuxictr.pytorch.dataloaders import RankDataLoader
    from fuxictr.pytorch.torch_utils import get_device, keep_freed_memory, seed_everything
    from fuxictr.pytorch.training.trainer import Trainer

    keep_freed_memory()
    device = get_device(gpu)
    seed_everything(params["seed"])
    feature_map = FeatureMap.load(folder / "feature_map.json")
    keys = {key: value for key, value in params.items() if key in TrainConfig.keys()}
    config = TrainConfig.from_params(keys, where="the benchmark")
    paths = {f"{split}_data": folder / f"{split}.parquet" for split in SPLITS}
    loading = Clock()
    loader = loading.timed(RankDataLoader)(
        feature_map, **paths, batch_size=config.batch_size, seed=config.seed, device=device
    )
    train, valid, test = loader.make_iterator()
    network = load_model_class(model)(feature_map, **params)
    trainer = Trainer(network, config, device, verbose=0)
    evaluating = Clock()
    trainer.evaluate = evaluating.timed(trainer.evaluate)
    fitted = trainer.fit(train, valid)
    num_validated = evaluating.num_calls
    scores = trainer.evaluate(test)
    is_cuda = device.type == "cuda"
    return {
        "train_seconds": fitted.train_seconds,
        "train_rows": fitted.num_rows,
        "evaluate_seconds": evaluating.seconds,
        "evaluate_rows": rows["valid"] * num_validated + rows["test"],
        "load_seconds": loading.seconds,
        "parameters": network.count_parameters(),
        "test": scores,
        "gpu_peak_mb": torch.cuda.max_memory_allocated(device) / 1e6 if is_cuda else None,
    }


def run_peer(folder, model, gpu, params, rows):
    """Trains with FuxiCTR: RankDataLoader, fit, evaluate, as its documentation shows."""
    import logging

    import peer_models
    import torch

    from fuxictr.features import FeatureMap
    from fuxictr.pytorch.dataloaders import RankDataLoader
    from fuxictr.pytorch.torch_utils import seed_everything

    logging.disable(logging.INFO)
    seed_everything(params["seed"])
    checkpoints = folder.parent / "peer"
    (checkpoints / params["dataset_id"]).mkdir(parents=True, exist_ok=True)
    params = {"model_root": str(checkpoints), "verbose": 0, "gpu": gpu, **params}
    params |= {"data_format": "parquet", "data_root": str(folder.parent), "num_workers": 1}
    params |= {f"{split}_data": str(folder / f"{split}.parquet") for split in SPLITS}
    feature_map = FeatureMap(params["dataset_id"], str(folder))
    feature_map.load(str(folder / "feature_map.json"), params)
    network = getattr(peer_models, model)(feature_map, **params)
    evaluating, saving, loading, fitting = Clock(), Clock(), Clock(), Clock()
    make = loading.timed(lambda stage: RankDataLoader(feature_map, stage, **params))
    train, valid = make("train")
    network.evaluate = evaluating.timed(network.evaluate)
    network.save_weights = saving.timed(network.save_weights)
    network.load_weights = saving.timed(network.load_weights)
    fitting.timed(network.fit)(train, validation_data=valid, **params)
    valid_seconds, num_validated = evaluating.seconds, evaluating.num_calls
    test = make("test")
    scores = network.evaluate(test)
    is_cuda = gpu >= 0
    return {
        "train_seconds": fitting.seconds - saving.seconds - valid_seconds,
        "train_rows": rows["train"] * params["epochs"],
        "evaluate_seconds": evaluating.seconds,
        "evaluate_rows": rows["valid"] * num_validated + rows["test"],
        "load_seconds": loading.seconds,
        "parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "test": {name: float(value) for name, value in scores.items()},
        "gpu_peak_mb": torch.cuda.max_memory_allocated() / 1e6 if is_cuda else None,
    }


def main() -> None:
    """Reads the parameters, trains, and prints the figures as the last line."""
    params = json.loads(Path(sys.argv[1]).read_text())
    folder, model, gpu = Path(params["folder"]), params["model"], params["gpu"]
    sys.path.insert(0, sys.argv[2] if len(sys.argv) > 2 else str(Path(__file__).parent))
    run = run_ours if len(sys.argv) > 2 else run_peer
    found = run(folder, model, gpu, params["params"], params["rows"])
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main()
