from __future__ import annotations

import re

import polars as pl
import pytest

from fuxictr.errors import ConfigError, DataError, FuxiCTRError
from fuxictr.preprocess import FeatureProcessor, prepare_dataset
from fuxictr.preprocess.sources import frames as sources
from tests.preprocess.tables import categorical, config, numeric, write_csv

COLUMNS = [categorical("c"), numeric("x"), categorical("k", dtype="int")]
HEAD = "click,c,x,k\n"
GOOD = "1,a,1.5,7\n"

CASES = {
    "empty": ("", "{file}: the file is empty"),
    "header only": (HEAD, "{file}: no rows"),
    "missing column": (
        "click,c,xx,k\n" + GOOD,
        "{file}: column 'x' is missing; did you mean 'xx'?; found: click, c, xx, k",
    ),
    "duplicate column": (
        "click,c,x,k,c\n1,a,1,7,b\n",
        "{file}: the header names column 'c' more than once",
    ),
    "label": (
        HEAD + GOOD + "2,a,1,7\n",
        "{file}: row 2 (line 3), column 'click': found '2', allowed: 0 or 1",
    ),
    "no label": (
        HEAD + GOOD + "\n,a,1,7\n",
        "{file}: row 2 (line 4), column 'click': found an empty cell, allowed: 0 or 1",
    ),
    "word as number": (
        HEAD + GOOD * 2 + "0,a,1.5x,7\n",
        "{file}: row 3 (line 4), column 'x': found '1.5x', allowed: a number, or an empty cell "
        "(dtype: float)",
    ),
    "infinity": (
        HEAD + "0,a,inf,7\n",
        "{file}: row 1 (line 2), column 'x': found 'inf', allowed: a finite number that float32 "
        "can hold",
    ),
    "beyond float32": (HEAD + "0,a,-1e39,7\n", "found '-1e39', allowed: a finite number"),
    "float as int": (
        HEAD + "0,a,1,7.5\n",
        "column 'k': found '7.5', allowed: an integer, or an empty cell (dtype: int)",
    ),
    "line after a quoted newline": (
        HEAD + '1,"a\nb",1,7\n' + "0,a,?,7\n",
        "{file}: row 2 (line 4), column 'x': found '?'",
    ),
    "too few cells": (
        HEAD + GOOD + "1,a,1\n",
        "{file}: row 2 (line 3): found 3 cells, allowed: 4, as in the header",
    ),
    "too many cells": (HEAD + "1,a,1,7,8\n", "{file}: row 1 (line 2): found 5 cells, allowed: 4"),
    "not UTF-8": (
        HEAD.encode() + GOOD.encode() + b"0,\xffa,1,7\n",
        "{file}: row 2 (line 3), column 'c': found b'\\xffa', allowed: UTF-8 text",
    ),
    "header not UTF-8": (b"click,\xff\n", "{file}: line 1: not UTF-8 text"),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("split", ["train", "valid"])
def test_a_bad_csv_is_named_and_nothing_is_written(tmp_path, name, split):
    text, message = CASES[name]
    write_csv(tmp_path / "train.csv", HEAD + GOOD)
    bad = write_csv(tmp_path / f"{split}.csv", text)
    keys = {"valid_data": str(bad)} if split == "valid" else {}
    with pytest.raises(DataError) as error:
        prepare_dataset(config(tmp_path, COLUMNS, **keys), verbose=0)
    assert message.format(file=bad) in str(error.value)
    assert "\n" not in str(error.value)
    assert [p.name for p in (tmp_path / "encoded/tiny").iterdir()] == [".lock"]


def test_the_row_is_counted_within_its_own_file(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "FRAME_ROWS", 4)
    write_csv(tmp_path / "parts/a.csv", HEAD + GOOD * 5)
    write_csv(tmp_path / "parts/b.csv", HEAD + GOOD * 6 + "0,a,oops,7\n" + GOOD * 3)
    dataset = config(tmp_path, COLUMNS, train_data=str(tmp_path / "parts"))
    with pytest.raises(DataError, match=r"b\.csv: row 7 \(line 8\), column 'x': found 'oops'"):
        prepare_dataset(dataset, verbose=0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("trian.csv", "trian.csv: no such file (key 'train_data': 'trian.csv'); did you mean 'tra"),
        ("nowhere/x.csv", "nowhere/x.csv: no such file (key 'train_data'"),
        ("parts", "parts: no .csv file in this folder"),
        ("part*.csv", "part*.csv: no such file"),
    ],
)
def test_absent_files_are_named_with_the_path_that_was_tried(tmp_path, given, message):
    write_csv(tmp_path / "train.csv", HEAD + GOOD)
    (tmp_path / "parts").mkdir()
    with pytest.raises(DataError) as error:
        prepare_dataset(config(tmp_path, COLUMNS, train_data=given), tmp_path, verbose=0)
    assert str(error.value).startswith(str(tmp_path / message.split(":")[0]))
    assert message in str(error.value)
    assert not (tmp_path / "encoded").exists()


def test_no_training_file_in_the_config(tmp_path):
    with pytest.raises(ConfigError, match="dataset 'tiny': key 'train_data': found null"):
        prepare_dataset(config(tmp_path, COLUMNS, train_data=None), verbose=0)


def parquet(tmp_path, **columns):
    table = pl.DataFrame(
        {"click": [1, 0], "c": ["a", "b"], "x": [1.0, 2.0], "k": [1, 2], **columns}
    )
    table.write_parquet(tmp_path / "train.parquet")
    path = str(tmp_path / "train.parquet")
    return config(tmp_path, COLUMNS, data_format="parquet", train_data=path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"click": [1, None]}, "row 2, column 'click': found an empty cell, allowed: 0 or 1"),
        ({"click": [0.5, 1]}, "row 1, column 'click': found 0.5, allowed: 0 or 1"),
        ({"x": ["1", "b"]}, "row 2, column 'x': found 'b', allowed: a number"),
        ({"x": [1.0, float("inf")]}, "row 2, column 'x': found inf, allowed: a finite number"),
        ({"k": [1.0, 2.5]}, "row 2, column 'k': found 2.5, allowed: an integer"),
        (
            {"c": [["a"], ["b"]]},
            "column 'c': found 'a value of type List(String)', allowed: one text or number a cell",
        ),
    ],
)
def test_a_bad_parquet_cell_is_named(tmp_path, columns, message):
    with pytest.raises(DataError) as error:
        prepare_dataset(parquet(tmp_path, **columns), verbose=0)
    assert message in str(error.value)


def test_damaged_and_mistaken_parquet_files(tmp_path):
    dataset = parquet(tmp_path)
    path = tmp_path / "train.parquet"
    whole = path.read_bytes()
    for cut in (0, 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(
            DataError, match=rf"{re.escape(str(path))}: (damaged|the file is empty)"
        ):
            prepare_dataset(dataset, verbose=0)
    path.write_bytes(whole[:4] + b"\0" * 200 + whole[204:])
    with pytest.raises(DataError, match=re.escape(str(path))):
        prepare_dataset(dataset, verbose=0)
    path.write_bytes(whole)
    with pytest.raises(ConfigError, match="'data_format': found csv, set parquet"):
        prepare_dataset(config(tmp_path, COLUMNS, train_data=str(path)), verbose=0)


@pytest.mark.parametrize(
    ("columns", "label", "message"),
    [
        ([numeric("x", fill_na="none")], {"name": "click"}, "'fill_na': found 'none'"),
        ([categorical("click")], {"name": "click"}, "'click': found as label and as feature"),
        ([categorical("c", dtyp="str")], {"name": "click"}, "'dtyp'; did you mean 'dtype'"),
        ([categorical("c")], None, "key 'label_col'"),
    ],
)
def test_bad_column_entries(columns, label, message):
    with pytest.raises(ConfigError, match=message):
        FeatureProcessor(columns, label, "d")


def test_a_table_without_rows_or_columns():
    processor = FeatureProcessor(COLUMNS, {"name": "click"}, "d")
    with pytest.raises(DataError, match="the given table: no rows"):
        processor.fit(pl.DataFrame(schema={"click": pl.Int64, "c": str, "x": float, "k": int}))
    with pytest.raises(DataError, match="the given table: column 'x' is missing"):
        processor.fit(pl.DataFrame({"click": [1], "c": ["a"]}))


def test_a_failing_column_function_is_named(tmp_path):
    class Own(FeatureProcessor):
        def broken(self, col_name):
            return pl.col("c").str.to_integer()

    write_csv(tmp_path / "train.csv", HEAD + GOOD)
    dataset = config(tmp_path, [categorical("c", preprocess="broken")])
    with pytest.raises(FuxiCTRError, match=r"train\.csv.*column 'c': its preprocess function"):
        prepare_dataset(dataset, verbose=0, processor_class=Own)
