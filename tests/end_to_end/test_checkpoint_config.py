"""A checkpoint knows the config that decides its forward pass, and is scored with that."""

from __future__ import annotations

import json
import shutil

import polars as pl
import pytest

from fuxictr.cli import predict
from fuxictr.errors import CheckpointError, ConfigError, DataError
from fuxictr.experiment.results import checkpoint_config
from fuxictr.experiment.scoring import Scorer, score

from .conftest import from_python
from .test_user_folder import fails


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gamma", 1.0),
        ("emb_activation", "tanh"),
        ("gen_residual", True),
        ("symmetric", True),
        ("hidden_activations", "Tanh"),
        ("feature_specs", {"price": {"type": "numeric", "source": "user"}}),
        ("concat_emb", False),
    ],
)
def test_a_checkpoint_is_scored_as_it_was_trained(trained, caplog, name, value):
    rows = pl.read_csv(trained.path / "test.csv", infer_schema=False)
    before = from_python(trained, rows)["y_pred"]
    assert caplog.text.count("WARNING") == 0, "a sound run says nothing"
    trained.model["mine_gen"][name] = value
    trained.write_configs()
    assert from_python(trained, rows)["y_pred"].equals(before)
    (warning,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert f"key '{name}': was " in warning
    assert f"is {value!r} (" in warning or name == "feature_specs"  # which is long


def test_keys_of_the_training_change_no_scores_and_warn_of_nothing(trained, caplog):
    rows = pl.read_csv(trained.path / "test.csv", infer_schema=False)
    before = from_python(trained, rows)["y_pred"]
    trained.model["mine_gen"] |= {"epochs": 9, "learning_rate": 0.1, "batch_size": 7, "seed": 3}
    trained.write_configs()
    assert from_python(trained, rows)["y_pred"].equals(before)
    assert caplog.text.count("WARNING") == 0


def test_what_the_command_line_asks_for_and_was_not_trained_is_refused(trained, command, tmp_path):
    data, out = trained.path / "test.csv", tmp_path / "s.csv"
    ended = command(trained.path, data, out, "--set", "gamma=1")
    fails(ended, "was trained with another config: key 'gamma': was 2.0, is 1.0 (command line")
    assert not out.exists()
    assert command(trained.path, data, out, "--set", "gamma=2")[0] == 0


def test_what_was_trained_with_set_is_scored_with_it(trained, train, command, tmp_path):
    set_gamma = ("--set", "gamma=7", "model_id=try")
    assert train(trained.path, "mine_gen", *set_gamma)[0] == 0
    data, out = trained.path / "test.csv", tmp_path / "s.parquet"
    status, said = command(trained.path, data, out, "--set", "model_id=try")
    assert (status, said.count("key 'gamma': was 7.0, is 2.0")) == (0, 1)
    with_gamma = tmp_path / "gamma.parquet"
    assert command(trained.path, data, with_gamma, *set_gamma) == (0, "")
    assert pl.read_parquet(out).equals(pl.read_parquet(with_gamma))


def test_a_checkpoint_alone_is_enough(trained, command, tmp_path, capsys):
    data, out = trained.path / "test.csv", tmp_path / "s.parquet"
    assert command(trained.path, data, out) == (0, "")
    expected = pl.read_parquet(out)
    checkpoint = trained.path / "checkpoints" / "clicks" / "mine_gen.model"
    moved = tmp_path / "moved.model"
    for suffix in ("", ".json"):
        shutil.copyfile(f"{checkpoint}{suffix}", f"{moved}{suffix}")
    for file in trained.path.glob("*.yaml"):
        file.unlink()
    for path in (checkpoint, moved):
        alone = ["--checkpoint", str(path), "--data", str(data), "--out", str(out), "--gpu", "-1"]
        with pytest.raises(SystemExit) as ended:
            predict.main(alone)
        assert (ended.value.code, capsys.readouterr().err) == (0, "")
        assert pl.read_parquet(out).equals(expected)
    rows = pl.read_csv(data, infer_schema=False)
    assert score(rows, checkpoint=moved, gpu=-1)["y_pred"].equals(expected["y_pred"])
    with pytest.raises(CheckpointError, match="key 'gamma': was 2.0, is 1"):
        Scorer(checkpoint=moved, overrides=["gamma=1"], gpu=-1)
    for wrong in ({}, {"checkpoint": moved, "expid": "mine_gen"}, {"expid": "mine_gen"}):
        with pytest.raises(ConfigError, match="allowed: model and expid, or checkpoint"):
            score(rows, gpu=-1, **wrong)


def test_weights_whose_config_is_not_known_say_so(trained, caplog):
    rows = pl.DataFrame({"user": ["1"], "item": ["1"], "price": ["0"]})
    note = trained.path / "checkpoints" / "clicks" / "mine_gen.model.json"
    content = json.loads(note.read_text())
    note.write_text(json.dumps({"encoders_hash": content["encoders_hash"]}))
    from_python(trained, rows)
    assert caplog.text.count("nothing beside it says with which config it was trained") == 1
    with pytest.raises(CheckpointError, match="does not say with which config"):
        score(rows, checkpoint=note.with_suffix(""), gpu=-1)


def test_a_note_of_other_weights_is_refused(trained, train):
    rows = pl.DataFrame({"user": ["1"], "item": ["1"], "price": ["0"]})
    folder = trained.path / "checkpoints" / "clicks"
    assert train(trained.path, "mine_gen", "--seed", "5", "--set", "model_id=other")[0] == 0
    shutil.copyfile(folder / "other.model", folder / "mine_gen.model")
    with pytest.raises(CheckpointError, match="mine_gen.model.json: is the note of other weights"):
        from_python(trained, rows)


def test_rows_encoded_in_another_way_with_the_same_vocabulary_are_refused(trained, train):
    rows = pl.DataFrame({"user": ["1"], "item": ["1"], "price": ["0"]})
    trained.dataset["feature_cols"][1]["fill_na"] = 3
    trained.write_configs()
    assert train(trained.path, "mine", "--set", "epochs=1")[0] == 0  # which encodes them anew
    with pytest.raises(CheckpointError, match="key 'feature_cols: price: fill_na': was None, is 3"):
        from_python(trained, rows)


def test_other_code_of_the_model_is_warned_of(trained, caplog, monkeypatch):
    rows = pl.DataFrame({"user": ["1"], "item": ["1"], "price": ["0"]})
    from_python(trained, rows)
    assert caplog.text.count("WARNING") == 0
    monkeypatch.setattr(checkpoint_config, "model_hash", lambda model_class: "edited")
    from_python(trained, rows)
    assert caplog.text.count("was trained by other code of the model than") == 1


def test_encoders_that_were_moved_are_named_by_the_command_line(trained, tmp_path):
    rows = pl.DataFrame({"user": ["1"], "item": ["1"], "price": ["0"]})
    checkpoint = trained.path / "checkpoints" / "clicks" / "mine_gen.model"
    before = score(rows, checkpoint=checkpoint, gpu=-1)
    shutil.move(trained.path / "encoded", tmp_path / "moved")
    with pytest.raises(DataError, match="no such folder, .* --set data_root="):
        score(rows, checkpoint=checkpoint, gpu=-1)
    overrides = [f"data_root={tmp_path / 'moved'}"]
    moved = Scorer(checkpoint=checkpoint, overrides=overrides, gpu=-1)
    assert moved.score(rows).equals(before)
