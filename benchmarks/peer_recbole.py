"""RecBole 1.2.1 on one job of peers.py: its context-aware models, atomic files and Trainer."""

import peer_watch

SPLITS = ("train", "valid", "test")
CLASSES = {"FM": "FM", "DeepFM": "DeepFM", "xDeepFM": "xDeepFM", "DCNv2": "DCNV2"}


def config_of(job):
    """Returns the keys of its config_dict."""
    sizes = {
        "DeepFM": {},
        "xDeepFM": {"cin_layer_size": job["cin_units"], "direct": True, "reg_weight": 0},
        "DCNv2": {
            "cross_layer_num": job["num_cross_layers"],
            "mixed": False,
            "structure": "parallel",
            "reg_weight": 0,
        },
    }
    network = sizes.get(job["model"])
    if network is not None:
        network |= {"mlp_hidden_size": job["hidden_units"], "dropout_prob": 0.0}
    return {
        **(network or {}),
        "embedding_size": job["embedding_dim"],
        "data_path": job["atomic_files"],
        "benchmark_filename": list(SPLITS),
        "load_col": {"inter": [*job["fields"], job["label"]]},
        "USER_ID_FIELD": job["user_field"],
        "ITEM_ID_FIELD": job["item_field"],
        "LABEL_FIELD": job["label"],
        "train_neg_sample_args": None,
        "eval_args": {
            "split": {"RS": [0.8, 0.1, 0.1]},
            "order": "RO",
            "group_by": None,
            "mode": "labeled",
        },
        "metrics": ["AUC", "LogLoss"],
        "valid_metric": "AUC",
        "metric_decimal_place": 6,
        "use_gpu": False,
        "worker": 0,
        "seed": job["seed"],
        "epochs": job["epochs"],
        "stopping_step": job["epochs"],
        "learner": "adam",
        "learning_rate": job["learning_rate"],
        "train_batch_size": job["batch_size"],
        "eval_batch_size": job["batch_size"],
        "checkpoint_dir": job["scratch"],
        "show_progress": False,
        "state": "ERROR",
    }


def run(job):
    """Trains and evaluates; returns the figures of the watch.

    The test AUC is that of the last epoch's weights: its way back to the best epoch's reads an
    own checkpoint in a form that torch no longer reads by default.
    """
    import os
    import warnings

    import torch
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    warnings.simplefilter("ignore", FutureWarning)  # of pandas and torch, about RecBole's calls
    os.chdir(job["scratch"])  # its log files
    config = Config(model=CLASSES[job["model"]], dataset=job["name"], config_dict=config_of(job))
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train, valid, test = data_preparation(config, dataset)
    network = get_model(config["model"])(config, train.dataset).to(config["device"])
    for module in network.modules():  # as all other sides; after one epoch it decides the AUC
        if isinstance(module, torch.nn.Embedding):
            torch.nn.init.normal_(module.weight, std=job["init_std"])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, network)
    watch = peer_watch.Watch(job)
    evaluate = trainer.evaluate
    trainer.evaluate = watch.evaluation(evaluate, job["rows"]["valid"], _auc)
    watch.fit(trainer.fit, train, valid, verbose=False, show_progress=False)
    on_test = watch.evaluation(evaluate, job["rows"]["test"], _auc)
    auc = peer_watch.evaluate_splits(
        watch,
        lambda: trainer.evaluate(valid, load_best_model=False),
        lambda: _auc(on_test(test, load_best_model=False)),
    )
    return watch.figures(auc, peer_watch.count_parameters(network))


def _auc(metrics):
    return metrics["auc"]
