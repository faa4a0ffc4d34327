"""The Frappe and MovieLens expids have the hyper-parameters of the BARS open benchmark."""

from __future__ import annotations

import pytest

from fuxictr.experiment.zoo.models import ZOO, backbones, find_folder, load_experiment

# BARS, commit 5b5e61f, ranking/ctr/<folder>/<expid>: as its pages have them.
DNN = [400, 400, 400]
BARS = {
    ("FM", "frappe"): {"regularizer": 5e-6},
    ("FM", "movielens"): {"regularizer": 5e-6},
    ("FwFM", "frappe"): {"regularizer": 5e-6, "linear_type": "FeLV"},
    ("FwFM", "movielens"): {"regularizer": 5e-6, "linear_type": "FeLV"},
    ("FmFM", "frappe"): {"regularizer": 1e-5, "field_interaction_type": "vectorized"},
    ("FmFM", "movielens"): {"regularizer": 1e-5, "field_interaction_type": "vectorized"},
    ("PNN", "frappe"): {
        **{"embedding_regularizer": 0.05, "net_dropout": 0.3, "batch_norm": False},
        **{"hidden_units": DNN, "early_stop_patience": 3},
    },
    ("PNN", "movielens"): {
        **{"embedding_regularizer": 0.01, "net_dropout": 0.1, "batch_norm": False},
        **{"hidden_units": DNN, "early_stop_patience": 3},
    },
    ("DeepFM", "frappe"): {
        **{"embedding_regularizer": 0.05, "net_dropout": 0.2, "batch_norm": True},
        **{"hidden_units": DNN},
    },
    ("DeepFM", "movielens"): {
        **{"embedding_regularizer": 0.01, "net_dropout": 0.3, "batch_norm": True},
        **{"hidden_units": DNN},
    },
    ("xDeepFM", "frappe"): {
        **{"embedding_regularizer": 0.1, "net_dropout": 0.2, "batch_norm": True},
        **{"dnn_hidden_units": DNN, "cin_hidden_units": [64]},
    },
    ("xDeepFM", "movielens"): {
        **{"embedding_regularizer": 0.005, "net_dropout": 0.3, "batch_norm": False},
        **{"dnn_hidden_units": DNN, "cin_hidden_units": [64, 64, 64]},
    },
    ("DCNv2", "frappe"): {
        **{"embedding_regularizer": 0.05, "net_dropout": 0.4, "batch_norm": True},
        **{"parallel_dnn_hidden_units": DNN, "num_cross_layers": 4},
        **{"model_structure": "parallel", "head": "linear"},
    },
    ("DCNv2", "movielens"): {
        **{"embedding_regularizer": 0.01, "net_dropout": 0.2, "batch_norm": True},
        **{"parallel_dnn_hidden_units": DNN, "num_cross_layers": 5},
        **{"model_structure": "parallel", "head": "linear"},
    },
    ("CrossNet", "frappe"): {
        **{"embedding_regularizer": 0.001, "num_cross_layers": 4},
        **{"model_structure": "crossnet_only", "head": "linear"},
    },
    ("CrossNet", "movielens"): {
        **{"embedding_regularizer": 0.001, "num_cross_layers": 8},
        **{"model_structure": "crossnet_only", "head": "linear"},
    },
}
COMMON = {"embedding_dim": 10, "batch_size": 4096, "learning_rate": 1e-3, "seed": 2021}
DATASETS = {"frappe": "frappe_x1", "movielens": "movielenslatest_x1"}


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_backbone_is_there(dataset):
    assert set(backbones(dataset)) == {name for name, of in BARS if of == dataset}


@pytest.mark.parametrize(("backbone", "dataset"), BARS)
@pytest.mark.parametrize("variant", ["", "_gen"])
def test_the_values_are_those_of_bars(backbone, dataset, variant):
    folder = ZOO / find_folder(backbone).name
    config, _ = load_experiment(f"{backbone}_{dataset}{variant}", folder)
    params = config.params()
    expected = {**COMMON, "early_stop_patience": 2, **BARS[backbone, dataset]}
    assert {key: params[key] for key in expected} == expected
    assert config.dataset.dataset_id == DATASETS[dataset]
    assert config.dataset.min_categr_count == 1
    unset = params["net_regularizer"] in (0, None)
    assert unset and (params["regularizer"] is None) == ("embedding_regularizer" in expected)
    assert config.variant == ("gen" if variant else "dis")
