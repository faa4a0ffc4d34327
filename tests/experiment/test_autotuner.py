"""FuxiCTR's tuner files: names, order and content of what they enumerate, and the search."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fuxictr.autotuner import (
    _digest,
    enumerate_params,
    finished_expids,
    grid_search,
    load_experiment_ids,
)
from fuxictr.config.yaml_file import read_yaml_file
from fuxictr.errors import ConfigError

ROOT = Path(__file__).parents[2]
MODEL = """\
Base: {model_root: ./c/, debug_mode: false, seed: 1}
DCN_default: {model: DCN, dataset_id: TBD, lr: 0.1, seed: 2}
"""
DATASET = """\
ds: {data_root: ../data/, data_format: csv, train_data: a.csv, min_categr_count: 1}
"""
TUNER = """\
base_config: ./base/
base_expid: DCN_default
dataset_id: ds
tuner_space:
  lr: [0.1, 0.2]
  seed: 7
"""


@pytest.fixture
def tuner(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "model_config.yaml").write_text(MODEL)
    (tmp_path / "base" / "dataset_config.yaml").write_text(DATASET)
    path = tmp_path / "DCN_tuner.yaml"
    path.write_text(TUNER)
    return path


def blocks(folder):
    names = ("model_config.yaml", "dataset_config.yaml")
    return [read_yaml_file(Path(folder) / name) for name in names]


def test_the_hash_is_that_of_fuxictr():
    assert _digest({"b": 1, "a": "x"}) == "d8ec3eb5"


def test_names_are_those_of_fuxictr(tuner, capsys):
    folder = enumerate_params(tuner)
    assert folder == str(tuner.with_suffix(""))
    models, datasets = blocks(folder)
    assert list(datasets) == ["ds_37c41ca2"]
    assert list(models) == ["DCN_ds_001_aad8c3e0", "DCN_ds_002_122e51fa"]
    assert models["DCN_ds_002_122e51fa"] == {
        "model_root": "./c/",
        "debug_mode": False,
        "seed": 7,
        "model": "DCN",
        "dataset_id": "ds_37c41ca2",
        "lr": 0.2,
    }
    assert capsys.readouterr().out == "Enumerate all tuner configurations done.\n"
    assert load_experiment_ids(folder) == list(models)


def test_the_last_key_of_the_base_is_the_fastest_and_datasets_vary_within_models(tuner):
    space = {"lr": [0.1, 0.2], "model_root": ["./x/", "./y/"], "min_categr_count": [1, 2]}
    tuner.write_text(yaml.safe_dump({**yaml.safe_load(TUNER), "tuner_space": space}))
    models, datasets = blocks(enumerate_params(tuner))
    found = [
        (m["model_root"], m["lr"], datasets[m["dataset_id"]]["min_categr_count"])
        for m in models.values()
    ]
    assert found == [(r, lr, c) for r in ("./x/", "./y/") for lr in (0.1, 0.2) for c in (1, 2)]
    assert [name.split("_")[2] for name in models] == [f"{n:03d}" for n in range(1, 9)]


def test_an_excluded_expid_keeps_its_number(tuner, tmp_path):
    results = tmp_path / "r.csv"
    results.write_text(" 20240101-120000,[command] python x,[exp_id] DCN_ds_001_aad8c3e0,[d] ds\n")
    assert finished_expids(results) == ["DCN_ds_001_aad8c3e0"]
    models, _ = blocks(enumerate_params(tuner, finished_expids(results)))
    assert list(models) == ["DCN_ds_002_122e51fa"]
    results.write_text("a,b\n")
    with pytest.raises(ConfigError, match=r"r.csv, line 1: expected '\[exp_id\] <expid>'"):
        finished_expids(results)


def test_lists_dicts_and_tuples_are_one_value_where_they_are_written_so(tuner):
    content = MODEL.replace("lr: 0.1", "lr: 0.1, units: [1], net: {a: 1}, pair: 0")
    (tuner.parent / "base" / "model_config.yaml").write_text(content)
    space = "  units: [[64, 32]]\n  net: {a: 2}\n  pair: [!!python/tuple [x, y]]\n"
    tuner.write_text(TUNER + space)
    models, _ = blocks(enumerate_params(tuner))
    (first, _) = models.values()
    assert (first["units"], first["net"], first["pair"]) == ([64, 32], {"a": 2}, ("x", "y"))


def test_blocks_in_the_tuner_file_itself(tmp_path):
    path = tmp_path / "t.yaml"
    content = {
        "base_expid": "DCN_x",
        "dataset_id": "ds",
        "model_config": {"DCN_x": {"model": "DCN", "model_id": "old", "dataset_id": "ds", "lr": 1}},
        "dataset_config": {"ds": {"data_format": "npz", "train_data": "a.npz"}},
        "tuner_space": {"lr": [1, 2]},
    }
    path.write_text(yaml.safe_dump(content))
    models, datasets = blocks(enumerate_params(path))
    assert list(datasets) == ["ds"]
    assert [name[:9] for name in models] == ["DCN_x_001", "DCN_x_002"]
    assert [m["lr"] for m in models.values()] == [1, 2]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (TUNER.replace("lr:", "lrr:"), RuntimeError, "Invalid params in tuner config: {'lrr'"),
        (TUNER.replace("base_expid", "base_expidd"), ConfigError, "key 'base_expid' is missing"),
        (TUNER + "tunner: 1\n", ConfigError, "unknown key 'tunner'"),
        (TUNER.replace("./base/", "./bas/"), ConfigError, "'base_config': ./bas/: no such folder"),
        (TUNER.replace("dataset_id: ds", "dataset_id: dt"), ConfigError, "dt"),
        ("- 1\n", ConfigError, "expected a mapping of keys, found list"),
        ("base_expid: a\n", ConfigError, "key 'tuner_space': expected a mapping"),
    ],
)
def test_wrong_files(tuner, text, error, message):
    tuner.write_text(text)
    with pytest.raises(error, match=message):
        enumerate_params(tuner)
    assert not tuner.with_suffix("").exists()


def test_a_search_without_expids_is_an_error(tuner):
    folder = enumerate_params(tuner)
    with pytest.raises(ConfigError, match="no expid that contains 'xyz'; allowed: "):
        grid_search(folder, [-1], "xyz")


def test_a_search_of_an_unknown_model_is_an_error(tuner, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"model 'DCN' is no folder of model_zoo/, and there is"):
        grid_search(enumerate_params(tuner), [-1])


def write_search(folder: Path) -> Path:
    """A folder with src/, run_expid.py, data, and a tuner file, as FuxiCTR's users have it."""
    (folder / "src").mkdir()
    (folder / "src" / "Mine.py").write_text(
        "from torch import nn\n"
        "from fuxictr.pytorch.layers import FeatureEmbedding\n"
        "from fuxictr.pytorch.models import BaseModel\n\n"
        "class Mine(BaseModel):\n"
        "    def __init__(self, feature_map, learning_rate=1e-3, embedding_dim=4, fails=False,\n"
        "                 **kwargs):\n"
        "        super().__init__(feature_map, **kwargs)\n"
        "        if fails:\n            raise ValueError('made to fail')\n"
        "        self.embedding_layer = FeatureEmbedding(feature_map, embedding_dim)\n"
        "        self.fc = nn.Linear(feature_map.sum_emb_out_dim(), 1)\n"
        "        self.compile(kwargs['optimizer'], kwargs['loss'], learning_rate)\n"
        "        self.reset_parameters()\n\n"
        "    def forward(self, inputs):\n"
        "        v = self.embedding_layer(self.get_inputs(inputs)).flatten(1)\n"
        "        return {'y_pred': self.output_activation(self.fc(v))}\n"
    )
    script = (ROOT / "model_zoo" / "FM" / "run_expid.py").read_text()
    script = script.replace("str(Path(__file__).resolve().parents[2])", repr(str(ROOT)))
    (folder / "run_expid.py").write_text(script)
    rows = [f"{(n * 7 + n // 3) % 2},{n % 5},{n % 3}" for n in range(400)]
    for split in ("train", "valid", "test"):
        (folder / f"{split}.csv").write_text("\n".join(["click,a,b", *rows]) + "\n")
    content = {
        "base_expid": "Mine_base",
        "dataset_id": "tiny",
        "model_config": {
            "Mine_base": {
                **{"model": "Mine", "dataset_id": "tiny", "model_root": "./checkpoints/"},
                **{"optimizer": "adam", "loss": "binary_crossentropy", "seed": 1, "epochs": 1},
                **{
                    "metrics": ["AUC", "logloss"],
                    "monitor": "AUC",
                    "task": "binary_classification",
                },
                **{"batch_size": 100, "embedding_dim": 4, "learning_rate": 0.01, "fails": False},
            }
        },
        "dataset_config": {
            "tiny": {
                **{"data_root": "./data/", "data_format": "csv", "min_categr_count": 1},
                **{f"{split}_data": f"./{split}.csv" for split in ("train", "valid", "test")},
                "feature_cols": [{"name": ["a", "b"], "dtype": "str", "type": "categorical"}],
                "label_col": {"name": "click", "dtype": "float"},
            }
        },
        "tuner_space": {"learning_rate": [0.01, 0.1], "fails": [False, True]},
    }
    (folder / "search.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder / "search.yaml"


def test_a_failed_trial_does_not_end_the_search_and_finished_ones_are_not_run_again(tmp_path):
    write_search(tmp_path)
    results = tmp_path / "results.jsonl"
    code = (
        "import sys; from pathlib import Path; from fuxictr.autotuner import *\n"
        "folder = enumerate_params('search.yaml')\n"
        f"sys.exit(grid_search(folder, [-1], results_file=Path({str(results)!r})))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 2, done.stderr[-2000:]  # two of four fail
        said.append(done.stdout)
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    finished = [row["expid"] for row in rows if "failed" not in row]
    assert len(finished) == len(set(finished)) == 2
    assert "Grid search: 4 expids, 0 finished before, 2 failed." in said[0]
    assert "Grid search: 4 expids, 2 finished before, 2 failed." in said[1]
    assert all("made to fail" in row["failed"] for row in rows if "failed" in row)
    lines = (tmp_path / "search.csv").read_text().splitlines()
    assert sorted(finished_expids(tmp_path / "search.csv")) == sorted(finished)
    assert len(lines) == 2
