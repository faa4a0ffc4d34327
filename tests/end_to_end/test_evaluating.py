"""analyze.py evaluates what it records: the test metrics of the weights, as the run had them."""

from __future__ import annotations

import re

import pytest

from fuxictr.cli.analyze import main
from fuxictr.experiment.recordings import trained
from fuxictr.experiment.recordings.evaluate import evaluate_test
from fuxictr.experiment.recordings.trained import find_checkpoint
from fuxictr.experiment.results.store import read_results
from fuxictr.experiment.run import run
from fuxictr.experiment.zoo.models import ZOO, load_experiment
from fuxictr.metrics import format_metrics


@pytest.fixture
def analyze(user, tmp_path, monkeypatch, capsys):
    """Runs analyze.py on the user's expid in this process; returns what it printed."""
    monkeypatch.setattr(trained, "ROOT", tmp_path)

    def call() -> str:
        argv = ["--model", "DeepFM", "--expid", "mine", "--config", str(user.path), "--gpu", "-1"]
        with pytest.raises(SystemExit) as ended:
            main([*argv, "--rows", "50"])
        captured = capsys.readouterr()
        assert ended.value.code == 0, captured.err
        return captured.out

    return call


@pytest.mark.parametrize("streaming", [False, True])
def test_the_test_metrics_are_those_of_the_run(user, train, analyze, streaming):
    group = {"name": "group", "dtype": "str", "type": "meta"}
    user.dataset["feature_cols"][0] = {"name": "item", "dtype": "str", "type": "categorical"}
    user.dataset["feature_cols"].append(group | {"name": "user"})
    metrics = {"metrics": ["AUC", "logloss", "gAUC"], "group_id": "user", "streaming": streaming}
    user.model["mine"].update(metrics)
    user.write_configs()
    assert train(user.path)[0] == 0
    (row,) = read_results(run.RESULTS)
    config, model_class = load_experiment("mine", ZOO / "DeepFM", user.path)
    found = evaluate_test(find_checkpoint("DeepFM", config, model_class, [row]), -1)
    assert found == row.test and set(found) == {"AUC", "logloss", "gAUC"}
    printed = analyze()
    assert printed.splitlines()[-1] == f"[Metrics] {format_metrics(row.test)}"
    assert f"Test split, weights of {row.checkpoint}:" in printed


def test_without_a_test_split_it_says_so(user, train, analyze):
    del user.dataset["test_data"]
    user.write_configs()
    assert train(user.path)[0] == 0
    printed = analyze()
    assert printed.splitlines()[-1] == "Dataset 'clicks' has no test split to evaluate."
    assert re.search(r"Recorded: .*records.h5", printed)
