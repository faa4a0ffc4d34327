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


def test_sizes_are_counted_as_fuxictr_does():
    feature_map = make_map()
    ids = {"vocab_size": 9, "share_embedding": None}
    feature_map.features["s"] = {"type": "sequence", **ids, "max_len": 4}
    feature_map.features["t"] = {"type": "sequence", "vocab_size": 5, "max_len": 3}
    feature_map.features["t"]["share_embedding"] = "a"
    feature_map.features["v"] = {"type": "embedding", "pretrain_dim": 7}
    assert feature_map.num_fields == 5
    assert feature_map.total_features == 6 + 9
    assert feature_map.input_length == 3 + 4 + 3 + 7


def test_a_sequence_of_fuxictr_without_an_encoder_has_no_pooling(tmp_path):
    feature_map = make_map()
    feature_map.features["s"] = {"type": "sequence", "vocab_size": 9, "max_len": 4}
    feature_map.save(tmp_path / "feature_map.json")
    assert FeatureMap.load(tmp_path / "feature_map.json").pooling("s") is None


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
    with pytest.raises(ConfigError, match="'a': unknown key 'embeding_dim'; did you mean 'embedd"):
        make_map().select(feature_specs={"a": {"embeding_dim": 3}})
    both = make_map().select(feature_specs=[{"name": ["a", "x"], "source": "user"}])
    assert [both.features[name]["source"] for name in ("a", "x")] == ["user", "user"]
    with pytest.raises(ConfigError, match="'feature_specs': found 'user', allowed: {name: field"):
        make_map().select(feature_specs={"a": "user"})
    sequences = make_map()
    sequences.features["s"] = {"type": "sequence", "vocab_size": 9, "max_len": 4}
    chosen = sequences.select(feature_specs={"s": {"pooling": "sum", "max_len": 4}})
    assert chosen.features["s"]["feature_encoder"] == "sum"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("a", {"padding_idx": 3}, "'padding_idx': found 3, the data were encoded with 0"),
        ("a", {"oov_idx": 2}, "'oov_idx': found 2, the data were encoded with 4"),
        ("a", {"padding": "pre"}, "'padding': found 'pre', the data were encoded with None"),
        ("a", {"pretrained_emb": "v.npz"}, "'pretrained_emb': found 'v.npz', the data were"),
        ("a", {"freeze_emb": True}, "'freeze_emb': found True, it has no pretrained vectors"),
        ("a", {"pretrain_usage": "sum"}, "'pretrain_usage': .*it has no pretrained vectors"),
        ("a", {"pooling": "sum"}, "'feature_encoder': .*its type is categorical"),
        ("x", {"share_embedding": "a"}, "'share_embedding': .*its type is numeric, allowed: cat"),
        ("id", {"embedding_dim": 3}, "'embedding_dim': found 3, its type is meta"),
        ("b", {"freeze_emb": False, "pretrain_usage": "sum"}, "its table is that of 'a'"),
        ("v", {"pretrain_dim": 3}, "'pretrain_dim': found 3, the data were encoded with 7"),
    ],
)
def test_a_key_of_feature_specs_that_would_do_nothing_is_an_error(name, change, message):
    feature_map = make_map()
    feature_map.features["a"] |= {"padding_idx": 0, "oov_idx": 4}
    feature_map.features["b"] = {"type": "categorical", "vocab_size": 5, "share_embedding": "a"}
    feature_map.features["v"] = {"type": "embedding", "pretrain_dim": 7}
    as_it_is = {"a": {"padding_idx": 0, "oov_idx": 4, "freeze_emb": False, "pooling": None}}
    assert feature_map.select(feature_specs=as_it_is).num_fields == 4
    with pytest.raises(
        ConfigError, match=f"key 'feature_specs': feature '{name}': key .*{message}"
    ):
        feature_map.select(feature_specs={name: change})


def test_columns_and_specs_by_fuxictrs_methods():
    feature_map = make_map()
    feature_map.features["s"] = {"type": "sequence", "vocab_size": 9, "max_len": 3}
    feature_map.set_column_index()
    assert feature_map.column_index == {"a": 0, "x": 1, "id": 2, "s": [3, 4, 5], "click": 6}
    assert feature_map.get_column_index("s") == [3, 4, 5]
    with pytest.raises(ConfigError, match="'clik' is not a field"):
        feature_map.get_column_index("clik")
    feature_map.update_feature_specs([{"name": ["a", "s"], "embedding_dim": 7}])
    feature_map.default_emb_dim = 4
    assert feature_map.sum_emb_out_dim() == 7 + 4 + 7
    with pytest.raises(ConfigError, match="feature_specs.*did you mean 'embedding_dim'"):
        feature_map.update_feature_specs([{"name": "a", "embeding_dim": 7}])


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
        ('"type": "categorical"', '"type": "sequenze"', "type 'sequenze'"),
        ('"type": "categorical"', '"type": "sequence"', "'max_len'"),
        ('"type": "numeric"', '"type": "embedding"', "'pretrain_dim'"),
    ):
        path.write_text(text.replace(old, new))
        with pytest.raises(DataError, match=message):
            FeatureMap.load(path)
