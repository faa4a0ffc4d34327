"""Which run left the weights that are recorded, and which recordings are current."""

import dataclasses
import json
import shlex
import shutil

import h5py
import pytest

from fuxictr.analysis.sample import Sample
from fuxictr.errors import CheckpointError, DataError
from fuxictr.experiment.recordings import record as recordings
from fuxictr.experiment.recordings import trained
from fuxictr.experiment.recordings.record import is_recorded, load_numbers, record_run
from fuxictr.experiment.recordings.trained import find_checkpoint
from fuxictr.experiment.report import analyses, figures
from fuxictr.experiment.results import code_hash
from fuxictr.experiment.results.store import read_results
from fuxictr.experiment.run import run
from fuxictr.experiment.zoo.models import ZOO, load_experiment
from fuxictr.pytorch.checkpoint.weights import note_path

SAMPLE = Sample(num_rows=100)


@pytest.fixture
def mine(user, train, tmp_path, monkeypatch):
    """A trained expid of a user's folder; returns a loader of its config and its row of results."""
    monkeypatch.setattr(trained, "ROOT", tmp_path)
    assert train(user.path, "mine", "--seed", "7", "--set", "epochs=1")[0] == 0
    user.model["mine"]["epochs"] = 1
    user.write_configs()

    def load():
        config, model_class = load_experiment("mine", ZOO / "DeepFM", user.path)
        return "DeepFM", config, model_class

    (row,) = read_results(run.RESULTS)
    return load, row


def test_weights_belong_to_the_run_with_their_hash_and_config(mine, user):
    load, row = mine
    others = [
        dataclasses.replace(row, seed=8, checkpoint_sha256="0" * 64),
        dataclasses.replace(row, seed=9, config_hash="another"),
    ]
    found = find_checkpoint(*load(), [row, *others])
    assert (found.train_seed, found.checkpoint_sha256) == (7, row.checkpoint_sha256)
    user.model["mine"]["learning_rate"] = 0.1
    user.write_configs()
    with pytest.raises(CheckpointError, match="another config .*; train again: ") as error:
        find_checkpoint(*load(), [row])
    parts = shlex.split(str(error.value).partition("train again: ")[2])
    assert parts[1].endswith("model_zoo/DeepFM/run_expid.py")
    assert parts[2:] == ["--config", str(user.path), "--expid", "mine", "--gpu", "auto"]


def test_weights_of_no_finished_run_have_no_seed(mine, capsys):
    load, row = mine
    note_path(load()[1].checkpoint_path).unlink()
    for rows in ([], [dataclasses.replace(row, checkpoint_sha256="0" * 64)]):
        found = find_checkpoint(*load(), rows)
        assert found.train_seed is None
        assert capsys.readouterr().out.count("\n") == 1
    with h5py.File(record_run(found, -1, SAMPLE)) as file:
        assert "train_seed" not in file.attrs


def test_weights_that_are_absent_are_left_to_the_recording(mine):
    load, row = mine
    found = find_checkpoint(*load(), [row])
    found.config.checkpoint_path.unlink()
    with pytest.raises(CheckpointError, match="no such checkpoint; train first: python model_zoo"):
        record_run(find_checkpoint(*load(), [row]), -1, SAMPLE)


@pytest.mark.parametrize("keeps_arrays", [True, False])
def test_what_another_version_recorded_is_recorded_again(mine, monkeypatch, keeps_arrays):
    load, row = mine
    found = find_checkpoint(*load(), [row])
    made = dataclasses.replace(found, num_valid_rows=300, keeps_arrays=keeps_arrays)

    def is_current():
        return is_recorded(made, SAMPLE)

    path = record_run(made, -1, SAMPLE)
    assert is_current() and load_numbers(made).train_seed == 7
    if keeps_arrays:
        with h5py.File(path, "a") as file:
            del file.attrs["code_hash"]
    else:
        content = json.loads(path.read_text())
        del content["summary"]["rank_bound"]
        path.write_text(json.dumps(content))
    assert not is_current()
    record_run(made, -1, SAMPLE)
    assert is_current()
    # A formula of the analysis, or the model, is another one.
    monkeypatch.setattr(recordings, "recording_hash", lambda model_class: "another")
    assert not is_current()
    record_run(made, -1, SAMPLE)
    assert is_current()


def test_the_hash_of_the_code_covers_analyses_and_model(mine, tmp_path, monkeypatch):
    load, _ = mine
    model_class = load()[2]
    compute = recordings.recording_hash.__wrapped__
    before = compute(model_class)
    assert before == compute(model_class)
    monkeypatch.setattr(recordings, "code_hash", lambda model_class: "another model")
    assert compute(model_class) != before
    monkeypatch.undo()
    (tmp_path / "__init__.py").touch()
    (tmp_path / "ranks.py").write_text("# another formula\n")
    monkeypatch.setattr(recordings.analysis, "__file__", str(tmp_path / "__init__.py"))
    assert compute(model_class) != before


def test_a_recording_is_kept_by_data_config_and_code(mine, monkeypatch):
    """Another valid.csv of equal length, another config, other code: the recording is another."""
    load, row = mine
    found = dataclasses.replace(find_checkpoint(*load(), [row]), num_valid_rows=300)
    for keeps_arrays in (True, False):
        made = dataclasses.replace(found, keeps_arrays=keeps_arrays)
        record_run(made, -1, SAMPLE)
        assert is_recorded(made, SAMPLE)
        assert not is_recorded(dataclasses.replace(made, data_hash="another"), SAMPLE)
        train = dataclasses.replace(made.config.train, learning_rate=0.9)
        other = dataclasses.replace(made.config, train=train)
        assert not is_recorded(dataclasses.replace(made, config=other), SAMPLE)


def test_a_checkpoint_of_other_rows_is_not_recorded(mine, user, train):
    load, row = mine
    user.edit("valid", 5, ",", ",1")
    assert train(user.path, "mine_gen", "--set", "epochs=1")[0] == 0  # which encodes them anew
    with pytest.raises(DataError, match="trained on other rows than dataset 'clicks' has now"):
        record_run(find_checkpoint(*load(), [row]), -1, SAMPLE)


def test_a_checkpoint_of_other_keys_is_not_recorded(mine, user):
    load, row = mine
    user.model["mine"] |= {"concat_emb": True, "gamma": 9, "emb_activation": "tanh"}
    user.write_configs()
    for rows in ([], [row]):
        with pytest.raises(CheckpointError, match="trained with another config"):
            find_checkpoint(*load(), rows)


def test_what_the_command_line_changes_is_recorded_under_a_name_of_its_own(mine, user, train):
    load, row = mine
    plain = find_checkpoint(*load(), [row])
    options = ["gamma=9", "concat_emb=true", "model_id=try"]
    assert train(user.path, "mine", "--set", *options)[0] == 0
    config, model_class = load_experiment("mine", ZOO / "DeepFM", user.path, options)
    found = find_checkpoint("DeepFM", config, model_class, [row])
    assert plain.name == "mine" and found.name.startswith("mine@")
    path = record_run(plain, -1, SAMPLE)
    before = path.read_bytes()
    other = record_run(found, -1, SAMPLE)
    assert path.read_bytes() == before and other.parent.name == found.name
    with h5py.File(other) as file:
        assert file.attrs["expid"] == found.name
    quiet, _ = load_experiment("mine", ZOO / "DeepFM", user.path, ["verbose=0"])
    assert find_checkpoint("DeepFM", quiet, model_class, [row]).name == "mine"


def test_a_folder_of_the_zoos_expids_or_of_anothers_has_names_of_its_own(mine, user, tmp_path):
    load, row = mine
    record_run(find_checkpoint(*load(), [row]), -1, SAMPLE)
    copy = tmp_path / "copy"
    shutil.copytree(user.path, copy)
    config, model_class = load_experiment("mine", ZOO / "DeepFM", copy)
    assert find_checkpoint("DeepFM", config, model_class, []).name.startswith("mine@")
    assert find_checkpoint(*load(), [row]).name == "mine"
    user.model["DeepFM_demo"] = user.model["mine"] | {"dataset_id": "demo_x1"}
    user.write_configs()
    text = (user.path / "dataset_config.yaml").read_text()
    (user.path / "dataset_config.yaml").write_text(text.replace("clicks:", "demo_x1:"))
    config, model_class = load_experiment("DeepFM_demo", ZOO / "DeepFM", user.path)
    assert find_checkpoint("DeepFM", config, model_class, []).name.startswith("DeepFM_demo@")


def test_a_checkpoint_of_other_code_is_recorded_under_a_name_of_its_own(mine, monkeypatch, caplog):
    load, row = mine
    monkeypatch.setattr(code_hash, "code_hash", lambda model_class: "edited")
    found = find_checkpoint(*load(), [row])
    assert found.name.startswith("mine@")
    record_run(found, -1, SAMPLE)
    assert "was trained by other code than the present one" in caplog.text


def test_the_note_says_the_seed_where_the_results_do_not(mine, capsys):
    load, _ = mine
    assert find_checkpoint(*load(), []).train_seed == 7
    assert capsys.readouterr().out == ""


def test_rows_that_the_command_line_names_and_that_are_not_encoded_are_refused(mine, user, caplog):
    load, row = mine
    other = user.path / "other.csv"
    shutil.copyfile(user.path / "valid.csv", other)
    for key in ("valid_data", "test_data"):
        config, model_class = load_experiment("mine", ZOO / "DeepFM", user.path, [f"{key}={other}"])
        with pytest.raises(DataError, match=f"no others are read: key '{key}': found .*other.csv"):
            record_run(find_checkpoint("DeepFM", config, model_class, [row]), -1, SAMPLE)
    record_run(find_checkpoint(*load(), [row]), -1, SAMPLE)
    assert caplog.text.count("WARNING") == 0
    user.edit("test", 5, ",", ",1")
    record_run(find_checkpoint(*load(), [row]), -1, SAMPLE)
    assert "the raw files of the test split changed since they were encoded" in caplog.text


def test_a_seed_that_the_command_line_asks_for_is_the_one_recorded(mine, user, train):
    load, row = mine
    assert train(user.path, "mine", "--seed", "8", "--set", "model_id=mine_seed8")[0] == 0
    rows = read_results(run.RESULTS)

    def asked(seed):
        config, model_class = load_experiment("mine", ZOO / "DeepFM", user.path, [f"seed={seed}"])
        return find_checkpoint("DeepFM", config, model_class, rows)

    assert [asked(seed).train_seed for seed in (7, 8)] == [7, 8]
    assert asked(8).config.checkpoint_path.name == "mine_seed8.model"
    with pytest.raises(CheckpointError, match="key 'seed': was 7, is 9 .command line"):
        asked(9)


def test_figures_of_other_code_have_names_of_their_own(mine, monkeypatch, capsys):
    load, row = mine
    monkeypatch.setattr(analyses, "ROOT", trained.ROOT)
    monkeypatch.setattr(figures, "ROOT", trained.ROOT)
    found = find_checkpoint(*load(), [row])
    record_run(found, -1, SAMPLE)
    analyses._draw("DeepFM", [found])
    before = {p: p.read_bytes() for p in (trained.ROOT / "figure" / "final").rglob("*.csv")}
    assert any(path.name == "DeepFM_collapse.csv" for path in before)
    monkeypatch.setattr(code_hash, "code_hash", lambda model_class: "edited")
    found = find_checkpoint(*load(), [row])
    record_run(found, -1, SAMPLE)
    analyses._draw("DeepFM", [found])
    after = {p: p.read_bytes() for p in (trained.ROOT / "figure" / "final").rglob("*.csv")}
    assert {path: after[path] for path in before} == before
    assert any(path.name.startswith("DeepFM@") for path in after)
