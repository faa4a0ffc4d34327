"""Ids, labels and numbers keep their value, or an error or a warning says that they do not."""

from __future__ import annotations

import datetime
import decimal
import json
import logging

import h5py
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuxictr.errors import DataError
from fuxictr.preprocess import FeatureProcessor, prepare_dataset
from fuxictr.preprocess.columns.normalizers import MinMaxScaler, StandardScaler, merged_in_float32
from fuxictr.preprocess.columns.values import (
    WrongCell,
    label_words,
    read_ids,
    read_labels,
    read_values,
)
from fuxictr.pytorch.dataloaders.columnar import check_groups_present
from tests.preprocess.tables import categorical, config, numeric, read, write_csv

HASH = 2**64 - 1


def build(folder, column, text, **keys):
    write_csv(folder / "train.csv", text)
    columns = column if isinstance(column, list) else [column]
    return prepare_dataset(config(folder, columns, **keys), verbose=0)


@given(st.integers(-(2**63), HASH), st.sampled_from(["{}", "{}.0", "{}.", " {} ", "{}.000\t"]))
def test_every_spelling_of_an_integer_is_that_integer(number, form):
    cells = pl.Series([form.format(number), "", "nan", None])
    assert read_values(cells, "int").to_list() == [number, None, None, None]


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("007", 7),
        ("+7", 7),
        ("1e3", 1000),
        ("1.5e1", 15),
        ("-0.0", 0),
        ("9007199254740993.0", 2**53 + 1),
    ],
)
def test_integers_as_programs_write_them(cell, number):
    assert read_values(pl.Series([cell]), "int").to_list() == [number]


@pytest.mark.parametrize(
    "cell", ["7.5", "1e300", "1e17", "inf", "True", "0x7", "1_000", "1,000", "7 8", str(2**64)]
)
def test_what_is_no_integer_is_refused_with_its_row(cell):
    with pytest.raises(WrongCell) as error:
        read_values(pl.Series(["7.0", cell]), "int")
    assert (error.value.row, error.value.value) == (1, cell)
    assert error.value.allowed.startswith("an integer, or an empty cell (dtype: int)")
    assert ("2^64-1" in error.value.allowed) == (cell == str(2**64))


TYPED = {
    "uint64": pl.Series([HASH, 7, None], dtype=pl.UInt64),
    "decimal": pl.Series([decimal.Decimal(HASH), decimal.Decimal(7), None]),
    "text": pl.Series([str(HASH), "7.0", ""]),
    "categories": pl.Series([f"{HASH}.0", "7", None], dtype=pl.Categorical),
}


@pytest.mark.parametrize("form", TYPED)
def test_integers_of_64_bits_are_read_exactly(form):
    assert read_ids(TYPED[form], "int").to_list() == [HASH, 7, None]


class TestHashes:
    """Ids up to 2^64-1 are tokens in all forms, and in tables to score."""

    ids = (HASH, HASH - 1, 2**63, 5)

    @pytest.mark.parametrize("form", ["csv", "parquet", "npz", "h5"])
    def test_of_all_forms(self, form, tmp_path):
        path = tmp_path / f"train.{form}"
        ids = np.array(self.ids, dtype=np.uint64)
        columns = {"click": np.array([1, 0, 1, 0]), "a": ids, "b": ids}
        if form == "npz":
            np.savez(path, **columns)
        elif form == "h5":
            with h5py.File(path, "w") as file:
                for name, values in columns.items():
                    file.create_dataset(name, data=values)
        else:
            table = pl.DataFrame(columns)
            table.write_csv(path) if form == "csv" else table.write_parquet(path)
        keys = {"train_data": str(path), "data_format": form}
        column = [categorical("a", dtype="int"), {"name": "b", "type": "meta", "dtype": "int"}]
        built = prepare_dataset(config(tmp_path, column, **keys), verbose=0)
        vocabulary = json.loads((built.paths["train"].parent / "feature_vocab.json").read_text())
        assert set(vocabulary["a"]) - {"__PAD__", "__OOV__"} == set(map(str, self.ids))
        assert read(built)["b"] == list(self.ids)

    def test_of_tables(self):
        columns = [categorical("a", dtype="int")]
        rows = pl.DataFrame({"click": [1, 0, 1, 0], "a": [str(number) for number in self.ids]})
        processor = FeatureProcessor(columns, {"name": "click"}, "d").fit(rows)
        again = rows.with_columns(pl.Series("a", self.ids, dtype=pl.UInt64))
        assert processor.transform(again).equals(processor.transform(rows))

    def test_signed_and_unsigned_files_of_one_split(self, tmp_path):
        for number, (values, dtype) in enumerate(
            [([-1, 7], pl.Int64), ([HASH, 7], pl.UInt64), ([3, 7], pl.Int32)]
        ):
            frame = pl.DataFrame({"click": [1, 0], "a": pl.Series(values, dtype=dtype)})
            (tmp_path / "train").mkdir(exist_ok=True)
            frame.write_parquet(tmp_path / f"train/{number}.parquet")
        keys = {"train_data": str(tmp_path / "train"), "data_format": "parquet"}
        columns = [categorical("a", dtype="int")]
        built = prepare_dataset(config(tmp_path, columns, **keys), verbose=0)
        assert read(built)["a"] == [2, 1, 3, 1, 4, 1]  # 7, then by text: -1, 184..., 3

    def test_a_meta_column_keeps_the_type_that_training_needs(self, tmp_path):
        column = [categorical("c"), {"name": "a", "type": "meta", "dtype": "int"}]
        write_csv(tmp_path / "test.csv", f"click,c,a\n1,x,{HASH}\n")
        keys = {"test_data": str(tmp_path / "test.csv")}
        with pytest.raises(DataError, match=r"test.csv: row 1 .*column 'a': .*set dtype: str"):
            build(tmp_path, column, "click,c,a\n1,x,1\n0,x,2\n", **keys)
        built = build(tmp_path, column, f"click,c,a\n1,x,1\n0,x,{2**63}\n", **keys)
        assert read(built, "test")["a"] == [HASH]


FLOATS = {
    "text": pl.Series(["7", str(2**53 + 1)]),
    "integers": pl.Series([7, 2**53 + 1]),
    "floats": pl.Series([7.0, 2.0**53]),
    "float32": pl.Series([7.0, 2.0**24], dtype=pl.Float32),
}


@pytest.mark.parametrize("form", FLOATS)
@pytest.mark.parametrize("dtype", ["float", "int", "str"])
def test_ids_that_merge_as_floats_are_refused(form, dtype):
    cells = FLOATS[form]
    if dtype != "float" and not cells.dtype.is_float():
        assert int(read_ids(cells, dtype)[1]) == 2**53 + 1
        return
    with pytest.raises(WrongCell) as error:
        read_ids(cells, dtype)
    assert error.value.row == 1
    bound = 24 if form == "float32" else 53
    assert f"a float below 2^{bound}: from there on ids merge" in error.value.allowed
    assert len(read_values(cells, "float")) == 2, "a number that is no id may be as large"


@pytest.mark.parametrize(
    "column",
    [
        categorical("a", dtype="float"),
        {"name": "a", "dtype": "float", "type": "sequence", "splitter": "|"},
        categorical("a", dtype="float", category_processor="hash_bucket"),
        {"name": "a", "dtype": "float", "type": "meta"},
    ],
)
def test_merging_ids_name_their_cell(column, tmp_path):
    text = "click,a,c\n1,7,x\n0,9007199254740993,x\n"
    with pytest.raises(DataError, match=r"row 2 .line 3., column 'a': .*ids merge"):
        build(tmp_path, [column, categorical("c")], text)
    assert len(read(build(tmp_path, [numeric("a"), categorical("c")], text))["a"]) == 2


@pytest.mark.parametrize(("kind", "digits"), [(np.float32, 24), (np.float64, 53)])
def test_groups_of_large_floats_are_refused(kind, digits):
    check_groups_present(np.array([2.0**digits - 1, np.inf], dtype=kind), "here")
    message = rf"here, row 6: found {2**digits} as float.*ids of 2\^{digits} or more merge"
    with pytest.raises(DataError, match=message):
        check_groups_present(np.array([1, 2.0**digits], dtype=kind), "here", 4)


class TestFloat32:
    """Numeric columns whose values float32 cannot tell apart."""

    stamps = tuple(1_700_000_000 + 60 * minute for minute in range(40))

    @pytest.fixture
    def warnings(self, caplog):
        caplog.set_level(logging.WARNING, "fuxictr")
        return lambda: caplog.messages

    def rows(self, values):
        return "click,x,c\n" + "".join(f"{i % 2},{value},a\n" for i, value in enumerate(values))

    @pytest.mark.parametrize("dtype", ["int", "float"])
    def test_epoch_seconds_are_warned_of_once(self, dtype, tmp_path, warnings):
        columns = [numeric("x", dtype=dtype), categorical("c")]
        (tmp_path / "test.csv").write_text(self.rows(self.stamps))
        build(tmp_path, columns, self.rows(self.stamps), test_data=str(tmp_path / "test.csv"))
        (text,) = warnings()
        assert "column 'x': " in text
        assert "equal to the next one in float32, as 1700000000 and 1700000060" in text
        assert "set a normalizer, which computes in float64" in text

    @pytest.mark.parametrize("name", ["StandardScaler", "MinMaxScaler"])
    def test_a_normalizer_tells_them_apart(self, name, tmp_path, warnings):
        columns = [numeric("x", normalizer=name), categorical("c")]
        found = read(build(tmp_path, columns, self.rows(self.stamps)))["x"]
        assert len(set(found)) == len(self.stamps)
        assert warnings() == []

    def test_a_fill_value_far_off_undoes_that(self, tmp_path, warnings):
        columns = [numeric("x", normalizer="MinMaxScaler"), categorical("c")]
        build(tmp_path, columns, self.rows([*self.stamps, ""]))
        (text,) = warnings()
        assert "though they are scaled in float64" in text
        assert "set another fill_na" in text

    @pytest.mark.parametrize("dtype", ["int", "float"])
    def test_ids_that_merge_in_float64_already(self, dtype, tmp_path, warnings):
        columns = [numeric("x", dtype=dtype), categorical("c")]
        build(tmp_path, columns, self.rows([2**53, 2**53 + 1]))
        (text,) = warnings()
        assert f"column 'x': {2**53} and {2**53 + 1} are one number in float64" in text

    def test_of_sound_values_none_is_said(self):
        rng = np.random.default_rng(0)
        for values in (
            rng.normal(size=100_000),
            rng.random(100_000),
            np.array([0.3, 0.1 + 0.2, 1.0]),
            rng.integers(0, 2**24, 1000).astype(float),
            rng.integers(0, 10**6, 1000) / 100,
            np.array([1.7e9]),
        ):
            for scaler in (None, StandardScaler(), MinMaxScaler()):
                if scaler is not None:
                    scaler.observe(values)
                    scaler.finish()
                assert merged_in_float32(values, scaler) is None


class TestLabels:
    @pytest.mark.parametrize(
        "cells",
        [
            ["True", "False", "TRUE"],
            ["true", " false", "True"],
            ["yes", "no", " YES "],
            pl.Series(["Yes", "No", "yes"], dtype=pl.Categorical),
            [True, False, True],
            [1, 0, 1],
            ["1", "0.0", "1.0"],
        ],
    )
    def test_words_and_truth_values_are_labels(self, cells):
        raw = pl.Series(cells)
        assert read_labels(raw, label_words(raw)).tolist() == [1, 0, 1]

    @pytest.mark.parametrize("cell", ["maybe", "t", "2", "", "nan", None, "yes", "1"])
    @pytest.mark.parametrize("first", ["True", "0"])
    def test_another_word_is_named_with_its_row(self, first, cell):
        raw = pl.Series([first, cell])
        if (first, cell) == ("0", "1"):
            return
        with pytest.raises(WrongCell) as error:
            read_labels(raw, label_words(raw))
        assert (error.value.row, error.value.value) == (1, cell)
        said = "true or false, as in the first row" if first == "True" else "0 or 1; or true and"
        assert error.value.allowed.startswith(said)

    def test_in_files(self, tmp_path):
        built = build(tmp_path, categorical("c"), "click,c\nTrue,a\nfalse,b\ntrue,a\n")
        assert read(built)["click"] == [1, 0, 1]
        write_csv(tmp_path / "test.csv", "click,c\n1,a\n0,b\n")
        with pytest.raises(
            DataError, match=r"test.csv: row 1 .* 'click': found '1', allowed: true"
        ):
            build(
                tmp_path,
                categorical("c"),
                "click,c\ntrue,a\nfalse,b\n",
                test_data=str(tmp_path / "test.csv"),
            )
        pl.DataFrame({"click": [True, False], "c": ["a", "b"]}).write_parquet(
            tmp_path / "b.parquet"
        )
        keys = {"train_data": str(tmp_path / "b.parquet"), "data_format": "parquet"}
        built = prepare_dataset(config(tmp_path, [categorical("c")], **keys), verbose=0)
        assert read(built)["click"] == [1, 0]


def test_dates_keep_their_texts():
    day = datetime.datetime(2024, 1, 1, 7)
    assert read_values(pl.Series([day]), "str").to_list() == ["2024-01-01 07:00:00.000000"]
    stamps = pl.Series([1_577_836_800_000_000_001, None]).cast(pl.Datetime("ns"))
    assert read_values(stamps, "str").to_list() == ["2020-01-01 00:00:00.000000001", None]
