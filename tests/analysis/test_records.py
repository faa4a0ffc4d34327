from __future__ import annotations

import dataclasses
import math
import os

import h5py
import numpy as np
import pytest

from fuxictr.analysis.records import (
    RecordMeta,
    Records,
    interacting_embeddings,
    interacting_layers,
    interacting_sides,
    load_records,
    records_path,
    save_records,
)
from fuxictr.analysis.summary import analysis_summary
from fuxictr.errors import CheckpointError

META = RecordMeta(
    model="DeepFM",
    expid="DeepFM_demo_gen",
    variant="gen",
    dataset_id="demo_x1",
    split="valid",
    num_rows=5,
    seed=2019,
    fields=("hour", "site id", "größe"),
    embedding_dim=2,
    checkpoint_sha256="0" * 64,
)
COMMAND = "python analyze.py --model DeepFM --expid DeepFM_demo_gen --gpu -1"


def make_arrays():
    rng = np.random.default_rng(0)
    keys = [f"cross_net.layers.{layer}/{name}" for layer in (0, 2, 10) for name in ("gen", "left")]
    arrays = {key: rng.normal(size=(5, 3, 2)).astype(np.float32) for key in reversed(keys)}
    return arrays | {"model/right": rng.normal(size=(5, 6)).astype(np.float32)}


@pytest.fixture
def path(tmp_path):
    path = records_path(tmp_path, "demo_x1", "DeepFM_demo_gen")
    save_records(path, make_arrays(), META)
    return path


def test_round_trip(path, tmp_path):
    assert path == tmp_path / "figure/raw_data/demo_x1/DeepFM_demo_gen/records.h5"
    assert os.listdir(path.parent) == ["records.h5"]
    records = load_records(path)
    assert records.meta == META
    assert set(records.arrays) == set(make_arrays())
    for key, array in make_arrays().items():
        np.testing.assert_array_equal(records.arrays[key], array)
        assert records.arrays[key].dtype == np.float32
    assert "model/nothing" not in records.arrays


def test_cardinalities_and_training_seed_come_back(tmp_path):
    meta = dataclasses.replace(META, cardinalities=(24, 0, 10**9), train_seed=2**32 - 1)
    save_records(tmp_path / "r.h5", make_arrays(), meta)
    assert load_records(tmp_path / "r.h5").meta == meta


def test_files_of_older_versions_have_neither(path):
    with h5py.File(path, "r+") as file:
        del file.attrs["cardinalities"]
        assert "train_seed" not in file.attrs
    meta = load_records(path).meta
    assert (meta.cardinalities, meta.train_seed) == ((), None)
    assert meta == META


def test_cardinalities_must_fit_the_fields():
    with pytest.raises(CheckpointError, match="2 cardinalities do not fit 3 fields"):
        dataclasses.replace(META, cardinalities=(1, 2))


def test_arrays_are_stored_as_float32(tmp_path):
    save_records(tmp_path / "r.h5", {"model/gen": np.full((2, 2), 0.1)}, META)
    with h5py.File(tmp_path / "r.h5") as file:
        assert file["model/gen"].dtype == np.float32


def test_a_failed_write_leaves_the_old_file(path):
    with pytest.raises(ValueError):
        save_records(path, {"model/gen": np.ones((2, 2)), "model/left": ["no", "numbers"]}, META)
    assert os.listdir(path.parent) == ["records.h5"]
    assert "cross_net.layers.0/gen" in load_records(path).arrays


def test_nothing_recorded_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="DeepFM_demo_gen: the model recorded nothing"):
        save_records(tmp_path / "r.h5", {}, META)
    assert not (tmp_path / "r.h5").exists()


def test_missing_file_names_path_nearest_run_and_command(path):
    wrong = path.parent.parent / "DeepFM_demo_gem" / "records.h5"
    with pytest.raises(CheckpointError) as error:
        load_records(wrong, "DeepFM")
    text = str(error.value)
    assert str(wrong) in text and "did you mean 'DeepFM_demo_gen'?" in text
    assert COMMAND.replace("_gen", "_gem") in text


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999])
def test_truncated_file(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    check_damaged(path)


def test_file_of_another_kind(path):
    path.write_text("not an HDF5 file\n")
    check_damaged(path)


def test_hdf5_file_without_meta_data(path):
    with h5py.File(path, "r+") as file:
        del file.attrs["seed"]
    assert "missing: seed" in check_damaged(path)


def test_hdf5_file_without_arrays(path):
    with h5py.File(path, "r+") as file:
        for group in list(file):
            del file[group]
    with pytest.raises(CheckpointError, match="holds no arrays") as error:
        load_records(path, "DeepFM")
    assert COMMAND in str(error.value)


def check_damaged(path):
    with pytest.raises(CheckpointError, match="cannot be read as a recording") as error:
        load_records(path, "DeepFM")
    text = str(error.value)
    assert str(path) in text and COMMAND in text and "\n" not in text
    return text


def test_variant_is_checked():
    with pytest.raises(CheckpointError, match="allowed: dis, gen"):
        dataclasses.replace(META, variant="GEN")


@pytest.mark.parametrize("on_disk", [True, False])
def test_layers_are_stacked_in_natural_order(path, on_disk):
    arrays = make_arrays()
    records = load_records(path) if on_disk else Records(arrays, META)
    expected = [arrays[f"cross_net.layers.{layer}/gen"].reshape(5, 6) for layer in (0, 2, 10)]
    np.testing.assert_array_equal(interacting_embeddings(records), np.vstack(expected))
    layers = interacting_layers(records.arrays, records.meta.expid)
    assert list(layers) == [f"cross_net.layers.{layer}/gen" for layer in (0, 2, 10)]
    np.testing.assert_array_equal(np.vstack(list(layers.values())), np.vstack(expected))
    left, right = interacting_sides(records)
    np.testing.assert_array_equal(left, arrays["cross_net.layers.0/left"].reshape(5, 6))
    np.testing.assert_array_equal(right, arrays["model/right"])


def test_errors_list_what_was_recorded():
    records = Records({"model/left": np.ones((5, 6)), "model/feature_emb": np.ones((5, 6))}, META)
    with pytest.raises(CheckpointError, match="recorded 'gen'; recorded: model/feature_emb, model"):
        interacting_embeddings(records)
    with pytest.raises(CheckpointError, match="no module recorded 'right'"):
        interacting_sides(records)
    with pytest.raises(CheckpointError, match="no module recorded 'gen'; recorded: nothing"):
        interacting_embeddings(Records({}, META))


def test_layers_and_sides_must_fit_each_other():
    records = Records({"a/gen": np.ones((5, 6)), "b/gen": np.ones((5, 7))}, META)
    with pytest.raises(CheckpointError, match=r"differ in width \(\[6, 7\]\).*a/gen, b/gen"):
        interacting_embeddings(records)
    records = Records({"a/left": np.ones((5, 6)), "a/right": np.ones((4, 6))}, META)
    with pytest.raises(CheckpointError, match="5 and 4 rows"):
        interacting_sides(records)


def test_summary_by_hand():
    corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=np.float32)
    arrays = {
        "model/gen": corners,
        "model/left": corners,
        "model/right": np.column_stack([corners[:, 0], np.zeros(4)]),
    }
    meta = dataclasses.replace(META, train_seed=7)
    (summary,) = analysis_summary([Records(arrays, meta)])
    assert (summary.model, summary.variant, summary.expid) == ("DeepFM", "gen", "DeepFM_demo_gen")
    assert (summary.seed, summary.train_seed) == (2019, 7)
    assert summary.rankme == pytest.approx(2.0, rel=1e-5)
    assert summary.information_abundance == pytest.approx(2.0)
    assert (summary.effective_dimensions, summary.num_dimensions) == (2, 2)
    assert summary.mean_absolute_correlation == pytest.approx(0.25)
    assert summary.dimensions_of_98_percent == 2
    assert summary.condition_number == pytest.approx(1.0)
    # Of the six pairs of corners two are opposite, at the squared distance 4, the others at 2.
    expected = math.log((2 * math.exp(-8) + 4 * math.exp(-4)) / 6)
    assert summary.uniformity == pytest.approx(expected)
