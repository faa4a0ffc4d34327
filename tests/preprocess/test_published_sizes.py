"""Builds of published datasets say which vocabularies are not of the published size."""

from __future__ import annotations

import logging
import re

import polars as pl
import pytest

from fuxictr.config import DatasetConfig
from fuxictr.datasets import registry
from fuxictr.datasets.registry import RawDataset
from fuxictr.preprocess import prepare_dataset

ROWS = 200
# a has 3 tokens and b 5; padding and OOV are counted.
TINY = RawDataset(
    "Tiny_x1", "Tiny", "tiny_x1", rows=(ROWS, 5, 5), vocab_sizes={"a": 5, "b": 7}, num_features=12
)


@pytest.fixture
def build(tmp_path, monkeypatch, caplog):
    """Builds rows under a dataset_id; returns what was logged of sizes, as (level, text)."""

    def call(known=TINY, dataset_id="tiny_x1", rows=ROWS, fields=("a", "b"), **keys):
        monkeypatch.setitem(registry._BY_NAME, "tiny_x1", known)
        for split, count in (("train", rows), ("valid", 5), ("test", 5)):
            numbers = range(count)
            columns = {"a": [n % 3 for n in numbers], "b": [n % 5 for n in numbers]}
            columns["y"] = [n % 2 for n in numbers]
            if not (tmp_path / f"{split}.csv").exists():
                pl.DataFrame(columns).write_csv(tmp_path / f"{split}.csv")
        params = {
            "dataset_id": dataset_id,
            "data_root": str(tmp_path / "data"),
            **{f"{s}_data": str(tmp_path / f"{s}.csv") for s in ("train", "valid", "test")},
            "feature_cols": [{"name": [*fields], "dtype": "str", "type": "categorical"}],
            "label_col": {"name": "y", "dtype": "float"},
            **keys,
        }
        caplog.clear()
        with caplog.at_level(logging.INFO):
            prepare_dataset(DatasetConfig.from_params(params), tmp_path, verbose=0)
        return [(r.levelname, r.getMessage()) for r in caplog.records if "published" in r.msg]

    return call


def test_equal_sizes_are_said_in_a_line(build):
    ((level, text),) = build()
    assert level == "INFO"
    assert text == (
        "Dataset 'tiny_x1': all 2 vocabularies have the sizes published of Tiny_x1; "
        "200 training rows (published: 200)"
    )
    assert build() == [], "a build that is reused says nothing"


@pytest.mark.parametrize(
    ("sizes", "fields", "found"),
    [
        ({"a": 5, "b": 8}, ("a", "b"), "1 of the 2 .*: b has 7 ids \\(published: 8\\); 200 "),
        ({"a": 4, "b": 6}, ("a", "b"), "a has 5 ids \\(published: 4\\), b has 7 ids "),
        ({"a": 5, "b": 7}, ("a",), "b is missing \\(published: 7\\)"),
    ],
)
def test_other_sizes_are_named_in_one_warning(build, sizes, fields, found):
    known = RawDataset("Tiny_x1", "Tiny", "tiny_x1", rows=(ROWS, 5, 5), vocab_sizes=sizes)
    ((level, text),) = build(known, fields=fields)
    assert level == "WARNING"
    assert re.search(found, text), text


def test_a_few_rows_less_are_compared_all_the_same(build):
    ((level, text),) = build(rows=ROWS - 2)
    assert (level, text.rpartition("; ")[2]) == ("INFO", "198 training rows (published: 200)")


@pytest.mark.parametrize(
    "other", [{"rows": 100}, {"min_categr_count": 2}, {"dataset_id": "my_clicks"}]
)
def test_nothing_is_said_of_samples_and_other_encodings(build, other):
    assert build(**other) == []


def test_the_published_sizes_add_up():
    avazu, criteo = registry.resolve("avazu"), registry.resolve("criteo")
    assert sum(avazu.vocab_sizes.values()) == avazu.num_features == 3_750_999
    assert sum(criteo.vocab_sizes.values()) == 2_086_329
    assert list(criteo.vocab_sizes) == [f"C{number}" for number in range(1, 27)]
    assert (avazu.min_categr_count, criteo.min_categr_count) == (2, 1)
