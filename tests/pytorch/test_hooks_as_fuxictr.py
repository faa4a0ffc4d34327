"""Overridden methods give what they give in FuxiCTR 2.3.10, within the noise of seeds."""

import json
import statistics
import sys
from pathlib import Path

import pytest

FACTS = Path(__file__).parents[1] / "fuxictr_facts"
RECORDED = json.loads((FACTS / "hooks.json").read_text())


@pytest.fixture(scope="module")
def ours():
    sys.path.insert(0, str(FACTS))
    try:
        import record_hooks

        return record_hooks.record()
    finally:
        sys.path.remove(str(FACTS))


@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize("metric", ["train_loss", "logloss", "AUC"])
def test_as_in_fuxictr(name, metric, ours):
    """The means differ by less than four standard errors of their difference, and 0.003."""
    theirs, found = ([run[metric] for run in runs[name]] for runs in (RECORDED, ours))
    variances = statistics.variance(theirs) + statistics.variance(found)
    noise = 4 * (variances / len(found)) ** 0.5 + 0.003
    assert abs(statistics.mean(theirs) - statistics.mean(found)) < noise


@pytest.mark.parametrize("name", ["AddLoss", "ComputeLoss", "RegularizationLoss", "TrainStep"])
def test_the_difference_to_a_class_without_the_override_is_far_larger(name):
    """So the test above would see a method that is not called."""
    plain, own = (statistics.mean(r["train_loss"] for r in RECORDED[n]) for n in ("Plain", name))
    assert abs(plain - own) > 0.02
