"""Configs in the form of the paper's code: every expid loads unchanged, and DIS and GEN train."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from fuxictr.config import list_expids
from fuxictr.experiment.zoo.models import ZOO, load_experiment

REFERENCE = Path(__file__).parent / "reference_zoo"
MODELS = sorted(folder.name for folder in REFERENCE.iterdir() if folder.is_dir())
EXPIDS = [(model, expid) for model in MODELS for expid in list_expids(REFERENCE / model)]
PAIRS = [(model, expid) for model, expid in EXPIDS if expid.count("_") <= 3]  # no arms
SMALL = {
    "hidden_units": [8],
    "dnn_hidden_units": [8],
    "parallel_dnn_hidden_units": [8],
    "stacked_dnn_hidden_units": [8],
    "cin_hidden_units": [4],
}
# Keys whose values are named in the warning, that is, of which no class or section knows.
FOREIGN = ("debug", "use_fs", "linear_fs", "use_gen", "linear_gen", "pickle_feature_encoder")
FOREIGN += ("use_x0", "use_high_cardinality_predict", "cov_loss", "cov_weight", "patience")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    """The configs beside small logs of the form of Avazu's and of Criteo's."""
    root = tmp_path_factory.mktemp("reference")
    for model in MODELS:
        shutil.copytree(REFERENCE / model, root / model)
        shutil.copyfile(REFERENCE / "dataset_config.yaml", root / model / "dataset_config.yaml")
    rng = np.random.default_rng(0)
    avazu = "C1 banner_pos site_id site_domain site_category app_id app_domain app_category "
    avazu += "device_id device_ip device_model device_type device_conn_type "
    names = ["id", "click", "hour", *avazu.split(), *(f"C{i}" for i in range(14, 22))]
    numbers, codes = [f"I{i}" for i in range(1, 14)], [f"C{i}" for i in range(1, 27)]
    for split, rows in (("train", 300), ("valid", 120), ("test", 120)):
        lines = rng.integers(0, 9, (rows, len(names)))
        lines[:, 1], lines[:, 2] = lines[:, 3] % 2, 14102100 + lines[:, 2]
        cells = [[int(x) for x in line] for line in lines]
        write_csv(root / "avazu" / f"{split}.csv", names, cells)
        label = rng.integers(0, 2, rows)
        values = rng.random((rows, 13)).round(3)
        tokens = rng.integers(0, 9, (rows, 26)).astype(float)
        full = [[y, *v, *t] for y, v, t in zip(label, values, tokens, strict=True)]
        full = [[x if rng.random() > 0.05 or i == 0 else "" for i, x in enumerate(r)] for r in full]
        write_csv(root / "criteo" / f"{split}.csv", ["label", *numbers, *codes], full)
    for model in MODELS:
        for name in ("avazu", "criteo"):
            (root / model / name).symlink_to(root / name)
    return root


def write_csv(path: Path, header: list[str], rows: list) -> None:
    path.parent.mkdir(exist_ok=True)
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.mark.parametrize(("model", "expid"), EXPIDS)
def test_every_expid_loads_with_one_warning_that_names_each_foreign_key(
    folders, caplog, model, expid
):
    given = list_expids(folders / model)[expid]
    config, _ = load_experiment(expid, ZOO / model, folders / model)
    is_gen = "_gen" in expid or "_fs" in expid
    assert config.variant == ("gen" if is_gen else "dis")
    assert config.train.early_stop_patience == 2
    assert config.dataset.data_block_size == 0
    for key in ("gamma", "gen_residual"):
        assert getattr(config.generator, key) == given[key]
    assert config.generator.emb_activation == given["emb_activation"].lower()
    warnings = [r for r in caplog.records if r.levelno >= logging.WARNING]
    (message,) = [r.getMessage() for r in warnings if r.name.endswith("old_keys")]
    idle = [r.getMessage() for r in warnings if r.name.endswith("idle_keys")]
    assert len(idle) == len(warnings) - 1 <= 1, "one more names FuxiCTR's keys without an effect"
    assert str(folders / model / "model_config.yaml") in message
    for name in FOREIGN:
        is_named = f" {name}: " in message or f" {name} (" in message
        assert is_named == (name in given), name
    if model == "xDeepFM":
        assert config.model_params["dnn_activations"] == "ReLU"


def test_the_arms_are_those_of_ours(folders):
    arms = {e.removeprefix("DCNv2_avazu_x4_gen_"): e for m, e in EXPIDS if m == "DCNv2"}
    found = {
        word: load_experiment(arms[word], ZOO / "DCNv2", folders / "DCNv2")[0].generator
        for word in ("own", "high", "low", "share", "stacked", "att", "random", "masked", "hard")
    }
    assert [found[word].source for word in ("own", "high", "low")] == ["own", "high", "low"]
    encoders = [found[word].encoder for word in ("share", "stacked", "att")]
    assert encoders == ["field_shared", "stacked", "self_attention"]
    targets = [found[word].target for word in ("random", "masked", "hard")]
    assert targets == ["random", "masked", "hard_masked"]
    assert {found[word].num_target for word in ("random", "masked", "hard")} == {5}


@pytest.mark.parametrize(("model", "expid"), PAIRS)
def test_dis_and_gen_of_every_backbone_train(folders, train, tmp_path, model, expid):
    keys = list_expids(folders / model)[expid]
    small = [f"{key}={value}" for key, value in SMALL.items() if key in keys]
    options = ["epochs=1", "batch_size=100", *small]
    status, stderr = train(folders / model, expid, "--set", *options)
    assert status == 0, stderr
    row = json.loads((tmp_path / "results.jsonl").read_text())
    assert row["variant"] == ("gen" if expid.endswith(("_gen", "_fs")) else "dis")
    assert 0 < row["test"]["AUC"] < 1 and row["model"] == model
