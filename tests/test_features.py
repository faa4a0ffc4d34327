"""FeatureMap: json round trip, selection, errors."""

import json

import pytest

from fuxictr.errors import ConfigError, DataError
from fuxictr.features import FeatureMap


def make_map() -> FeatureMap:
    feature_map = FeatureMap("d")
    feature_map.labels = ["click"]
    feature_map.features = {
        "a": {"type": "categorical", "source": "", "vocab_size": 5},
        "x": {"type": "numeric", "source": ""},
        "id": {"type": "meta", "source": ""},
    }
    return feature_map


def test_round_trip(tmp_path):
    path = tmp_path / "feature_map.json"
    make_map().save(path)
    content = json.loads(path.read_text())
    assert (content["num_fields"], content["total_features"], content["input_length"]) == (2, 6, 3)
    assert content["features"][0] == {"a": {"type": "categorical", "source": "", "vocab_size": 5}}
    loaded = FeatureMap.load(path, "d")
    assert loaded.features == make_map().features
    assert loaded.labels == ["click"]
    assert list(tmp_path.iterdir()) == [path]


def test_num_fields_is_counted_after_selection():
    chosen = make_map().select(use_features=["a"])
    assert (chosen.num_fields, chosen.sum_emb_out_dim(4)) == (1, 4)
    with pytest.raises(ConfigError, match="use_features.*'aa' is not a field"):
        make_map().select(use_features=["aa"])
    with pytest.raises(ConfigError, match="leaves no field"):
        make_map().select(use_features=["id"])


def test_feature_specs_change_fields():
    chosen = make_map().select(feature_specs=[{"name": "a", "source": "user"}])
    assert chosen.features["a"]["source"] == "user"
    assert make_map().select(feature_specs={"a": {"source": "u"}}).features["a"]["source"] == "u"
    with pytest.raises(ConfigError, match="feature_specs"):
        make_map().select(feature_specs=[{"name": "zz"}])


def test_load_errors(tmp_path):
    path = tmp_path / "feature_map.json"
    with pytest.raises(DataError, match="no such feature map"):
        FeatureMap.load(path)
    path.write_text('{"dataset_id": "d", "labels"')
    with pytest.raises(DataError, match="not a feature map"):
        FeatureMap.load(path)
    make_map().save(path)
    with pytest.raises(DataError, match="belongs to dataset 'd', expected 'e'"):
        FeatureMap.load(path, "e")
    text = path.read_text()
    for old, new, message in (
        ('"vocab_size": 5', '"vocab_size": -5', "vocab_size -5"),
        ('"type": "categorical"', '"type": "sequence"', "type 'sequence'"),
    ):
        path.write_text(text.replace(old, new))
        with pytest.raises(DataError, match=message):
            FeatureMap.load(path)
