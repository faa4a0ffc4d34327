"""predict.py: new raw rows, the fitted encoders, scores in order."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from fuxictr.analysis.sample import Sample
from fuxictr.cli import predict
from fuxictr.errors import CheckpointError, ConfigError, DataError
from fuxictr.experiment.recordings.record import record_run
from fuxictr.experiment.recordings.trained import TrainedRun
from fuxictr.experiment.scoring import score
from fuxictr.experiment.zoo.models import ZOO, load_experiment
from fuxictr.metrics import auc, logloss
from fuxictr.preprocess.sources import frames as sources

from .conftest import from_python
from .test_user_folder import fails


def test_scores_give_the_metrics_of_the_run(trained, command, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "FRAME_ROWS", 37)
    assert command(trained.path, trained.path / "test.csv", tmp_path / "s.parquet") == (0, "")
    scored = pl.read_parquet(tmp_path / "s.parquet")
    assert scored.columns == ["id", "click", "y_pred"]
    assert scored["id"].to_list() == [f"test{i}" for i in range(300)]
    labels, found = scored["click"].cast(pl.Int64).to_numpy(), scored["y_pred"].to_numpy()
    assert auc(labels, found) == pytest.approx(trained.measured["AUC"], abs=1e-12)
    assert logloss(labels, found) == pytest.approx(trained.measured["logloss"], abs=1e-7)


def test_no_label_no_raw_data_and_any_order_of_columns(trained, command, tmp_path):
    rows = pl.read_csv(trained.path / "test.csv", infer_schema=False)
    expected = from_python(trained, rows)["y_pred"]
    new = tmp_path / "new.csv"
    rows.select("price", "user", "id", "item").write_csv(new)
    for split in ("train", "valid", "test"):
        (trained.path / f"{split}.csv").unlink()
    assert command(trained.path, new, tmp_path / "s.csv") == (0, "")
    text = (tmp_path / "s.csv").read_text().splitlines()
    assert text[0] == "id,y_pred"
    scored = pl.read_csv(tmp_path / "s.csv")
    np.testing.assert_allclose(scored["y_pred"], expected, rtol=1e-6)


def test_files_tables_and_formats_agree(trained, command, tmp_path):
    rows = pl.read_csv(trained.path / "test.csv")
    expected = from_python(trained, rows.cast(pl.String))["y_pred"]
    rows.write_parquet(tmp_path / "rows.parquet")
    (tmp_path / "parts").mkdir()
    for name, part in (("a", rows[:100]), ("b", rows[100:])):
        part.write_csv(tmp_path / f"parts/{name}.csv")
    for number, data in enumerate(("rows.parquet", "parts", "parts/*.csv")):
        out = tmp_path / f"{number}.parquet"
        assert command(trained.path, tmp_path / data, out)[0] == 0
        assert pl.read_parquet(out)["y_pred"].equals(expected)
    frame = from_python(trained, rows.to_pandas(), keep=["user"])
    assert list(frame.columns) == ["user", "y_pred"]
    np.testing.assert_array_equal(frame["y_pred"], expected)
    kept = from_python(trained, rows, keep=[])
    assert kept.columns == ["y_pred"]


def test_parts_in_folders_are_scored_in_natural_order(trained, tmp_path, capsys):
    rows = pl.read_csv(trained.path / "test.csv", infer_schema=False)[:6]
    rows = rows.with_columns(user=pl.Series(["2", "2", "9", "9", "10", "10"]))
    for (user,), part in rows.group_by("user"):
        folder = tmp_path / f"br[1]/raw/user={user}"
        folder.mkdir(parents=True)
        part.drop("user").write_csv(folder / "part-0.csv")
    (tmp_path / "br[1]/raw/user=2/empty.csv").write_text("id,click,item,price\n")
    (tmp_path / "br[1]/raw/notes.md").write_text("")
    argv = ["--model", "DeepFM", "--expid", "mine_gen", "--config", str(trained.path)]
    for given in ("raw", "raw/user=*", "raw/**/*.csv"):
        data, out = str(tmp_path / "br[1]" / given), tmp_path / "s.parquet"
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            predict.main([*argv, "--gpu", "-1", "--data", data, "--out", str(out)])
        assert ended.value.code == 0
        scored = pl.read_parquet(out)
        assert scored["id"].to_list() == rows["id"].to_list()
        assert scored["y_pred"].equals(from_python(trained, rows)["y_pred"])
        skipped = "Skipped notes.md\n" if given == "raw" else ""
        files = "4 files, user=2/empty.csv to user=10/part-0.csv"
        assert capsys.readouterr().out == f"{skipped}Scored 6 rows of {files}: {out}\n"


def test_no_rows_have_no_scores(trained, command, tmp_path):
    header = "id,user,item,price\n"
    (tmp_path / "new.csv").write_text(header)
    assert command(trained.path, tmp_path / "new.csv", tmp_path / "s.csv") == (0, "")
    assert (tmp_path / "s.csv").read_text() == "id,y_pred\n"
    types = {"id": pl.Int64, "user": pl.Int64, "item": pl.String, "price": pl.Float64}
    empty = pl.DataFrame(schema=types)
    empty.write_parquet(tmp_path / "new.parquet")
    assert command(trained.path, tmp_path / "new.parquet", tmp_path / "s.parquet") == (0, "")
    expected = {"id": pl.Int64, "y_pred": pl.Float32}
    assert pl.read_parquet(tmp_path / "s.parquet").schema == expected
    assert from_python(trained, empty).schema == expected
    frame = from_python(trained, empty.to_pandas(), keep="item")
    assert list(frame.columns) == ["item", "y_pred"] and frame.shape == (0, 2)
    with pytest.raises(DataError, match="column 'price' is missing"):
        from_python(trained, empty.drop("price"))
    (tmp_path / "new.csv").write_text("id,user,item\n")
    fails(command(trained.path, tmp_path / "new.csv", tmp_path / "t.csv"), "'price' is missing")


def test_a_text_is_one_column_to_keep(trained):
    rows = pl.read_csv(trained.path / "test.csv", infer_schema=False)[:3]
    for keep in ("user", ["user"], ("user", "user"), {"user"}, np.array(["user"])):
        assert from_python(trained, rows, keep=keep).columns == ["user", "y_pred"]
    for keep in (5, [5], {"user": 1}, b"user", [None]):
        with pytest.raises(ConfigError, match="keep: found .*, allowed: a name, or a list of name"):
            from_python(trained, rows, keep=keep)


def test_rows_as_hive_writes_them(user, train, command, tmp_path):
    for split in ("train", "valid", "test"):
        rows = pl.read_csv(user.path / f"{split}.csv", infer_schema=False)
        for number, part in enumerate((rows[:150], rows[150:])):
            folder = user.path / f"{split}/dt=2024-01-{number + 1:02}"
            folder.mkdir(parents=True)
            part.write_csv(folder / "000000_0", separator="\x01", include_header=False)
            (folder / "000001_0").write_text("")
        (user.path / f"{split}.csv").unlink()
        user.dataset[f"{split}_data"] = f"./{split}/*/*"
    user.dataset |= {"separator": r"\x01", "quote_char": None, "header": False}
    user.dataset["header"] = ["click", "user", "item", "price"]
    user.dataset["feature_cols"].append({"name": "dt", "type": "categorical"})
    user.write_configs()
    assert train(user.path, "mine_gen")[0] == 0
    rows.drop("click").write_csv(tmp_path / "new", separator="\x01", include_header=False)
    fails(command(user.path, tmp_path / "new", tmp_path / "s.csv"), "column 'dt' is missing")
    (tmp_path / "dt=2024-01-01").mkdir()
    (tmp_path / "new").rename(tmp_path / "dt=2024-01-01/new")
    assert command(user.path, tmp_path / "dt=*/new", tmp_path / "s.csv") == (0, "")
    assert pl.read_csv(tmp_path / "s.csv").shape == (300, 1)


def test_unseen_and_missing_values_are_scored_as_in_training(trained):
    rows = pl.DataFrame(
        {"user": ["never seen", "also new", None], "item": ["3", "3", "3"], "price": ["1", "1", ""]}
    )
    found = from_python(trained, rows)["y_pred"]
    assert found[0] == found[1]
    assert found.is_finite().all()
    zero = from_python(trained, rows.with_columns(price=pl.lit("0")))["y_pred"]
    assert zero[2] == found[2]


def test_columns_that_the_model_does_not_use_are_not_needed(user, train):
    user.model["mine_gen"]["use_features"] = ["user", "item"]
    user.write_configs()
    assert train(user.path, "mine_gen", "--set", "epochs=1")[0] == 0
    found = from_python(user, pl.DataFrame({"user": ["1", "2"], "item": ["1", "x"]}))
    assert found.columns == ["y_pred"]


def test_numbers_of_another_kind_are_not_scored_as_unseen(trained):
    rows = pl.read_csv(trained.path / "test.csv")
    floats = rows.with_columns(pl.col("user").cast(pl.Float64))
    message = "row 1 and after, column 'user': found float values, but the column was fitted to te"
    with pytest.raises(DataError, match=message):
        from_python(trained, floats)
    with pytest.raises(DataError, match=message):
        from_python(trained, floats.to_pandas())
    assert from_python(trained, rows)["y_pred"].is_finite().all()


def test_rows_whose_tokens_training_does_not_know_are_warned_of_once(
    trained, command, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(sources, "FRAME_ROWS", 37)
    rows = pl.read_csv(trained.path / "test.csv", infer_schema=False)
    assert from_python(trained, rows)["y_pred"].is_finite().all()
    assert caplog.messages == []
    floats = rows.with_columns(user=pl.col("user") + ".0")
    floats.write_csv(tmp_path / "new.csv")
    assert command(trained.path, tmp_path / "new.csv", tmp_path / "s.csv")[0] == 0
    first, second = floats["user"].unique(maintain_order=True)[:2]
    (text,) = caplog.messages
    assert text.startswith("rows to score: many cells are not known from training: column 'user':")
    assert f"100 % of 300 cells unseen, as '{first}' and '{second}' (training: 0 %, as" in text
    assert f"'{first}' is '{first[:-2]}' in training" in text
    caplog.clear()
    from_python(trained, floats[:2])
    assert len(caplog.messages) == 1, "one row tells as much, where the token is a known one"
    caplog.clear()
    new = rows.with_columns(user="new" + pl.col("user"))
    from_python(trained, new[:19])
    assert caplog.messages == []
    from_python(trained, new)
    assert len(caplog.messages) == 1


def test_a_pandas_table_keeps_its_index(trained):
    rows = pl.read_csv(trained.path / "test.csv", infer_schema=False).to_pandas()
    expected = from_python(trained, rows)["y_pred"]
    shuffled = rows.sample(frac=0.5, random_state=1)
    found = from_python(trained, shuffled)
    assert list(found.index) == list(shuffled.index)
    # Not to the bit: matrix products of fewer rows may round otherwise.
    np.testing.assert_allclose(found["y_pred"], expected[shuffled.index], rtol=1e-6)


def test_a_csv_of_another_separator_is_scored_with_set(trained, command, tmp_path):
    rows = pl.read_csv(trained.path / "test.csv", infer_schema=False)
    rows.write_csv(tmp_path / "new.csv", separator=";")
    status, stderr = command(trained.path, tmp_path / "new.csv", tmp_path / "s.parquet")
    assert (status, "did you mean ';'?" in stderr) == (1, True)
    settings = ("--set", "separator=;")
    assert command(trained.path, tmp_path / "new.csv", tmp_path / "s.parquet", *settings)[0] == 0
    expected = from_python(trained, rows)["y_pred"]
    assert pl.read_parquet(tmp_path / "s.parquet")["y_pred"].equals(expected)


def test_the_rows_to_score_are_never_overwritten(trained, command):
    data = trained.path / "test.csv"
    before = data.read_bytes()
    fails(command(trained.path, data, data), "is also the data to score")
    assert data.read_bytes() == before


def test_tables_and_columns_that_cannot_be_scored_or_written(trained, command, tmp_path):
    rows = pl.read_csv(trained.path / "test.csv")
    with pytest.raises(DataError, match="the given table: found dict that cannot be read"):
        from_python(trained, {"user": [1]})
    mixed = rows.to_pandas().astype(object)
    mixed.loc[1, "price"] = "x"
    with pytest.raises(DataError, match="the given table: found DataFrame that cannot be read"):
        from_python(trained, mixed)
    rows.with_columns(tags=pl.lit([1, 2])).write_parquet(tmp_path / "new.parquet")
    result = command(trained.path, tmp_path / "new.parquet", tmp_path / "s.csv")
    fails(result, "column 'tags' holds", "which no csv can")
    assert not (tmp_path / "s.csv").exists()
    (tmp_path / "folder").mkdir()
    fails(command(trained.path, trained.path / "test.csv", tmp_path / "folder"), "ends in .csv")


def test_analysis_never_builds_the_data_anew(trained):
    raw = pl.read_csv(trained.path / "train.csv", infer_schema=False)
    raw.with_columns(user="u" + pl.col("user")).write_csv(trained.path / "train.csv")
    config, model_class = load_experiment("mine_gen", ZOO / "DeepFM", trained.path)
    records = record_run(TrainedRun("DeepFM", config, model_class), -1, Sample(num_rows=50))
    assert records.is_file()
    rows = pl.read_csv(trained.path / "test.csv", infer_schema=False)
    assert from_python(trained, rows)["y_pred"].is_finite().all()


@pytest.mark.parametrize(
    ("text", "out", "options", "message"),
    [
        ("user,item\n1,2\n", "s.csv", (), "new.csv: column 'price' is missing"),
        ("user,item,price\n1,2,x\n", "s.csv", (), "new.csv: row 1 (line 2), column 'price': foun"),
        ("user,item,price\n1,2,1\n1,2\n", "s.csv", (), "row 2 (line 3): found 2 cells, allowed: 3"),
        ("user,item,price,y_pred\n1,2,3,4\n", "s.csv", (), "column 'y_pred' would be carried"),
        ("user,item,price\n1,2,3\n", "s.txt", (), "allowed: a file that ends in .csv or .parquet"),
        ("user,item,price\n1,2,3\n", "s.csv", ("--keep", "id"), "column 'id' is missing"),
        ("user,item,price\n1,2,3\n", "s.csv", ("--batch-size", "0"), "--batch-size 0: allowed"),
    ],
)
def test_rows_that_do_not_fit_leave_no_file(
    trained, command, tmp_path, text, out, options, message
):
    (tmp_path / "new.csv").write_text(text)
    (tmp_path / "out").mkdir()
    fails(command(trained.path, tmp_path / "new.csv", tmp_path / "out" / out, *options), message)
    assert list((tmp_path / "out").iterdir()) == []


def test_an_earlier_file_stays_when_scoring_fails(trained, command, tmp_path):
    (tmp_path / "new.csv").write_text("user,item,price\n" + "1,2,3\n" * 50 + "1,2,x\n")
    (tmp_path / "s.csv").write_text("precious")
    fails(command(trained.path, tmp_path / "new.csv", tmp_path / "s.csv"), "row 51")
    assert (tmp_path / "s.csv").read_text() == "precious"


def test_weights_of_other_encoders_are_refused(trained, train):
    rows = pl.DataFrame({"user": ["1"], "item": ["1"], "price": ["0"]})
    raw = pl.read_csv(trained.path / "train.csv", infer_schema=False)
    raw.with_columns(user="u" + pl.col("user")).write_csv(trained.path / "train.csv")
    assert train(trained.path, "mine", "--set", "epochs=1")[0] == 0
    with pytest.raises(CheckpointError, match="encoded in another way"):
        from_python(trained, rows)
    trained.dataset["min_categr_count"] = 5
    trained.write_configs()
    with pytest.raises(DataError, match="another config"):
        from_python(trained, rows)


def test_an_expid_that_is_not_trained_says_so(user, trained):
    rows = pl.DataFrame({"user": ["1"], "item": ["1"], "price": ["0"]})
    with pytest.raises(CheckpointError, match="no such checkpoint; train the model first"):
        score(rows, "DeepFM", "mine", user.path, gpu=-1)
    with pytest.raises(ConfigError, match="unknown expid"):
        score(rows, "DeepFM", "yours", user.path, gpu=-1)
