"""Commands in messages work as they are printed: with their config folder, keys and quotes."""

import argparse
import json
import shlex
from pathlib import Path

import pytest

from fuxictr.errors import CheckpointError
from fuxictr.experiment.recordings.record import record_arrays
from fuxictr.experiment.recordings.trained import TrainedRun
from fuxictr.experiment.report.inputs import load_runs
from fuxictr.experiment.results.config_record import analyze_command, config_record, train_command
from fuxictr.experiment.results.record import RunRecord
from fuxictr.experiment.zoo.models import ROOT, ZOO, load_experiment

MODELS = "e 1: {model: FM, model_root: ./ckpt/, dataset_id: d}\n"
DATASETS = "d: {feature_cols: [{name: a}], label_col: {name: y}}\n"


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "my config"
    path.mkdir()
    (path / "model_config.yaml").write_text(MODELS)
    (path / "dataset_config.yaml").write_text(DATASETS)
    return path


def loaded(command: str):
    """Loads what a command asks for, as the command does."""
    parser = argparse.ArgumentParser()
    for option in ("--config", "--expid", "--gpu", "--model"):
        parser.add_argument(option, default="./config/" if option == "--config" else None)
    parser.add_argument("--set", nargs="+", default=[])
    program, script, *options = shlex.split(command)
    assert program == "python" and Path(script).is_file()
    args = parser.parse_args(options)
    zoo_dir = Path(script).resolve().parent if args.model is None else ZOO / args.model
    return load_experiment(args.expid, zoo_dir, args.config, args.set)[0]


@pytest.mark.parametrize("place", ["root", "config", "elsewhere"])
def test_the_command_that_trains_loads_the_same_config(folder, monkeypatch, place):
    here = {"root": ROOT, "config": folder.parent, "elsewhere": Path("/")}[place]
    monkeypatch.chdir(here)
    words = ["monitor={AUC: 1}", "gamma=3"]
    config, model_class = load_experiment("e 1", ZOO / "FM", folder, words)
    again = loaded(train_command(config, model_class))
    assert again.config_hash() == config.config_hash()
    assert again.checkpoint_path == config.checkpoint_path
    record = config_record(config, model_class)
    row = RunRecord(model="FM", expid="e 1", dataset_id="d", seed=1, config=record)
    assert loaded(analyze_command(row)).config_hash() == config.config_hash()


def test_the_models_own_config_needs_no_option(monkeypatch):
    monkeypatch.chdir(ROOT)
    config, model_class = load_experiment("FM_demo", ZOO / "FM")
    command = "python model_zoo/FM/run_expid.py --expid FM_demo --gpu auto"
    assert train_command(config, model_class) == command


def test_an_expid_that_is_not_trained_says_how_to_train_it(folder):
    config, model_class = load_experiment("e 1", ZOO / "FM", folder)
    with pytest.raises(CheckpointError, match="train first: ") as error:
        record_arrays(TrainedRun("FM", config, model_class), -1, None)
    again = loaded(str(error.value).partition("train first: ")[2])
    assert again.checkpoint_path == config.checkpoint_path


def test_figures_of_a_folder_of_ones_own_say_how_to_record(folder, tmp_path):
    config, model_class = load_experiment("e 1", ZOO / "FM", folder, ["gamma=3"])
    row = {"model": "FM", "expid": "e 1", "dataset_id": "d", "seed": 1}
    (tmp_path / "results").mkdir()
    row |= {"config": vars(config_record(config, model_class))}
    (tmp_path / "results" / "results.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(CheckpointError, match="to record them run: ") as error:
        load_runs(tmp_path, "d", ["e 1"], "FM")
    again = loaded(str(error.value).partition("to record them run: ")[2])
    assert again.config_hash() == config.config_hash()
