"""Regression and several labels through the commands: train, predict, show, and the results."""

import json
import shutil

import numpy as np
import polars as pl
import pytest

from fuxictr.analysis.sample import Sample
from fuxictr.cli import predict, show
from fuxictr.errors import CheckpointError, ConfigError
from fuxictr.experiment.recordings.record import record_arrays
from fuxictr.experiment.recordings.trained import TrainedRun
from fuxictr.experiment.scoring import Scorer
from fuxictr.experiment.zoo.models import ROOT, load_experiment
from fuxictr.metrics import auc

from .test_user_folder import fails

MODELS = ROOT / "tests" / "fuxictr_facts" / "multitask_models.py"


@pytest.fixture
def rated(user):
    """A folder whose rows have a click, a purchase and a rating."""
    rng = np.random.default_rng(1)
    for split in ("train", "valid", "test"):
        path = user.path / f"{split}.csv"
        rows = pl.read_csv(path)
        noise = rng.normal(size=len(rows)) / 2
        user_effect = np.sin(rows["user"].to_numpy())
        rating = 50 + 10 * (rows["price"].to_numpy() + user_effect + noise)
        buy = (rng.random(len(rows)) < 1 / (1 + np.exp(1 + user_effect * 2))).astype(int)
        rows.with_columns(pl.Series("rating", rating.round(3)), pl.Series("buy", buy)).write_csv(
            path
        )
    return user


def last_row(tmp_path):
    return json.loads((tmp_path / "results.jsonl").read_text().splitlines()[-1])


REGRESSION = {
    "task": "regression",
    "loss": "mse",
    "metrics": ["RMSE", "MAE"],
    "monitor": "RMSE",
    "epochs": 20,
}


@pytest.mark.parametrize("expid", ["mine", "mine_gen"])
def test_regression(rated, train, tmp_path, expid):
    rated.dataset["label_col"] = {"name": "rating", "dtype": "float"}
    rated.model[expid].update(REGRESSION)
    rated.write_configs()
    assert train(rated.path, expid)[0] == 0
    row = last_row(tmp_path)
    labels = pl.read_csv(rated.path / "test.csv")["rating"].to_numpy()
    assert set(row["test"]) == {"RMSE", "MAE"}
    assert row["test"]["RMSE"] < 0.8 * labels.std()
    scorer = Scorer("DeepFM", expid, rated.path, gpu=-1)
    scores = scorer.score(pl.read_csv(rated.path / "test.csv", infer_schema=False))["y_pred"]
    error = np.sqrt(np.mean((scores.to_numpy() - labels) ** 2))
    assert row["test"]["RMSE"] == pytest.approx(error, rel=1e-4)


def test_ratings_without_the_task_are_an_error(rated, train):
    rated.dataset["label_col"] = {"name": "rating", "dtype": "float"}
    rated.write_configs()
    fails(train(rated.path), "train.csv", "column 'rating'", "0 or 1")


def test_a_rating_that_is_missing_is_an_error(rated, train):
    rated.dataset["label_col"] = {"name": "rating", "dtype": "float"}
    rated.model["mine"].update(REGRESSION)
    rated.write_configs()
    line = (rated.path / "train.csv").read_text().splitlines()[2].split(",")
    rated.edit("train", 3, f",{line[4]},", ",,")
    fails(train(rated.path), "train.csv", "row 2", "column 'rating'", "a number")


def test_default_metrics_do_not_fit_a_regression(rated, train):
    rated.model["mine"]["task"] = "regression"
    rated.write_configs()
    fails(train(rated.path), "key 'loss': found binary_crossentropy", "allowed: mse_loss")


@pytest.fixture
def several(rated, train, tmp_path):
    """The same with three labels and the models of multitask_models.py."""
    (tmp_path / "DeepFM" / "src").mkdir()
    for name in ("ShareBottom", "MMoE", "PLE"):
        shutil.copyfile(MODELS, tmp_path / "DeepFM" / "src" / f"{name}.py")
    rated.dataset["label_col"] = [{"name": n, "dtype": "float"} for n in ("click", "buy", "rating")]
    rated.model["Base"].update(
        optimizer="adam",
        task=["binary_classification", "binary_classification", "regression"],
        loss=["binary_crossentropy", "binary_crossentropy", "mse_loss"],
        num_tasks=3,
        loss_weight={"click": 1, "buy": 1, "rating": 0.01},
        metrics=["AUC", "logloss", "RMSE"],
        monitor={"AUC": 1, "rating_RMSE": -0.01},
    )
    rated.model["mtl"] = {
        **{k: v for k, v in rated.model["mine"].items() if k != "hidden_units"},
        "model": "MMoE",
        "epochs": 15,
    }
    rated.write_configs()
    return rated


def test_several_labels(several, train, tmp_path, capsys):
    assert train(several.path, "mtl")[0] == 0
    row = last_row(tmp_path)
    test = row["test"]
    assert list(test)[:5] == ["click_AUC", "click_logloss", "click_RMSE", "buy_AUC", "buy_logloss"]
    assert test["AUC"] == (test["click_AUC"] + test["buy_AUC"]) / 2 > 0.6
    assert test["rating_RMSE"] < 45
    assert "hooks" not in row
    line = (tmp_path / "DeepFM" / "my_config.csv").read_text()
    assert f"click_AUC: {test['click_AUC']:.6f} - " in line
    rows = pl.read_csv(several.path / "test.csv", infer_schema=False)
    (checkpoint,) = (several.path / "checkpoints" / "clicks").glob("mtl.model")
    scored = Scorer(checkpoint=checkpoint, gpu=-1).score(rows)
    names = ["click_pred", "buy_pred", "rating_pred"]
    assert scored.columns[-3:] == names
    for name, label in zip(names[:2], ("click", "buy"), strict=True):
        found = auc(rows[label].cast(int).to_numpy(), scored[name].to_numpy())
        assert found == pytest.approx(test[f"{label}_AUC"], abs=1e-4)
    error = rows["rating"].cast(float).to_numpy() - scored["rating_pred"].to_numpy()
    assert np.sqrt(np.mean(error**2)) == pytest.approx(test["rating_RMSE"], rel=1e-4)
    out = tmp_path / "scores.csv"
    options = ["--checkpoint", checkpoint, "--data", several.path / "test.csv", "--out", out]
    with pytest.raises(SystemExit) as ended:
        predict.main([*map(str, options), "--gpu", "-1"])
    assert ended.value.code == 0
    assert pl.read_csv(out).columns[-3:] == names
    with pytest.raises(ConfigError, match="column 'buy_pred' would be carried along"):
        Scorer(checkpoint=checkpoint, gpu=-1).score(rows.with_columns(buy_pred=0))


def test_what_is_shown_and_recorded_of_several_labels(several, train, tmp_path, capsys):
    assert train(several.path, "mtl", "--set", "epochs=2")[0] == 0
    results = tmp_path / "results.jsonl"
    with pytest.raises(SystemExit) as ended:
        show.main(["last", "--results", str(results)])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "click_AUC" in shown
    assert "rating_RMSE" in shown
    config, kind = load_experiment("mtl", tmp_path / "DeepFM", several.path, ["epochs=2"])
    with pytest.raises(CheckpointError, match="'mtl': its model records neither 'gen' nor 'feat"):
        record_arrays(TrainedRun("MMoE", config, kind), -1, Sample(100, 1))


def test_a_monitor_of_an_unknown_label(several, train):
    fails(train(several.path, "mtl", "--set", "monitor=view_AUC"), "view_AUC", "allowed: AUC, cl")


def test_labels_and_tasks_that_differ_in_number(several, train):
    fails(train(several.path, "mtl", "--set", "num_tasks=2"), "found 2", "3 labels: click, buy, ra")


def test_a_file_without_one_of_the_labels(several, train):
    rows = pl.read_csv(several.path / "valid.csv")
    rows.drop("buy").write_csv(several.path / "valid.csv")
    fails(train(several.path, "mtl"), "valid.csv", "'buy'")


def test_the_labels_of_a_file_without_a_header(several, train, tmp_path):
    """They come first, in the order of label_col; rows to score may lack them all."""
    order = ["click", "buy", "rating", "user", "item", "price"]
    for split in ("train", "valid", "test"):
        path = several.path / f"{split}.csv"
        pl.read_csv(path).select(order).write_csv(path, include_header=False)
    several.dataset["header"] = False
    several.write_configs()
    assert train(several.path, "mtl", "--set", "epochs=2")[0] == 0
    unlabelled = tmp_path / "rows.csv"
    rows = pl.read_csv(several.path / "test.csv", has_header=False)
    rows[:, 3:].write_csv(unlabelled, include_header=False)
    scorer = Scorer(checkpoint=several.path / "checkpoints" / "clicks" / "mtl.model", gpu=-1)
    for data, out in ((several.path / "test.csv", "a.csv"), (unlabelled, "b.csv")):
        assert scorer.score_files(str(data), tmp_path / out).num_rows == 300
    with_labels, without = (pl.read_csv(tmp_path / f"{n}.csv") for n in ("a", "b"))
    names = ["click_pred", "buy_pred", "rating_pred"]
    assert with_labels.select(names).equals(without.select(names))
