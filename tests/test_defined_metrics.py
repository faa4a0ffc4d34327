"""Metrics of rows for which they are not defined, and of rows that are no labels or predictions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fuxictr.errors import ConfigError, DataError
from fuxictr.metrics import (
    UndefinedMetricError,
    auc,
    check_defined,
    evaluate,
    evaluate_defined,
    evaluate_metrics,
    find_undefined,
)

NAMES = ["logloss", "AUC", "gAUC", "avgAUC", "MRR", "NDCG(k=2)"]
GROUPS = np.array([1, 1, 2, 2, 2])
CONSTANT = st.sampled_from([0.0, -0.0, 1e-45, 0.3, 1.0])


@pytest.fixture(params=["numpy", "on_host", "on_gpu"])
def as_given(request, monkeypatch):
    """Makes values what they come as: arrays, or tensors here or (so it is taken) on a GPU."""
    if request.param == "on_gpu":
        monkeypatch.setattr(evaluate, "_is_on_gpu", evaluate.is_tensor)
    return np.asarray if request.param == "numpy" else torch.as_tensor


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_labels_of_one_class_leave_the_defined_metrics(as_given, label):
    labels, scores = as_given(np.full(5, label)), as_given(np.linspace(0.1, 0.9, 5))
    results, undefined = evaluate_defined(labels, scores, NAMES, GROUPS)
    with_clicks = ["MRR", "NDCG(k=2)"]
    assert list(results) == ["logloss"] + with_clicks * bool(label)
    assert list(undefined) == ["AUC", "gAUC", "avgAUC"] + with_clicks * (not label)
    assert undefined["AUC"] == f"AUC needs labels 0 and 1; all 5 labels are {label:.0f}"
    assert undefined["gAUC"].startswith("gAUC needs a group with labels 0 and 1")
    for name, reason in undefined.items():
        with pytest.raises(UndefinedMetricError) as caught:
            evaluate_metrics(labels, scores, [name], GROUPS)
        assert str(caught.value) == reason
    assert evaluate_metrics(labels, scores, list(results), GROUPS) == results


def test_a_single_row(as_given):
    results, undefined = evaluate_defined(as_given([1.0]), as_given([0.25]), NAMES, [7])
    assert results == {"logloss": pytest.approx(np.log(4)), "MRR": 1.0, "NDCG(k=2)": 1.0}
    assert undefined["AUC"] == "AUC needs labels 0 and 1; the only label is 1"


@given(CONSTANT, st.lists(st.booleans(), min_size=2, max_size=40))
def test_constant_predictions_have_an_auc_of_one_half(score, labels):
    labels = np.array([0, 1, *labels], dtype=np.float32)
    scores = np.full(labels.size, score, dtype=np.float32)
    scores[::2] *= -1 if score == 0 else 1  # a negative zero is a zero
    groups = np.arange(labels.size) // 2
    results = evaluate_metrics(labels, scores, NAMES, groups)
    assert results["AUC"] == results["gAUC"] == results["avgAUC"] == 0.5
    assert auc(torch.from_numpy(labels), torch.from_numpy(scores)) == 0.5
    # A click of a pair that is tied has rank 1 or 2, as likely the one as the other.
    clicks = labels[: labels.size // 2 * 2].reshape(-1, 2).sum(1)
    last = labels[-1:] if labels.size % 2 else labels[:0]
    means = np.concatenate([np.where(clicks > 0, 0.75, 0.0), last])
    assert results["MRR"] == pytest.approx(means.mean(), abs=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", NAMES)
def test_predictions_that_are_not_finite(as_given, bad, name):
    labels, scores = as_given([[0.0], [1.0], [1.0], [0.0], [0.0]]), np.full((5, 1), 0.5)
    scores[[2, 4]] = bad
    text = "^the prediction of row 3 is not finite; 2 of 5 predictions are NaN or infinite$"
    for evaluation in (evaluate_metrics, evaluate_defined):
        with pytest.raises(DataError, match=text):
            evaluation(labels, as_given(scores), [name], GROUPS)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.5, 2, -1])
def test_labels_other_than_0_and_1(as_given, bad):
    labels = as_given([[0.0], [1.0], [1.0], [bad], [0.0]])
    text = rf"^the label of row 4 is {float(bad)}, expected 0 or 1$"
    with pytest.raises(DataError, match=text):
        evaluate_metrics(labels, as_given(np.full(5, 0.5)), ["AUC"])


@pytest.mark.parametrize("bad", [-1e-7, 1.5, 7])
def test_logloss_of_what_is_no_probability(as_given, bad):
    labels, scores = as_given([0.0, 1.0, 1.0]), as_given([0.0, bad, 1.0])
    text = "logloss needs probabilities: the prediction of row 2 is .*, expected 0 to 1"
    with pytest.raises(DataError, match=text):
        evaluate_metrics(labels, scores, ["AUC", "logloss"])
    assert list(evaluate_metrics(labels, scores, ["AUC"])) == ["AUC"]


def test_group_ids_that_are_nan():
    labels = np.array([0.0, 1.0, 1.0])
    with pytest.raises(DataError, match="the group id of row 2 is nan"):
        evaluate_metrics(labels, labels, ["MRR"], np.array([1.0, np.nan, np.nan]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves(dtype):
    labels, scores = torch.tensor([0, 1, 1]), torch.tensor([0.25, 0.5, 0.125], dtype=dtype)
    expected = evaluate_metrics(labels, scores.float(), ["AUC", "logloss"])
    assert evaluate_metrics(labels, scores, ["AUC", "logloss"]) == expected


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1, max_size=30),
    st.lists(st.integers(0, 30), max_size=4),
)
def test_what_is_undefined_is_found_without_predictions(rows, cuts):
    labels, groups = (np.array(column) for column in zip(*rows, strict=True))
    parts = np.split(labels.astype(np.float32), sorted(min(cut, labels.size) for cut in cuts))
    expected = evaluate_defined(labels, np.full(labels.size, 0.5), NAMES, groups)[1]
    assert find_undefined(NAMES, parts, groups) == expected


def test_no_more_labels_are_read_than_it_takes():
    parts = iter([[0.0], [0.0], [1.0], [0.0], [0.0]])
    assert find_undefined(["AUC", "logloss"], map(np.array, parts)) == {}
    assert len(list(parts)) == 1  # looked at after 1, 2 and 4 rows
    assert find_undefined(["AUC"], iter([torch.zeros(9, 1)] * 100)) == {
        "AUC": "AUC needs labels 0 and 1; all 900 labels are 0"
    }


def test_a_split_without_a_defined_metric_is_named():
    parts = [np.zeros(300), np.zeros(1)]
    check_defined(["logloss"], parts, None, "the validation split")
    with pytest.raises(UndefinedMetricError) as caught:
        check_defined(["logloss", "AUC"], parts, None, "the validation split")
    assert str(caught.value) == (
        "the validation split: AUC needs labels 0 and 1; all 301 labels are 0; give it other rows, "
        "or leave 'AUC' out of the keys 'metrics' and 'monitor' (metrics: [logloss], "
        "monitor: logloss, monitor_mode: min always work)"
    )
    with pytest.raises(ConfigError, match="key 'group_id'"):
        check_defined(["gAUC"], parts, None, "the validation split")
    with pytest.raises(DataError, match="found 0 labels"):
        check_defined(["AUC"], [], None, "the validation split")
