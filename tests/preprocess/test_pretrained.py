from __future__ import annotations

import json

import h5py
import numpy as np
import polars as pl
import pytest

from fuxictr.errors import ConfigError, DataError
from fuxictr.preprocess import prepare_dataset
from tests.preprocess.tables import categorical, config, read, write_csv

KEYS = ["b", "zz", "a"]
VECTORS = np.array([[1, 2], [9, 9], [3, 4]], dtype=np.float32)


def write_npz(path, keys=KEYS, vectors=VECTORS):
    np.savez(path, key=np.array(keys), value=vectors)


def write_h5(path, keys=KEYS, vectors=VECTORS):
    with h5py.File(path, "w") as file:
        file.create_dataset("key", data=keys)
        file.create_dataset("value", data=vectors)


def write_parquet(path, keys=KEYS, vectors=VECTORS):
    pl.DataFrame({"key": keys, "value": vectors.tolist()}).write_parquet(path)


def write_parquet_array(path, keys=KEYS, vectors=VECTORS):
    pl.DataFrame({"key": keys, "value": vectors}).write_parquet(path)


WRITERS = {
    "v.npz": write_npz,
    "v.h5": write_h5,
    "v.parquet": write_parquet,
    "array.parquet": write_parquet_array,
}


def build(folder, file, text="click,c\n1,a\n0,a\n1,b\n0,c\n", base_dir=".", **keys):
    if not (folder / "train.csv").exists():
        write_csv(folder / "train.csv", text)
    column = categorical("c", pretrained_emb=str(file), **keys)
    return prepare_dataset(config(folder, [column]), base_dir, verbose=0)


@pytest.mark.parametrize("name", WRITERS)
def test_vectors_are_brought_into_the_order_of_the_ids(name, tmp_path):
    WRITERS[name](tmp_path / name)
    built = build(tmp_path, name, base_dir=tmp_path, pretrain_usage="sum", freeze_emb=False)
    found = built.feature_map.pretrained_vectors("c")
    nothing = [np.nan, np.nan]
    # __PAD__, a, b, c, zz (only in the file), __OOV__
    np.testing.assert_array_equal(found, [nothing, [3, 4], [1, 2], nothing, [9, 9], nothing])
    spec = built.feature_map.features["c"]
    assert spec["pretrain_dim"] == 2
    assert (spec["pretrain_usage"], spec["freeze_emb"]) == ("sum", False)


def test_tokens_that_only_the_file_has_get_ids_of_their_own(tmp_path):
    write_npz(tmp_path / "v.npz", keys=["b", "new", "rare"])
    write_csv(tmp_path / "test.csv", "click,c,h\n1,new,new|b\n1,neither,neither\n")
    write_csv(tmp_path / "train.csv", "click,c,h\n1,a,x|a\n0,a,x\n1,b,b\n0,b,\n0,rare,a\n")
    columns = [
        categorical("c", pretrained_emb=str(tmp_path / "v.npz"), min_categr_count=2),
        {"name": "h", "type": "sequence", "splitter": "|", "share_embedding": "c"},
    ]
    settings = config(tmp_path, columns, test_data=str(tmp_path / "test.csv"))
    built = prepare_dataset(settings, verbose=0)
    vocabulary = json.loads((tmp_path / "encoded/tiny/feature_vocab.json").read_text())
    tokens = ["__PAD__", "a", "b", "new", "rare", "x", "__OOV__"]
    assert list(vocabulary["c"]) == list(vocabulary["h"]) == tokens
    assert read(built, "test")["c"] == [3, 6]
    assert read(built, "test")["h"] == [[3, 2], [6, 0]]
    assert built.feature_map.pretrained_vectors("c")[3].tolist() == [9, 9]


def test_vectors_belong_to_the_column_that_owns_the_table(tmp_path):
    write_npz(tmp_path / "v.npz")
    columns = [
        categorical("c"),
        categorical("d", share_embedding="c", pretrained_emb=str(tmp_path / "v.npz")),
    ]
    with pytest.raises(ConfigError, match="uses the table of 'c'; give the vectors there"):
        prepare_dataset(config(tmp_path, columns), verbose=0)


def test_keys_are_read_as_the_columns_dtype(tmp_path):
    write_npz(tmp_path / "v.npz", keys=[7, 8, 9])
    text = "click,c\n1,07\n0,9\n"
    found = build(tmp_path, tmp_path / "v.npz", text, dtype="int").feature_map
    np.testing.assert_array_equal(found.pretrained_vectors("c")[1:3], VECTORS[[0, 2]])


@pytest.mark.parametrize(
    ("name", "write", "keys", "message"),
    [
        ("v.npz", None, {}, "v.npz .pretrained_emb of column 'c'.: no such file"),
        ("v.txt", None, {}, "allowed: an npz, h5 or parquet file"),
        ("v.npz", write_npz, {"pretrain_dim": 3}, "width 2, allowed: pretrain_dim, 3"),
        ("v.npz", lambda p: p.write_bytes(b"PK\3\4 no"), {}, "v.npz: not readable as npz"),
        ("v.h5", lambda p: p.write_bytes(b"no"), {}, "not readable"),
        ("v.parquet", lambda p: p.write_bytes(b"PAR1 no"), {}, "not readable"),
        ("v.npz", lambda p: np.savez(p, keys=KEYS, value=VECTORS), {}, "no 'key' and 'value'"),
        (
            "v.npz",
            lambda p: write_npz(p, vectors=VECTORS[:2]),
            {},
            r"found 'key' of shape \(3,\) and 'value' of shape \(2, 2\)",
        ),
        (
            "v.npz",
            lambda p: write_npz(p, vectors=np.where(VECTORS == 9, np.nan, VECTORS)),
            {},
            "row 2, key zz: found a value not finite",
        ),
        ("v.npz", lambda p: write_npz(p, keys=["a", "b", "a"]), {}, "key 'a' is given twice"),
        ("v.npz", write_npz, {"dtype": "int"}, "key 'b': allowed: an integer"),
        (
            "v.npz",
            lambda p: np.savez(p, key=np.array(KEYS, dtype=object), value=VECTORS),
            {},
            "found an object array",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused(name, write, keys, message, tmp_path):
    if write is not None:
        write(tmp_path / name)
    text = "click,c\n1,1\n0,2\n" if "dtype" in keys else "click,c\n1,a\n0,b\n"
    with pytest.raises((DataError, ConfigError), match=message):
        build(tmp_path, tmp_path / name, text, **keys)
    assert not (tmp_path / "encoded/tiny/cache_key.json").exists()


def test_keys_that_are_one_token_are_refused(tmp_path):
    write_npz(tmp_path / "v.npz", keys=["7", "07", "9"])
    message = "keys '7' and '07' are one token of the column"
    with pytest.raises(DataError, match=message):
        build(tmp_path, tmp_path / "v.npz", "click,c\n1,7\n0,9\n", dtype="int")


def test_parquet_vectors_of_unequal_width_name_the_row(tmp_path):
    frame = pl.DataFrame({"key": ["a", "b"], "value": [[1.0, 2.0], [1.0]]})
    frame.write_parquet(tmp_path / "v.parquet")
    with pytest.raises(DataError, match="row 2: 1 numbers, expected 2"):
        build(tmp_path, tmp_path / "v.parquet")


def test_other_vectors_are_a_reason_to_rebuild(tmp_path, caplog):
    caplog.set_level("INFO")
    write_npz(tmp_path / "v.npz")
    build(tmp_path, tmp_path / "v.npz")
    assert not build(tmp_path, tmp_path / "v.npz").rebuilt
    write_npz(tmp_path / "v.npz", vectors=VECTORS + 1)
    assert build(tmp_path, tmp_path / "v.npz").rebuilt
    assert "the vectors of c changed" in caplog.text


def test_vectors_that_are_gone_or_of_another_shape_are_refused(tmp_path):
    write_npz(tmp_path / "v.npz")
    built = build(tmp_path, tmp_path / "v.npz")
    built.feature_map.features["c"]["pretrain_dim"] = 5
    with pytest.raises(DataError, match=r"found vectors of shape \(6, 2\), expected \(6, 5\)"):
        built.feature_map.pretrained_vectors("c")
    (built.paths["train"].parent / "pretrained_c.npy").unlink()
    with pytest.raises(DataError, match="pretrained_c.npy: not readable"):
        built.feature_map.pretrained_vectors("c")


class TestKeysThatAreNoTokens:
    """Vectors that no token of the training split has."""

    def test_are_an_error_with_tokens_of_both_sides(self, tmp_path):
        write_npz(tmp_path / "v.npz", keys=[7.0, 8.0, 9.0])
        message = (
            r"v.npz .pretrained_emb of column 'c'.: 0 of its 3 keys are among the 2 tokens of the "
            r"training split; keys look like '7.0' and '8.0', tokens like '7' and '9'; "
            r"write the keys"
        )
        with pytest.raises(DataError, match=message):
            build(tmp_path, tmp_path / "v.npz", "click,c\n1,7\n0,9\n0,7\n")
        assert not (tmp_path / "encoded/tiny/cache_key.json").exists()
        found = build(tmp_path, tmp_path / "v.npz", dtype="int").feature_map
        np.testing.assert_array_equal(found.pretrained_vectors("c")[1:3], VECTORS[[0, 2]])

    def test_are_warned_of_where_hardly_any_is(self, tmp_path, caplog):
        numbers = [str(number) for number in range(40)]
        keys = [*numbers[:3], *(f"{number}.0" for number in numbers[3:])]
        write_npz(tmp_path / "v.npz", keys=keys, vectors=np.ones((40, 2)))
        rows = "click,c\n" + "".join(f"{i % 2},{number}\n" for i, number in enumerate(numbers))
        build(tmp_path, tmp_path / "v.npz", rows)
        assert "3 of its 40 keys are among the 40 tokens of the training split" in caplog.text

    def test_rare_tokens_and_those_of_a_sharing_column_count(self, tmp_path, caplog):
        write_npz(tmp_path / "v.npz", keys=["rare", "x", "other"])
        write_csv(tmp_path / "train.csv", "click,c,h\n1,a,x\n0,a,x\n1,b,x\n0,b,x\n0,rare,x\n")
        columns = [
            categorical("c", pretrained_emb=str(tmp_path / "v.npz"), min_categr_count=2),
            categorical("h", share_embedding="c"),
        ]
        prepare_dataset(config(tmp_path, columns), verbose=0)
        assert [r.getMessage() for r in caplog.records if r.levelname != "INFO"] == []
