"""The worked examples of docs/add_a_backbone.md are trained and recorded as they stand."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fuxictr.analysis.sampling import record_sample
from fuxictr.config import check_config, load_raw_config
from fuxictr.config.coercion import signature_annotations
from fuxictr.experiment.run.run import build_model
from fuxictr.experiment.zoo.models import ROOT, load_model_class
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import BatchIterator, from_arrays
from fuxictr.pytorch.training.trainer import Trainer


def blocks(kind: str) -> list[str]:
    text = (ROOT / "docs" / "add_a_backbone.md").read_text()
    return re.findall(rf"```{kind}\n(.*?)```", text, re.S)


def class_of(source: str) -> str:
    """The model that a python block defines, the last of its classes."""
    return re.findall(r"^class (\w+)\(", source, re.M)[-1]


SOURCES = {class_of(source): source for source in blocks("python")}
EXPIDS = re.findall(r"^(MyModel_\w+):", "".join(blocks("yaml")), re.M)


@pytest.fixture(params=SOURCES)
def model_folder(request, tmp_path: Path) -> Path:
    """A model folder of one of the examples; all of them take the keys of the yaml blocks."""
    name = request.param
    folder = tmp_path / name
    (folder / "src").mkdir(parents=True)
    (folder / "config").mkdir()
    (folder / "src" / f"{name}.py").write_text(SOURCES[name])
    config = "".join(blocks("yaml")).replace("model: MyModel", f"model: {name}")
    (folder / "config" / "model_config.yaml").write_text(config)
    (folder / "config" / "dataset_config.yaml").write_text(
        "demo_x1:\n"
        "  feature_cols: [{name: [a, b, c], dtype: str, type: categorical}]\n"
        "  label_col: {name: click, dtype: float}\n"
    )
    return folder


def make_example(folder: Path, expid: str, num_rows: int = 2000):
    """Returns config, model and rows of an example."""
    model_class = load_model_class(folder.name, folder)
    raw = load_raw_config(folder / "config", expid)
    config = check_config(raw, expid, signature_annotations(model_class))
    rng = np.random.default_rng(0)
    feature_map = FeatureMap("demo_x1")
    feature_map.labels = ["click"]
    columns = {name: rng.integers(1, 9, num_rows) for name in "abc"}
    for name in columns:
        feature_map.features[name] = {"type": "categorical", "vocab_size": 10}
    columns["click"] = (columns["a"] > columns["b"]).astype(float)
    data = from_arrays(columns, feature_map)
    return config, build_model(config, model_class, feature_map), data


@pytest.mark.parametrize("expid", EXPIDS)
def test_the_example_trains(model_folder, expid):
    torch.manual_seed(1)
    config, model, data = make_example(model_folder, expid)
    assert config.variant == ("gen" if "_gen" in expid else "dis")
    trainer = Trainer(model, config.train, verbose=0)
    first = trainer.train_step(data.rows(slice(None))).item()
    for _ in range(60):
        for batch in BatchIterator(data, 200, shuffle=True):
            last = trainer.train_step(batch).item()
    assert last < first - 0.05


@pytest.mark.parametrize("expid", EXPIDS[:2])
def test_the_example_records_what_the_analyses_read(model_folder, expid):
    _, model, data = make_example(model_folder, expid, 50)
    arrays = record_sample(model, data.rows(slice(None)), torch.device("cpu"), pass_rows=20)
    names = ("feature_emb", "gen", "left", "right")
    assert {f"model/{name}": arrays[f"model/{name}"].shape for name in names} == dict.fromkeys(
        (f"model/{name}" for name in names), (50, 3, 8)
    )
    if model_folder.name == "GatedModel":
        assert set(arrays) == {*(f"model/{name}" for name in names), "gate/weight"}
        weighed = arrays["gate/weight"] * arrays["model/feature_emb"]
        np.testing.assert_allclose(arrays["model/right"], weighed, rtol=1e-6)
    assert not any(module.analyzing for module in model.modules() if hasattr(module, "analyzing"))


def test_the_package_and_help_start_without_torch():
    code = (
        "import sys, fuxictr, fuxictr.cli.run, fuxictr.cli.analyze\n"
        "import fuxictr.cli.predict\n"
        "heavy = {'torch', 'polars', 'pandas', 'matplotlib', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    code = "import sys, fuxictr.preprocess; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
