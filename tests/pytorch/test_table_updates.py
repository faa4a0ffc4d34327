"""Key table_updates: what a Trainer does with large tables, row by row or whole."""

import numpy as np
import pytest
import torch

from fuxictr.config import TrainConfig
from fuxictr.features import FeatureMap
from fuxictr.pytorch.checkpoint.weights import load_weights
from fuxictr.pytorch.dataloaders import BatchIterator, from_arrays
from fuxictr.pytorch.optim.lazy_adam import LazyAdam
from fuxictr.pytorch.training.trainer import Trainer
from tests.pytorch.tiny import make

VOCABULARY = 3000
NUM_ROWS = 2000
BATCH = 40


def large_map() -> FeatureMap:
    feature_map = FeatureMap("d")
    feature_map.features = {
        "a": {"type": "categorical", "vocab_size": VOCABULARY},
        "b": {"type": "categorical", "vocab_size": 30},
        "x": {"type": "numeric"},
    }
    feature_map.labels = ["click"]
    return feature_map


def large_data(feature_map):
    rng = np.random.default_rng(0)
    a = np.minimum(rng.zipf(1.3, NUM_ROWS), VOCABULARY - 1)
    b, x = rng.integers(1, 30, NUM_ROWS), rng.normal(size=NUM_ROWS)
    chance = 1 / (1 + np.exp(-(np.sin(a) + np.sin(b) + x)))
    columns = {"a": a, "b": b, "x": x, "click": rng.random(NUM_ROWS) < chance}
    return from_arrays(columns, feature_map)


def fit(penalty=0.0, checkpoint=None, **keys):
    options = {"learning_rate": 0.02, "epochs": 4, "early_stop_patience": 1, **keys}
    config = TrainConfig(batch_size=BATCH, **options)
    feature_map = large_map()
    data = large_data(feature_map)
    model = make(feature_map, embedding_regularizer=penalty)
    trainer = Trainer(model, config, verbose=0, checkpoint=checkpoint)
    result = trainer.fit(BatchIterator(data, BATCH, True, seed=3), BatchIterator(data, 500))
    return trainer, result


def is_lazy(trainer):
    return isinstance(trainer.optimizer, LazyAdam)


@pytest.mark.parametrize("penalty", [0.0, 1e-3])
@pytest.mark.parametrize("keys", [{}, {"max_gradient_norm": 0.05}, {"eval_steps": 7}])
def test_auto_trains_as_dense_does(penalty, keys):
    lazy, first = fit(penalty, **keys)
    dense, second = fit(penalty, table_updates="dense", **keys)
    assert is_lazy(lazy)
    assert not is_lazy(dense)
    assert len(first.history) == len(second.history)
    for one, other in zip(first.history, second.history, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-5)
        assert one["metrics"] == pytest.approx(other["metrics"], rel=1e-5)
        assert one["learning_rate"] == other["learning_rate"]
    states = lazy.model.state_dict(), dense.model.state_dict()
    torch.testing.assert_close(*states, rtol=1e-4, atol=1e-5)


def test_two_runs_agree_to_the_bit():
    (one, first), (other, second) = fit(), fit()
    assert first.history == second.history
    states = one.model.state_dict(), other.model.state_dict()
    torch.testing.assert_close(*states, rtol=0, atol=0)


def test_the_checkpoint_holds_rows_that_are_up_to_date(tmp_path):
    file = tmp_path / "m.model"
    trainer, _ = fit(checkpoint=file)
    fresh = make(large_map(), seed=9)
    load_weights(fresh, file)
    feature_map = large_map()
    rows = BatchIterator(large_data(feature_map), 500)
    expected = trainer.predict(rows)
    found = Trainer(fresh, TrainConfig(batch_size=BATCH), verbose=0).predict(rows)
    np.testing.assert_array_equal(found, expected)
    table = trainer.model.embedding_layer.table
    assert torch.equal(table, torch.load(file, weights_only=True)["embedding_layer.table"])


@pytest.mark.parametrize(
    "keys",
    [
        {"table_updates": "dense"},
        {"optimizer": "sgd"},
        {"optimizer": "adamw"},
        {"compile": True},
    ],
)
def test_what_is_updated_whole(keys):
    model = make(large_map())
    config = TrainConfig(**{"batch_size": BATCH, **keys})
    assert not is_lazy(Trainer(model, config, verbose=0))


def test_a_table_that_a_batch_reads_most_of_is_updated_whole():
    model = make(large_map())
    assert not is_lazy(Trainer(model, TrainConfig(batch_size=VOCABULARY), verbose=0))
