"""Regression, losses by name, and several labels."""

import logging

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fuxictr.config import TrainConfig
from fuxictr.errors import ConfigError, DataError
from fuxictr.metrics import evaluate_metrics
from fuxictr.pytorch.dataloaders import BatchIterator, from_arrays
from fuxictr.pytorch.layers import FeatureEmbedding
from fuxictr.pytorch.models import MultiTaskModel
from fuxictr.pytorch.torch_utils import get_loss
from fuxictr.pytorch.training.trainer import Trainer
from tests.pytorch.tiny import NUM_ROWS, TinyModel, make, tiny_map

BATCH = 100
REGRESSION = {"task": "regression", "loss": "mse_loss", "metrics": ["RMSE", "MAE"]}
MONITOR = {"monitor": "RMSE"}


def rated_map(labels=("rating",), task="regression"):
    feature_map = tiny_map()
    feature_map.labels = list(labels)
    feature_map.set_tasks(task)
    return feature_map


def rated_data(feature_map):
    """A click and a rating around 7, both of which the features tell."""
    rng = np.random.default_rng(0)
    a, x = rng.integers(1, 20, NUM_ROWS), rng.normal(size=NUM_ROWS)
    score = np.sin(a) + x
    columns = {
        "a": a,
        "x": x,
        "click": rng.random(NUM_ROWS) < 1 / (1 + np.exp(-score)),
        "buy": rng.random(NUM_ROWS) < 1 / (1 + np.exp(1 + score)),
        "rating": 7 + 2 * score + 0.1 * rng.normal(size=NUM_ROWS),
    }
    return from_arrays(columns, feature_map)


def run(feature_map, kind=TinyModel, epochs=30, **keys):
    """Trains a class; returns the trainer and the rows."""
    rows = BatchIterator(rated_data(feature_map), BATCH)
    model = make(feature_map, kind=kind, **{k: v for k, v in keys.items() if k != "weights"})
    config = {"learning_rate": 5e-2, "early_stop_patience": 9, "batch_size": BATCH, **keys}
    known = {k: v for k, v in config.items() if k in TrainConfig.keys()}
    trainer = Trainer(model, TrainConfig(**known, epochs=epochs), verbose=0)
    trainer.fit(rows, rows)
    return trainer, rows


@pytest.mark.parametrize("loss", ["mse_loss", "l1_loss", "huber_loss", "mean_absolute_error"])
def test_regression_learns(loss):
    keys = {**REGRESSION, **MONITOR, "loss": loss, "learning_rate": 1e-1}
    trainer, rows = run(rated_map(), **keys)
    assert trainer.hooks == []
    assert trainer.config.monitor_mode == "min"
    labels = torch.cat([batch["rating"] for batch in rows]).numpy()
    scores = trainer.predict(rows)
    assert trainer._result.valid["RMSE"] < 0.5 * labels.std()
    found = trainer.evaluate(rows)
    assert found["RMSE"] == pytest.approx(np.sqrt(np.mean((labels - scores) ** 2)), rel=1e-6)
    assert found["MAE"] == pytest.approx(np.abs(labels - scores).mean(), rel=1e-6)
    assert scores.max() > 5, "no probabilities"


@pytest.mark.parametrize(("name", "function"), [("mse_loss", F.mse_loss), ("mae", F.l1_loss)])
def test_a_loss_of_another_name_is_that_of_y_pred(name, function):
    """Of probabilities in classification: three steps by hand give the same weights."""
    feature_map = rated_map(["click"], "binary_classification")
    trainer, rows = run(feature_map, loss=name, epochs=1, save_best_only=False)
    assert trainer.hooks == []
    model = make(feature_map)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-2)
    for batch in rows:
        optimizer.zero_grad()
        y_pred = torch.sigmoid(model(batch)["logit"])
        function(y_pred, batch["click"].view(-1, 1)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()
    for mine, other in zip(trainer.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def test_a_loss_of_scores_of_another_shape_is_an_error():
    class Flat(TinyModel):
        def forward(self, inputs):
            return {"y_pred": super().forward(inputs)["y_pred"].squeeze(1)}

    with pytest.raises(DataError, match=r"y_pred of shape \(100,\), labels of shape \(100, 1\)"):
        run(rated_map(), kind=Flat, **REGRESSION, **MONITOR)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"loss": "binary_crossentropy"}, "key 'loss': found binary_crossentropy, which does not"),
        ({"metrics": ["RMSE", "logloss"]}, "key 'metrics': logloss needs probabilities"),
        (
            {"task": ["regression"], "loss": ["mse", "mae"]},
            "keys 'task' and 'loss': found 1 tasks, 2 losses",
        ),
        ({"metrics": ["AUC"]}, "key 'monitor': RMSE is not among the metrics"),
        ({"monitor_mode": "max"}, "'monitor_mode': found max, .*, which is better the lower"),
    ],
)
def test_what_makes_no_sense_with_regression(keys, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**{**REGRESSION, **MONITOR, **keys})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"task": "regresion"}, "key 'task': found 'regresion', .*did you mean 'regression'"),
        ({"task": []}, "key 'task'"),
        ({"loss": "mse_los"}, "'loss': found 'mse_los', .*did you mean 'mse_loss'"),
        ({"loss": "relu"}, "'loss': found 'relu', .*allowed: binary_crossentropy, mse_loss"),
        ({"loss": "binary_cross_entropy_with_logits"}, "key 'loss'"),
        ({"loss": None}, "key 'loss'"),
    ],
)
def test_unknown_words_are_errors(keys, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig.from_params(keys)


def test_names_of_losses():
    assert get_loss("bce") is get_loss("binary_cross_entropy") is F.binary_cross_entropy
    assert get_loss("mse") is get_loss("mean_squared_error") is F.mse_loss
    assert TrainConfig.from_params({"loss": "bce"}).loss == "binary_crossentropy"
    with pytest.raises(ConfigError, match="allowed"):
        get_loss(["mse"])


def test_auc_of_ratings_is_an_error_before_the_training():
    with pytest.raises(DataError, match="validation split.*|the label of row"):
        run(rated_map(), **{**REGRESSION, "metrics": ["RMSE", "AUC"]}, **MONITOR)


def test_ratings_are_no_clicks():
    with pytest.raises(DataError, match="column 'rating', row 1: .*expected a label 0 or 1"):
        rated_data(rated_map(task="binary_classification"))


def test_a_class_that_keeps_its_task_for_itself_is_an_error():
    class Keeps(TinyModel):
        def __init__(self, feature_map, task="binary_classification", **params):
            super().__init__(feature_map, **params)

    with pytest.raises(ConfigError, match="Keeps was built for binary_classification; its __init"):
        run(rated_map(), kind=Keeps, **REGRESSION, **MONITOR)


def test_a_model_of_one_label_says_that_it_uses_one(caplog):
    feature_map = rated_map(["click", "buy"], "binary_classification")
    with caplog.at_level(logging.WARNING):
        trainer, _ = run(feature_map, epochs=1)
    assert "TinyModel predicts label 'click' alone, as in FuxiCTR: buy is not used" in caplog.text
    assert set(trainer._result.valid) == {"AUC", "logloss"}


def test_regression_in_a_python_loop():
    class OldStyle(TinyModel):
        def __init__(self, feature_map, **kwargs):
            super().__init__(feature_map, **kwargs)
            self.compile(kwargs["optimizer"], kwargs["loss"], 5e-2)
            self.reset_parameters()

        def forward(self, inputs):
            return {"y_pred": self.output_activation(super().forward(inputs)["logit"])}

    feature_map = rated_map()
    rows = BatchIterator(rated_data(feature_map), BATCH)
    model = make(feature_map, kind=OldStyle, **REGRESSION, **MONITOR, optimizer="adam", verbose=0)
    model.fit(rows, epochs=20, validation_data=rows)
    assert model.evaluate(rows)["RMSE"] < 1.5
    assert model.evaluate(rows, metrics=["MSE"])["MSE"] < 2.25


class Heads(MultiTaskModel):
    """A linear head for each label."""

    def __init__(self, feature_map, task=("binary_classification",), num_tasks=1, **kwargs):
        super().__init__(feature_map, task=task, num_tasks=num_tasks, **kwargs)
        self.embedding_layer = FeatureEmbedding(feature_map, 4)
        self.heads = nn.ModuleList(nn.Linear(8, 1) for _ in range(num_tasks))
        rate = kwargs.get("learning_rate", 1e-3)
        self.compile(kwargs.get("optimizer"), kwargs.get("loss"), rate)
        self.reset_parameters()

    def forward(self, inputs):
        flat = self.embedding_layer(self.get_inputs(inputs)).flatten(1)
        return {
            f"{label}_pred": self.output_activation[i](self.heads[i](flat))
            for i, label in enumerate(self.feature_map.labels)
        }


BINARY = "binary_classification"
MIXED = {
    "task": [BINARY, "regression"],
    "loss": ["binary_crossentropy", "mse_loss"],
    "num_tasks": 2,
    "metrics": ["AUC", "RMSE"],
    "learning_rate": 1e-1,
}
CLICKS = {"task": BINARY, "num_tasks": 2, "learning_rate": 5e-2}


def clicks_map():
    return rated_map(["click", "buy"], BINARY)


def mixed_map():
    return rated_map(["click", "rating"], MIXED["task"])


def test_metrics_of_each_label_and_their_mean(caplog):
    with caplog.at_level(logging.INFO):
        trainer, rows = run(clicks_map(), kind=Heads, **CLICKS)
    assert trainer.hooks == []
    found = trainer.evaluate(rows)
    names = ["click_AUC", "click_logloss", "buy_AUC", "buy_logloss", "AUC", "logloss"]
    assert list(found) == names
    assert found["AUC"] == (found["click_AUC"] + found["buy_AUC"]) / 2 > 0.7
    scores = trainer.predict(rows)
    assert scores.shape == (NUM_ROWS, 2)
    labels = torch.cat([batch["buy"] for batch in rows]).numpy()
    expected = evaluate_metrics(labels, scores[:, 1], ["AUC"])["AUC"]
    assert found["buy_AUC"] == pytest.approx(expected, abs=1e-12)
    assert "[Task: buy][Metrics] AUC: " in caplog.text
    predicted = trainer.model.predict(rows)
    assert list(predicted) == ["click", "buy"]
    assert predicted["buy"] == scores[:, 1].tolist()


def test_each_metric_is_that_of_the_labels_that_it_fits():
    trainer, rows = run(mixed_map(), kind=Heads, **MIXED)
    found = trainer.evaluate(rows)
    assert list(found) == ["click_AUC", "click_RMSE", "rating_RMSE", "AUC", "RMSE"]
    assert found["AUC"] == found["click_AUC"] > 0.7
    assert found["rating_RMSE"] < 2


@pytest.mark.parametrize("weights", ["EQ", [1.0, 1.0], {"buy": 0.25, "click": 2}, [0, 1]])
def test_the_loss_is_the_weighted_sum(weights):
    feature_map = clicks_map()
    model = make(feature_map, kind=Heads, **CLICKS, loss_weight=weights)
    batch = next(iter(BatchIterator(rated_data(feature_map), BATCH)))
    outputs, labels = model(batch), model.get_labels(batch)
    pairs = [(outputs[f"{name}_pred"], batch[name][:, None]) for name in ("click", "buy")]
    each = [F.binary_cross_entropy(*pair) for pair in pairs]
    factors = {"EQ": (1, 1)}.get(str(weights)) or (
        (weights["click"], weights["buy"]) if isinstance(weights, dict) else weights
    )
    expected = factors[0] * each[0] + factors[1] * each[1]
    torch.testing.assert_close(model.add_loss(outputs, labels), expected)
    torch.testing.assert_close(model.compute_loss(outputs, labels), expected)
    part = model.batch_loss(outputs, labels, num_rows=2 * BATCH)
    torch.testing.assert_close(part, expected / 2)


def test_a_weight_of_zero_leaves_a_label_out_of_the_training():
    trainer, _ = run(clicks_map(), kind=Heads, **CLICKS, loss_weight=[1, 0])
    assert trainer.model.heads[1].bias.item() == 0
    assert trainer.model.heads[0].bias.item() != 0


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [("buy_AUC", "max"), ({"click_AUC": 1, "buy_logloss": -0.5}, "max"), ("logloss", "min")],
)
def test_early_stopping_on_any_of_them(monitor, mode):
    trainer, _ = run(clicks_map(), kind=Heads, **CLICKS, monitor=monitor)
    assert trainer.monitor.mode == mode
    values = [trainer.monitor.get_value(e["metrics"]) for e in trainer._result.history]
    best = max(values) if mode == "max" else min(values)
    assert trainer.monitor.get_value(trainer._result.valid) == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"monitor": "view_AUC"}, "found view_AUC, allowed: AUC, click_AUC, buy_AUC"),
        ({"monitor": "click_gAUC"}, "click_gAUC is not among the metrics"),
        ({"num_tasks": 3}, "'num_tasks': found 3, but dataset 'd' has 2 labels: click, buy"),
        ({"task": [BINARY] * 3}, "key 'task': found 3 tasks, allowed: 2"),
        ({"loss": ["bce"]}, "key 'loss': found 1 losses, allowed: 2"),
        ({"loss_weight": "UW"}, "'loss_weight': found 'UW', allowed: EQ, a list of 2 weights"),
        ({"loss_weight": [1]}, "key 'loss_weight'"),
        ({"loss_weight": {"click": 1}}, "key 'loss_weight'"),
        ({"loss_weight": [1, -1]}, "key 'loss_weight'"),
        ({"loss_weight": [0, 0]}, "key 'loss_weight'"),
    ],
)
def test_what_does_not_fit_the_labels(keys, message):
    with pytest.raises(ConfigError, match=message):
        run(clicks_map(), kind=Heads, **{**CLICKS, **keys})


def test_a_metric_of_a_label_needs_several():
    with pytest.raises(ConfigError, match="key 'monitor': found click_AUC, allowed: AUC"):
        run(rated_map(["click"], BINARY), monitor="click_AUC")


def test_one_task_for_all_with_a_loss_for_each():
    keys = {**CLICKS, "loss": ["binary_crossentropy", "mse_loss"]}
    trainer, _ = run(clicks_map(), kind=Heads, **keys)
    assert trainer.hooks == []
    assert trainer.model.loss_fn == [F.binary_cross_entropy, F.mse_loss]
    assert trainer._result.valid["buy_AUC"] > 0.7


def test_an_own_loss_gives_the_weights_another_meaning():
    class Uncertain(Heads):
        def add_loss(self, return_dict, y_true):
            assert self.loss_weight == "UW"
            parts = zip(self.loss_fn, self.feature_map.labels, y_true, strict=True)
            return sum(f(return_dict[f"{n}_pred"], y, reduction="mean") for f, n, y in parts)

    trainer, _ = run(clicks_map(), kind=Uncertain, **CLICKS, loss_weight="UW")
    assert trainer.hooks == ["add_loss"]
    plain, _ = run(clicks_map(), kind=Heads, **CLICKS)
    pairs = zip(trainer.model.parameters(), plain.model.parameters(), strict=True)
    for mine, other in pairs:
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-4)


def test_a_forward_without_a_label_is_an_error():
    class Half(Heads):
        def forward(self, inputs):
            return {"click_pred": super().forward(inputs)["click_pred"]}

    with pytest.raises(DataError, match="the keys click_pred; allowed: 'buy_pred' among them"):
        run(clicks_map(), kind=Half, **CLICKS)


def test_a_label_of_one_class_is_an_error_that_names_it():
    feature_map = clicks_map()
    data = rated_data(feature_map)
    place = data.layout.positions["buy"][1]
    data.values[:, place] = 0
    model = make(feature_map, kind=Heads, **CLICKS)
    trainer = Trainer(model, TrainConfig(learning_rate=5e-2, task=BINARY), verbose=0)
    rows = BatchIterator(data, BATCH)
    with pytest.raises(DataError, match="the validation split, label 'buy': AUC needs labels"):
        trainer.fit(rows, rows)


def test_penalties_count_what_fuxictr_counts_of_such_models():
    """The map of a numeric field is net; weights of other names than weight and bias are not."""

    class Scaled(Heads):
        def __init__(self, feature_map, **kwargs):
            super().__init__(feature_map, **kwargs)
            self.alpha = nn.Parameter(torch.ones(1))

    keys = {**CLICKS, "embedding_regularizer": 1, "net_regularizer": 2}
    model = make(clicks_map(), kind=Scaled, **keys)
    names = {id(weight): name for name, weight in model.named_parameters()}
    found = {names[id(weight)]: factor for weight, _, factor in model.penalized_parameters()}
    assert "alpha" not in found
    of_layer = {n: w for n, w in model.named_parameters() if n.startswith("embedding_layer")}
    maps = {name for name, weight in of_layer.items() if len(weight) < 20}
    assert maps
    assert set(of_layer) - maps
    assert all(found[name] == (2 if name in maps else 1) for name in of_layer)
    heads = {name for name in found if name.startswith("heads")}
    assert len(heads) == 4
    assert all(found[name] == 2 for name in heads)
