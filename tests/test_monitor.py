"""The direction of the monitor is that of its metrics; a config that says otherwise is refused."""

import numpy as np
import pytest

from fuxictr.config import TrainConfig
from fuxictr.errors import ConfigError
from fuxictr.metrics import GROUP_METRICS, METRICS, Monitor, evaluate_metrics, find_metric
from fuxictr.pytorch.training.early_stopping import EarlyStopping

NAMES = [*METRICS, *GROUP_METRICS, "NDCG(k=2)"]


@pytest.mark.parametrize("name", NAMES)
def test_the_direction_of_every_metric_is_that_of_better_scores(name):
    labels, groups = np.array([1, 0, 1, 0]), np.array([0, 0, 1, 1])
    good, bad = np.array([0.9, 0.1, 0.8, 0.2]), np.array([0.1, 0.9, 0.2, 0.8])
    values = [evaluate_metrics(labels, scores, [name], groups)[name] for scores in (good, bad)]
    better = "max" if values[0] > values[1] else "min"
    assert find_metric(name).mode == better
    assert Monitor(name).mode == better
    assert Monitor({name: -2}).mode != better
    needed = {"metrics": NAMES, "group_id": "u"}
    assert TrainConfig(monitor=name, **needed).monitor_mode == better


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [
        ("AUC", "max"),
        ("logloss", "min"),
        ({"AUC": 1, "logloss": -1}, "max"),
        ({"logloss": 1, "AUC": -1}, "min"),
        ({"gAUC": 0.5, "MRR": 2, "logloss": -0.1}, "max"),
        ({"NDCG(k = 05)": 1, "AUC": 1}, "max"),
        ({"logloss": 2}, "min"),
    ],
)
def test_sound_monitors_take_their_own_direction_and_no_other(monitor, mode):
    metrics = ["AUC", "logloss", "gAUC", "MRR", "NDCG(k=5)"]
    other = {"max": "min", "min": "max"}[mode]
    assert TrainConfig(monitor=monitor, metrics=metrics).monitor_mode == mode
    assert TrainConfig(monitor=monitor, metrics=metrics, monitor_mode=mode).monitor_mode == mode
    message = rf"key 'monitor_mode': found {other}, key 'monitor': found .*allowed: {mode}, or null"
    with pytest.raises(ConfigError, match=message):
        TrainConfig(monitor=monitor, metrics=metrics, monitor_mode=other)
    with pytest.raises(ConfigError, match=message):
        TrainConfig.from_params({"monitor": monitor, "metrics": metrics, "monitor_mode": other})


@pytest.mark.parametrize(
    ("monitor", "message"),
    [
        ({"AUC": 1, "logloss": 1}, "'monitor': found .*, in which logloss works against AUC"),
        ({"AUC": -1, "logloss": -1}, "in which logloss works against AUC"),
        ({"logloss": -1, "gAUC": 1, "MRR": -1}, "in which MRR works against logloss"),
        ({"AUC": 1, "logloss": 0}, "'monitor': metric 'logloss' has the weight 0"),
        ({"AUC": float("nan")}, "has the weight nan"),
        ({}, "'monitor': found no metric"),
        ({"AUC": 1, "loglos": -1}, "'monitor': metric 'loglos': .*did you mean 'logloss'"),
        ("auc", "'monitor': metric 'auc': .*did you mean 'AUC'"),
        ({"NDCG(k=5)": 1, "NDCG( k = 5 )": 1}, r"'NDCG\(k=5\)' is named twice"),
        ("gAUC", r"key 'monitor': gAUC is not among the metrics \['AUC', 'logloss'\]"),
    ],
)
def test_a_monitor_that_cannot_be_followed_is_an_error(monitor, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(monitor=monitor)


def test_the_mode_of_early_stopping_is_one_of_two_words():
    with pytest.raises(ConfigError, match="found 'Max', allowed: max, min"):
        EarlyStopping("Max")
    with pytest.raises(ConfigError, match="key 'monitor_mode': found 'up', allowed: max, min"):
        TrainConfig(monitor_mode="up")
