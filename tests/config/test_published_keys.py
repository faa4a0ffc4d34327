"""Keys of published configs that newer classes do not have: mapped, ignored or refused."""

import logging

import pytest

from fuxictr.config.experiment import RawConfig
from fuxictr.config.old_keys import translate_old_keys
from fuxictr.errors import ConfigError


def translated(params, own=(), caplog=None):
    raw = RawConfig(dict(params), dict.fromkeys(params, "config.yaml (E)"), None, None)
    return translate_old_keys(raw, own, "E")


@pytest.mark.parametrize(
    ("old", "new", "own"),
    [
        ("crossing_layers", "num_cross_layers", True),
        ("cin_layer_units", "cin_hidden_units", True),
        ("hidden_activations", "dnn_activations", True),
        ("dnn_activations", "hidden_activations", True),
        ("use_field_gate", "use_feature_gating", True),
        ("ordered_features", "use_features", False),
        ("group_index", "group_id", False),
        ("patience", "early_stop_patience", False),
        ("workers", "num_workers", False),
    ],
)
def test_renamed(old, new, own, caplog):
    with caplog.at_level(logging.WARNING):
        assert translated({old: 3}, [new] if own else ()) == {new: 3}
    (record,) = caplog.records
    assert f"{old} (now {new}) in config.yaml (E)" in record.getMessage()
    if own:  # a class that has the old name as well keeps it
        assert translated({old: 3}, [old, new]) == {old: 3}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("every_x_epochs", 1),
        ("every_x_epochs", 1.0),
        ("eval_interval", 1),
        ("use_hdf5", True),
        ("pickle_feature_encoder", True),
        ("feature_config", {"a": 1}),
        ("save_last", True),
        ("partition_block_size", -1),
        ("debug", False),
        ("use_regulation_module", True),
    ],
)
def test_ignored_with_one_warning(name, value, caplog):
    with caplog.at_level(logging.WARNING):
        assert translated({name: value, "epochs": 2}) == {"epochs": 2}
    (record,) = caplog.records
    assert f"{name}: " in record.getMessage()
    assert "ignored" in record.getMessage()


def test_a_module_that_cannot_be_left_out_is_named(caplog):
    with caplog.at_level(logging.WARNING):
        assert translated({"use_regulation_module": False}) == {}
    assert "EDCN always has its gates" in caplog.text


@pytest.mark.parametrize("name", ["every_x_epochs", "eval_interval"])
def test_another_interval_is_an_error(name):
    with pytest.raises(ConfigError, match=f"key '{name}': found 0.5 .*allowed: 1, or key 'eval_s"):
        translated({name: 0.5})
