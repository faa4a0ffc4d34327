"""Values and files that no honest program writes: one error that names file, row and column."""

from __future__ import annotations

import datetime
import decimal
import json
import math

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fuxictr.errors import ConfigError, DataError
from fuxictr.features import FeatureMap
from fuxictr.preprocess import load_encoders, prepare_dataset
from fuxictr.preprocess.sources import frames as sources
from fuxictr.pytorch.dataloaders import read_encoded
from tests.preprocess.tables import categorical, config, numeric, read, write_csv


def parquet(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def build(folder, column, data_format="parquet", train="train.parquet", **keys):
    keys = {"train_data": str(folder / train), "data_format": data_format, **keys}
    columns = column if isinstance(column, list) else [column]
    return prepare_dataset(config(folder, columns, **keys), folder, verbose=0)


def sequence(name="a", **keys):
    return {"name": name, "type": "sequence", **keys}


def not_utf8(kind=None):
    offsets = np.array([0, 1, 2, 3], np.int32).tobytes()
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"a\xffb")]
    texts = pa.Array.from_buffers(pa.string(), 3, buffers)
    if kind == "list":
        return pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), texts)
    return texts


@pytest.mark.parametrize(
    "column",
    [
        categorical("a"),
        categorical("a", dtype="int"),
        numeric("a"),
        sequence(),
        {"name": "a", "type": "embedding"},
        {"name": "a", "type": "meta"},
    ],
)
@pytest.mark.parametrize("kind", ["text", "list"])
def test_parquet_texts_that_are_not_utf8_are_refused(tmp_path, column, kind):
    parquet(tmp_path / "train.parquet", a=not_utf8(kind), click=[1, 0, 1])
    message = "train.parquet: row 2, column 'a': found bytes that are not UTF-8"
    with pytest.raises(DataError, match=message):
        build(tmp_path, column)


STRANGE = {
    "binary": pa.array([b"x", b"y"]),
    "struct": pa.array([{"x": 1}, {"x": 2}]),
    "map": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
    "duration": pa.array([datetime.timedelta(1), None]),
    "decimal256": pa.array([decimal.Decimal("1.5"), None], pa.decimal256(50, 2)),
    "lists of lists": pa.array([[[1]], [[2]]]),
}


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("column", [categorical("a"), numeric("a"), sequence()])
def test_types_that_cannot_be_read_are_named(tmp_path, name, column):
    parquet(tmp_path / "train.parquet", a=STRANGE[name], click=[1, 0])
    with pytest.raises(DataError, match="column 'a': found values of type .* allowed: texts"):
        build(tmp_path, column)


def test_dates_are_texts_but_no_numbers(tmp_path):
    days = [datetime.date(2020, 1, 1), datetime.date(2020, 1, 2)]
    parquet(tmp_path / "train.parquet", a=days, click=[1, 0])
    assert read(build(tmp_path, categorical("a")))["a"] == [1, 2]
    with pytest.raises(DataError, match="row 1, column 'a': found 'a value of type Date', allo"):
        build(tmp_path, numeric("a"))


def test_decimals_are_never_cut_to_integers(tmp_path):
    values = [decimal.Decimal("7.5"), decimal.Decimal("7.0")]
    parquet(tmp_path / "train.parquet", a=values, click=[1, 0])
    with pytest.raises(DataError, match="row 1, column 'a': found .*7.5.*allowed: an integer"):
        build(tmp_path, categorical("a", dtype="int"))
    assert read(build(tmp_path, numeric("a")))["a"] == [7.5, 7.0]


class TestFilesOfOneSplit:
    """What two files hold is joined before any of it becomes text."""

    def both(self, folder, first, second, column, **keys):
        parquet(folder / "many/0.parquet", a=first, click=[1] * len(first))
        parquet(folder / "many/1.parquet", a=second, click=[0] * len(second))
        return build(folder, column, train="many", **keys)

    def test_integers_and_floats_are_integers_where_dtype_says_so(self, tmp_path):
        column = categorical("a", dtype="int")
        built = self.both(tmp_path, [1234567890123456.0, None], [1, 2], column)
        vocabulary = json.loads((built.paths["train"].parent / "feature_vocab.json").read_text())
        assert set(vocabulary["a"]) == {"__PAD__", "1", "2", "1234567890123456", "__OOV__"}

    def test_bools_and_integers_are_numbers(self, tmp_path):
        assert read(self.both(tmp_path, [True, False], [1, 0], numeric("a")))["a"] == [1, 0, 1, 0]

    @pytest.mark.parametrize("frame_rows", [100, 2])
    def test_lists_of_other_elements_are_refused(self, tmp_path, monkeypatch, frame_rows):
        monkeypatch.setattr(sources, "FRAME_ROWS", frame_rows)
        with pytest.raises(DataError, match="column 'a': found float values, but int values in"):
            self.both(tmp_path, [[7, 8], [8]], [[7.0], [8.0]], sequence())
        built = self.both(tmp_path, [[7, 8], [8]], [[7.0], [8.0]], sequence(dtype="int"))
        assert read(built)["a"] == [[2, 1], [1, 0], [2, 0], [1, 0]]

    def test_what_has_no_common_type_names_both_files(self, tmp_path):
        message = r"column 'a': found int64 in .*0.parquet, list.* in .*1.parquet; write the files"
        with pytest.raises(DataError, match=message):
            self.both(tmp_path, [1, 2], [[1], [2]], numeric("a"))

    def test_single_and_double_precision_have_other_texts(self, tmp_path):
        single = pa.array([0.1, 8], pa.float32())
        with pytest.raises(DataError, match="column 'a': found float values, but float32 values"):
            self.both(tmp_path, single, [0.1, 8.0], categorical("a"))
        assert len(read(self.both(tmp_path, single, [0.1, 8.0], numeric("a")))["a"]) == 4


def test_a_missing_number_is_no_token_of_a_sequence(tmp_path):
    parquet(tmp_path / "train.parquet", a=[3.0, math.nan, 4.0], click=[1, 0, 1])
    built = build(tmp_path, sequence())
    vocabulary = json.loads((built.paths["train"].parent / "feature_vocab.json").read_text())
    assert set(vocabulary["a"]) == {"__PAD__", "3.0", "4.0", "__OOV__"}
    assert read(built)["a"] == [[1], [0], [2]]


@pytest.mark.parametrize("form", ["npz", "h5"])
def test_arrays_that_nobody_asked_for_do_not_count(tmp_path, form):
    columns = {"z": np.arange(100), "s": np.float64(3), "a": [1, 2, 3, 4], "click": [0, 1, 0, 1]}
    path = tmp_path / f"train.{form}"
    if form == "npz":
        np.savez(path, o=np.array([{}], dtype=object), **columns)
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset("nothing", data=h5py.Empty("f"))
            for name, values in columns.items():
                file.create_dataset(name, data=values)
    built = build(tmp_path, categorical("a"), form, path.name, valid_size=2)
    assert read(built, "valid")["a"] == [3, 3]
    assert len(read(built)["a"]) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a,click\rx,1\rz,0\r", "(not readable|is missing)"),
        (b"\na,click\nx,1\n", "line 1: found a blank line, allowed: the names of the columns"),
        (b"a,b,click\n" + b"z" * 200_000 + b",1,1\nb,bad,0\n", "row 2 .*column 'b': found 'bad'"),
        (b"a,b,click\n" + b"z" * 200_000 + b",1,1\nb,0\n", "row 2 .*found 2 cells"),
    ],
)
def test_csv_of_strange_form(tmp_path, text, message):
    write_csv(tmp_path / "train.csv", text)
    columns = [categorical("a"), numeric("b")] if b"b," in text[:5] else [categorical("a")]
    with pytest.raises(DataError, match=message):
        build(tmp_path, columns, "csv", "train.csv", valid_size=0.5)


def test_infinite_and_overflowing_numbers_name_their_row(tmp_path):
    parquet(tmp_path / "train.parquet", a=[1.0, 2.0, math.inf], click=[1, 0, 1])
    column = {"name": "a", "dtype": "float", "category_processor": "quantile_bucket"}
    with pytest.raises(DataError, match="row 3, column 'a': found inf, allowed: a finite number"):
        build(tmp_path, column)
    parquet(tmp_path / "train.parquet", a=[0.0, 1e-30], click=[1, 0])
    parquet(tmp_path / "valid.parquet", a=[0.0, 1e30], click=[1, 0])
    scaled = numeric("a", normalizer="MinMaxScaler")
    with pytest.raises(DataError, match="valid.parquet: row 2, column 'a': found 1e.30, allowed"):
        build(tmp_path, scaled, valid_data=str(tmp_path / "valid.parquet"))


@pytest.mark.parametrize(
    ("column", "kind", "message"),
    [
        (numeric("a", fill_na="nan"), ConfigError, "'fill_na': found 'nan', allowed: a number"),
        (numeric("a", fill_na=1e300), ConfigError, "'fill_na': found 1e"),
        (
            {"name": "a", "category_processor": "quantile_bucket", "fill_na": "abc"},
            ConfigError,
            "'fill_na': found 'abc', allowed: a number, as the column is cut at its quantiles",
        ),
        ({"name": "a", "type": "embedding", "fill_na": 0}, DataError, "no vector in the training"),
        (sequence(max_len=20_000), ConfigError, "'max_len': found 20000, allowed: <= 10000"),
        (categorical("a", num_buckets=2**40), ConfigError, "'num_buckets': found"),
        (categorical("a", min_categr_count=10**400), ConfigError, "'min_categr_count': found"),
        ({"name": "a", 5: 1, "foo": 2}, ConfigError, "unknown key '5'"),
    ],
)
def test_keys_out_of_range(tmp_path, column, kind, message):
    write_csv(tmp_path / "train.csv", "a,click\n,1\n,0\n")
    with pytest.raises(kind, match=message):
        build(tmp_path, column, "csv", "train.csv")
    assert not (tmp_path / "encoded/tiny/cache_key.json").exists()


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", "a\0"])
def test_a_dataset_stays_in_its_folder(tmp_path, name):
    with pytest.raises(ConfigError, match="key 'dataset_id': found .* allowed: a name that can be"):
        config(tmp_path, [categorical("a")], dataset_id=name)


@pytest.mark.parametrize("given", ["", " ", "a\0"])
def test_a_path_is_not_empty(tmp_path, given):
    with pytest.raises(ConfigError, match="key 'train_data': found .* allowed: a file"):
        config(tmp_path, [categorical("a")], train_data=given)


def test_ids_and_lengths_that_would_need_all_memory_need_a_word(tmp_path):
    write_csv(tmp_path / "train.csv", "a,click\n2000000000,1\n1,0\n")
    with pytest.raises(DataError, match="row 1 .*found 2000000000, allowed: an id 0..*vocab_size"):
        build(tmp_path, categorical("a", remap=False), "csv", "train.csv")
    write_csv(tmp_path / "train.csv", f"a,click\n{'x|' * 20_000},1\n1,0\n")
    with pytest.raises(DataError, match="the longest sequence .* 20001 elements; set max_len"):
        build(tmp_path, sequence(splitter="|"), "csv", "train.csv")


@pytest.mark.parametrize(
    ("keys", "values"),
    [
        (["1", "2"], np.full((2, 3), 1e300)),
        (["1", "2"], np.ones((2, 3), dtype=complex)),
        (["1", "2"], np.array([["a"], ["b"]])),
        (["1", "2"], np.ones((2, 0))),
        (np.array("1"), np.ones((1, 3))),
    ],
)
def test_vectors_that_are_no_finite_numbers_are_refused(tmp_path, keys, values):
    np.savez(tmp_path / "v.npz", key=keys, value=values)
    write_csv(tmp_path / "train.csv", "a,click\n1,1\n2,0\n")
    with pytest.raises(DataError, match="v.npz .pretrained_emb of column 'a'.: "):
        build(tmp_path, categorical("a", pretrained_emb="v.npz"), "csv", "train.csv")


class TestSavedState:
    columns = (categorical("c"), numeric("x", normalizer="StandardScaler"))

    @pytest.fixture
    def home(self, tmp_path):
        write_csv(tmp_path / "train.csv", "c,x,click\na,1,1\nb,2,0\na,4,1\n")
        self.settings = config(tmp_path, list(self.columns))
        prepare_dataset(self.settings, verbose=0)
        return tmp_path / "encoded/tiny"

    @pytest.mark.parametrize(
        ("name", "old", "new"),
        [
            ("feature_vocab.json", '"a": 1, "b": 2', '"b": 1, "a": 2'),
            ("normalizers.json", '"scale": 1', '"scale": 2'),
            ("feature_map.json", '"source": ""', '"source": "x"'),
            ("normalizers.json", "{", "[{"),
        ],
    )
    def test_encoders_changed_by_another_hand_are_refused(self, home, name, old, new):
        text = (home / name).read_text()
        assert old in text
        (home / name).write_text(text.replace(old, new, 1))
        with pytest.raises(DataError, match="not those of the build|not readable"):
            load_encoders(self.settings)

    @pytest.mark.parametrize("content", ["[]", "{}", '{"rows": 3}', "null", "x", '{"files": []}'])
    def test_a_broken_cache_key_is_no_build(self, home, content):
        (home / "cache_key.json").write_text(content)
        with pytest.raises(DataError, match="no dataset that was encoded here"):
            load_encoders(self.settings)
        assert prepare_dataset(self.settings, verbose=0).rebuilt


@pytest.mark.parametrize("label", [2, -1, 0.3, 1e30])
def test_encoded_labels_are_0_or_1(tmp_path, label):
    feature_map = FeatureMap("d")
    feature_map.features = {"c": {"type": "categorical", "vocab_size": 3}}
    feature_map.labels = ["click"]
    pd.DataFrame({"c": [1, 2], "click": [1.0, label]}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(DataError, match="column 'click', row 2: found .* expected a label 0 or 1"):
        read_encoded(tmp_path / "train.parquet", feature_map)


def test_a_column_is_copied_under_another_name(tmp_path):
    write_csv(tmp_path / "train.csv", "c,click\na,1\nb,0\na,1\n")
    columns = [categorical("c"), categorical("d", preprocess="copy_from(c)")]
    built = build(tmp_path, columns, "csv", "train.csv")
    assert read(built)["c"] == read(built)["d"] == [1, 2, 1]
