"""AUC and logloss of tensors, as on a GPU, against pair counts, scikit-learn and the numpy code."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from fuxictr.errors import ConfigError, DataError
from fuxictr.metrics import auc, evaluate, evaluate_metrics, logloss, rows
from tests.needs_gpu import needs_gpu

NAMES = ["logloss", "gAUC", "AUC", "MRR"]


@pytest.fixture
def on_gpu(monkeypatch):
    """Takes every tensor for one on a GPU."""
    monkeypatch.setattr(evaluate, "_is_on_gpu", evaluate.is_tensor)


def click_log(num_rows=20_000, decimals=3):
    rng = np.random.default_rng(0)
    scores = rng.random(num_rows).astype(np.float32).round(decimals)
    return (rng.random(num_rows) < scores).astype(np.float32), scores


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from([-0.0, 0.0, 0.1, 0.2, 0.2001, 0.5, 0.9])),
        min_size=2,
        max_size=60,
    ),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_auc_counts_pairs_with_ties_as_half(rows, dtype):
    labels, values = zip(*rows, strict=True)
    scores = torch.tensor(values, dtype=dtype)
    clicks = [p for p, y in zip(scores.tolist(), labels, strict=True) if y]
    others = [n for n, y in zip(scores.tolist(), labels, strict=True) if not y]
    pairs = [(p > n) + 0.5 * (p == n) for p in clicks for n in others]
    if not pairs:
        with pytest.raises(DataError, match=f"AUC needs labels 0 and 1; all {len(rows)} labels"):
            auc(torch.tensor(labels), scores)
    else:
        found = auc(torch.tensor(labels), scores)
        assert found == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)


@pytest.mark.parametrize("decimals", [1, 3, 9])
def test_metrics_agree_with_scikit_learn_and_the_numpy_code(decimals):
    labels, scores = click_log(decimals=decimals)
    tensors = torch.from_numpy(labels).view(-1, 1), torch.from_numpy(scores).view(-1, 1)
    assert auc(*tensors) == auc(labels, scores)
    assert auc(*tensors) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    chance = np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7)
    assert logloss(*tensors) == pytest.approx(logloss(labels, scores), abs=1e-12)
    assert logloss(*tensors) == pytest.approx(log_loss(labels, chance), abs=1e-12)


def test_float32_scores_have_the_auc_of_the_same_numbers_in_float64():
    labels, scores = click_log(decimals=9)
    assert auc(labels, scores) == auc(labels, scores.astype(np.float64))
    whole = (scores * 100).astype(np.int64)
    assert auc(labels, whole) == auc(labels, whole.astype(np.float64))


def test_certain_and_wrong_predictions_have_a_finite_logloss():
    found = logloss(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
    assert found == pytest.approx(-np.log(1e-7))


@pytest.mark.parametrize("kind", ["on_gpu", "on_host"])
def test_tensors_have_the_metrics_of_their_numbers(kind, request):
    if kind == "on_gpu":
        request.getfixturevalue("on_gpu")
    labels, scores = click_log(num_rows=500)
    groups = np.arange(500) % 40
    expected = evaluate_metrics(labels, scores, NAMES, groups)
    tensors = torch.from_numpy(labels), torch.from_numpy(scores)
    found = evaluate_metrics(*tensors, NAMES, groups)
    assert list(found) == NAMES
    assert found == pytest.approx(expected, abs=1e-12)
    assert evaluate_metrics(labels, tensors[1], NAMES, groups) == found


def test_torch_computes_what_is_on_a_gpu(on_gpu, monkeypatch):
    labels, scores = map(torch.from_numpy, click_log(num_rows=50))
    monkeypatch.setattr(evaluate, "_on_host", None)  # nothing comes to the host
    monkeypatch.setattr(rows, "np", None)
    assert list(evaluate_metrics(labels, scores, ["AUC", "logloss"])) == ["AUC", "logloss"]


def test_errors_are_those_of_arrays(on_gpu):
    labels, scores = torch.tensor([0.0, 1.0, 1.0]), torch.tensor([0.1, 0.2, 0.3])
    for bad in (torch.nan, torch.inf, -torch.inf):
        with pytest.raises(DataError, match="the prediction of row 2 is not finite"):
            evaluate_metrics(labels, torch.tensor([[0.1], [bad], [bad]]), ["AUC"])
    with pytest.raises(DataError, match="all 3 labels are 0"):
        evaluate_metrics(labels * 0, scores, ["AUC"])
    with pytest.raises(DataError, match="all 3 labels are 1"):
        evaluate_metrics(labels * 0 + 1, scores, ["AUC"])
    with pytest.raises(DataError, match="found 2 labels and 3 predictions"):
        evaluate_metrics(labels[:2], scores, ["AUC"])
    with pytest.raises(DataError, match="found 0 labels and 0 predictions"):
        evaluate_metrics(labels[:0], scores[:0], ["AUC"])
    with pytest.raises(ConfigError, match="metric 'auc'.*did you mean 'AUC'"):
        evaluate_metrics(labels, scores, ["auc"])
    with pytest.raises(ConfigError, match="key 'group_id': metric 'MRR'"):
        evaluate_metrics(labels, scores, ["MRR"])


@needs_gpu
def test_a_gpu_gives_the_metrics_of_the_host():
    labels, scores = click_log(num_rows=1_000_000)
    tensors = [torch.from_numpy(values).cuda() for values in (labels, scores)]
    found = evaluate_metrics(*tensors, ["AUC", "logloss"])
    assert found == pytest.approx(evaluate_metrics(labels, scores, list(found)), abs=1e-12)
    assert found["AUC"] == auc(labels, scores)


def test_arrays_are_evaluated_without_torch():
    code = """
import sys
import numpy as np
from fuxictr.metrics import evaluate_metrics
evaluate_metrics(np.array([0, 1]), np.array([0.2, 0.3]), ["AUC", "gAUC"], np.zeros(2))
assert "torch" not in sys.modules
"""
    root = Path(__file__).resolve().parents[1]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)
