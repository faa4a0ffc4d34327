"""A user's config folder around a small log, and commands run on it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from fuxictr.cli import predict
from fuxictr.cli import run as run_expid
from fuxictr.experiment.run import run
from fuxictr.experiment.scoring import score
from fuxictr.experiment.zoo.models import ROOT
from tests.preloaded import python

SHARED = ROOT.parent / "shared" / "data"


class UserFolder:
    """A config folder of a user's own, outside the repository."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model = {
            "Base": {"model": "DeepFM", "model_root": "./checkpoints/"},
            "mine": {
                "dataset_id": "clicks",
                "batch_size": 100,
                "embedding_dim": 4,
                "hidden_units": [8],
                "epochs": 3,
                "learning_rate": 0.05,
                "verbose": 0,
            },
        }
        self.model["mine_gen"] = {
            **self.model["mine"],
            "concat_emb": True,
            "emb_activation": "relu",
            "gamma": 2,
        }
        self.dataset = {
            "data_root": "./encoded/",
            "train_data": "./train.csv",
            "valid_data": "./valid.csv",
            "test_data": "./test.csv",
            "feature_cols": [
                {"name": ["user", "item"], "dtype": "str", "type": "categorical"},
                {"name": "price", "dtype": "float", "type": "numeric"},
            ],
            "label_col": {"name": "click", "dtype": "float"},
        }
        rng = np.random.default_rng(0)
        for split, rows in (("train", 1000), ("valid", 300), ("test", 300)):
            user, item = rng.integers(0, 20, rows), rng.integers(0, 30, rows)
            price = rng.normal(size=rows).round(4)
            chance = 1 / (1 + np.exp(-(price + np.sin(user))))
            click = (rng.random(rows) < chance).astype(int)
            self.write_rows(split, ["click", "user", "item", "price"], click, user, item, price)
        self.write_configs()

    def write_rows(self, split: str, header: list[str], *columns) -> None:
        with open(self.path / f"{split}.csv", "w", newline="") as file:
            csv.writer(file).writerows([header, *zip(*columns, strict=True)])

    def edit(self, split: str, line: int, old: str, new: str) -> None:
        """Replaces text in one line (1-based) of a split's csv."""
        path = self.path / f"{split}.csv"
        lines = path.read_text().splitlines()
        assert old in lines[line - 1]
        lines[line - 1] = lines[line - 1].replace(old, new, 1)
        path.write_text("\n".join(lines) + "\n")

    def write_configs(self) -> None:
        (self.path / "model_config.yaml").write_text(yaml.safe_dump(self.model))
        (self.path / "dataset_config.yaml").write_text(yaml.safe_dump({"clicks": self.dataset}))


@pytest.fixture
def user(tmp_path: Path) -> UserFolder:
    folder = tmp_path / "my_config"
    folder.mkdir()
    return UserFolder(folder)


@pytest.fixture
def train(tmp_path, monkeypatch, capsys):
    """Runs run_expid.py in this process; returns (exit status, stderr)."""
    zoo_dir = tmp_path / "DeepFM"
    zoo_dir.mkdir()
    monkeypatch.setattr(run, "RESULTS", tmp_path / "results.jsonl")

    def call(folder: Path, expid: str = "mine", *options: str) -> tuple[int, str]:
        argv = ["--config", str(folder), "--expid", expid, *options]
        if "--gpu" not in options:
            argv += ["--gpu", "-1"]
        with pytest.raises(SystemExit) as ended:
            run_expid.main(zoo_dir, argv)
        return ended.value.code, capsys.readouterr().err

    return call


def copy_tree(target: Path) -> Path:
    """Copies the files that git tracks or would track, what an empty clone holds; returns it."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)
    return target


@pytest.fixture(scope="session")
def clone(tmp_path_factory) -> Path:
    """A copy of the tree."""
    return copy_tree(tmp_path_factory.mktemp("clone") / "GE4Rec")


@pytest.fixture(scope="session")
def shell(clone):
    """Runs a command of the clone with this environment's Python; returns what it printed."""

    def call(*command: str, status: int = 0) -> subprocess.CompletedProcess:
        done = subprocess.run(
            command,
            cwd=clone,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHON": python()},
            check=False,
        )
        assert done.returncode == status, done.stderr[-3000:]
        return done

    return call


@pytest.fixture
def trained(user, train, tmp_path):
    """A trained user folder with an id column that is no feature, and what its test split gave."""
    for split in ("train", "valid", "test"):
        rows = pl.read_csv(user.path / f"{split}.csv", infer_schema=False)
        rows.insert_column(0, pl.Series("id", [f"{split}{i}" for i in range(len(rows))]))
        rows.write_csv(user.path / f"{split}.csv")
    user.dataset["feature_cols"].append({"name": "id", "type": "meta"})
    user.write_configs()
    assert train(user.path, "mine_gen")[0] == 0
    user.measured = json.loads((tmp_path / "results.jsonl").read_text())["test"]
    return user


@pytest.fixture
def command(capsys):
    """Runs predict.py in this process; returns (exit status, stderr)."""

    def call(folder, data, out, *options):
        argv = ["--model", "DeepFM", "--expid", "mine_gen", "--config", str(folder), "--gpu", "-1"]
        with pytest.raises(SystemExit) as ended:
            predict.main([*argv, "--data", str(data), "--out", str(out), *options])
        return ended.value.code, capsys.readouterr().err

    return call


def from_python(trained, rows, **keys):
    return score(rows, "DeepFM", "mine_gen", trained.path, gpu=-1, **keys)
