"""Scores that a model cannot learn from any more are said, with the column to scale; others not."""

import logging

import numpy as np
import pytest
import torch

from fuxictr.config import TrainConfig
from fuxictr.experiment.zoo.models import load_model_class
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import BatchIterator, from_arrays
from fuxictr.pytorch.training.saturation import explain_saturation
from fuxictr.pytorch.training.trainer import Trainer

MODELS = {"FM": {}, "DeepFM": {"hidden_units": [8]}, "PNN": {"hidden_units": [8]}, "DCNv2": {}}


def make_map(*numeric: str) -> FeatureMap:
    feature_map = FeatureMap("d")
    feature_map.labels = ["y"]
    feature_map.features = {name: {"type": "numeric"} for name in numeric}
    feature_map.features["a"] = {"type": "categorical", "vocab_size": 12, "padding_idx": 0}
    return feature_map


def train(caplog, model: str, num_rows: int = 1000, scale: dict | None = None, **config) -> list:
    """Trains on a log whose clicks depend on x and a; returns the warnings."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    scale = {"x": 1.0, **(scale or {})}
    columns = {name: rng.normal(size=num_rows) for name in scale}
    kinds = rng.integers(1, 11, num_rows)
    clicks = rng.random(num_rows) < 1 / (1 + np.exp(-columns["x"] - np.sin(kinds)))
    arrays = {name: (column * scale[name]).astype(np.float32) for name, column in columns.items()}
    feature_map = make_map(*scale)
    data = from_arrays({**arrays, "a": kinds, "y": clicks.astype(np.float32)}, feature_map)
    built = load_model_class(model)(feature_map, embedding_dim=4, **MODELS[model])
    is_evaluated = config.pop("is_evaluated", True)
    config = TrainConfig(**{"epochs": 3, "batch_size": 50, **config})
    trainer = Trainer(built, config, verbose=0)
    with caplog.at_level(logging.WARNING):
        trainer.fit(BatchIterator(data, 50), BatchIterator(data, 64) if is_evaluated else None)
        if is_evaluated:
            trainer.evaluate(BatchIterator(data, 64), "Test")
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("scale", [1e4, 1e6])
@pytest.mark.parametrize("model", MODELS)
def test_a_column_that_is_not_scaled_is_named_once(caplog, model, scale):
    (warning,) = train(caplog, model, scale={"x": scale})
    assert warning.startswith("Validate: ") and "logloss" in warning
    assert "scale column 'x', which reaches" in warning and "StandardScaler" in warning


@pytest.mark.parametrize("model", MODELS)
def test_a_training_that_is_not_evaluated_is_looked_at_in_its_last_batch(caplog, model):
    assert train(caplog, model, is_evaluated=False) == []
    (warning,) = train(caplog, model, scale={"x": 1e5}, is_evaluated=False)
    assert warning.startswith("The last batch of the training: ")
    assert "scale column 'x', which reaches" in warning


@pytest.mark.parametrize("metrics", [["AUC"], ["AUC", "logloss"]])
def test_the_columns_that_reach_furthest_are_named(caplog, metrics):
    scale = {"small": 3.0, "large": 3e5, "x": 1e5, "larger": 5e5}
    (warning,) = train(caplog, "FM", scale=scale, metrics=metrics)
    assert "'small'" not in warning
    places = [warning.index(f"column '{name}'") for name in ("larger", "large", "x")]
    assert places == sorted(places)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("num_rows", [2, 7, 1000])
def test_sound_and_tiny_runs_are_not_warned_of(caplog, model, num_rows):
    rate = 0.05 if num_rows < 10 else 1e-3
    metrics = {"metrics": ["logloss"], "monitor": "logloss"}
    assert train(caplog, model, num_rows, learning_rate=rate, **metrics) == []


def explain(labels, scores, loss=None, **columns):
    feature_map = make_map(*columns)
    model = load_model_class("FM")(feature_map, embedding_dim=2)
    batch = {name: torch.as_tensor(column).float() for name, column in columns.items()}
    labels, scores = (torch.as_tensor(np.array(v), dtype=torch.float32) for v in (labels, scores))
    return explain_saturation(labels, scores, loss, model, batch, 1e-3)


def test_scores_at_the_edges_that_are_right_are_sound():
    labels = np.tile([0, 1], 100)
    assert explain(labels, labels, x=[1e5]) is None
    assert explain(np.zeros(50), np.zeros(50), x=[1e5, 2e5]) is None
    some_wrong = np.where(np.arange(200) < 2, 1 - labels, labels)
    assert explain(labels, some_wrong, x=[1e5]) is None
    assert explain([1.0], [0.0], x=[1e5]) is None, "one row says nothing"


def test_scores_at_the_edges_that_are_wrong_are_not():
    labels = np.tile([0, 0, 0, 1], 50)
    found = explain(labels, np.ones(200), x=[-40.0, 1.0])
    assert "100% of the scores are 0 or 1" in found and "column 'x', which reaches 40" in found
    rare = np.arange(1000) < 1
    assert "one score for all rows 0.007907" in explain(rare, np.zeros(1000), x=[1e5])
    assert "lower learning_rate (0.001)" in explain(labels, np.ones(200), x=[0.5])
    assert "column" not in explain(labels, np.ones(200), x=[0.5])
    assert explain(labels, np.where(np.arange(200) < 90, 1.0, 0.25), x=[0.5]) is None


def test_scores_that_are_far_off_are_said_where_a_large_column_may_be_why():
    rare = np.arange(1000) % 20 == 0
    assert explain(rare, np.linspace(0.4, 0.6, 1000), x=[1e4]) is None, "nothing is learnt yet"
    poor = np.where(rare, 0.001, 0.8)
    assert "the scores are far off" in explain(rare, poor, x=[-1e4, 0.0])
    assert explain(rare, poor, x=[50.0]) is None
    assert explain(rare[:60], poor[:60], x=[1e4]) is None, "a few rows may be chance"
    assert explain(np.ones(200), np.full(200, 0.1) + np.arange(200) / 1e4, x=[1e4]) is None


def test_one_score_for_all_rows_is_said_where_a_large_column_varies():
    labels = np.tile([0, 1], 100)
    found = explain(labels, np.full(200, 0.5), x=[1e4, 2e4])
    assert "all scores are 0.5" in found and "'x'" in found
    assert explain(labels, np.full(200, 0.5), x=[1e4, 1e4]) is None
    assert explain(labels, np.full(200, 0.5), x=[1.0, 2.0]) is None
