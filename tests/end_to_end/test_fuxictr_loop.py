"""A folder as FuxiCTR's users have it: its Python loop, with an own class and encoded by it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MODEL = """
from torch import nn
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.layers import FeatureEmbedding, FactorizationMachine, MLP_Block


class Mine(BaseModel):
    def __init__(self, feature_map, model_id="Mine", gpu=-1, learning_rate=1e-3, embedding_dim=10,
                 hidden_units=[64], regularizer=None, **kwargs):
        super(Mine, self).__init__(feature_map, model_id=model_id, gpu=gpu,
                                   embedding_regularizer=regularizer, net_regularizer=regularizer,
                                   **kwargs)
        self.embedding_layer = FeatureEmbedding(feature_map, embedding_dim)
        self.fm = FactorizationMachine(feature_map)
        self.mlp = MLP_Block(input_dim=feature_map.sum_emb_out_dim(), output_dim=1,
                             hidden_units=hidden_units)
        self.compile(kwargs["optimizer"], kwargs["loss"], learning_rate)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs):
        X = self.get_inputs(inputs)
        v = self.embedding_layer(X)
        return {"y_pred": self.output_activation(self.fm(X, v) + self.mlp(v.flatten(1)))}


class Other(Mine):
    pass
"""
SCRIPT = """
import os
import shutil
os.chdir(os.path.dirname(os.path.realpath(__file__)))
import logging, sys
from packaging import version
import fuxictr
assert version.parse(fuxictr.__version__) >= version.parse("2.3.7")
from fuxictr import datasets
from fuxictr.utils import load_config, set_logger, print_to_json, print_to_list
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.pytorch.torch_utils import seed_everything
from fuxictr.preprocess import FeatureProcessor, build_dataset
import src

params = load_config("./config/", sys.argv[1])
params["gpu"] = -1
set_logger(params)
logging.info("Params: " + print_to_json(params))
seed_everything(seed=params["seed"])
data_dir = os.path.join(params["data_root"], params["dataset_id"])
feature_map_json = os.path.join(data_dir, "feature_map.json")
if params["data_format"] == "csv":
    encoder = FeatureProcessor(**params)
    splits = build_dataset(encoder, **params)
    params["train_data"], params["valid_data"], params["test_data"] = splits
feature_map = FeatureMap(params["dataset_id"], data_dir)
feature_map.load(feature_map_json, params)
model = getattr(src, params["model"])(feature_map, **params)
model.count_parameters()
train_gen, valid_gen = RankDataLoader(feature_map, stage="train", **params).make_iterator()
model.fit(train_gen, validation_data=valid_gen, **params)
print("valid", print_to_list(model.evaluate(valid_gen)))
test_gen = RankDataLoader(feature_map, stage="test", **params).make_iterator()
print("test", print_to_list(model.evaluate(test_gen)))
print("scores", len(model.predict(test_gen)))
"""
CONFIG = """
Base:
  model_root: './checkpoints/'
  num_workers: 3
  verbose: 0
  patience: 2
  pickle_feature_encoder: True
  save_best_only: True
  eval_steps: null
  debug_mode: False
  group_id: null
  use_features: null
  feature_specs: null
  feature_config: null
Mine_test:
  model: Mine
  dataset_id: tiny
  loss: 'binary_crossentropy'
  metrics: ['logloss', 'AUC']
  task: binary_classification
  optimizer: adam
  hidden_units: [16]
  learning_rate: 1.e-2
  regularizer: 1.e-6
  batch_size: 100
  embedding_dim: 4
  epochs: 5
  shuffle: True
  seed: 2019
  monitor: 'AUC'
  monitor_mode: 'max'
Other_test:
  model: Other
  dataset_id: tiny
  loss: 'binary_crossentropy'
  metrics: ['logloss', 'AUC']
  task: binary_classification
  optimizer: adam
  learning_rate: 1.e-2
  batch_size: 100
  embedding_dim: 4
  epochs: 1
  shuffle: True
  seed: 2019
  monitor: 'AUC'
  monitor_mode: 'max'
"""
DATASET = """
tiny:
  data_root: ./data/
  data_format: csv
  train_data: ./train.csv
  valid_data: ./valid.csv
  test_data: ./test.csv
  min_categr_count: 1
  feature_cols:
    - {name: ["a", "b"], active: True, dtype: str, type: categorical}
  label_col: {name: click, dtype: float}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("user")
    (path / "src").mkdir()
    (path / "config").mkdir()
    (path / "src" / "Mine.py").write_text(MODEL)
    (path / "src" / "__init__.py").write_text("from .Mine import *\n")
    (path / "run_expid.py").write_text(SCRIPT)
    (path / "config" / "model_config.yaml").write_text(CONFIG)
    (path / "config" / "dataset_config.yaml").write_text(DATASET)
    rng = np.random.default_rng(0)
    for split, rows in (("train", 2000), ("valid", 500), ("test", 500)):
        a, b = rng.integers(0, 9, rows), rng.integers(0, 5, rows)
        click = rng.random(rows) < 1 / (1 + np.exp(-(np.sin(a) * 2 + b - 2)))
        lines = [f"{int(c)},{x},{y}" for c, x, y in zip(click, a, b, strict=True)]
        (path / f"{split}.csv").write_text("\n".join(["click,a,b", *lines]) + "\n")
    return path


def run(folder, *command):
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def test_the_python_loop_of_run_expid(folder):
    done = run(folder, "run_expid.py", "Mine_test")
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert float(said["test"].rpartition("AUC: ")[2]) > 0.8
    assert said["scores"] == "500"
    assert "patience (now early_stop_patience)" in done.stderr
    assert (folder / "checkpoints" / "tiny" / "Mine_test.model").is_file()
    assert run(folder, "run_expid.py", "Mine_test").stdout == done.stdout


def test_the_command_trains_the_same_folder(folder):
    """A second class of the file is found through src/__init__.py."""
    code = (
        "import sys; from fuxictr.cli.run import main; "
        "main('.', ['--expid', 'Other_test', '--gpu', '-1', '--results', 'r.jsonl'])"
    )
    done = run(folder, "-c", code)
    assert "[Metrics] logloss: " in done.stderr
    assert (folder / "r.jsonl").is_file()


def test_a_class_from_the_zoo():
    code = (
        "import sys; sys.path.append(%r); from model_zoo import DeepFM, FM; import model_zoo\n"
        "assert DeepFM.__name__ == 'DeepFM' and isinstance(FM, type) and 'PNN' in dir(model_zoo)\n"
        "try:\n    from model_zoo import DeepFN\nexcept ImportError:\n    print('no such model')\n"
    ).replace("%r", repr(str(ROOT)))
    done = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True)
    assert done.stdout == "no such model\n", done.stderr


def test_a_backbone_that_was_copied_elsewhere(tmp_path, folder):
    """It needs the package alone; without it the message says so."""
    packages, zoo = tmp_path / "packages", tmp_path / "mine" / "zoo"
    shutil.copytree(ROOT / "fuxictr", packages / "fuxictr")
    shutil.copytree(ROOT / "model_zoo" / "FM", zoo / "FM")
    block = yaml.safe_load(DATASET)["tiny"]
    block |= {f"{split}_data": str(folder / f"{split}.csv") for split in ("train", "valid", "test")}
    config = zoo / "FM" / "config"
    (config / "dataset_config.yaml").write_text(yaml.safe_dump({"tiny": block}))
    command = [sys.executable, "run_expid.py", "--expid", "FM_demo", "--gpu", "-1"]
    command += ["--set", "dataset_id=tiny", "epochs=1"]
    paths = {"PYTHONPATH": str(packages)}
    done, absent = (
        subprocess.run(
            command,
            cwd=zoo / "FM",
            env={**os.environ, **given},
            capture_output=True,
            text=True,
            timeout=120,
        )
        for given in (paths, {"PYTHONPATH": ""})
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (zoo / "FM" / "results" / "results.jsonl").is_file()
    assert not (packages / "results").exists()
    assert absent.returncode == 1
    assert absent.stderr.startswith("fuxictr is not found: leave this folder in model_zoo/, or run")
