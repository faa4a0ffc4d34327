"""Methods of training that a class written for FuxiCTR overrides: each is called, or an error."""

import logging

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fuxictr.config import TrainConfig
from fuxictr.errors import ConfigError, DataError
from fuxictr.metrics import evaluate_metrics
from fuxictr.pytorch.dataloaders import BatchIterator, RankDataLoader
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.models.hooks import HOOKS
from fuxictr.pytorch.training.trainer import Trainer
from tests.pytorch.tiny import TinyModel, make, tiny_data, tiny_map

BATCH = 100
KEYS = {"optimizer": "adam", "loss": "binary_crossentropy", "embedding_regularizer": 0.01}


class OldStyle(TinyModel):
    """As FuxiCTR's users write models."""

    def __init__(self, feature_map, learning_rate=1e-2, **kwargs):
        super().__init__(feature_map, **kwargs)
        self.compile(kwargs["optimizer"], kwargs["loss"], learning_rate)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs):
        return {"y_pred": self.output_activation(super().forward(inputs)["logit"])}


class PlainStep(OldStyle):
    """FuxiCTR's own step, as a class that overrides it to change something begins."""

    def train_step(self, batch_data):
        self.optimizer.zero_grad()
        return_dict = self.forward(batch_data)
        y_true = self.get_labels(batch_data)
        loss = self.compute_loss(return_dict, y_true)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters(), self._max_gradient_norm)
        self.optimizer.step()
        return loss


class TwiceTheLoss(OldStyle):
    def add_loss(self, return_dict, y_true):
        return 2 * self.loss_fn(return_dict["y_pred"], y_true, reduction="mean")


def run(kind, epochs=3, setup=lambda model: None, **keys):
    """Trains a class; returns the trainer and its weights."""
    feature_map = tiny_map()
    data = tiny_data(feature_map)
    model = make(feature_map, kind=kind, **KEYS)
    setup(model)
    config = TrainConfig(
        **{**KEYS, "batch_size": BATCH, "learning_rate": 1e-2, **keys}, epochs=epochs
    )
    trainer = Trainer(model, config, verbose=0)
    trainer.fit(BatchIterator(data, BATCH, shuffle=True), BatchIterator(data, BATCH))
    return trainer, [p.detach().clone() for p in model.parameters()]


def assert_same(weights, others, rtol=1e-4, atol=1e-6):
    for mine, other in zip(weights, others, strict=True):
        torch.testing.assert_close(mine, other, rtol=rtol, atol=atol)


def test_a_class_without_overrides_takes_the_usual_steps():
    class DrawnTwice(TinyModel):
        def __init__(self, feature_map, **kwargs):
            super().__init__(feature_map, **kwargs)
            self.reset_parameters()

    trainer, weights = run(OldStyle)
    assert trainer.hooks == []
    plain, others = run(DrawnTwice)
    assert plain.hooks == []
    assert_same(weights, others)


def test_the_copied_defaults_give_the_usual_training(caplog):
    with caplog.at_level(logging.WARNING):
        trainer, weights = run(PlainStep)
    assert trainer.hooks == ["train_step"]
    assert [r.message for r in caplog.records if "has its own train_step" in r.message]
    plain, others = run(OldStyle)
    assert_same(weights, others)
    for entry, other in zip(trainer._result.history, plain._result.history, strict=True):
        # FuxiCTR's mean holds the penalty of each step, the usual one that of the last step.
        assert entry["train_loss"] == pytest.approx(other["train_loss"], rel=3e-3)
        assert entry["metrics"]["AUC"] == pytest.approx(other["metrics"]["AUC"], abs=1e-6)


def test_an_own_loss_is_that_of_the_same_loss_written_by_hand():
    """Twice the cross-entropy and the penalties once."""

    class ByHand(PlainStep):
        def train_step(self, batch_data):
            self.optimizer.zero_grad()
            y_pred = self.forward(batch_data)["y_pred"]
            loss = 2 * F.binary_cross_entropy(y_pred, batch_data["click"].view(-1, 1))
            (loss + self.regularization_loss()).backward()
            nn.utils.clip_grad_norm_(self.parameters(), 10)
            self.optimizer.step()
            return loss

    trainer, weights = run(TwiceTheLoss)
    assert trainer.hooks == ["add_loss"]
    assert_same(weights, run(ByHand)[1])
    others = run(OldStyle)[1]
    assert any(not torch.allclose(a, b, atol=1e-4) for a, b in zip(weights, others, strict=True))


class Boom(Exception):
    pass


def raising(*args, **kwargs):
    raise Boom


CALLED = [name for name, hook in HOOKS.items() if not hook.instead]
REFUSED = [name for name, hook in HOOKS.items() if hook.instead]


@pytest.mark.parametrize("name", [n for n in CALLED if n != "predict"])
def test_an_override_is_called(name):
    keys = {"metrics": ["AUC", "gAUC"], "group_id": "a"} if name == "get_group_id" else {}
    kind = type("Own", (OldStyle,), {name: raising})
    with pytest.raises(Boom):
        run(kind, **keys, epochs=50)


@pytest.mark.parametrize("name", REFUSED)
def test_an_override_that_is_not_called_is_an_error(name):
    kind = type("Own", (OldStyle,), {name: raising})
    with pytest.raises(ConfigError, match=f"Own overrides {name}, which is not called here: "):
        run(kind)


@pytest.mark.parametrize("name", CALLED)
def test_where_an_override_may_be(name):
    """In a mixin, in a class between, or on the model itself."""
    mixin = type("Mixin", (), {name: raising})
    between = type("Between", (OldStyle,), {name: raising})
    kinds = [type("A", (mixin, OldStyle), {}), type("B", (between,), {})]
    found = [make(tiny_map(), kind=kind, **KEYS) for kind in kinds]
    on_itself = make(tiny_map(), kind=OldStyle, **KEYS)
    setattr(on_itself, name, lambda *args, **named: raising())
    for model in [*found, on_itself]:
        trainer = Trainer(model, TrainConfig(learning_rate=1e-2), verbose=0)
        assert trainer.hooks == [name]


def test_another_signature_is_an_error():
    class Old(OldStyle):
        def add_loss(self, inputs):
            return self.forward(inputs)["y_pred"].mean()

    with pytest.raises(
        ConfigError, match=r"add_loss\(inputs\); allowed: add_loss\(return_dict, y_t"
    ):
        run(Old)


def test_several_faults_are_one_error():
    class Old(OldStyle):
        def eval_step(self):
            pass

        def save_weights(self, checkpoint):
            pass

    with pytest.raises(ConfigError, match="eval_step.*save_weights"):
        run(Old)


def test_own_labels():
    """The model learns, and is measured on, the labels that its method gives."""

    class Turned(OldStyle):
        def get_labels(self, inputs):
            return 1 - super().get_labels(inputs)

    trainer, _ = run(Turned)
    plain, _ = run(OldStyle)
    assert trainer.hooks == ["get_labels"]
    rows = BatchIterator(tiny_data(tiny_map()), BATCH)
    turned, scores = trainer.predict(rows), plain.predict(rows)
    assert np.corrcoef(turned, scores)[0, 1] < -0.5
    assert trainer._result.valid["AUC"] == pytest.approx(plain._result.valid["AUC"], abs=0.02)


def test_own_penalty():
    class Free(OldStyle):
        def regularization_loss(self):
            return 0

    trainer, weights = run(Free)
    assert trainer.hooks == ["regularization_loss"]
    no_penalty = run(OldStyle, setup=lambda m: setattr(m, "_embedding_regularizer", None))[1]
    assert_same(weights, no_penalty)


def test_own_metrics():
    class Measured(OldStyle):
        def evaluate_metrics(self, y_true, y_pred, metrics, group_id=None):
            assert y_true.dtype == y_pred.dtype == np.float64
            assert group_id is None
            return {"AUC": 0.25, "positives": y_true.sum()}

    trainer, _ = run(Measured, metrics=["AUC"])
    found = trainer._result.history[0]["metrics"]
    assert found == {"AUC": 0.25, "positives": float(tiny_labels().sum())}


def test_own_groups():
    class Grouped(OldStyle):
        def get_group_id(self, inputs):
            return inputs["a"] % 3

    trainer, _ = run(Grouped, metrics=["AUC", "gAUC"], group_id="a")
    rows = BatchIterator(tiny_data(tiny_map()), BATCH)
    scores = trainer.predict(rows)
    groups = torch.cat([batch["a"] % 3 for batch in rows]).numpy()
    expected = evaluate_metrics(tiny_labels().numpy(), scores, ["gAUC"], groups)
    assert trainer.evaluate(rows)["gAUC"] == pytest.approx(expected["gAUC"], abs=1e-9)
    found = trainer.model.evaluate(rows, metrics=["gAUC"])
    assert found == {"gAUC": pytest.approx(expected["gAUC"], abs=1e-9)}
    again = trainer.predict(rows)
    np.testing.assert_array_equal(again, scores)


def tiny_labels():
    return torch.cat([b["click"] for b in BatchIterator(tiny_data(tiny_map()), BATCH)])


def test_own_evaluate_can_add_to_the_usual_one():
    class More(OldStyle):
        def evaluate(self, data_generator, metrics=None):
            logs = super().evaluate(data_generator, metrics)
            logs["error"] = 1 - logs["AUC"]
            return logs

    trainer, weights = run(More)
    assert trainer.hooks == ["evaluate"]
    assert_same(weights, run(OldStyle)[1], rtol=0, atol=0)
    found = trainer._result.history[0]["metrics"]
    assert found["error"] == 1 - found["AUC"]


def test_own_evaluate_may_take_metrics_by_name_alone():
    class Named(OldStyle):
        def evaluate(self, data_generator, *, metrics=None):
            return super().evaluate(data_generator, metrics=metrics)

    assert run(Named)[0].hooks == ["evaluate"]


@pytest.mark.parametrize("task", ["multiclass", None])
def test_a_task_that_is_unknown_is_an_error(task):
    with pytest.raises(ConfigError, match=f"key 'task': found {task!r}, allowed: binary_"):
        make(tiny_map(), kind=OldStyle, **KEYS, task=task)


def test_own_evaluate_without_the_monitor_is_an_error():
    class Less(OldStyle):
        def evaluate(self, data_generator, metrics=None):
            return {"logloss": 1.0}

    with pytest.raises(ConfigError, match="AUC"):
        run(Less)


def test_own_evaluate_that_returns_nothing_is_an_error():
    class Nothing(OldStyle):
        def evaluate(self, data_generator, metrics=None):
            super().evaluate(data_generator, metrics)

    with pytest.raises(DataError, match=r"Nothing.evaluate returned NoneType; allowed: a mapping"):
        run(Nothing)


def test_own_predictions():
    class Halved(OldStyle):
        def predict(self, data_generator):
            return super().predict(data_generator) / 2

    trainer, _ = run(Halved)
    rows = BatchIterator(tiny_data(tiny_map()), BATCH)
    np.testing.assert_array_equal(trainer.predict(rows), trainer.plain_predict(rows) / 2)


def test_own_decay_of_the_rate():
    class Steady(OldStyle):
        def lr_decay(self, factor=0.5, min_lr=1e-6):
            return super().lr_decay(factor, min_lr)

    trainer, _ = run(Steady, epochs=30, learning_rate=1e-2, early_stop_patience=3)
    rates = {entry["learning_rate"] for entry in trainer._result.history}
    assert rates >= {1e-2, 5e-3}


def test_an_own_optimiser_is_used():
    class Own(OldStyle):
        def __init__(self, feature_map, **kwargs):
            super().__init__(feature_map, **kwargs)
            self.optimizer = torch.optim.SGD(self.parameters(), lr=0.5, momentum=0.9)

    trainer, weights = run(Own, learning_rate=1e-2)
    assert trainer.hooks == ["optimizer"]
    assert trainer.optimizer is trainer.model.optimizer
    assert isinstance(trainer.optimizer, torch.optim.SGD)
    others = run(OldStyle)[1]
    assert any(not torch.allclose(a, b, atol=1e-3) for a, b in zip(weights, others, strict=True))


@pytest.mark.parametrize(("name", "rate"), [("sgd", 1e-2), ("adam", 5e-2)])
def test_what_compile_was_told_counts(name, rate):
    class Own(OldStyle):
        def __init__(self, feature_map, **kwargs):
            super().__init__(feature_map, **kwargs)
            self.compile(name, kwargs["loss"], rate)

    trainer, _ = run(Own)
    assert trainer.hooks == ["optimizer"]
    assert type(trainer.optimizer).__name__.lower() == name
    assert trainer._result.history[0]["learning_rate"] == rate


@pytest.mark.parametrize("setting", [{"lr": 0.5}, {"weight_decay": 0.1}, {"betas": (0.5, 0.9)}])
def test_settings_of_a_group_count(setting):
    class Own(OldStyle):
        def __init__(self, feature_map, **kwargs):
            super().__init__(feature_map, **kwargs)
            self.optimizer.param_groups[0].update(setting)

    trainer, _ = run(Own, epochs=1)
    assert trainer.hooks == ["optimizer"]
    assert trainer.optimizer.param_groups[0] | setting == trainer.optimizer.param_groups[0]


def test_another_loss_counts():
    class Squared(OldStyle):
        def __init__(self, feature_map, **kwargs):
            super().__init__(feature_map, **kwargs)
            self.compile(kwargs["optimizer"], "mse_loss", 1e-2)

    class ByHand(OldStyle):
        def add_loss(self, return_dict, y_true):
            return (return_dict["y_pred"] - y_true).square().mean()

    trainer, weights = run(Squared)
    assert trainer.hooks == ["loss_fn"]
    assert_same(weights, run(ByHand)[1])


def test_a_second_training_of_a_model_finds_no_more_hooks():
    trainer, _ = run(OldStyle, epochs=30)
    again = Trainer(trainer.model, TrainConfig(**KEYS, learning_rate=1e-2), verbose=0)
    assert again.hooks == []


def test_a_submodule_draws_its_own_weights():
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 2)

        def init_weights(self):
            nn.init.ones_(self.linear.weight)

    class Gated(OldStyle):
        def __init__(self, feature_map, **kwargs):
            super().__init__(feature_map, **kwargs)
            self.gate = Gate()
            self.reset_parameters()

    model = make(tiny_map(), kind=Gated, **KEYS)
    assert model.gate.linear.weight.eq(1).all()
    assert model.gate.linear.bias.eq(0).all()


def test_only_linear_and_conv1d_are_drawn_anew():
    class Mine(nn.Linear):
        pass

    class Layers(OldStyle):
        def __init__(self, feature_map, **kwargs):
            super().__init__(feature_map, **kwargs)
            self.mine, self.conv = Mine(2, 2), nn.Conv1d(2, 2, 1)
            self.kept = self.mine.weight.detach().clone()
            self.reset_parameters()

    model = make(tiny_map(), kind=Layers, **KEYS)
    assert torch.equal(model.mine.weight, model.kept)
    assert model.conv.bias.eq(0).all()


@pytest.mark.parametrize(
    ("name", "key"),
    [("_early_stop_patience", "early_stop_patience"), ("validation_metrics", "metrics")],
)
def test_an_attribute_that_nothing_reads_is_an_error(name, key):
    class Sets(OldStyle):
        def __init__(self, feature_map, **kwargs):
            super().__init__(feature_map, **kwargs)
            setattr(self, name, 5)

    with pytest.raises(ConfigError, match=f"sets self.{name} = 5.*allowed: key '{key}'"):
        make(tiny_map(), kind=Sets, **KEYS)


def test_what_a_model_reads_of_the_training():
    seen = []

    class Reads(OldStyle):
        def train_step(self, batch_data):
            seen.append((self._epoch_index, self._batch_index, self._total_steps))
            assert self._steps_per_epoch == 6
            assert self._monitor == "AUC"
            return super().train_step(batch_data)

    run(Reads, epochs=2)
    assert seen == [(n // 6, n % 6, n + 1) for n in range(12)]


def test_a_model_can_stop_the_training():
    class Stops(OldStyle):
        def train_step(self, batch_data):
            self._stop_training = self._total_steps == 8
            return super().train_step(batch_data)

    trainer, _ = run(Stops)
    assert trainer._result.num_steps == 8
    assert trainer._result.num_epochs == 2


def test_accumulated_gradients_of_two_batches_are_those_of_one():
    """As LongCTR's classes: gradients are not zeroed outside of the step."""

    class Accumulates(OldStyle):
        def train_step(self, batch_data):
            loss = self.compute_loss(self.forward(batch_data), self.get_labels(batch_data)) / 2
            loss.backward()
            if self._total_steps % 2 == 0:
                nn.utils.clip_grad_norm_(self.parameters(), self._max_gradient_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()
            return loss

    feature_map = tiny_map()
    data = tiny_data(feature_map)
    found = []
    for kind, size in ((Accumulates, BATCH), (PlainStep, 2 * BATCH)):
        model = make(feature_map, kind=kind, **KEYS)
        config = TrainConfig(**KEYS, batch_size=size, learning_rate=1e-2, epochs=2)
        rows = BatchIterator(data, size)
        Trainer(model, config, verbose=0).fit(rows, None)
        found.append([p.detach() for p in model.parameters()])
    assert_same(*found)


@pytest.mark.parametrize("keys", [{"compile": True}, {"amp": "bf16"}])
def test_keys_that_an_own_step_cannot_follow(keys):
    with pytest.raises(ConfigError, match="PlainStep has its own train_step"):
        run(PlainStep, **keys)


def test_an_own_loss_with_mixed_precision():
    trainer, _ = run(TwiceTheLoss, amp="bf16")
    assert trainer._result.valid["AUC"] > 0.6


@pytest.mark.parametrize("value", [None, 1.0, torch.ones(3)])
def test_a_loss_that_is_no_number_is_an_error(value):
    class Wrong(OldStyle):
        def train_step(self, batch_data):
            return value

    with pytest.raises(DataError, match=r"Wrong.train_step returned .*; allowed: a tensor of one"):
        run(Wrong)


def test_labels_are_no_column_that_a_model_lists():
    seen = []

    class Lists(OldStyle):
        def forward(self, inputs):
            seen.append(list(self.get_inputs(inputs)))
            return super().forward(inputs)

    run(Lists, epochs=1)
    assert {tuple(names) for names in seen} == {("a", "x")}


def test_the_python_loop(tmp_path):
    feature_map = tiny_map()
    data = tiny_data(feature_map)
    train, valid = BatchIterator(data, BATCH, shuffle=True), BatchIterator(data, BATCH)
    model = make(feature_map, kind=OldStyle, **KEYS, model_root=str(tmp_path), verbose=0)
    model.fit(train, epochs=3, validation_data=valid, batch_size=BATCH, model="OldStyle")
    found = model.evaluate(valid)
    assert found["AUC"] > 0.6
    assert_same([p.detach() for p in model.parameters()], run(OldStyle)[1], rtol=0, atol=0)
    path = tmp_path / "d" / "BaseModel.model"
    other = make(feature_map, seed=5, kind=OldStyle, **KEYS)
    other.load_weights(str(path))
    np.testing.assert_array_equal(other.predict(valid), model.predict(valid))
    assert other.evaluate(valid, metrics=["AUC"]) == {"AUC": found["AUC"]}
    other.save_weights(str(tmp_path / "other.model"))
    assert (tmp_path / "other.model").is_file()


def test_an_own_fit_in_a_python_loop():
    class Own(OldStyle):
        def fit(self, data_generator, **kwargs):
            self.began = True
            return super().fit(data_generator, **kwargs)

    feature_map = tiny_map()
    rows = BatchIterator(tiny_data(feature_map), BATCH)
    model = make(feature_map, kind=Own, **KEYS, verbose=0)
    model.fit(rows, epochs=1, validation_data=rows)
    assert model.began
    assert isinstance(model, BaseModel)


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_batches_of_another_loader_are_an_error(method):
    model = make(tiny_map(), kind=OldStyle, **KEYS, verbose=0)
    batches = torch.utils.data.DataLoader([1, 2])
    with pytest.raises(ConfigError, match="batches: found DataLoader, allowed: what RankDataL"):
        getattr(model, method)(batches)


def test_an_own_loader_is_an_error():
    with pytest.raises(ConfigError, match="data_loader: found .*Mine.*; loaders of your own are"):
        RankDataLoader(tiny_map(), data_loader=type("Mine", (), {}))
