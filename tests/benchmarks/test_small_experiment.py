"""small_experiment.py on few rows, and its arithmetic."""

import pytest

from fuxictr.experiment.zoo.models import ZOO


@pytest.fixture
def small(script):
    return script("small_experiment")


def child(script, seconds, **output):
    return script("common").Child(output, seconds, peak_mb=1.0, tree_peak_mb=seconds * 10)


def row(auc):
    return {
        "valid": {"AUC": auc + 0.1},
        "test": {"AUC": auc},
        "epochs": int(auc * 10),
        "parameters": 7,
    }


def test_a_whole_experiment_runs_and_leaves_nothing_behind(run_script):
    before = sorted(ZOO.glob("FM/*"))
    options = ("--rows", "3000", "--batch-size", "500", "--epochs", "2", "--repeats", "1")
    printed, stored = run_script("small_experiment", *options)
    assert sorted(ZOO.glob("FM/*")) == before
    ours = stored["ours"]
    assert ours["epochs_each"] == [2]
    assert 0 < ours["test_auc"] < 1
    assert 0 < ours["encoded_seconds_each"][0] < ours["whole_seconds_each"][0] * 3
    assert (stored["rows"], stored["batch_size"]) == (3000, 500)
    assert "peer" not in stored and "whole_ratio" not in stored
    assert f"test AUC {ours['test_auc']:.6f}" in printed


def test_the_summary_takes_medians_of_seconds_and_means_of_auc(script, small):
    runs = [
        {"whole": child(script, w, **row(auc)), "encoded": child(script, e)}
        for w, e, auc in ((9.0, 1.0, 0.5), (3.0, 2.0, 0.7), (4.0, 6.0, 0.6))
    ]
    found = small.summary(runs)
    assert (found["whole_seconds"], found["encoded_seconds"]) == (4.0, 2.0)
    assert found["test_auc"] == pytest.approx(0.6)
    assert found["valid_auc"] == pytest.approx(0.7)
    assert found["epochs_each"] == [5, 7, 6]
    assert found["tree_peak_mb"] == 40.0


def test_ratios_are_of_pairs(script, small):
    def repeats(*seconds):
        return [{"whole": child(script, w), "encoded": child(script, e)} for w, e in seconds]

    found = small.compare(repeats((1.0, 1.0), (2.0, 4.0)), repeats((4.0, 3.0), (4.0, 4.0)))
    assert (found["whole_ratio"], found["whole_ratio_each"]) == (3.0, [4.0, 2.0])
    assert (found["encoded_ratio"], found["encoded_ratio_each"]) == (2.0, [3.0, 1.0])
