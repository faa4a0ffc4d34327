"""What a row of results keeps of environment and config: every part, no secret, enough to load."""

import hashlib
import json
import math
import os
import subprocess
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from fuxictr.errors import ConfigError
from fuxictr.experiment.results import environment
from fuxictr.experiment.results.config_record import (
    changed_keys,
    config_record,
    load_recorded,
    plain,
    repeat_command,
)
from fuxictr.experiment.results.record import ConfigRecord, RunRecord
from fuxictr.experiment.zoo.models import ZOO, load_experiment

ME = ("-c", "user.name=me", "-c", "user.email=me@host", "-c", "commit.gpgsign=false")


def git(folder: Path, *arguments: str) -> str:
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    command = ["git", "-C", str(folder), *ME, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout


def package_in(folder: Path) -> Path:
    (folder / "fuxictr").mkdir(parents=True)
    (folder / "fuxictr" / "__init__.py").write_text("a = 1\n")
    return folder


@pytest.fixture
def repository(tmp_path) -> Path:
    folder = package_in(tmp_path / "repository")
    git(folder, "init", "-q", "-b", "feature/x")
    git(folder, "remote", "add", "origin", "https://me:s3cret@host/x.git")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "one")
    return folder


def git_record(folder: Path):
    return environment.git_record.__wrapped__(folder)


# --- environment ---


def test_every_part_is_there_and_is_json():
    record = environment.environment_record()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert set(record["packages"]) == {"ge4rec", "python", *environment.PACKAGES}
    for name in ("scipy", "polars", "pyarrow", "pandas", "h5py", "PyYAML"):
        assert record["packages"][name] == version(name)
    assert record["packages"]["torch"] == torch.__version__
    assert record["packages"]["numpy"] == np.__version__
    machine = record["platform"]
    assert machine["cores"] == os.cpu_count() >= machine["usable_cores"] >= 1
    assert machine["memory_bytes"] > 1 << 28
    assert all(machine[name] for name in ("system", "kernel", "machine", "cpu"))
    assert record["threads"]["intra_op"] == torch.get_num_threads()
    assert record["threads"]["inter_op"] == torch.get_num_interop_threads()
    assert record["cwd"] == str(Path.cwd())


def test_numerics_say_the_flags_as_they_are(monkeypatch):
    before = environment.numerics_record()
    assert before["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert before["deterministic_algorithms"] is False
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", not before["cudnn_benchmark"])
    torch.set_deterministic_debug_mode("error")
    try:
        after = environment.numerics_record()
    finally:
        torch.set_deterministic_debug_mode("default")
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"deterministic_algorithms", "cudnn_benchmark"}


def test_a_package_that_is_not_there_is_said_to_be_missing(monkeypatch):
    monkeypatch.setattr(environment, "PACKAGES", (*environment.PACKAGES, "no-such-thing"))
    assert environment.package_versions.__wrapped__()["no-such-thing"] == "not installed"


def test_variables_that_change_numbers_are_kept_and_no_others(monkeypatch):
    for name in environment.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    wanted = {"OMP_NUM_THREADS": "3", "CUBLAS_WORKSPACE_CONFIG": ":16:8", "PYTHONHASHSEED": "7"}
    secrets = {"AWS_SECRET_ACCESS_KEY": "s3cret", "HTTPS_PROXY": "http://me:s3cret@host"}
    for name, value in {**wanted, **secrets}.items():
        monkeypatch.setenv(name, value)
    record = environment.environment_record()
    assert record["variables"] == wanted
    assert "s3cret" not in json.dumps(record)


def test_the_command_is_kept_without_credentials_and_bounded(monkeypatch):
    argv = ["run.py", "--data", "s3://me:s3cret@bucket/x", "y" * 5000, *["z"] * 500]
    monkeypatch.setattr("sys.argv", argv)
    found = environment.environment_record()["argv"]
    assert found[:3] == ["run.py", "--data", "s3://***@bucket/x"]
    assert len(json.dumps(found)) < 1000


def test_devices(monkeypatch, tmp_path):
    assert environment.device_record(torch.device("cpu")) == {"type": "cpu"}
    known = SimpleNamespace(name="NVIDIA H100", major=9, minor=0, total_memory=80 << 30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: known)
    monkeypatch.setattr(torch.version, "cuda", "12.4")
    for text in (
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5\nGCC 12.3.0\n",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build\n",
    ):
        (tmp_path / "version").write_text(text)
        monkeypatch.setattr(environment, "_DRIVER", tmp_path / "version")
        record = environment.device_record(torch.device("cuda:1"))
        assert (record["name"], record["capability"]) == ("NVIDIA H100", "9.0")
        assert (record["cuda"], record["driver"]) == ("12.4", "550.54.15")
    monkeypatch.setattr(environment, "_DRIVER", tmp_path / "none")
    assert environment.device_record(torch.device("cuda:1"))["driver"] is None


# --- git ---


def test_a_clean_repository(repository):
    record = git_record(repository)
    assert record == {
        "commit": git(repository, "rev-parse", "HEAD").strip(),
        "branch": "feature/x",
        "dirty": False,
        "diff_sha256": None,
        "untracked": 0,
    }
    assert "s3cret" not in json.dumps(record)


def test_dirty_states_are_told_apart(repository):
    states = []
    for text in ("a = 2\n", "a = 3\n"):
        (repository / "fuxictr" / "__init__.py").write_text(text)
        states.append(git_record(repository))
        diff = git(repository, "diff", "HEAD").encode()
        assert states[-1]["diff_sha256"] == hashlib.sha256(diff).hexdigest()
    git(repository, "add", ".")
    assert git_record(repository) == states[1], "staged or not is the same state"
    assert states[0]["dirty"] and states[0]["diff_sha256"] != states[1]["diff_sha256"]
    (repository / "new.py").touch()
    assert git_record(repository)["untracked"] == 1


def test_a_commit_without_branch(repository):
    git(repository, "checkout", "-q", "--detach")
    assert git_record(repository)["branch"] is None


def test_the_repository_that_git_is_told_of_by_variables_is_not_ours(
    repository, tmp_path, monkeypatch
):
    other = package_in(tmp_path / "other")
    git(other, "init", "-q")
    git(other, "add", ".")
    git(other, "commit", "-q", "-m", "other")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert git_record(repository)["commit"] == git(repository, "rev-parse", "HEAD").strip()


def test_without_a_repository_of_its_own_nothing_is_claimed(repository, tmp_path, monkeypatch):
    assert git_record(package_in(tmp_path / "alone")) is None
    (repository / ".gitignore").write_text("venv/\n")
    assert git_record(package_in(repository / "venv")) is None, "installed inside of another's"
    empty = package_in(tmp_path / "empty")
    git(empty, "init", "-q")
    git(empty, "add", ".")
    assert git_record(empty) is None, "no commit yet"
    monkeypatch.setenv("PATH", "")
    assert git_record(repository) is None, "no git"


def test_code_version(repository, tmp_path, monkeypatch):
    def code_version(root: Path) -> str:
        monkeypatch.setattr(environment, "ROOT", root)
        return environment.code_version.__wrapped__()

    commit = git(repository, "rev-parse", "HEAD")[:12]
    own = environment.ge4rec_version
    assert code_version(repository) == f"{own}-{commit}"
    (repository / "fuxictr" / "__init__.py").write_text("a = 2\n")
    assert code_version(repository) == f"{own}-{commit}+dirty"
    (repository / ".gitignore").write_text("venv/\n")
    assert code_version(package_in(repository / "venv")) == own


# --- values ---


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (1e-5, 1e-5),
        (True, True),
        (Path("/a/b"), "/a/b"),
        ((1, (2.5, None)), [1, [2.5, None]]),
        ({"b", "a"}, ["a", "b"]),
        ({1: {"x": math.inf}}, {"1": {"x": "inf"}}),
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.float64("nan"), "nan"),
        (torch.tensor(2), 2),
        (torch.float32, "torch.float32"),
        ("postgres://me:s3cret@host/x?y=a@b", "postgres://***@host/x?y=a@b"),
        ("see https://token@host and ftp://a:b@c", "see https://***@host and ftp://***@c"),
        ("me@host, a: b@c", "me@host, a: b@c"),
    ],
)
def test_plain(value, expected):
    found = plain(value)
    assert found == expected and type(found) is type(expected)
    assert json.loads(json.dumps(found, allow_nan=False)) == expected


# --- config ---


def recorded(*overrides: str, expid: str = "DeepFM_demo_gen", seed: int | None = None):
    config, model_class = load_experiment(expid, ZOO / "DeepFM", overrides=[*overrides], seed=seed)
    return config, ConfigRecord(**json.loads(json.dumps(vars(config_record(config, model_class)))))


def row_of(record: ConfigRecord | None, expid: str, seed: int, **other) -> RunRecord:
    return RunRecord(config=record, expid=expid, seed=seed, dataset_id="d", **other)


def test_every_key_is_kept_with_value_and_origin():
    config, record = recorded("gamma=3", "learning_rate=1e-3", seed=5)
    found = {name: (v, origin) for origin, keys in record.keys.items() for name, v in keys.items()}
    assert set(config.params()) <= set(found)
    assert all(found[name][0] == plain(value) for name, value in config.params().items())
    assert found["gamma"] == (3.0, "command line (--set)")
    assert found["seed"] == (5, "command line (--seed)")
    assert found["batch_size"][1].endswith(
        "model_zoo/DeepFM/config/model_config.yaml (DeepFM_demo_gen)"
    )
    assert found["optimizer"][1].endswith("model_config.yaml (Base)")
    assert found["train_data"][1].endswith("dataset_config.yaml (demo_x1)")
    assert found["amp"] == ("none", "default")
    given = set(config.origins) & set(config.params())
    assert {name for name in found if found[name][1] != "default"} == given
    assert {"learning_rate", "optimizer", "net_dropout"} <= set(record.as_default)
    assert not {"gamma", "amp", "embedding_dim"} & set(record.as_default)


def test_defaults_of_the_model_are_kept_too():
    assert recorded(expid="DeepFM_demo")[1].keys["default"]["num_source"] == 10
    config, model_class = load_experiment("FM_demo", ZOO / "FM")
    config = replace(config, model_params={})
    assert config_record(config, model_class).keys["default"]["embedding_dim"] == 10


@pytest.mark.parametrize(
    "override",
    [
        "learning_rate=1e-5",
        "monitor={AUC: 1, logloss: -1}",
        "hidden_units=[7, 3]",
        "embedding_regularizer=l1_l2(1e-5, 0.1)",
        "net_regularizer=null",
        "model_id='a: b'",
        'model_id="it\'s #1"',
        "feature_specs=[{name: C1, embedding_dim: 4}]",
        "data_root='../o\"x, {y}/'",
        "workers=3",
    ],
)
def test_overrides_are_loaded_again_as_they_were(override):
    config, record = recorded(override, "verbose=0", seed=11)
    row = row_of(record, config.expid, config.train.seed)
    again, model_class = load_recorded(row)
    assert again.params() == config.params()
    assert again.config_hash() == config.config_hash()
    assert changed_keys(row, again, model_class) == {}
    assert (again.run_dir, again.data_dir) == (config.run_dir, config.data_dir)


def test_an_override_by_an_older_name_is_given_by_that_name_again(tmp_path):
    model = {"model": "FM", "dataset_id": "d", "patience": 2}
    data = {"feature_cols": [{"name": "c"}], "label_col": {"name": "y"}}
    (tmp_path / "model_config.yaml").write_text(yaml.safe_dump({"mine": model}))
    (tmp_path / "dataset_config.yaml").write_text(yaml.safe_dump({"d": data}))
    config, model_class = load_experiment("mine", ZOO / "FM", tmp_path, ["patience=7"])
    record = config_record(config, model_class)
    assert record.overrides == ["patience=7"]
    again, _ = load_recorded(row_of(record, "mine", 2019))
    assert again.train.early_stop_patience == 7


@pytest.mark.parametrize("is_folder", [False, True])
@pytest.mark.parametrize("is_inside", [False, True])
def test_folders_are_found_again(tmp_path, monkeypatch, is_folder, is_inside):
    zoo = tmp_path / "zoo" / "Mine"
    folder = (zoo if is_inside else tmp_path) / "my config"
    folder.mkdir(parents=True)
    zoo.mkdir(exist_ok=True, parents=True)
    model = yaml.safe_dump({"mine": {"model": "FM", "dataset_id": "d"}})
    columns = [{"name": "c", "type": "categorical"}]
    data = yaml.safe_dump({"d": {"feature_cols": columns, "label_col": {"name": "y"}}})
    name = "model_config/some.yaml" if is_folder else "model_config.yaml"
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(model)
    # Of all models of this zoo, so that its paths resolve against the model's folder.
    (zoo.parent / "dataset_config.yaml").write_text(data)
    config, model_class = load_experiment("mine", zoo, folder)
    record = config_record(config, model_class)
    assert (record.folder, record.zoo) == (str(folder), str(zoo))
    monkeypatch.chdir(tmp_path)
    again, _ = load_recorded(row_of(record, "mine", 2019))
    assert (again.run_dir, again.data_dir) == (config.run_dir, config.data_dir)


def test_rows_of_older_versions_are_of_the_models_folder():
    row = row_of(None, "DeepFM_demo", 4, model="DeepFM")
    config, model_class = load_recorded(row)
    assert (config.expid, config.train.seed) == ("DeepFM_demo", 4)
    assert changed_keys(row, config, model_class) == {}
    assert repeat_command(row) is None
    with pytest.raises(ConfigError, match="does not name its config folder"):
        load_recorded(row_of(None, "DeepFM_demo", 4))


def test_a_config_that_came_from_no_folder_is_kept_without():
    config, model_class = load_experiment("FM_demo", ZOO / "FM")
    record = config_record(replace(config, origins={}), model_class)
    assert record.folder is None and record.zoo == str(ZOO / "FM")
    assert record.keys.keys() == {"default"}
    with pytest.raises(ConfigError, match="run x: its row does not name its config"):
        load_recorded(row_of(record, "e", 1, run_id="x", model="FM"))


def test_changed_keys_name_both_values():
    config, record = recorded("gamma=3")
    row, keys = row_of(record, config.expid, 2019), record.keys
    keys["default"]["gone"] = [1]
    del keys["default"]["amp"]
    changed, model_class = load_experiment(
        "DeepFM_demo_gen", ZOO / "DeepFM", overrides=["gamma=4", "model_id=x"], seed=1
    )
    assert changed_keys(row, changed, model_class) == {
        "amp": ("no such key", '"none"'),
        "gamma": ("3.0", "4.0"),
        "gone": ("[1]", "no such key"),
    }


def test_the_repeating_command(tmp_path):
    config, record = recorded("gamma=3", "monitor={AUC: 1}")
    row = row_of(record, config.expid, 6, model="DeepFM")
    start = f"python {ZOO}/DeepFM/run_expid.py --config {ZOO}/DeepFM/config --expid DeepFM_demo_gen"
    end = "--set 'monitor={AUC: 1.0}' gamma=3.0"
    assert repeat_command(row) == f"{start} --seed 6 --gpu -1 {end}"
    row = replace(row, device="cuda:1 (NVIDIA H200)")
    assert repeat_command(row) == f"{start} --seed 6 --gpu 1 {end}"
    assert repeat_command(replace(row, command="x y")) == "x y", "of a failed run of a sweep"
    row = replace(row, config=replace(record, zoo=str(tmp_path)))
    assert repeat_command(row).startswith(f"python {ZOO}/DeepFM/run_expid.py")


def test_a_row_stays_small_whatever_the_columns(tmp_path):
    for dataset in ("demo", "avazu", "criteo"):
        config, model_class = load_experiment(f"DCNv2_{dataset}_gen", ZOO / "DCNv2")
        assert len(json.dumps(vars(config_record(config, model_class)))) < 6000, dataset
    columns = [{"name": f"column_{i}", "type": "categorical"} for i in range(300)]
    config, record = recorded(f"feature_cols={json.dumps(columns)}")
    (kept,) = (keys["feature_cols"] for keys in record.keys.values() if "feature_cols" in keys)
    assert set(kept) == {"sha256", "characters"}
    columns[7]["name"] = "other"
    _, other = recorded(f"feature_cols={json.dumps(columns)}")
    row = row_of(other, config.expid, 2019)
    _, model_class = load_experiment("DeepFM_demo_gen", ZOO / "DeepFM")
    assert set(changed_keys(row, config, model_class)) == {"feature_cols"}
    assert len(json.dumps(environment.environment_record())) < 3000
