"""Models of FuxiCTR's layers train to FuxiCTR's logloss and AUC, within the noise of seeds."""

import json
import statistics
import sys
from pathlib import Path

import pytest

FACTS = Path(__file__).parents[1] / "fuxictr_facts"
RECORDED = json.loads((FACTS / "layer_models.json").read_text())
QUICK = ("Machine", "DeepNormOnce", "CrossMix", "Compressed", "BilinearAll", "Interest")
NAMES = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in RECORDED]


@pytest.fixture(scope="module")
def facts():
    sys.path.insert(0, str(FACTS))
    try:
        import record_layer_models

        yield record_layer_models
    finally:
        sys.path.remove(str(FACTS))


@pytest.mark.parametrize("name", NAMES)
def test_as_in_fuxictr(name, facts):
    """The means differ by less than four standard errors of their difference, and 0.003."""
    (runs,) = facts.record(names=[name]).values()
    for metric in ("logloss", "AUC"):
        theirs, ours = ([run[metric] for run in side] for side in (RECORDED[name], runs))
        noise = 4 * ((statistics.variance(theirs) + statistics.variance(ours)) / len(ours)) ** 0.5
        assert abs(statistics.mean(theirs) - statistics.mean(ours)) < noise + 0.003


def test_every_class_is_recorded(facts):
    import layer_models

    assert [kind.__name__ for kind in layer_models.CLASSES] == list(RECORDED)
