"""Metrics against scikit-learn and plain loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from fuxictr.errors import ConfigError, DataError
from fuxictr.metrics import Monitor, auc, evaluate_metrics, format_metrics, logloss


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


def test_monitor_weighs_metrics():
    results = {"AUC": 0.8, "logloss": 0.4}
    assert Monitor("AUC").get_value(results) == 0.8
    assert Monitor({"AUC": 1, "logloss": -1}).get_value(results) == pytest.approx(0.4)
    with pytest.raises(ConfigError, match="'auc' is not among the metrics"):
        Monitor("auc").get_value(results)
    assert format_metrics(results) == "AUC: 0.800000 - logloss: 0.400000"
