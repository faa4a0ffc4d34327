"""Embedding layers give what FuxiCTR 2.3.10's give with the same weights: recorded facts."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from fuxictr.pytorch.checkpoint.weights import load_weights

FACTS = Path(__file__).parents[1] / "fuxictr_facts"
_SPEC = importlib.util.spec_from_file_location("embedding_cases", FACTS / "embedding_cases.py")
cases = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(cases)


@pytest.fixture(scope="module")
def recorded():
    with np.load(FACTS / "embeddings.npz") as archive:
        return dict(archive)


def state_of(recorded, case):
    prefix = f"{case}/state/"
    return {
        key.removeprefix(prefix): torch.tensor(value)
        for key, value in recorded.items()
        if key.startswith(prefix)
    }


@pytest.mark.parametrize("case", cases.CASES)
def test_results_with_weights_of_fuxictr(case, recorded, tmp_path):
    layer, results = cases.build(case, tmp_path)
    layer.load_state_dict(state_of(recorded, case))
    with torch.no_grad():
        found = results()
    wanted = {
        key.removeprefix(f"{case}/"): value
        for key, value in recorded.items()
        if key.startswith(f"{case}/") and "/state/" not in key
    }
    assert list(found) == list(wanted), "names, in the same order"
    for name, value in wanted.items():
        assert found[name].shape == value.shape, name
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_checkpoint_of_fuxictr_is_read(recorded, tmp_path):
    layer, results = cases.build("stacked", tmp_path)
    torch.save(state_of(recorded, "stacked"), tmp_path / "their.model")
    load_weights(layer, tmp_path / "their.model")
    np.testing.assert_allclose(results()["flat"].detach(), recorded["stacked/flat"], rtol=1e-5)


def test_the_feature_map_counts_as_fuxictrs(recorded, tmp_path):
    names = [key.removeprefix("map/column/") for key in recorded if "map/column/" in key]
    feature_map = cases.make_map(tmp_path, names)
    for source in ("", "user", "item", "context"):
        found = feature_map.sum_emb_out_dim(source or []), feature_map.get_num_fields(source or [])
        assert list(found) == list(recorded[f"map/{source}"]), source
    for name in names:
        assert np.array_equal(feature_map.get_column_index(name), recorded[f"map/column/{name}"])
