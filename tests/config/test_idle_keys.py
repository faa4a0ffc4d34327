"""A key that would be accepted and do nothing: of a column an error, of an expid one warning."""

import logging

import pytest

from fuxictr.config import DatasetConfig
from fuxictr.config import idle_keys as module
from fuxictr.config.column_keys import KEYS_OF_TYPES
from fuxictr.config.dataset import ColumnConfig
from fuxictr.errors import ConfigError
from fuxictr.experiment.zoo.models import ZOO, list_expids, load_experiment, zoo_models

TYPES = ("categorical", "numeric", "sequence", "embedding", "meta")
# A value of each key that asks for something.
ASKING = {
    "share_embedding": "b",
    "pretrained_emb": "v.npz",
    "pretrain_dim": 4,
    "pretrain_usage": "sum",
    "freeze_emb": True,
    "min_categr_count": 2,
    "vocab_size": 9,
    "remap": False,
    "category_processor": "hash_bucket",
    "num_buckets": 5,
    "splitter": " ",
    "max_len": 3,
    "padding": "pre",
    "feature_encoder": "sum",
    "normalizer": "StandardScaler",
    "fill_na": 7,
    "embedding_dim": 4,
    "emb_output_dim": 4,
}
# What a key needs beside it.
BESIDE = {
    "pretrain_dim": {"pretrained_emb": "v.npz"},
    "pretrain_usage": {"pretrained_emb": "v.npz"},
    "freeze_emb": {"pretrained_emb": "v.npz"},
    "num_buckets": {"category_processor": "hash_bucket"},
    "vocab_size": {"remap": False},
}


def columns(*entries: dict, **keys) -> list:
    label = {"name": "y", "dtype": "float"}
    config = {"dataset_id": "d", "feature_cols": list(entries), "label_col": label, **keys}
    return DatasetConfig.from_params(config).columns()


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("key", ASKING)
def test_a_key_means_something_for_its_types_and_is_an_error_for_others(key, kind):
    column = {"name": "a", "type": kind, key: ASKING[key], **BESIDE.get(key, {})}
    other = {"name": "b"}
    if kind in KEYS_OF_TYPES[key]:
        assert columns(column, other)[0].name == "a"
        return
    with pytest.raises(ConfigError, match=f"column 'a': key '{key}': its type is {kind}, allowed"):
        columns(column, other)


def test_every_key_of_a_column_is_looked_at():
    always = {"name", "active", "dtype", "type", "source", "preprocess"}
    assert set(KEYS_OF_TYPES) == set(ASKING) == set(ColumnConfig.keys()) - always


@pytest.mark.parametrize("key", BESIDE)
def test_a_key_that_needs_another_one_is_an_error_without_it(key):
    with pytest.raises(ConfigError, match=f"column 'a': key '{key}': .*needs"):
        columns({"name": "a", key: ASKING[key]})


@pytest.mark.parametrize(
    "column",
    [
        {"category_processor": "hash_bucket", "min_categr_count": 3},
        {"category_processor": "hash_bucket", "remap": False},
        {"category_processor": "hash_bucket", "share_embedding": "b"},
        {"category_processor": "quantile_bucket", "pretrained_emb": "v.npz"},
        {"share_embedding": "b", "pretrained_emb": "v.npz", "pretrain_usage": "concat"},
        {"share_embedding": "b", "pretrain_dim": 3},
        {"share_embedding": "b", "freeze_emb": False},
    ],
)
def test_keys_that_exclude_each_other(column):
    owner = {"name": "b", "pretrained_emb": "v.npz", "pretrain_dim": 4}
    with pytest.raises(ConfigError, match="column 'a': key "):
        columns({"name": "a", **column}, owner)


def test_values_that_ask_for_nothing_are_taken():
    idle = {"freeze_emb": False, "padding": "post", "max_len": 0, "fill_na": 0, "remap": True}
    idle |= {"min_categr_count": 1, "normalizer": None, "feature_encoder": None}
    assert columns({"name": "a", "share_embedding": "b", "freeze_emb": False}, {"name": "b"})
    for kind in ("categorical", "numeric", "embedding"):
        assert columns({"name": "a", "type": kind, **idle})
    sized = {"name": "a", "vocab_size": 9}
    assert columns(sized, rebuild_dataset=False), "of data that are ids already"
    for keys in ({"normalizer": "StandardScaler"}, {"min_categr_count": 2}, {"vocab_size": 2}):
        with pytest.raises(ConfigError, match="'label_col': column 'y': key '.*a label is kept"):
            DatasetConfig.from_params(
                {"dataset_id": "d", "label_col": {"name": "y", **keys}}
            ).labels()


@pytest.fixture
def warnings(caplog):
    """Loads an expid with changed keys; returns the warnings."""
    module._warn_once.cache_clear()

    def load(model: str, expid: str, *overrides: str) -> list[str]:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            load_experiment(expid, ZOO / model, overrides=list(overrides))
        return [record.getMessage() for record in caplog.records]

    return load


@pytest.mark.parametrize(
    ("model", "overrides", "idle"),
    [
        ("FM", ["shuffle_window=10"], ["shuffle_window"]),
        ("FM", ["shuffle_window=10", "streaming=true", "shuffle=false"], ["shuffle_window"]),
        ("FM", ["shuffle_window=10", "streaming=true"], []),
        ("FM", ["save_state=false", "save_steps=3", "save_minutes=1"], ["save_steps", "save_min"]),
        ("FM", ["regularizer=1", "net_regularizer=1", "embedding_regularizer=1"], ["regularizer"]),
        ("FM", ["regularizer=1", "net_regularizer=null", "embedding_regularizer=1"], []),
        ("FM", ["num_target=3", "num_source=4", "symmetric=true"], ["num_source", "symmetric"]),
        ("FM", ["split_type=random", "split_seed=3"], ["split_type", "split_seed"]),
        (
            "FM",
            ["rebuild_dataset=false", "test_data=null", "test_size=0.1", "separator=;"],
            ["test_size", "separat"],
        ),
        ("FM", ["data_format=parquet", "header=[a]", "quote_char=x"], ["header", "quote_char"]),
        ("FM", ["encoder_init=reference"], ["encoder_init"]),
        ("DeepFM", ["hidden_units=[]", "batch_norm=true"], ["batch_norm"]),
        ("PNN", ["hidden_units=[]", "net_dropout=0.5"], ["net_dropout"]),
        ("xDeepFM", ["dnn_hidden_units=[]", "dnn_activations=tanh"], ["dnn_activations"]),
        ("DCNv2", ["low_rank=8", "num_experts=4"], ["low_rank", "num_experts"]),
        ("DCNv2", ["stacked_dnn_hidden_units=[8]"], ["stacked_dnn_hidden_units"]),
        ("DCNv2", ["model_structure=stacked_parallel", "stacked_dnn_hidden_units=[8]"], []),
        ("DCNv2", ["use_gen_rst=true"], ["use_gen_rst: True (nothing is generated"]),
    ],
)
def test_idle_keys_of_an_expid_are_named_in_one_warning(warnings, model, overrides, idle):
    found = warnings(model, f"{model}_demo", *overrides)
    assert len(found) == bool(idle)
    for key in idle:
        assert key in found[0] and "(--set)" in found[0]
    assert warnings(model, f"{model}_demo", *overrides) == [], "once"


@pytest.mark.parametrize("model", zoo_models())
def test_no_shipped_expid_has_an_idle_key(warnings, model):
    for expid in list_expids(ZOO / model / "config"):
        assert warnings(model, expid) == []
