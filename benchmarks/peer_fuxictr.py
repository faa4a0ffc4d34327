"""This project, or FuxiCTR 2.3.10 with peer_models.py, on one job of peers.py."""

import sys
from pathlib import Path

import peer_watch

SPLITS = ("train", "valid", "test")


def run(job):
    """Trains and evaluates; returns the figures of the watch."""
    return run_ours(job) if job["side"] == "ours" else run_fuxictr(job)


def config_of(job):
    """Returns the keys of a config that both take."""
    return {
        **job["keys"],
        "dataset_id": Path(job["folder"]).name,
        "model_id": job["model"],
        "task": "binary_classification",
        "loss": "binary_crossentropy",
        "metrics": ["AUC", "logloss"],
        "monitor": "AUC",
        "monitor_mode": "max",
        "optimizer": "adam",
        "learning_rate": job["learning_rate"],
        "batch_size": job["batch_size"],
        "epochs": job["epochs"],
        "early_stop_patience": job["epochs"],
        "embedding_dim": job["embedding_dim"],
        "embedding_regularizer": 0,
        "net_regularizer": 0,
        "shuffle": True,
        "seed": job["seed"],
    }


def run_ours(job):
    """Trains with this project's loader and Trainer, as run_expid.py does."""
    sys.path.insert(0, job["root"])
    from fuxictr.config import TrainConfig
    from fuxictr.experiment.zoo.models import load_model_class
    from fuxictr.features import FeatureMap
    from fuxictr.pytorch.dataloaders import RankDataLoader
    from fuxictr.pytorch.torch_utils import keep_freed_memory, seed_everything
    from fuxictr.pytorch.training.trainer import Trainer

    keep_freed_memory()
    seed_everything(job["seed"])
    folder, params = Path(job["folder"]), config_of(job)
    feature_map = FeatureMap.load(folder / "feature_map.json")
    keys = {key: value for key, value in params.items() if key in TrainConfig.keys()}
    config = TrainConfig.from_params(keys, where="the benchmark")
    paths = {f"{split}_data": folder / f"{split}.parquet" for split in SPLITS}
    loader = RankDataLoader(feature_map, **paths, batch_size=config.batch_size, seed=config.seed)
    train, valid, test = loader.make_iterator()
    network = load_model_class(job["model"])(feature_map, **params)
    trainer = Trainer(network, config, checkpoint=Path(job["scratch"]) / "ours.model", verbose=0)
    watch = peer_watch.Watch(job)
    evaluate = trainer.evaluate
    trainer.evaluate = watch.evaluation(evaluate, job["rows"]["valid"], _auc)
    watch.fit(trainer.fit, train, valid)
    on_test = watch.evaluation(evaluate, job["rows"]["test"], _auc)
    auc = peer_watch.evaluate_splits(
        watch, lambda: trainer.evaluate(valid), lambda: _auc(on_test(test))
    )
    return watch.figures(auc, network.count_parameters())


def run_fuxictr(job):
    """Trains with FuxiCTR's loader, fit and evaluate, as its documentation shows."""
    import peer_models

    from fuxictr.features import FeatureMap
    from fuxictr.pytorch.dataloaders import RankDataLoader
    from fuxictr.pytorch.torch_utils import seed_everything

    seed_everything(job["seed"])
    folder, params = Path(job["folder"]), config_of(job)
    for name in ("parallel_dnn_hidden_units", "dnn_hidden_units"):  # of our configs
        if name in params:
            params["hidden_units"] = params.pop(name)
    (Path(job["scratch"]) / params["dataset_id"]).mkdir(parents=True, exist_ok=True)
    params |= {"model_root": job["scratch"], "verbose": 0, "gpu": -1, "num_workers": 1}
    params |= {"data_format": "parquet", "data_root": str(folder.parent)}
    params |= {f"{split}_data": str(folder / f"{split}.parquet") for split in SPLITS}
    feature_map = FeatureMap(params["dataset_id"], str(folder))
    feature_map.load(str(folder / "feature_map.json"), params)
    network = getattr(peer_models, job["model"])(feature_map, **params)
    train, valid = RankDataLoader(feature_map, "train", **params)
    watch = peer_watch.Watch(job)
    evaluate = network.evaluate
    network.evaluate = watch.evaluation(evaluate, job["rows"]["valid"], _auc)
    watch.fit(network.fit, train, validation_data=valid, **params)
    test = RankDataLoader(feature_map, "test", **params)
    on_test = watch.evaluation(evaluate, job["rows"]["test"], _auc)
    auc = peer_watch.evaluate_splits(
        watch, lambda: network.evaluate(valid), lambda: _auc(on_test(test))
    )
    return watch.figures(auc, peer_watch.count_parameters(network))


def _auc(metrics):
    return metrics["AUC"]
