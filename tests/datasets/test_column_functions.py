"""Column functions against plain Python."""

import datetime
import math
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuxictr.datasets.column_functions import COLUMN_FUNCTIONS


def apply(name: str, column: str, **data) -> list:
    return pl.DataFrame(data).select(COLUMN_FUNCTIONS[name](column).alias("out"))["out"].to_list()


@given(st.datetimes(datetime.datetime(2000, 1, 1), datetime.datetime(2099, 12, 31)))
def test_parts_of_the_hour(moment):
    raw = moment.strftime("%y%m%d%H")
    for value in ([raw], [int(raw)] if raw[0] != "0" else [raw]):
        assert apply("convert_hour", "hour", hour=value) == [moment.hour]
        assert apply("convert_weekday", "weekday", hour=value) == [int(moment.strftime("%w"))]
        assert apply("convert_weekend", "weekend", hour=value) == [int(moment.weekday() >= 5)]


@pytest.mark.parametrize("name", ["convert_hour", "convert_weekday", "convert_weekend"])
def test_a_broken_hour_is_missing_in_all_its_parts(name):
    broken = ["14139900", "14102199", "141021", "1410210x", "141021001", "abc", None, ""]
    assert apply(name, "hour", hour=broken) == [None] * len(broken)


def test_parts_of_the_hour_of_real_rows():
    sample = Path(__file__).parents[3] / "shared" / "data" / "avazu_sample" / "train.csv"
    if not sample.is_file():
        pytest.skip("no Avazu sample beside the repository")
    for dtype in (pl.String, pl.Int64):
        raw = pl.read_csv(sample, schema_overrides={"hour": dtype})["hour"]
        moments = [datetime.datetime.strptime(str(text), "%y%m%d%H") for text in raw]
        assert apply("convert_hour", "hour", hour=raw) == [m.hour for m in moments]
        weekdays = [int(m.strftime("%w")) for m in moments]
        assert apply("convert_weekday", "weekday", hour=raw) == weekdays
        assert apply("convert_weekend", "weekend", hour=raw) == [int(w in (0, 6)) for w in weekdays]


@pytest.mark.parametrize("name", ["convert_hour", "convert_weekday", "convert_weekend"])
def test_raw_columns_can_be_asked_for(name):
    assert set(COLUMN_FUNCTIONS[name]("made").meta.root_names()) == {"hour"}


def test_buckets_of_criteo():
    values = [None, -2.0, 0.0, 1.0, 2.0, 2.5, 3.0, 100.0, 65535.0]
    expected = [None if x is None else int(math.log(x) ** 2) if x > 2 else int(x) for x in values]
    assert apply("convert_to_bucket", "I1", I1=values) == expected


def test_countries_of_kkbox():
    values = ["TWUM71200043", "U", "", None]
    assert apply("extract_country_code", "isrc", isrc=values) == ["TW", "U", "", ""]


def test_ages_of_kkbox():
    ages = {
        **{"0": "", "1": "1", "10": "1", "11": "2", "20": "2", "21": "3", "30": "3", "31": "4"},
        **{"40": "4", "50": "5", "51": "6", "60": "6", "61": "7", "95": "7", "96": "", "-3": ""},
        **{"x": "", "": "", "1051": ""},
    }
    assert apply("bucketize_age", "bd", bd=[*ages, None]) == [*ages.values(), ""]
    assert apply("bucketize_age", "bd", bd=[10, 61, None]) == ["1", "7", ""]
