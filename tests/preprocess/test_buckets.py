from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuxictr.errors import DataError
from fuxictr.preprocess import FeatureProcessor

ROOT = Path(__file__).parents[2]
NUMBER = st.floats(-1e6, 1e6, allow_nan=False) | st.integers(-5, 5).map(float)


def fitted(values, **keys):
    rows = pl.DataFrame({"x": values, "click": [1] * len(values)})
    processor = FeatureProcessor(
        feature_cols=[{"name": "x", **keys}],
        label_col={"name": "click", "dtype": "float"},
        dataset_id="d",
    )
    return processor.fit(rows), rows


def encode(processor, values):
    rows = pl.DataFrame({"x": values, "click": [1] * len(values)})
    return processor.transform(rows)["x"].to_list()


@settings(max_examples=80, deadline=None)
@given(st.lists(NUMBER, min_size=1, max_size=40), st.integers(1, 8), st.lists(NUMBER, max_size=9))
def test_quantile_buckets_equal_numpys_quantiles(train, num_buckets, new):
    keys = {"dtype": "float", "category_processor": "quantile_bucket", "num_buckets": num_buckets}
    processor, _ = fitted(train, **keys)
    boundaries = np.quantile(train, np.arange(1, num_buckets) / num_buckets)
    np.testing.assert_allclose(processor.columns[0].boundaries, boundaries, rtol=1e-12, atol=1e-9)
    kept = processor.columns[0].boundaries
    values = [*train, *new]
    assert encode(processor, values) == [1 + sum(b <= x for b in kept) for x in values]
    spec = processor.feature_map.features["x"]
    assert (spec["vocab_size"], spec["oov_idx"]) == (num_buckets + 2, num_buckets + 1)


def test_a_missing_number_is_oov_or_what_fill_na_says():
    keys = {"dtype": "float", "category_processor": "quantile_bucket", "num_buckets": 2}
    processor, _ = fitted([1.0, None, 3.0], **keys)
    assert encode(processor, [None, 1.0, 3.0]) == [3, 1, 2]
    processor, _ = fitted([1.0, None, 3.0], fill_na=5, **keys)
    assert processor.columns[0].boundaries.tolist() == [3.0]
    assert encode(processor, [None, 1.0]) == [2, 1]


def test_fitted_buckets_survive_saving(tmp_path):
    keys = {"dtype": "float", "category_processor": "quantile_bucket", "num_buckets": 4}
    values = [0.1 * i for i in range(50)]
    processor, rows = fitted(values, **keys)
    processor.save(tmp_path)
    again, _ = fitted([1.0], **keys)
    assert again.load(tmp_path).transform(rows).equals(processor.transform(rows))
    assert json.loads((tmp_path / "feature_vocab.json").read_text()) == {}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=5), min_size=1), st.integers(1, 9))
def test_a_tokens_bucket_depends_on_the_token_alone(values, num_buckets):
    keys = {"category_processor": "hash_bucket", "num_buckets": num_buckets, "fill_na": "?"}
    processor, _ = fitted(values, **keys)
    found = dict(zip(values, encode(processor, values), strict=True))
    other, _ = fitted(["z"], **keys)
    assert encode(other, values[::-1]) == [found[v] for v in values[::-1]]
    assert all(1 <= bucket <= num_buckets for bucket in found.values())
    assert processor.feature_map.features["x"]["vocab_size"] == num_buckets + 2


def test_hash_buckets_are_the_same_in_another_process_and_spread():
    keys = {"category_processor": "hash_bucket", "num_buckets": 10}
    values = [f"token{i}" for i in range(2000)]
    processor, _ = fitted(values, **keys)
    found = encode(processor, values)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from tests.preprocess.test_buckets import fitted, encode\n"
        "values = [f'token{i}' for i in range(2000)]\n"
        "keys = {'category_processor': 'hash_bucket', 'num_buckets': 10}\n"
        "print(encode(fitted(values, **keys)[0], values))\n"
    )
    run = [sys.executable, "-c", code, str(ROOT)]
    other = subprocess.run(run, capture_output=True, text=True, check=True)
    assert json.loads(other.stdout) == found
    counts = np.bincount(found, minlength=12)[1:11]
    assert counts.min() > 140
    assert counts.max() < 260
    assert encode(processor, [None]) == [11]


class TestOwnIds:
    """remap: false."""

    def test_ids_stay_and_unseen_ones_are_oov(self):
        processor, _ = fitted(["3", "0", "7", "3"], remap=False)
        assert encode(processor, ["3", "0", "7", "5", "8", None]) == [3, 0, 7, 8, 8, 8]
        spec = processor.feature_map.features["x"]
        assert (spec["vocab_size"], spec["oov_idx"]) == (9, 8)

    def test_vocab_size_gives_the_range(self, tmp_path):
        processor, rows = fitted([3, 0, 7, 3], remap=False, vocab_size=20)
        assert encode(processor, [3, 12, None]) == [3, 20, 20]
        assert processor.feature_map.features["x"]["vocab_size"] == 21
        processor.save(tmp_path)
        again, _ = fitted([1], remap=False, vocab_size=20)
        assert again.load(tmp_path).transform(rows).equals(processor.transform(rows))

    def test_what_is_no_id_is_refused(self):
        with pytest.raises(DataError, match=r"row 2, column 'x': found -1, allowed: an id 0"):
            fitted([1, -1], remap=False)
        with pytest.raises(DataError, match=r"row 1, column 'x': found 20, allowed: an id 0..19"):
            fitted([20], remap=False, vocab_size=20)
        with pytest.raises(DataError, match=r"row 1, column 'x': found 'a', allowed: an integer"):
            fitted(["a"], remap=False)
