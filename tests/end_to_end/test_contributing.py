"""The worked example of docs/add_a_backbone.md is trained as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fuxictr.config import check_config, load_raw_config
from fuxictr.config.coercion import signature_annotations
from fuxictr.experiment.run import build_model
from fuxictr.experiment.zoo import ROOT, load_model_class
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import BatchIterator, from_arrays
from fuxictr.pytorch.trainer import Trainer


def blocks(kind: str) -> list[str]:
    text = (ROOT / "docs" / "add_a_backbone.md").read_text()
    return re.findall(rf"```{kind}\n(.*?)```", text, re.S)


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    (source,) = blocks("python")
    folder = tmp_path / "MyModel"
    (folder / "src").mkdir(parents=True)
    (folder / "config").mkdir()
    (folder / "src" / "MyModel.py").write_text(source)
    (folder / "config" / "model_config.yaml").write_text("".join(blocks("yaml")))
    (folder / "config" / "dataset_config.yaml").write_text(
        "demo_x1:\n"
        "  feature_cols: [{name: [a, b, c], dtype: str, type: categorical}]\n"
        "  label_col: {name: click, dtype: float}\n"
    )
    return folder


@pytest.mark.parametrize("expid", re.findall(r"^(MyModel_\w+):", "".join(blocks("yaml")), re.M))
def test_the_example_trains(model_folder, expid):
    model_class = load_model_class("MyModel", model_folder)
    raw = load_raw_config(model_folder / "config", expid)
    config = check_config(raw, expid, signature_annotations(model_class))
    rng = np.random.default_rng(0)
    feature_map = FeatureMap("demo_x1")
    feature_map.labels = ["click"]
    columns = {name: rng.integers(1, 9, 2000) for name in "abc"}
    for name in columns:
        feature_map.features[name] = {"type": "categorical", "vocab_size": 10}
    columns["click"] = (columns["a"] > columns["b"]).astype(float)
    data = from_arrays(columns, feature_map)
    model = build_model(config, model_class, feature_map)
    assert config.variant == ("gen" if "_gen" in expid else "dis")
    trainer = Trainer(model, config.train, verbose=0)
    first = trainer.train_step(data.rows(slice(None))).item()
    for _ in range(40):
        for batch in BatchIterator(data, 200, shuffle=True):
            last = trainer.train_step(batch).item()
    assert last < first - 0.05


def test_the_package_and_help_start_without_torch():
    code = (
        "import sys, fuxictr, fuxictr.experiment.run_expid, fuxictr.experiment.analyze\n"
        "import fuxictr.experiment.predict\n"
        "heavy = {'torch', 'polars', 'pandas', 'matplotlib', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    code = "import sys, fuxictr.preprocess; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
