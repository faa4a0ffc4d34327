"""Parameters that take names take a single one as a text, not its letters."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from fuxictr.errors import ConfigError, as_names
from fuxictr.features import FeatureMap
from fuxictr.metrics import evaluate_metrics
from fuxictr.preprocess import FeatureProcessor
from fuxictr.pytorch.layers import FeatureEmbedding


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("uid", ["uid"]),
        (("b", "a"), ["b", "a"]),
        ({"b", "a"}, ["a", "b"]),
        (np.array(["u"]), ["u"]),
    ],
)
def test_names(given, names):
    assert as_names(given, "keep") == names


@pytest.mark.parametrize("given", [7, None, [7], {"a": 1}, b"a", ["a", None]])
def test_what_is_no_name(given):
    with pytest.raises(ConfigError, match="keep: found .*, allowed: a name, or a list of names"):
        as_names(given, "keep")


def test_metrics():
    labels, scores = np.array([0, 1, 1.0]), np.array([0.1, 0.7, 0.6])
    assert evaluate_metrics(labels, scores, "AUC") == {"AUC": 1.0}
    with pytest.raises(ConfigError, match="metrics: found 3"):
        evaluate_metrics(labels, scores, 3)


def test_fields():
    feature_map = FeatureMap("d")
    feature_map.features = {
        name: {"type": "categorical", "vocab_size": 5} for name in ("u", "user", "item")
    }
    assert list(feature_map.select("user").features) == ["user"]
    layer = FeatureEmbedding(feature_map, 2, not_required_feature_columns="user")
    assert list(layer.feature_map.features) == ["u", "item"], "'u' is a letter of 'user'"
    layer = FeatureEmbedding(feature_map, 2, required_feature_columns="user")
    assert list(layer.feature_map.features) == ["user"]


def test_columns_to_encode():
    columns = [{"name": name} for name in ("u", "user")]
    rows = pl.DataFrame({"u": ["a"], "user": ["b"], "click": [1]})
    processor = FeatureProcessor(columns, {"name": "click"}, "d").fit(rows)
    (table,) = processor.encode(rows, "Encode", fields="user")
    assert table.column_names == ["user"]
    assert processor.raw_columns("user") == ["user"]
