"""What is said of cells that do not fit."""

from __future__ import annotations

import datetime

import pandas as pd
import polars as pl
import pytest

from fuxictr.errors import DataError
from fuxictr.experiment.scoring import _to_table
from fuxictr.preprocess import FeatureProcessor
from fuxictr.preprocess.columns.tally import Tally
from fuxictr.preprocess.columns.unseen import lost_columns
from tests.preprocess.tables import categorical


def fitted(values, **keys):
    rows = pl.DataFrame({"click": [1, 0] * (len(values) // 2), "a": values})
    return FeatureProcessor([categorical("a", **keys)], {"name": "click"}, "d").fit(rows)


@pytest.mark.parametrize("found", ["1e16", 1e16, "1.8446744073709552e19"])
def test_a_float_that_stands_for_several_integers_is_called_that(found):
    with pytest.raises(DataError, match="from there on ids merge"):
        fitted([found, found], dtype="int")


@pytest.mark.parametrize("known", [datetime.date(2024, 1, 1), True, "x"])
def test_no_number_is_advised_for_a_column_of_other_values(known):
    processor = fitted([known, known])
    with pytest.raises(DataError, match="cast it to .* values, or fit again"):
        processor.transform(pl.DataFrame({"click": [1], "a": [7.5]}))


def test_missing_cells_are_not_asked_whether_they_are_new():
    rows = pl.DataFrame({"a": pl.Series([None] * 10, dtype=pl.String)})
    processor, found = fitted(["x", "y"] * 60), {}
    for split, table in (("train", pl.DataFrame({"a": ["x", "y"] * 60})), ("rows", rows)):
        tally = Tally([split])
        list(processor.encode(table, "", fields=["a"], tallies={"a": tally}))
        found[split] = {"a": tally.counts[split]}
    found["train"]["a"].lasting = 120
    text = lost_columns(processor.columns, found["train"], found["rows"])
    assert text is not None and text.endswith("; is the column filled in these files?")


@pytest.mark.parametrize("empty", [None, "", " "])
def test_an_empty_first_label_is_what_is_refused(empty):
    rows = pl.DataFrame({"click": [empty, "True", "False"], "a": ["x", "y", "z"]})
    processor = FeatureProcessor([categorical("a")], {"name": "click"}, "d")
    with pytest.raises(DataError, match=r"row 1\b.*found an empty cell, allowed: 0 or 1"):
        processor.fit(rows)


def test_true_is_no_integer_in_rows_to_score():
    processor = fitted([7, 8], dtype="int")
    with pytest.raises(DataError, match="column 'a': found True, allowed: an integer"):
        processor.transform(pl.DataFrame({"click": [1], "a": [True]}))
    truths = fitted([True, False], dtype="int")
    rows = pl.DataFrame({"click": [1, 0], "a": [True, False]})
    assert len(truths.transform(rows)["a"].unique()) == 2


@pytest.mark.parametrize("cells", [[2**64 - 1, None], [2**64 - 1, -1], [2**65, 7]])
def test_large_integers_of_pandas_are_read_or_refused(cells):
    rows = pd.DataFrame({"a": pd.Series(cells, dtype=object, index=[5, 6])})
    if cells[1] is None:
        assert _to_table(rows)["a"].to_pylist() == cells
    else:
        with pytest.raises(DataError, match="the given table: found DataFrame"):
            _to_table(rows)
