"""Several labels and regression give what they give in FuxiCTR 2.3.10, within seeds' noise."""

import json
import statistics
import sys
from pathlib import Path

import pytest

FACTS = Path(__file__).parents[1] / "fuxictr_facts"
RECORDED = json.loads((FACTS / "multitask.json").read_text())
CASES = [
    *(
        (name, metric)
        for name in ("ShareBottom", "MMoE", "PLE")
        for metric in ("click_AUC", "buy_AUC", "AUC", "click_logloss", "buy_logloss", "logloss")
    ),
    *((loss, metric) for loss in ("mse_loss", "l1_loss") for metric in ("AUC", "RMSE")),
]


@pytest.fixture(scope="module")
def ours():
    sys.path.insert(0, str(FACTS))
    try:
        import record_multitask

        return record_multitask.record()
    finally:
        sys.path.remove(str(FACTS))


@pytest.mark.parametrize("name", RECORDED)
def test_the_same_figures(name, ours):
    for theirs, found in zip(RECORDED[name], ours[name], strict=True):
        assert set(found) == set(theirs)


@pytest.mark.parametrize(("name", "metric"), CASES)
def test_as_in_fuxictr(name, metric, ours):
    """The means differ by less than four standard errors of their difference, and 0.003."""
    theirs, found = ([run[metric] for run in runs[name]] for runs in (RECORDED, ours))
    variances = statistics.variance(theirs) + statistics.variance(found)
    noise = 4 * (variances / len(found)) ** 0.5 + 0.003
    assert abs(statistics.mean(theirs) - statistics.mean(found)) < noise


@pytest.mark.parametrize("metric", ["AUC", "logloss"])
def test_the_plain_metric_is_the_mean_over_labels(metric, ours):
    for run in [*ours["PLE"], *RECORDED["PLE"]]:
        labels = [run[f"{label}_{metric}"] for label in ("click", "buy")]
        assert run[metric] == pytest.approx(statistics.mean(labels), abs=1e-12)
