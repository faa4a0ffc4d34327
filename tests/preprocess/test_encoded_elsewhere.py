"""rebuild_dataset: false: rows that FuxiCTR, or the user, encoded are trained from as they are."""

from __future__ import annotations

import json
import shutil
import time

import h5py
import numpy as np
import polars as pl
import pytest

from fuxictr.errors import ConfigError, DataError
from fuxictr.preprocess import prepare_dataset
from fuxictr.preprocess.dataset.finished import check_unchanged
from fuxictr.pytorch.dataloaders import read_encoded
from tests.preprocess.tables import categorical, config, write_csv

COLUMNS = [
    {"name": "c", "vocab_size": 5},
    {"name": "h", "type": "sequence", "vocab_size": 5, "share_embedding": "c", "pooling": "sum"},
    {"name": "x", "type": "numeric"},
    {"name": "v", "type": "embedding"},
    {"name": "u", "type": "meta"},
]
ARRAYS = {
    "c": np.array([1, 4, 0]),
    "h": np.array([[1, 2], [0, 3], [0, 0]]),
    "x": np.array([0.5, 1, 2]),
    "v": np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9.5]]),
    "u": np.array([7, 7, 9]),
    "click": np.array([0, 1, 1.0]),
}


def write_npz(path):
    np.savez(path, **ARRAYS)


def write_h5(path):
    with h5py.File(path, "w") as file:
        for name, values in ARRAYS.items():
            file.create_dataset(name, data=values)


def write_parquet(path):
    pl.DataFrame({name: values.tolist() for name, values in ARRAYS.items()}).write_parquet(path)


def write_parts(path):
    path.mkdir()
    frame = pl.DataFrame({name: values.tolist() for name, values in ARRAYS.items()})
    frame[:2].write_parquet(path / "part_00000.parquet")
    frame[2:].write_parquet(path / "part_00001.parquet")


WRITERS = {
    "train.npz": write_npz,
    "train.h5": write_h5,
    "train.parquet": write_parquet,
    "train": write_parts,
}


def prepare(folder, columns=COLUMNS, **keys):
    settings = config(folder, columns, rebuild_dataset=False, **keys)
    return prepare_dataset(settings, folder, verbose=0)


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "encoded" / "tiny"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("where", ["in the dataset's folder", "named by the config"])
def test_every_form_is_read_by_the_columns_of_the_config(name, where, tmp_path, home):
    keys = {}
    if where == "named by the config":
        home = tmp_path / "elsewhere"
        home.mkdir()
        keys["train_data"] = f"./elsewhere/{name}"
    WRITERS[name](home / name)
    encoded = prepare(tmp_path, **keys)
    assert set(encoded.paths) == {"train"}
    features = encoded.feature_map.features
    assert features["h"]["max_len"] == 2
    assert features["h"]["feature_encoder"] == "layers.MaskedSumPooling()"
    assert features["h"]["share_embedding"] == "c"
    assert features["v"]["pretrain_dim"] == 3
    data = read_encoded(encoded.paths["train"], encoded.feature_map, "u")
    np.testing.assert_array_equal(data.ids, np.column_stack([ARRAYS["c"], ARRAYS["h"]]))
    values = np.column_stack([ARRAYS["x"], ARRAYS["v"], ARRAYS["click"]])
    np.testing.assert_array_equal(data.values, values.astype(np.float32))
    assert data.group_ids[0] == data.group_ids[1] != data.group_ids[2]


def test_the_hash_tells_one_content_from_another(tmp_path, home):
    write_npz(home / "train.npz")
    first = prepare(tmp_path).data_hash
    assert prepare(tmp_path).data_hash == first
    np.savez(home / "train.npz", **{**ARRAYS, "x": ARRAYS["x"] + 1})
    assert prepare(tmp_path).data_hash != first


def test_a_feature_map_beside_the_rows_wins(tmp_path, home):
    write_parquet(home / "train.parquet")
    write_parquet(home / "valid.parquet")
    content = {
        "dataset_id": "of_fuxictr",
        "num_fields": 2,
        "total_features": 6,
        "input_length": 2,
        "labels": ["click"],
        "features": [
            {"c": {"source": "", "type": "categorical", "padding_idx": 0, "vocab_size": 5}},
            {"x": {"source": "", "type": "numeric"}},
        ],
    }
    (home / "feature_map.json").write_text(json.dumps(content))
    encoded = prepare(tmp_path, [{"name": "zz", "vocab_size": 3}])
    assert list(encoded.feature_map.features) == ["c", "x"]
    assert encoded.feature_map.dataset_id == "tiny"
    assert set(encoded.paths) == {"train", "valid"}


def test_vectors_are_placed_by_id(tmp_path, home):
    write_npz(home / "train.npz")
    np.savez(tmp_path / "v.npz", key=[4, 2], value=[[1.0, 2], [3, 4]])
    columns = [{"name": "c", "vocab_size": 5, "pretrained_emb": "v.npz"}]
    found = prepare(tmp_path, columns).feature_map.pretrained_vectors("c")
    expected = np.full((5, 2), np.nan)
    expected[[4, 2]] = [[1, 2], [3, 4]]
    np.testing.assert_array_equal(found, expected)
    np.savez(tmp_path / "v.npz", key=[4.0, 2.0], value=[[1.0, 2], [3, 4]])
    again = prepare(tmp_path, columns).feature_map.pretrained_vectors("c")
    np.testing.assert_array_equal(again, expected)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            [7, 8],
            r"column 'c': no key is a token; keys look like '7' and '8', tokens like '0' and '1'",
        ),
        (["x", "y"], r"v.npz: key 'x': allowed: an id"),
    ],
)
def test_vectors_of_no_id_are_refused(keys, message, tmp_path, home):
    write_npz(home / "train.npz")
    np.savez(tmp_path / "v.npz", key=keys, value=[[1.0, 2], [3, 4]])
    with pytest.raises(DataError, match=message):
        prepare(tmp_path, [{"name": "c", "vocab_size": 5, "pretrained_emb": "v.npz"}])


@pytest.mark.parametrize(
    ("columns", "kind", "message"),
    [
        ([{"name": "c"}], ConfigError, "column 'c': key 'vocab_size' is missing"),
        (
            [{"name": "c", "type": "sequence", "vocab_size": 5}],
            DataError,
            "column 'c': found one value a row, or no such column; allowed: rows of equal length",
        ),
        ([{"name": "v2", "type": "embedding"}], DataError, "column 'v2': found one value a row"),
    ],
)
def test_columns_that_do_not_fit_are_refused(columns, kind, message, tmp_path, home):
    write_npz(home / "train.npz")
    with pytest.raises(kind, match=message):
        prepare(tmp_path, columns)


def test_ids_beyond_the_vocabulary_name_file_column_and_row(tmp_path, home):
    write_parquet(home / "train.parquet")
    encoded = prepare(tmp_path, [{"name": "c", "vocab_size": 4}])
    message = r"train.parquet: column 'c', row 2: id 4 is outside 0..3"
    with pytest.raises(DataError, match=message):
        read_encoded(encoded.paths["train"], encoded.feature_map)


def test_without_encoded_rows_it_says_what_is_looked_for(tmp_path, home):
    (tmp_path / "train.csv").write_text("click,c\n1,a\n")
    with pytest.raises(DataError, match=r"tiny: no encoded train.parquet.*'rebuild_dataset'"):
        prepare(tmp_path)


def test_rows_that_are_changed_in_place_are_other_data(tmp_path, home):
    """All labels inverted, in a file as long as before: three samples of 64 KB need not see it."""
    rows = 400_000
    frame = pl.DataFrame({"c": [1] * rows, "click": np.arange(rows) % 2 * 1.0})
    keys = {"columns": [{"name": "c", "vocab_size": 5}]}
    hashes = {}
    for source_hash in ("sample", "full"):
        for labels in (pl.col("click"), 1 - pl.col("click"), pl.col("click")):
            frame.with_columns(labels).write_parquet(
                home / "train.parquet", compression="uncompressed", use_pyarrow=True
            )
            found = prepare(tmp_path, **keys, source_hash=source_hash).data_hash
            hashes.setdefault(source_hash, []).append(found)
    first, inverted, again = hashes["full"]
    assert first == again != inverted
    assert len({*hashes["sample"]}) == 3, "size, time and a sample: a file written anew is another"


def test_a_build_whose_files_were_changed_since_is_other_data(tmp_path):
    write_csv(tmp_path / "train.csv", "click,c\n1,a\n0,b\n")
    columns = [categorical("c")]
    built = prepare_dataset(config(tmp_path, columns), tmp_path, verbose=0)
    assert prepare(tmp_path, columns, train_data=None).data_hash == built.data_hash
    path = built.paths["train"]
    shutil.copyfile(path, tmp_path / "copy.parquet")
    time.sleep(0.01)
    shutil.copyfile(tmp_path / "copy.parquet", path)
    assert prepare(tmp_path, columns, train_data=None).data_hash == built.data_hash, "a copy"
    rows = pl.read_parquet(path)
    content = path.read_bytes()
    damaged = content.replace(np.float32([1, 0]).tobytes(), np.float32([0, 1]).tobytes())
    assert damaged != content and rows["click"].to_list() == [1, 0]
    path.write_bytes(damaged)
    assert prepare(tmp_path, columns, train_data=None).data_hash != built.data_hash
    with pytest.raises(DataError, match="not those of the build .train.parquet was changed"):
        check_unchanged(config(tmp_path, columns), tmp_path)
    rebuilt = prepare_dataset(config(tmp_path, columns), tmp_path, verbose=0)
    assert (rebuilt.rebuilt, rebuilt.data_hash) == (True, built.data_hash)


@pytest.mark.parametrize("name", ["./valid.npz", "other.parquet", "./parts/", "./v/*.parquet"])
def test_a_split_that_is_named_and_not_there_is_an_error(name, tmp_path, home):
    write_npz(home / "train.npz")
    write_npz(home / "valid.npz")
    assert set(prepare(tmp_path).paths) == {"train", "valid"}
    with pytest.raises(DataError, match="key 'valid_data': found .*no such encoded data"):
        prepare(tmp_path, valid_data=name)
    with pytest.raises(DataError, match="key 'train_data': found .*no such encoded data"):
        prepare(tmp_path, train_data=name)


def test_a_csv_stands_for_the_encoded_split_and_says_so(tmp_path, home, caplog):
    caplog.set_level("INFO")
    write_npz(home / "train.npz")
    assert set(prepare(tmp_path, train_data="./train.csv").paths) == {"train"}
    assert "'train_data': ./train.csv is raw rows" in caplog.text
    with pytest.raises(DataError, match="'valid_data': ./valid.csv is raw rows, .* no encoded"):
        prepare(tmp_path, train_data="./train.csv", valid_data="./valid.csv")
