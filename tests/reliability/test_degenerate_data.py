"""Data of which little is left: each gives a defined result, or one line that says what to do."""

from __future__ import annotations

import csv
import json

import numpy as np
import polars as pl
import pytest
import torch

from fuxictr.config import TrainConfig
from fuxictr.errors import DataError
from fuxictr.experiment.scoring import score
from fuxictr.pytorch.dataloaders import BatchIterator, from_arrays
from fuxictr.pytorch.training.step import NotFiniteError
from fuxictr.pytorch.training.trainer import Trainer
from tests.end_to_end import conftest as folders
from tests.end_to_end.test_user_folder import fails
from tests.pytorch.tiny import TinyModel, make, tiny_data, tiny_map

user, train = folders.user, folders.train

SPLITS = ("train", "valid", "test")
LOGLOSS = {"metrics": ["logloss"], "monitor": "logloss", "monitor_mode": "min"}
CLICK, USER, ITEM, PRICE = range(4)


class Run:
    """A user's folder and what a command on it gave."""

    def __init__(self, user, train, tmp_path) -> None:
        self.user, self._train, self.tmp_path = user, train, tmp_path

    def fill(self, column: int, value: str, *splits: str) -> None:
        """Sets all cells of a column."""
        for split in splits or SPLITS:
            rows = self._rows(split)
            for row in rows[1:]:
                row[column] = value
            self._write(split, rows)

    def cut(self, split: str, num_rows: int) -> None:
        self._write(split, self._rows(split)[: num_rows + 1])

    def drop(self, split: str, column: int) -> None:
        rows = self._rows(split)
        self._write(split, [row[:column] + row[column + 1 :] for row in rows])

    def set(self, **keys) -> None:
        self.user.model["mine"] |= keys
        self.user.write_configs()

    def set_data(self, **keys) -> None:
        self.user.dataset |= keys
        self.user.write_configs()

    def train(self) -> tuple[int, str]:
        return self._train(self.user.path)

    def row(self) -> dict:
        """Trains, and returns the row of results, whose metrics are all finite."""
        status, stderr = self.train()
        assert status == 0, stderr
        assert "Warning" not in stderr
        row = self.rows()[-1]
        metrics = [row.get("valid", {}), row.get("test", {})]
        metrics += [entry.get("metrics", {}) for entry in row["history"]]
        assert all(np.isfinite(list(found.values())).all() for found in metrics)
        return row

    def rows(self) -> list[dict]:
        path = self.tmp_path / "results.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def log(self) -> str:
        return (self.user.path / "checkpoints/clicks/mine.log").read_text()

    def _rows(self, split: str) -> list[list[str]]:
        with open(self.user.path / f"{split}.csv", newline="") as file:
            return list(csv.reader(file))

    def _write(self, split: str, rows: list[list[str]]) -> None:
        with open(self.user.path / f"{split}.csv", "w", newline="") as file:
            csv.writer(file).writerows(rows)


@pytest.fixture
def run(user, train, tmp_path) -> Run:
    return Run(user, train, tmp_path)


@pytest.mark.parametrize("label", ["0", "1"])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_validation_split_of_one_class_is_refused_before_the_first_step(run, label, streaming):
    run.fill(CLICK, label, "valid")
    run.set(streaming=streaming)
    fails(
        run.train(),
        f"the validation split: AUC needs labels 0 and 1; all 300 labels are {label}",
        "leave 'AUC' out of the keys 'metrics' and 'monitor'",
        "metrics: [logloss], monitor: logloss, monitor_mode: min",
    )
    assert "Start training" not in run.log()
    run.set(**LOGLOSS)
    assert list(run.row()["valid"]) == ["logloss"]


def test_a_validation_split_without_a_group_of_both_classes_is_refused(run):
    run.set_data(feature_cols=[*run.user.dataset["feature_cols"], {"name": "item", "type": "meta"}])
    run.user.dataset["feature_cols"][0]["name"] = ["user"]
    run.fill(ITEM, "7", "valid")
    run.fill(CLICK, "0", "valid")
    run.set(metrics=["logloss", "gAUC"], monitor="gAUC", group_id="item")
    fails(run.train(), "the validation split: gAUC needs a group with labels 0 and 1")
    assert "Start training" not in run.log()


@pytest.mark.parametrize("label", ["0", "1"])
def test_a_test_split_of_one_class_leaves_the_results_that_are_defined(run, label):
    run.fill(CLICK, label, "test")
    row = run.row()
    assert list(row["valid"]) == ["AUC", "logloss"] and list(row["test"]) == ["logloss"]
    text = f"Test: AUC needs labels 0 and 1; all 300 labels are {label}"
    assert text in run.log()
    run.set(metrics=["AUC"])
    row = run.row()
    assert list(row["valid"]) == ["AUC"] and row["test"] == {}
    assert "[val] AUC: " in (csv_line := (run.tmp_path / "DeepFM/my_config.csv").read_text())
    assert csv_line.rstrip().endswith("[test] N.A.")


@pytest.mark.parametrize("label", ["0", "1"])
def test_a_training_split_of_one_class_trains(run, label):
    run.fill(CLICK, label, "train")
    run.set(epochs=20, early_stop_patience=20, save_best_only=False)
    row = run.row()
    losses = [entry["train_loss"] for entry in row["history"]]
    assert losses[-1] < losses[0] / 2 and losses[-1] < 0.1


def test_all_splits_of_one_class_train_on_logloss(run):
    run.fill(CLICK, "1")
    run.set(**LOGLOSS)
    row = run.row()
    assert 0 < row["test"]["logloss"] < 0.1


@pytest.mark.parametrize("streaming", [False, True])
def test_predictions_that_are_not_finite_name_the_split(run, streaming):
    run.fill(PRICE, "3e38", "valid")
    run.set(streaming=streaming)
    text = "the prediction of row 1 is not finite; 300 of 300 predictions are NaN or infinite"
    fails(run.train(), "DataError: Validate: " + text)
    run.fill(PRICE, "1", "valid")
    run.fill(PRICE, "3e38", "test")
    fails(run.train(), "DataError: Test: " + text)
    assert not run.rows()


def test_splits_of_one_row(run):
    run.cut("valid", 1)
    fails(run.train(), "the validation split: AUC needs labels 0 and 1; the only label is ")
    run.set(**LOGLOSS)
    for split in ("test", "train"):
        run.cut(split, 1)
        row = run.row()
    assert row["rows"] == {"train": 1, "valid": 1, "test": 1}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_batches_larger_than_the_data_and_a_last_one_of_one_row(run, streaming, batch_norm):
    run.set(streaming=streaming, batch_norm=batch_norm, epochs=1)
    for batch_size, num_steps in ((100_000, 1), (111, 9), (999, 1)):
        run.set(batch_size=batch_size)
        assert run.row()["history"][-1]["step"] == num_steps


def test_batch_normalisation_needs_two_rows(run):
    run.cut("train", 20)
    run.set(batch_size=1, epochs=1)
    assert run.row()["history"][-1]["step"] == 19  # the last one joins the one before
    run.set(batch_norm=True)
    text = "batch normalisation (layer 'mlp.mlp.1') needs batches of two rows or more: found"
    fails(run.train(), f"{text} batch_size 1 and 20 training rows")
    run.cut("train", 1)
    run.set(batch_size=100)
    fails(run.train(), f"{text} batch_size 100 and 1 training rows")


@pytest.mark.parametrize(("column", "name"), [(USER, "user"), (PRICE, "price")])
def test_columns_without_a_value(run, column, name):
    run.fill(column, "", "train")
    fails(run.train(), f"column '{name}': all cells of the training split are missing", "fill_na")
    if column == USER:
        run.user.dataset["feature_cols"][0]["fill_na"] = "none"
    else:
        run.user.dataset["feature_cols"][1] |= {"fill_na": 0, "normalizer": "StandardScaler"}
    run.user.write_configs()
    run.row()
    run.fill(column, "", "valid", "test")
    run.row()


@pytest.mark.parametrize("normalizer", ["StandardScaler", "MinMaxScaler"])
@pytest.mark.parametrize("value", ["0", "1e-38", "-7.25", "3e38"])
def test_constant_numeric_columns_scale_to_zero(run, normalizer, value):
    run.user.dataset["feature_cols"][1]["normalizer"] = normalizer
    run.user.write_configs()
    run.fill(PRICE, value)
    run.row()
    for split in SPLITS:
        encoded = pl.read_parquet(run.user.path / f"encoded/clicks/{split}.parquet")
        assert encoded["price"].unique().to_list() == [0.0]


def test_fields_of_one_category(run):
    run.fill(USER, "7")
    run.fill(ITEM, "8")
    run.row()
    run.user.dataset["min_categr_count"] = 5000  # none is left
    run.user.write_configs()
    run.row()


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("content", ["", "click,user,item,price\n"])
def test_splits_without_rows(run, split, content):
    (run.user.path / f"{split}.csv").write_text(content)
    fails(run.train(), f"{split}.csv")
    assert not list((run.user.path / "encoded").rglob("*.parquet"))


def test_no_feature_is_selected(run):
    run.set(use_features=[])
    fails(run.train(), "use_features", "no field")
    for name in ("user", "price"):
        run.set(use_features=[name])
        assert run.row()["parameters"] > 0
    run.set_data(feature_cols=[])
    fails(run.train(), "feature_cols", "no active column")


def test_rows_without_labels_are_scored_but_not_trained_on(run):
    run.row()
    for split in ("valid", "test"):
        run.drop(split, CLICK)
        table = pl.read_csv(run.user.path / f"{split}.csv", infer_schema=False)
        scored = score(table, "DeepFM", "mine", run.user.path, gpu=-1)
        assert scored.height == 300 and scored["y_pred"].is_between(0, 1).all()
    fails(run.train(), "valid.csv: column 'click' is missing; found: user, item, price")


def test_scores_that_are_not_finite(run):
    run.row()
    rows = pl.read_csv(run.user.path / "test.csv", infer_schema=False)
    price = ["3e38" if row == 41 else "1" for row in range(300)]
    rows = rows.with_columns(price=pl.Series(price))
    with pytest.raises(DataError, match="row 42.*the model's score is not finite"):
        score(rows, "DeepFM", "mine", run.user.path, gpu=-1)


def test_batches_without_labels_are_predicted_but_not_trained_on():
    feature_map = tiny_map()
    data = tiny_data(feature_map)
    columns = {"a": data.ids[:, 0].numpy(), "x": data.values[:, 0].numpy()}
    unlabelled = BatchIterator(from_arrays(columns, feature_map, labels=False), 100)
    labelled = BatchIterator(data, 100)
    trainer = Trainer(make(feature_map), TrainConfig(), verbose=0)
    assert np.array_equal(trainer.predict(unlabelled), trainer.predict(labelled))
    for ask in (
        lambda: trainer.fit(unlabelled, None),
        lambda: trainer.fit(labelled, unlabelled),
        lambda: trainer.evaluate(unlabelled),
    ):
        with pytest.raises(DataError, match="need a label: the batch has no column 'click'"):
            ask()
    feature_map.labels = []
    with pytest.raises(DataError, match="need a label: the feature map has none"):
        trainer.evaluate(labelled)


class WithoutLogit(TinyModel):
    """A model of a user's own that returns probabilities alone."""

    def forward(self, inputs):
        return {"y_pred": super().forward(inputs)["y_pred"]}


@pytest.mark.parametrize("kind", [TinyModel, WithoutLogit])
def test_a_loss_that_is_nan_names_the_step(kind):
    feature_map = tiny_map()
    data = tiny_data(feature_map)
    data.values[350, 0] = 3e38
    model = make(feature_map, kind=kind)
    with torch.no_grad():
        model.embedding_layer.numeric_weight.fill_(2)
    trainer = Trainer(model, TrainConfig(), verbose=0)
    text = (
        r"^epoch 1, step 4: the training loss is nan; .*; lower learning_rate \(0.001\), and scale"
    )
    with pytest.raises(NotFiniteError, match=text):
        trainer.fit(BatchIterator(data, 100), None)
