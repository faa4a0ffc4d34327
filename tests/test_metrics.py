"""Metrics against scikit-learn and plain loops."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import log_loss, ndcg_score, roc_auc_score

from fuxictr.config import TrainConfig
from fuxictr.errors import ConfigError, DataError
from fuxictr.features import FeatureMap
from fuxictr.metrics import (
    Monitor,
    auc,
    evaluate_metrics,
    find_metric,
    format_metrics,
    logloss,
)
from fuxictr.pytorch.dataloaders import BatchIterator, from_arrays
from fuxictr.pytorch.layers import LogisticRegression
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.training.trainer import Trainer

GROUP_METRICS = ["gAUC", "avgAUC", "MRR", "NDCG(k=1)", "NDCG(k=2)", "NDCG(k=50)"]
ROWS = st.lists(
    st.tuples(st.sampled_from([-7, 0, 3, 2**40]), st.integers(0, 1), st.integers(-2, 2)),
    min_size=1,
    max_size=14,
)


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from([0.1, 0.2, 0.2001, 0.5, 0.9])),
        min_size=2,
        max_size=60,
    )
)
def test_auc_counts_pairs_with_ties_as_half(rows):
    labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    pairs = [
        (p > n) + 0.5 * (p == n)
        for p in scores[labels == 1].tolist()
        for n in scores[labels == 0].tolist()
    ]
    if not pairs:
        with pytest.raises(DataError, match="AUC needs labels 0 and 1"):
            auc(labels, scores)
    else:
        assert auc(labels, scores) == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)


def test_metrics_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    scores = rng.random(20_000).astype(np.float32).round(3)
    labels = (rng.random(20_000) < scores).astype(np.float32)
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    chance = np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7)
    assert logloss(labels, scores) == pytest.approx(log_loss(labels, chance), abs=1e-12)


def test_certain_and_wrong_predictions_have_a_finite_logloss():
    assert logloss(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(-np.log(1e-7))


def test_errors():
    with pytest.raises(DataError, match="row 2 is not finite"):
        evaluate_metrics(np.array([0, 1]), np.array([0.1, np.nan]), ["AUC"])
    with pytest.raises(ConfigError, match="metric 'ACU'.*did you mean 'AUC'"):
        evaluate_metrics(np.array([0, 1]), np.array([0.1, 0.2]), ["ACU"])


def columns(rows):
    groups, labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    return labels, scores.astype(np.float64), groups


def evaluate(name, labels, scores, groups):
    """The value of one metric; None where it is not defined."""
    try:
        return evaluate_metrics(labels, scores, [name], groups)[name]
    except DataError:
        return None


def groups_of(labels, scores, groups):
    for group in set(groups.tolist()):
        yield labels[groups == group].tolist(), scores[groups == group].tolist()


def plain_auc(labels, scores):
    pairs = [
        (p > n) + 0.5 * (p == n)
        for p, y in zip(scores, labels, strict=True)
        for n, z in zip(scores, labels, strict=True)
        if y > z
    ]
    return np.mean(pairs) if pairs else None


def mean_over_orders(labels, scores, figure):
    """The mean of figure(labels from the top) over all orders by falling score."""
    ties = [
        [y for y, s in zip(labels, scores, strict=True) if s == score]
        for score in sorted(set(scores), reverse=True)
    ]
    orders = itertools.product(*(list(itertools.permutations(tie)) for tie in ties))
    return np.mean([figure([y for tie in order for y in tie]) for order in orders])


def plain_mrr(ordered):
    return sum(y / rank for rank, y in enumerate(ordered, 1)) / max(sum(ordered), 1)


def plain_ndcg(ordered, k):
    def dcg(gains):
        return sum((2**y - 1) / math.log2(rank + 1) for rank, y in enumerate(gains[:k], 1))

    return dcg(ordered) / dcg(sorted(ordered, reverse=True)) if any(ordered) else 0.0


@given(ROWS)
def test_group_aucs_equal_a_loop_over_pairs(rows):
    labels, scores, groups = columns(rows)
    found = [(plain_auc(y, s), len(y)) for y, s in groups_of(labels, scores, groups)]
    found = [(value, size) for value, size in found if value is not None]
    if not found:
        for name in ("gAUC", "avgAUC"):
            with pytest.raises(DataError, match=f"{name} needs a group with labels 0 and 1"):
                evaluate_metrics(labels, scores, [name], groups)
    else:
        aucs, sizes = zip(*found, strict=True)
        results = evaluate_metrics(labels, scores, ["gAUC", "avgAUC"], groups)
        assert results["gAUC"] == pytest.approx(np.average(aucs, weights=sizes), abs=1e-12)
        assert results["avgAUC"] == pytest.approx(np.mean(aucs), abs=1e-12)


@given(ROWS.filter(lambda rows: len(rows) <= 7), st.integers(1, 4))
def test_mrr_and_ndcg_are_the_mean_over_all_orders_of_tied_rows(rows, k):
    labels, scores, groups = columns(rows)
    names = ["MRR", f"NDCG(k={k})"]
    if not labels.any():
        for name in names:
            with pytest.raises(DataError, match="needs a group with a click"):
                evaluate_metrics(labels, scores, [name], groups)
        return
    results = evaluate_metrics(labels, scores, names, groups)
    figures = [plain_mrr, lambda ordered: plain_ndcg(ordered, k)]
    for name, figure in zip(names, figures, strict=True):
        each = [mean_over_orders(y, s, figure) for y, s in groups_of(labels, scores, groups)]
        assert results[name] == pytest.approx(np.mean(each), abs=1e-12)


@pytest.mark.parametrize("decimals", [1, 12])
def test_group_metrics_agree_with_scikit_learn(decimals):
    rng = np.random.default_rng(1)
    groups = rng.zipf(1.5, 5000) % 400 - 200
    scores = rng.random(5000).round(decimals)
    labels = (rng.random(5000) < scores / 2).astype(np.float32)
    aucs, sizes, ndcgs = [], [], []
    for y, s in groups_of(labels, scores, groups):
        if len(set(y)) == 2:
            aucs.append(roc_auc_score(y, s))
            sizes.append(len(y))
        ndcgs.append(ndcg_score([y], [s], k=5) if len(y) > 1 else y[0])
    assert 0 < len(aucs) < len(ndcgs)
    results = evaluate_metrics(labels, scores, ["gAUC", "avgAUC", "NDCG(k=5)"], groups)
    assert results["gAUC"] == pytest.approx(np.average(aucs, weights=sizes), abs=1e-12)
    assert results["avgAUC"] == pytest.approx(np.mean(aucs), abs=1e-12)
    assert results["NDCG(k=5)"] == pytest.approx(np.mean(ndcgs), abs=1e-12)


def test_groups_of_one_label_are_left_out_of_gauc_and_count_0_without_a_click():
    labels, groups = np.array([1, 0, 0, 0, 1]), np.array([5, 5, 1, 1, -2])
    scores = np.array([0.2, 0.8, 0.3, 0.4, 0.9])
    names = ["gAUC", "avgAUC", "MRR", "NDCG(k=1)"]
    results = evaluate_metrics(labels, scores, names, groups)
    expected = {"gAUC": 0.0, "avgAUC": 0.0, "MRR": (1 / 2 + 0 + 1) / 3, "NDCG(k=1)": 1 / 3}
    assert results == pytest.approx(expected, abs=1e-15)


@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_never_matters(rows, random):
    again = random.sample(rows, len(rows))
    for name in GROUP_METRICS:
        assert evaluate(name, *columns(rows)) == evaluate(name, *columns(again))


@given(ROWS, st.lists(st.floats(-1e6, 1e6), min_size=5, max_size=5, unique=True))
def test_only_the_order_of_the_scores_matters(rows, values):
    labels, scores, groups = columns(rows)
    risen = np.array(sorted(values))[scores.astype(int) + 2]
    for name in GROUP_METRICS:
        assert evaluate(name, labels, scores, groups) == evaluate(name, labels, risen, groups)


@given(ROWS)
def test_only_equality_of_the_group_ids_matters(rows):
    labels, scores, groups = columns(rows)
    for name in GROUP_METRICS:
        expected = evaluate(name, labels, scores, groups)
        texts = np.array([f"user {group}" for group in groups.tolist()])
        for ids in (texts, texts.astype(object), groups / 3, -groups):
            assert evaluate(name, labels, scores, ids) == pytest.approx(expected, abs=1e-12)


@given(ROWS)
def test_group_metrics_lie_between_0_and_1(rows):
    for name in GROUP_METRICS:
        value = evaluate(name, *columns(rows))
        assert value is None or 0 <= value <= 1


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(1, 50))
def test_a_perfect_order_has_ndcg_1_and_never_more(sizes, k):
    groups = np.repeat(np.arange(len(sizes)), np.array(sizes) * 2)
    labels = np.concatenate([np.repeat([1, 0], size) for size in sizes])
    scores = -np.arange(labels.size, dtype=np.float32)
    value = evaluate(f"NDCG(k={k})", labels, scores, groups)
    assert value <= 1 and value == pytest.approx(1, abs=1e-12)


@given(ROWS)
def test_one_group_has_the_auc_of_all_rows(rows):
    labels, scores, _ = columns(rows)
    assume(0 < labels.sum() < labels.size)
    results = evaluate_metrics(labels, scores, ["AUC", "gAUC", "avgAUC"], np.zeros(labels.size))
    assert results["gAUC"] == pytest.approx(results["AUC"], abs=1e-12)
    assert results["avgAUC"] == results["AUC"]


def test_metrics_keep_the_order_asked_and_one_spelling():
    names = ["NDCG( k = 5 )", "logloss", "MRR", "NDCG (k=010)", "AUC"]
    results = evaluate_metrics(
        np.array([[1.0], [0.0]]), np.array([[0.6], [0.3]]), names, np.array(["a", "a"])
    )
    assert list(results) == ["NDCG(k=5)", "logloss", "MRR", "NDCG(k=10)", "AUC"]
    assert results["NDCG(k=5)"] == results["MRR"] == 1.0
    needs = {name: find_metric(name).needs_groups for name in names}
    assert needs == dict(zip(names, [True, False, True, True, False], strict=True))
    monitor = Monitor({"NDCG(k = 5)": 1, "logloss": -1})
    assert monitor.get_value(results) == pytest.approx(1.0 - results["logloss"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gauc", "allowed: AUC, logloss, gAUC, .*did you mean 'gAUC'"),
        ("mrr", "did you mean 'MRR'"),
        ("HitRate(k=1)", r"allowed: .*MRR, NDCG\(k=N\), RMSE, MSE, MAE$"),
        *[
            (name, r"allowed: NDCG\(k=N\) with N = 1, 2, \.\.\.$")
            for name in ("NDCG", "NDCG(k=0)", "NDCG(k=-1)", "NDCG(k=2.5)", "NDCG(k=)", "NDCG@5")
        ],
        ("ndcg(k=5)", r"allowed: NDCG\(k=N\)"),
        ("NDCG(k=5) ", r"allowed: NDCG\(k=N\)"),
        ("MRR(k=__import__('os'))", "allowed: "),
    ],
)
def test_an_unknown_metric_is_an_error_that_names_the_allowed_ones(name, message):
    with pytest.raises(ConfigError, match=message):
        find_metric(name)
    with pytest.raises(ConfigError, match="key 'metrics': .*" + message):
        TrainConfig.from_params({"metrics": ["AUC", name]})


def test_a_group_metric_without_groups_is_an_error_that_names_both():
    rows = np.array([0, 1]), np.array([0.1, 0.2])
    with pytest.raises(ConfigError, match=r"key 'group_id': metric 'NDCG\(k=3\)' needs"):
        evaluate_metrics(*rows, ["AUC", "NDCG(k=3)"])
    assert evaluate_metrics(*rows, ["AUC"], None) == {"AUC": 1.0}
    with pytest.raises(DataError, match="found 3 group ids and 2 rows"):
        evaluate_metrics(*rows, ["MRR"], np.zeros(3))


def test_monitor_weighs_metrics():
    results = {"AUC": 0.8, "logloss": 0.4}
    assert Monitor("AUC").get_value(results) == 0.8
    assert Monitor({"AUC": 1, "logloss": -1}).get_value(results) == pytest.approx(0.4)
    with pytest.raises(ConfigError, match="gAUC is not among the metrics"):
        Monitor("gAUC").get_value(results)
    assert format_metrics(results) == "AUC: 0.800000 - logloss: 0.400000"


class TinyModel(BaseModel):
    def __init__(self, feature_map, **params):
        super().__init__(feature_map, **params)
        self.lr_layer = LogisticRegression(feature_map)
        self.reset_parameters()

    def forward(self, inputs):
        return self.output(self.lr_layer(self.get_inputs(inputs)))


class GroupedBatches(BatchIterator):
    group_ids = None


def grouped_batches(num_rows=90):
    rng = np.random.default_rng(0)
    feature_map = FeatureMap("d")
    feature_map.features = {"x": {"type": "numeric"}}
    feature_map.labels = ["click"]
    labels = rng.random(num_rows) < 0.4
    data = from_arrays({"x": rng.normal(size=num_rows), "click": labels}, feature_map)
    batches = GroupedBatches(data, 20)
    batches.group_ids = rng.integers(0, 12, num_rows)
    return feature_map, batches, labels


def test_the_trainer_evaluates_and_monitors_group_metrics():
    feature_map, batches, labels = grouped_batches()
    names = ["gAUC", "MRR", "NDCG( k = 5 )", "logloss"]
    config = TrainConfig(metrics=names, monitor={"gAUC": 1, "NDCG(k=5)": 0.5}, epochs=2)
    trainer = Trainer(TinyModel(feature_map), config, verbose=0)
    fitted = trainer.fit(batches, batches)
    expected = evaluate_metrics(labels, trainer.predict(batches), names, batches.group_ids)
    assert fitted.valid == trainer.evaluate(batches) == expected
    assert trainer.stopping.best == expected["gAUC"] + 0.5 * expected["NDCG(k=5)"]


def test_the_trainer_asks_for_group_ids_before_the_first_step():
    feature_map, batches, _ = grouped_batches()
    batches.group_ids = None
    config = TrainConfig(metrics=["AUC", "gAUC"])
    trainer = Trainer(TinyModel(feature_map), config, verbose=0)
    for ask in (lambda: trainer.fit(batches, batches), lambda: trainer.evaluate(batches)):
        with pytest.raises(ConfigError, match="key 'group_id': metric 'gAUC'"):
            ask()
    assert batches.epoch == 0
    with pytest.raises(ConfigError, match="metric 'gauc'.*did you mean 'gAUC'"):
        Trainer(TinyModel(feature_map), TrainConfig(metrics=["AUC", "gauc"]), verbose=0)
