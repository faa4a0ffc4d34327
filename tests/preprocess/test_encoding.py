from __future__ import annotations

import json
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fuxictr.errors import ConfigError, DataError
from fuxictr.preprocess import FeatureProcessor, build_dataset, prepare_dataset
from fuxictr.preprocess.sources import frames as sources
from tests.preprocess.tables import (
    SAMPLES,
    categorical,
    config,
    numeric,
    plain_encode,
    plain_vocabulary,
    read,
    write_csv,
)

ROW = st.tuples(
    st.sampled_from(["0", "1"]),
    st.sampled_from(["a", "b", "c", "B", "é x", '"q"', "a,b", ""]),
    st.sampled_from(["1", "2", "10", "007", ""]),
    st.sampled_from(["0.5", "-2", "1e3", "", "nan", " 7 "]),
)
COLUMNS = [
    categorical("c"),
    categorical("i", dtype="int", min_categr_count=1),
    numeric("x", fill_na=-1),
]


def csv_text(rows):
    quoted = [[f'"{cell.replace(chr(34), 2 * chr(34))}"' for cell in row] for row in rows]
    return "click,c,i,x\n" + "".join(",".join(row) + "\n" for row in quoted)


@settings(max_examples=30)
@given(st.lists(ROW, min_size=1, max_size=30), st.lists(ROW, min_size=1, max_size=10))
def test_ids_and_numbers_equal_a_plain_loop(tmp_path_factory, train, valid):
    assume(any(row[1] for row in train) and any(row[2] for row in train))
    folder = tmp_path_factory.mktemp("d")
    write_csv(folder / "train.csv", csv_text(train))
    write_csv(folder / "valid.csv", csv_text(valid))
    built = prepare_dataset(
        config(folder, COLUMNS, valid_data=str(folder / "valid.csv"), min_categr_count=2), verbose=0
    )
    as_int = {"": "", **{t: str(int(t)) for t in ("1", "2", "10", "007")}}
    vocabularies = {
        "c": plain_vocabulary([row[1] for row in train], min_count=2),
        "i": plain_vocabulary([as_int[row[2]] for row in train]),
    }
    saved = json.loads((folder / "encoded/tiny/feature_vocab.json").read_text("utf-8"))
    assert saved == vocabularies
    for split, rows in (("train", train), ("valid", valid)):
        encoded = read(built, split)
        assert list(encoded) == ["c", "i", "x", "click"]
        assert encoded["c"] == plain_encode([row[1] for row in rows], vocabularies["c"])
        assert encoded["i"] == plain_encode([as_int[r[2]] for r in rows], vocabularies["i"])
        assert encoded["x"] == [-1 if r[3] in ("", "nan") else float(r[3]) for r in rows]
        assert encoded["click"] == [float(row[0]) for row in rows]
    spec = built.feature_map.features
    assert spec["c"]["vocab_size"] == len(vocabularies["c"]) == spec["c"]["oov_idx"] + 1
    assert built.feature_map.labels == ["click"]


def test_types_of_the_encoded_files(tmp_path):
    write_csv(tmp_path / "train.csv", "click,c,x,m\n1,a,1,7\n0,b,2,\n")
    columns = [categorical("c"), numeric("x"), {"name": "m", "dtype": "int", "type": "meta"}]
    built = prepare_dataset(config(tmp_path, columns), verbose=0)
    schema = pl.read_parquet_schema(built.paths["train"])
    assert list(schema.items()) == [
        ("c", pl.Int32),
        ("x", pl.Float32),
        ("m", pl.Int64),
        ("click", pl.Float32),
    ]
    assert read(built)["m"] == [7, None]
    assert list(built.feature_map.fields) == ["c", "x"]


def random_table(rows=500):
    rng = np.random.default_rng(1)
    cat = [f"t{v}" if v % 7 else None for v in rng.zipf(1.5, rows) % 40]
    num = [int(v) if v % 5 else None for v in rng.integers(0, 50, rows)]
    real = [float(v) if v > -1 else None for v in rng.normal(size=rows)]
    return pl.DataFrame({"click": rng.integers(0, 2, rows), "c": cat, "n": num, "x": real})


TABLE_COLUMNS = [
    categorical("c"),
    categorical("n", dtype="int"),
    numeric("x", normalizer="StandardScaler"),
    {"name": "meta", "dtype": "str", "type": "meta", "active": False},
]


def test_csv_and_parquet_one_file_and_many_all_give_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "FRAME_ROWS", 64)
    table = random_table()
    table.write_csv(tmp_path / "train.csv")
    table.write_parquet(tmp_path / "train.parquet", row_group_size=33)
    (tmp_path / "parts").mkdir()
    for index, start in enumerate(range(0, 500, 90)):
        part = table.slice(start, 90)
        part.write_csv(tmp_path / f"parts/p{index}.csv")
        part.write_parquet(tmp_path / f"parts/p{index}.parquet")
    given = {
        "csv": ["train.csv", "parts", "parts/p*.csv"],
        "parquet": ["train.parquet", "parts", "parts/p?.parquet"],
    }
    hashes, contents = set(), []
    for data_format, names in given.items():
        for index, name in enumerate(names):
            keys = {"data_format": data_format, "dataset_id": f"{data_format}{index}"}
            dataset = config(tmp_path, TABLE_COLUMNS, train_data=str(tmp_path / name), **keys)
            built = prepare_dataset(dataset, verbose=0)
            hashes.add(built.data_hash)
            contents.append(read(built))
    assert len(hashes) == 1
    assert all(content == contents[0] for content in contents)
    real = np.array([0.0 if v is None else v for v in table["x"]])
    expected = (real - real.mean()) / real.std()
    np.testing.assert_allclose(contents[0]["x"], expected, rtol=1e-5, atol=1e-6)


def test_data_hash_sees_every_cell(tmp_path):
    write_csv(tmp_path / "train.csv", "click,c,x\n1,a,1\n0,b,2\n")
    columns = [categorical("c"), numeric("x")]
    first = prepare_dataset(config(tmp_path, columns), verbose=0).data_hash
    seen = {first}
    for text in (
        "click,c,x\n0,a,1\n0,b,2\n",
        "click,c,x\n1,a,1\n0,b,3\n",
        "click,c,x\n1,a,1\n0,z,2\n",
    ):
        write_csv(tmp_path / "train.csv", text)
        seen.add(prepare_dataset(config(tmp_path, columns), verbose=0).data_hash)
    assert len(seen) == 4


def test_missing_values_are_oov_and_the_fill_token_has_no_id(tmp_path):
    write_csv(
        tmp_path / "train.csv", "click,c,f,i\n1,,1,nan\n0,b,2.50,5\n1,b,,\n0,a,nan,05\n0,a,1.0,7\n"
    )
    columns = [
        categorical("c", fill_na="b"),
        categorical("f", dtype="float"),
        categorical("i", dtype="int", fill_na=7),
    ]
    built = prepare_dataset(config(tmp_path, columns), verbose=0)
    vocabulary = json.loads((tmp_path / "encoded/tiny/feature_vocab.json").read_text())
    assert vocabulary["c"] == {"__PAD__": 0, "a": 1, "__OOV__": 2}
    assert vocabulary["f"] == {"__PAD__": 0, "1.0": 1, "2.5": 2, "__OOV__": 3}
    assert read(built)["c"] == [2, 2, 2, 1, 1]
    assert vocabulary["i"] == {"__PAD__": 0, "5": 1, "__OOV__": 2}
    assert read(built)["f"] == [1, 2, 3, 3, 1]
    assert read(built)["i"] == [2, 1, 2, 1, 2]


def test_a_subclass_method_comes_before_the_shared_column_functions():
    class Own(FeatureProcessor):
        def twice(self, col_name):
            return pl.col("raw") * 2

        def convert_hour(self, col_name):
            return pl.col("raw").cast(pl.String) + "!"

    columns = [
        {"name": "raw", "active": False, "dtype": "int", "fill_na": 4},
        numeric("x", preprocess="twice"),
        categorical("h", preprocess="convert_hour"),
    ]
    processor = Own(columns, {"name": "click", "dtype": "float"}, "own")
    table = pl.DataFrame({"click": [1, 0, 0], "raw": ["3", "", "3"]})
    encoded = processor.fit(table).transform(table)
    assert encoded["x"].to_list() == [6, 8, 6]
    assert encoded["h"].to_list() == [1, 2, 1]
    assert processor.raw_columns() == ["click", "raw"]


def test_the_dtype_of_a_preprocessed_column_is_that_of_the_raw_value():
    columns = [categorical("I", dtype="float", fill_na=0, preprocess="convert_to_bucket")]
    table = pl.DataFrame({"click": [1, 0, 0, 1], "I": ["1382", "1382.0", "", "2"]})
    processor = FeatureProcessor(columns, {"name": "click"}, "d").fit(table)
    # floor(ln(1382)^2) = 52; a missing cell is filled before the function sees it.
    assert processor.columns[0].vocabulary.to_dict() == {
        "__PAD__": 0,
        "52": 1,
        "2": 2,
        "__OOV__": 3,
    }
    assert processor.transform(table)["I"].to_list() == [1, 1, 3, 2]


def test_texts_that_parquet_holds_as_a_dictionary(tmp_path):
    table = random_table().with_columns(pl.col("c").cast(pl.Categorical))
    table.write_parquet(tmp_path / "train.parquet")
    keys = {"data_format": "parquet", "train_data": str(tmp_path / "train.parquet")}
    built = prepare_dataset(config(tmp_path, [categorical("c")], **keys), verbose=0)
    values = table["c"].cast(pl.String).to_list()
    assert read(built)["c"] == plain_encode(values, plain_vocabulary(values))


def test_an_unknown_column_function_names_the_nearest_one():
    columns = [categorical("h", preprocess="convert_hours")]
    with pytest.raises(ConfigError, match=r"column 'h'.*'convert_hours'; did you mean 'convert_ho"):
        FeatureProcessor(columns, {"name": "click"}, "d")
    # Methods of the base class are no column functions.
    with pytest.raises(ConfigError, match="no function 'fit'"):
        FeatureProcessor([categorical("h", preprocess="fit")], {"name": "click"}, "d")


def test_saved_encoders_encode_as_the_fitted_ones(tmp_path):
    table = random_table(200)
    keys = {"feature_cols": TABLE_COLUMNS, "label_col": {"name": "click"}, "dataset_id": "d"}
    fitted = FeatureProcessor(**keys).fit(table)
    fitted.save(tmp_path)
    loaded = FeatureProcessor(**keys).load(tmp_path)
    other = random_table(300)
    assert loaded.transform(other).equals(fitted.transform(other))
    assert loaded.feature_map.to_json() == fitted.feature_map.to_json()
    with pytest.raises(DataError, match="fit the processor first"):
        FeatureProcessor(**keys).transform(table)
    with pytest.raises(DataError, match=r"feature_vocab.json: no such file"):
        FeatureProcessor(**keys).load(tmp_path / "nowhere")


def test_build_dataset_as_fuxictr_users_call_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "train.csv", "click,c\n1,a\n0,b\n")
    write_csv(tmp_path / "test.csv", "click,c\n1,z\n0,a\n")
    params = {
        "feature_cols": [categorical(["c"])],
        "label_col": {"name": "click", "dtype": "float"},
        "dataset_id": "users",
        "data_root": "data/",
        "train_data": "train.csv",
        "test_data": "test.csv",
        "data_format": "csv",
        "embedding_dim": 16,
        "verbose": 0,
    }
    for _ in range(2):
        processor = FeatureProcessor(**params)
        paths = build_dataset(processor, **params)
        assert paths[0].endswith("data/users/train.parquet") and paths[1] is None
        assert pl.read_parquet(paths[2])["c"].to_list() == [3, 1]
        assert processor.feature_map.num_fields == 1
        assert processor.transform(pl.DataFrame({"click": [0], "c": ["b"]}))["c"].to_list() == [2]


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs the shared samples")
def test_avazu_rows_and_their_column_functions(tmp_path):
    raw = SAMPLES / "avazu_sample"
    names = ["site_id", "device_ip", "C14"]
    columns = [
        categorical("hour", preprocess="convert_hour"),
        categorical(names),
        categorical("weekday", preprocess="convert_weekday"),
        categorical("weekend", preprocess="convert_weekend"),
    ]
    splits = {f"{s}_data": str(raw / f"{s}.csv") for s in ("train", "valid", "test")}
    built = prepare_dataset(config(tmp_path, columns, min_categr_count=2, **splits), verbose=0)
    saved = json.loads((tmp_path / "encoded/tiny/feature_vocab.json").read_text())
    for split in ("train", "valid", "test"):
        rows = pl.read_csv(raw / f"{split}.csv", infer_schema=False)
        encoded = read(built, split)
        for name in names:
            assert encoded[name] == plain_encode(rows[name].to_list(), saved[name])
    train = pl.read_csv(raw / "train.csv", infer_schema=False)
    for name in names:
        assert saved[name] == plain_vocabulary(train[name].to_list(), min_count=2)
    # The sample holds one hour of Tuesday, 21 October 2014.
    assert list(saved["hour"]) == ["__PAD__", str(int(train["hour"][0][6:])), "__OOV__"]
    assert list(saved["weekday"]) == ["__PAD__", "2", "__OOV__"]
    assert list(saved["weekend"]) == ["__PAD__", "0", "__OOV__"]


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs the shared samples")
def test_criteo_rows_with_empty_cells(tmp_path):
    raw = SAMPLES / "criteo_sample"
    columns = [
        numeric(["I1", "I2", "I12"]),
        categorical("I3", dtype="float", fill_na=0, preprocess="convert_to_bucket"),
        categorical(["C1", "C19", "C22"]),
    ]
    dataset = config(
        tmp_path,
        columns,
        label_col={"name": "label", "dtype": "float"},
        train_data=str(raw / "train.csv"),
        test_data=str(raw / "test.csv"),
    )
    built = prepare_dataset(dataset, verbose=0)
    saved = json.loads((tmp_path / "encoded/tiny/feature_vocab.json").read_text())
    rows = pl.read_csv(raw / "train.csv", infer_schema=False)
    encoded = read(built)
    assert any(v is None for v in rows["C19"]) and any(v is None for v in rows["I1"])
    for name in ("C1", "C19", "C22"):
        assert saved[name] == plain_vocabulary(rows[name].to_list())
        assert encoded[name] == plain_encode(rows[name].to_list(), saved[name])
    for name in ("I1", "I2", "I12"):
        assert encoded[name] == [float(v or 0) for v in rows[name]]
    values = [float(v or 0) for v in rows["I3"]]
    buckets = [str(math.floor(math.log(v) ** 2) if v > 2 else int(v)) for v in values]
    assert saved["I3"] == plain_vocabulary(buckets, fill="0")
