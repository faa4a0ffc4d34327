"""The import paths that users rely on, and what a model needs to train."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

PATHS = {
    "fuxictr.features": ["FeatureMap"],
    "fuxictr.preprocess": ["FeatureProcessor", "build_dataset"],
    "fuxictr.pytorch": ["GEN", "build_generators"],
    "fuxictr.pytorch.models": ["BaseModel"],
    "fuxictr.pytorch.layers": [
        *("FeatureEmbedding", "FeatureEmbeddingDict", "LogisticRegression", "MLP_Block", "GEN"),
        *("MaskedAveragePooling", "MaskedSumPooling"),
    ],
    "fuxictr.pytorch.dataloaders": ["RankDataLoader"],
    "fuxictr.pytorch.torch_utils": ["seed_everything", "get_device", "get_optimizer"],
    "fuxictr.utils": ["load_config", "set_logger", "print_to_json", "print_to_list", "Monitor"],
}

TRAIN_FROM_TENSORS = """
import sys

absent = ("polars", "pyarrow", "pandas", "yaml", "tqdm", "matplotlib", "sklearn", "h5py")
sys.modules.update(dict.fromkeys(absent))  # None: an import of the name fails
import numpy as np
from fuxictr.config import TrainConfig
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import BatchIterator, from_arrays
from fuxictr.pytorch.training.trainer import Trainer
sys.path.insert(0, "model_zoo/DeepFM/src")
from DeepFM import DeepFM

feature_map = FeatureMap("d")
feature_map.features = {"a": {"type": "categorical", "vocab_size": 9}}
feature_map.labels = ["click"]
rng = np.random.default_rng(0)
a = rng.integers(1, 9, 500)
data = from_arrays({"a": a, "click": a > 4}, feature_map)
model = DeepFM(feature_map, embedding_dim=4, hidden_units=[8], concat_emb=True)
config = TrainConfig(batch_size=50, epochs=5, learning_rate=0.05)
fitted = Trainer(model, config, verbose=0).fit(BatchIterator(data, 50), BatchIterator(data, 50))
assert fitted.valid["AUC"] > 0.9, fitted
"""


@pytest.mark.parametrize("module", PATHS)
def test_paths_stay(module):
    imported = importlib.import_module(module)
    for name in PATHS[module]:
        assert hasattr(imported, name), f"from {module} import {name}"


def test_a_model_trains_where_only_torch_and_numpy_are_installed():
    subprocess.run([sys.executable, "-c", TRAIN_FROM_TENSORS], cwd=ROOT, check=True)


def test_logger_appends_and_prints_to_the_file_once(tmp_path):
    import logging

    from fuxictr.utils import print_to_json, print_to_list, set_logger

    params = {"model_root": str(tmp_path), "dataset_id": "d", "model_id": "m"}
    for text in ("one", "two"):
        path = set_logger(params)
        logging.info(text)
    assert path == tmp_path / "d" / "m.log"
    lines = path.read_text().splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == ["one", "two"]
    assert print_to_list({"AUC": 0.5, "logloss": 0.25}) == "AUC: 0.500000 - logloss: 0.250000"
    assert '"a": "1"' in print_to_json({"a": 1})
