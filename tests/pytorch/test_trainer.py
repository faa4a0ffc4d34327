"""The training loop against a plain one, and its decisions."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fuxictr.config import TrainConfig
from fuxictr.errors import ConfigError, DataError
from fuxictr.features import FeatureMap
from fuxictr.pytorch.checkpoint.weights import save_weights
from fuxictr.pytorch.dataloaders import BatchIterator, from_arrays
from fuxictr.pytorch.training import trainer as trainer_module
from fuxictr.pytorch.training.trainer import Callback, EarlyStopping, NotFiniteError, Trainer
from tests.pytorch.tiny import NUM_ROWS, TinyModel, make, tiny_data, tiny_map


class FuxiCTRStyleModel(TinyModel):
    """A model that returns probabilities only and calls what models of FuxiCTR call."""

    def __init__(self, feature_map, learning_rate=1e-3, **kwargs):
        super().__init__(feature_map, **kwargs)
        self.compile(kwargs.get("optimizer"), kwargs.get("loss"), learning_rate)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs):
        return {"y_pred": self.output_activation(super().forward(inputs)["logit"])}


@pytest.fixture
def feature_map() -> FeatureMap:
    return tiny_map()


@pytest.fixture
def data(feature_map):
    return tiny_data(feature_map)


def test_steps_equal_a_plain_loop(feature_map, data):
    """Mean BCE + penalties through autograd, clip at 10, torch's plain Adam."""
    params = {"embedding_regularizer": "l1_l2(1e-3, 1e-2)", "net_regularizer": 1e-1}
    model, plain = make(feature_map, **params), make(feature_map, **params)
    config = TrainConfig(batch_size=100, learning_rate=0.05, max_gradient_norm=0.05)
    trainer = Trainer(model, config, verbose=0)
    adam = torch.optim.Adam(plain.parameters(), lr=0.05)
    embeddings = [plain.embedding_layer, plain.lr_layer.embedding_layer]
    for batch in BatchIterator(data, 100):
        trainer.train_step(batch)
        adam.zero_grad()
        probability = plain(batch)["y_pred"]
        loss = F.binary_cross_entropy(probability, batch["click"].view(-1, 1))
        for parameter in (p for layer in embeddings for p in layer.parameters()):
            loss = loss + 1e-3 * parameter.abs().sum() + (1e-2 / 2) * parameter.square().sum()
        for parameter in (plain.head.weight, plain.head.bias, plain.lr_layer.bias):
            loss = loss + (1e-1 / 2) * parameter.square().sum()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.05)
        assert norm > 0.05, "the clip must bite for this test to see it"
        adam.step()
    for (name, mine), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6, msg=name)


def test_penalty_gradient_is_that_of_the_penalty_loss(feature_map):
    model = make(feature_map, embedding_regularizer="l1_l2(0.1, 0.2)", net_regularizer=0.3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    model.regularization_loss().backward()
    expected = [p.grad.clone() for p in model.parameters()]
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    from fuxictr.pytorch.losses import add_penalty_gradients

    add_penalty_gradients(list(model.penalized_parameters()))
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_regularizer_covers_what_the_others_leave_unset(feature_map):
    model = make(feature_map, regularizer=0.5, net_regularizer=0)
    names = {id(p): name for name, p in model.named_parameters()}
    penalized = {names[id(p)]: (order, w) for p, order, w in model.penalized_parameters()}
    assert penalized["embedding_layer.table"] == (2, 0.5)
    assert "head.weight" not in penalized


def test_training_learns_restores_the_best_and_repeats_bit_for_bit(tmp_path, feature_map, data):
    config = TrainConfig(batch_size=50, learning_rate=0.05, epochs=30)
    results, models = [], []
    for name in ("one", "two"):
        model = make(feature_map)
        trainer = Trainer(model, config, checkpoint=tmp_path / f"{name}.model", verbose=0)
        train, valid = BatchIterator(data, 50, True, seed=3), BatchIterator(data, 64)
        fitted = trainer.fit(train, valid)
        best = max(entry["metrics"]["AUC"] for entry in fitted.history)
        assert fitted.valid["AUC"] == best == trainer.evaluate(valid)["AUC"] > 0.7
        assert fitted.num_rows == NUM_ROWS * fitted.num_epochs
        results.append(fitted.history)
        models.append(model)
    assert results[0] == results[1]
    for one, two in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, two)


class ScriptedTrainer(Trainer):
    """A trainer whose evaluations are given, and whose learning rate is then read."""

    def __init__(self, *args, aucs, **kwargs):
        super().__init__(*args, **kwargs)
        self.aucs = iter(aucs)

    def evaluate(self, batches, description="Evaluate"):
        return {"AUC": next(self.aucs), "logloss": 0.5}


def test_plateau_lowers_the_rate_and_patience_stops(feature_map, data, caplog):
    caplog.set_level(logging.INFO)
    config = TrainConfig(learning_rate=1e-5, early_stop_patience=3, batch_size=NUM_ROWS)
    aucs = [0.7, 0.7 + 5e-7, 0.71, 0.6, 0.7, 0.65, 0.99]
    trainer = ScriptedTrainer(make(feature_map), config, verbose=0, aucs=aucs)
    fitted = trainer.fit(BatchIterator(data, NUM_ROWS), BatchIterator(data, NUM_ROWS))
    assert [entry["metrics"]["AUC"] for entry in fitted.history] == aucs[:6]
    rates = [entry["learning_rate"] for entry in fitted.history]
    assert rates == pytest.approx([1e-5, 1e-5, 1e-6, 1e-6, 1e-6, 1e-6])
    assert fitted.valid["AUC"] == 0.71
    text = caplog.text
    assert "Save best model: monitor(max)=0.710000" in text
    assert "Monitor(max)=0.600000 STOP!" in text
    assert "Reduce learning rate on plateau: 0.000001" in text
    assert "Epoch==6 early stop" in text


def test_evaluation_every_so_many_steps_counts_over_epochs(feature_map, data):
    config = TrainConfig(batch_size=100, eval_steps=4, epochs=2)
    trainer = ScriptedTrainer(make(feature_map), config, verbose=0, aucs=[0.1, 0.2, 0.3])
    fitted = trainer.fit(BatchIterator(data, 100), BatchIterator(data, 100))
    assert [entry["rows"] for entry in fitted.history] == [400, 800, 1200]
    assert [entry["step"] for entry in fitted.history] == [4, 8, 12]
    assert [entry["epoch"] for entry in fitted.history] == [1, 2, 2]
    config = TrainConfig(batch_size=100, eval_steps=1000, epochs=1)
    trainer = ScriptedTrainer(make(feature_map), config, verbose=0, aucs=[0.3])
    assert len(trainer.fit(BatchIterator(data, 100), BatchIterator(data, 100)).history) == 1


class Notes(Callback):
    """Notes every call; its steps take 100 seconds, and leave the model in eval mode."""

    def __init__(self, model, every, clock):
        self.model, self.every, self.clock, self.calls = model, every, clock, []

    def before_training(self, steps_per_epoch):
        self.calls.append(("before", steps_per_epoch))

    def is_due(self, step):
        return step % self.every == 0

    def after_step(self, epoch, step):
        self.clock.now += 100
        self.model.eval()
        self.calls.append(("step", epoch, step))

    def after_evaluation(self, entry):
        self.calls.append(("evaluation", entry["epoch"], entry["step"], entry["metrics"]["AUC"]))

    def close(self):
        self.calls.append(("close",))


def test_callbacks_see_the_training_and_are_not_timed(feature_map, data, monkeypatch):
    model = make(feature_map)
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(trainer_module, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    modes = []

    class Timed(ScriptedTrainer):
        def train_step(self, batch):
            clock.now += 1
            modes.append(model.training)
            return super().train_step(batch)

    notes = Notes(model, every=4, clock=clock)
    config = TrainConfig(batch_size=100, epochs=2)
    trainer = Timed(model, config, verbose=0, callbacks=[notes], aucs=[0.3, 0.2])
    fitted = trainer.fit(BatchIterator(data, 100), BatchIterator(data, 100))
    assert notes.calls == [
        ("before", 6),
        ("step", 1, 4),
        ("evaluation", 1, 6, 0.3),
        ("step", 2, 8),
        ("step", 2, 12),
        ("evaluation", 2, 12, 0.2),
        ("close",),
    ]
    assert modes == [True] * 12
    assert fitted.train_seconds == 12


def test_callbacks_are_closed_when_training_fails(feature_map, data):
    model = make(feature_map)
    with torch.no_grad():
        model.head.weight.fill_(float("inf"))
    notes = Notes(model, every=100, clock=SimpleNamespace(now=0))
    with pytest.raises(NotFiniteError):
        Trainer(model, TrainConfig(), verbose=0, callbacks=[notes]).fit(
            BatchIterator(data, 50), None
        )
    assert notes.calls == [("before", 12), ("close",)]


def test_last_weights_are_kept_when_asked_or_without_validation(tmp_path, feature_map, data):
    path = tmp_path / "m.model"
    config = TrainConfig(batch_size=100, epochs=2, save_best_only=False)
    model = make(feature_map)
    trainer = ScriptedTrainer(model, config, checkpoint=path, verbose=0, aucs=[0.9, 0.1])
    fitted = trainer.fit(BatchIterator(data, 100), BatchIterator(data, 100))
    assert fitted.valid["AUC"] == 0.1
    saved = torch.load(path, weights_only=True)
    assert torch.equal(saved["head.weight"], model.head.weight)
    path.unlink()
    Trainer(model, TrainConfig(epochs=1), checkpoint=path, verbose=0).fit(
        BatchIterator(data, 100), None
    )
    assert path.is_file()


def test_a_checkpoint_has_the_bytes_of_the_state_dict(tmp_path, feature_map, data):
    model = make(feature_map)
    trainer = Trainer(model, TrainConfig(epochs=1), checkpoint=tmp_path / "own.model", verbose=0)
    trainer.fit(BatchIterator(data, 100), None)
    save_weights(model.state_dict(), tmp_path / "plain.model")
    assert (tmp_path / "own.model").read_bytes() == (tmp_path / "plain.model").read_bytes()


def test_early_stopping_follows_the_mode():
    stopping = EarlyStopping("min", patience=1)
    assert [stopping.improved(value) for value in (0.5, 0.4, 0.41)] == [True, True, False]
    assert stopping.should_stop


def test_models_written_for_fuxictr_train(feature_map, data):
    params = {"optimizer": "adam", "loss": "binary_crossentropy", "gpu": -1, "dataset_id": "d"}
    model = make(feature_map, kind=FuxiCTRStyleModel, **params)
    config = TrainConfig(batch_size=50, learning_rate=0.05, epochs=5)
    trainer = Trainer(model, config, verbose=0)
    assert trainer.fit(BatchIterator(data, 50), BatchIterator(data, 64)).valid["AUC"] > 0.7
    assert trainer.predict(BatchIterator(data, 64)).shape == (NUM_ROWS,)


def test_unknown_keys_of_a_model_are_errors(feature_map):
    with pytest.raises(ConfigError, match="'learning_rat'; did you mean 'learning_rate'"):
        make(feature_map, learning_rat=1, seed=1)


def test_errors(feature_map, data):
    model = make(feature_map)
    with pytest.raises(ConfigError, match="key 'monitor': gAUC is not among the metrics"):
        Trainer(model, TrainConfig(monitor="gAUC"))
    nothing = {name: np.zeros(0) for name in ("a", "x", "click")}
    empty = BatchIterator(from_arrays(nothing, feature_map), 5)
    with pytest.raises(DataError, match="the training split has no rows"):
        Trainer(model, TrainConfig(), verbose=0).fit(empty, None)
    with torch.no_grad():
        model.head.weight.fill_(float("inf"))
    with pytest.raises(NotFiniteError, match="epoch 1, step 1: the training loss is nan"):
        Trainer(model, TrainConfig(), verbose=0).fit(BatchIterator(data, 50), None)


def test_count_parameters(feature_map):
    model = make(feature_map)
    tables = 20 * 4 + 20 * 1
    rest = 4 + 1 + 1 + 8 + 1
    assert model.count_parameters() == tables + rest
    assert model.count_parameters(count_embedding=False) == rest


def test_the_training_loss_is_the_mean_since_the_last_evaluation(feature_map, data):
    config = TrainConfig(batch_size=100, epochs=2, eval_steps=4, learning_rate=0.05)
    trainer = Trainer(make(feature_map), config, verbose=0)
    losses = []

    def step(batch):
        losses.append(Trainer.train_step(trainer, batch))
        return losses[-1]

    trainer.train_step = step
    history = trainer.fit(BatchIterator(data, 100, True), BatchIterator(data, 200)).history
    means = [np.mean([loss.item() for loss in losses[start : start + 4]]) for start in (0, 4, 8)]
    assert [entry["train_loss"] for entry in history] == pytest.approx(means, rel=1e-12)
    assert len(losses) == 12 and len(set(means)) == 3
