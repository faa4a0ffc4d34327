"""Whole models and the Trainer with LazyAdam, against the same with torch.optim.Adam."""

import numpy as np
import pytest
import torch
from torch.nn.utils import clip_grad_norm_

from fuxictr.config import TrainConfig
from fuxictr.experiment.run.run import build_model
from fuxictr.experiment.zoo.models import ZOO, load_experiment
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import BatchIterator, from_arrays
from fuxictr.pytorch.losses import add_penalty_gradients, cross_entropy
from fuxictr.pytorch.optim import lazy_adam
from fuxictr.pytorch.optim.lazy_adam import (
    LazyAdam,
    flush,
    large_blocks,
    make_optimizer,
    row_gradients,
)
from fuxictr.pytorch.torch_utils import seed_everything
from fuxictr.pytorch.training.trainer import Trainer


def make_model(name: str, *overrides: str):
    folder = ZOO / name.split("_")[0]
    config, model_class = load_experiment(name, folder, overrides=list(overrides))
    feature_map = FeatureMap("d")
    feature_map.features = {
        field: {"type": "categorical", "vocab_size": size}
        for field, size in (("a", 8000), ("b", 50), ("c", 900))
    }
    feature_map.labels = ["click"]
    seed_everything(3)
    model = build_model(config, model_class, feature_map)
    rng = np.random.default_rng(0)
    sizes = {"a": 8000, "b": 50, "c": 900}
    columns = {n: np.minimum(rng.zipf(1.3, 4000), v) - 1 for n, v in sizes.items()}
    columns["click"] = rng.random(4000) < 0.3
    return model, from_arrays(columns, feature_map)


def train(name: str, is_lazy: bool, num_steps: int = 100, dtype=torch.float32):
    """Trains as the Trainer does, with a clip that is active."""
    model, data = make_model(name)
    model._embedding_regularizer = None
    model.to(dtype)
    embeddings = large_blocks(model, "adam", 40)
    assert len(embeddings) == (2 if name.startswith("FM") else 1)
    penalties = list(model.penalized_parameters())
    lazy = LazyAdam(model.parameters(), 1e-3, embeddings if is_lazy else [], penalties)
    assert len(lazy._lazy_tables()) == (len(embeddings) if is_lazy else 0)
    norms, batches = [], BatchIterator(data, 40)
    for step, batch in enumerate(batches):
        if step == num_steps:
            break
        lazy.zero_grad()
        outputs = {key: value.double() for key, value in model(batch).items()}
        cross_entropy(outputs, model.get_labels(batch).double()).backward()
        add_penalty_gradients(penalties)
        norms.append(clip_grad_norm_([*model.parameters(), *lazy.row_gradients()], 0.05).item())
        lazy.step()
    assert len(norms) == num_steps and np.mean(np.array(norms) > 0.05) > 0.5
    return model.state_dict(), norms


@pytest.mark.parametrize("name", ["FM_demo_gen", "DCNv2_demo_gen"])
def test_models_train_as_with_the_dense_adam(name):
    """In float64 100 steps agree to the last digits: it is the same algorithm.

    In float32 torch's own two forms of Adam, fused and foreach, differ by 2e-6 here, in a weight or
    two whose gradients nearly cancel; so do these, and by less than 1e-6 in all other weights.
    """
    lazy, lazy_norms = train(name, is_lazy=True, dtype=torch.float64)
    dense, norms = train(name, is_lazy=False, dtype=torch.float64)
    np.testing.assert_allclose(lazy_norms, norms, rtol=1e-13)
    for key, expected in dense.items():
        torch.testing.assert_close(lazy[key], expected, rtol=0, atol=1e-13, msg=key)
    lazy, lazy_norms = train(name, is_lazy=True)
    dense, norms = train(name, is_lazy=False)
    np.testing.assert_allclose(lazy_norms, norms, rtol=1e-5)
    distances = torch.cat([(lazy[key] - dense[key]).abs().view(-1) for key in dense])
    assert distances.max() < 1e-5
    assert (distances > 1e-6).float().mean() < 1e-4


def test_runs_repeat_bit_for_bit():
    (first, norms), (second, norms_again) = (train("FM_demo_gen", is_lazy=True) for _ in range(2))
    assert norms == norms_again
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_only_large_tables_of_adam_are_taken():
    model, _ = make_model("FM_demo_gen")
    tables = [block.table for block in large_blocks(model, "Adam", 40)]
    assert [table.shape[1] for table in tables] == [model.embedding_layer.embedding_dim, 1]
    assert large_blocks(model, "adamw", 40) == []
    assert len(large_blocks(model, "adam", 8950 // (3 * 64))) == 2
    assert len(large_blocks(model, "adam", 8950 // (3 * 64) + 1)) == 1
    model.embedding_layer.table.requires_grad_(False)
    assert len(large_blocks(model, "adam", 40)) == 1


@pytest.mark.parametrize("penalty", [0.0, 1e-3])
def test_the_trainer_gives_the_results_of_the_dense_adam(penalty, monkeypatch):
    """Evaluations inside and at the end of epochs, a lower rate on the way, best weights."""
    found = []
    for ratio in (64, 10**9):
        monkeypatch.setattr(lazy_adam, "MIN_WEIGHTS_PER_LOOKUP", ratio)
        model, data = make_model("FM_demo_gen")
        model._embedding_regularizer = penalty
        config = TrainConfig(
            batch_size=40,
            learning_rate=2e-3,
            epochs=3,
            eval_steps=37,
            early_stop_patience=4,
            max_gradient_norm=0.05,
        )
        trainer = Trainer(model, config, verbose=0)
        assert isinstance(trainer.optimizer, LazyAdam) == (ratio == 64)
        batches = BatchIterator(data, 40)
        found.append((trainer.fit(batches, batches), model.state_dict()))
    (lazy, weights), (dense, expected) = found
    rates = [entry["learning_rate"] for entry in dense.history]
    assert len(rates) == len(lazy.history) >= 4
    for ours, theirs in zip(lazy.history, dense.history, strict=True):
        assert ours["learning_rate"] == theirs["learning_rate"]
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-5)
        assert ours["metrics"] == pytest.approx(theirs["metrics"], rel=1e-4)
    for key in expected:
        torch.testing.assert_close(weights[key], expected[key], rtol=0, atol=1e-5, msg=key)


def test_config_and_device_choose_the_optimizer():
    model, _ = make_model("FM_demo_gen")
    config, cpu = TrainConfig(batch_size=40), torch.device("cpu")
    assert isinstance(make_optimizer(model, config, cpu), LazyAdam)
    model, _ = make_model("FM_demo_gen")
    for changed, device in (
        (TrainConfig(batch_size=40), torch.device("cuda")),
        (TrainConfig(batch_size=40, compile=True), cpu),
        (TrainConfig(batch_size=40, optimizer="sgd"), cpu),
        (TrainConfig(batch_size=4000), cpu),
    ):
        plain = make_optimizer(model, changed, device)
        assert not isinstance(plain, LazyAdam)
        assert row_gradients(plain) == []
        flush(plain)
        assert all(block.reader is None for block in large_blocks(model, "adam", 40))
