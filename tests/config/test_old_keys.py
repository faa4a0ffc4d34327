"""Keys of older configs and of the paper's code: mapped, ignored with one warning, or refused."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from fuxictr.config import DatasetConfig, apply_overrides, check_config
from fuxictr.config.experiment import ExperimentConfig, RawConfig
from fuxictr.errors import ConfigError

GEN = {"concat_emb": True, "emb_activation": "relu", "gamma": 6}
DIS = {"concat_emb": False, "emb_activation": "linear", "gamma": 1}
OWN = {"embedding_dim": int}


def check(
    given: dict, expid: str = "FM_avazu_gen", own: dict | None = None, *overrides: str
) -> ExperimentConfig:
    columns = [{"name": "a"}]
    dataset = {"dataset_id": "d", "feature_cols": columns, "label_col": {"name": "y"}}
    params = {"model_id": expid, **dataset, **given}
    raw = RawConfig(params, dict.fromkeys(params, "x.yaml (e)"), Path(), Path())
    apply_overrides(raw, overrides)
    return check_config(raw, expid, own or OWN)


def warned(caplog) -> str:
    """Returns the one warning, empty where there is none."""
    records = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(records) <= 1
    return records[0].getMessage() if records else ""


def test_a_config_without_such_keys_warns_of_nothing(caplog):
    check({**GEN, "early_stop_patience": 3, "data_block_size": 5, "exp_group_idx": 1})
    assert not warned(caplog)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"debug": False}, "debug: false (ignored) in x.yaml (e)"),
        ({"debug": "yes please"}, "debug: yes please (ignored)"),
        ({"cov_weight": 0.0, "cov_loss": True}, "cov_weight: 0.0 (ignored), cov_loss: true (ign"),
        ({"use_gen": True}, "use_gen: true (ignored: the keys of the encoder say it)"),
        ({"use_fs": True}, "use_fs: true (ignored: the keys of the encoder say it)"),
        ({"use_gen": True, "use_fs": False}, "use_fs: false (ignored: use_gen: true counts)"),
        ({"use_fs": False}, "use_fs: false (ignored: the keys of the encoder make GEN, as"),
        ({"linear_gen": False}, "linear_gen: false (ignored)"),
        ({"linear_fs": True}, "linear_fs: true (ignored: emb_activation: relu counts)"),
        ({"use_x0": True}, "use_x0: true (ignored: use_gen_rst counts)"),
        ({"use_gen_rst": False}, "use_gen_rst: false (ignored)"),
        ({"use_high_cardinality_predict": False}, "use_high_cardinality_predict: false (ignored)"),
        (
            {"use_high_cardinality_predict": True, "exp_group_idx": 2},
            "use_high_cardinality_predict: true (ignored: exp_group_idx: 2 counts)",
        ),
        ({"data_block_size": -1}, "data_block_size: -1 (now 0)"),
        ({"patience": 2}, "patience (now early_stop_patience)"),
        (
            {"patience": 3, "early_stop_patience": 2},
            "patience: 3 (ignored: early_stop_patience: 2 counts)",
        ),
    ],
)
def test_a_key_without_effect_is_named_once(caplog, given, text):
    config, plain = check({**GEN, **given}), check(GEN)
    message = warned(caplog)
    assert text in message
    for name in given.keys() - {"exp_group_idx", "early_stop_patience", "use_gen"}:
        assert len(re.findall(rf"(?<!\w){name}(?!\w)", message)) == 1
    assert config.generator == plain.generator
    assert (config.train, config.dataset) == (plain.train, plain.dataset)


def test_keys_that_say_nothing_are_dropped_silently(caplog):
    check({**GEN, "use_gen": None, "cov_x": None, "debug": None, "linear_fs": None})
    assert not warned(caplog)


@pytest.mark.parametrize("name", ["use_gen", "use_fs"])
@pytest.mark.parametrize("other", [{}, {"exp_group_idx": 2}, {"small_transformation": False}])
def test_a_switch_stands_for_the_encoder_where_no_key_names_one(caplog, name, other):
    rest = {"emb_activation": "relu", "gamma": 6, **other}
    config = check({name: True, **rest})
    assert config.generator.source == "all"
    assert f"{name}: true (read as concat_emb: true)" in warned(caplog)
    assert config.origins["concat_emb"] == "x.yaml (e)"
    assert check({name: False}, "FM_avazu").variant == "dis"


@pytest.mark.parametrize(
    ("given", "expid", "overrides"),
    [
        ({**GEN, "use_gen": False}, "FM_avazu", ()),
        ({**DIS, "use_gen": True}, "FM_avazu_gen", ()),
        ({**DIS, "use_fs": True}, "FM_avazu_fs", ()),
        (GEN, "FM_avazu_gen", ("use_gen=false",)),
        (DIS, "FM_avazu", ("use_gen=true",)),
    ],
)
def test_a_switch_against_the_keys_of_the_encoder_is_an_error(given, expid, overrides):
    with pytest.raises(ConfigError, match=r"key 'use_(gen|fs)': found .* make (GEN|DIS); allowed"):
        check(given, expid, None, *overrides)


@pytest.mark.parametrize(
    ("given", "expid", "variant"),
    [
        ({**GEN, "use_gen": False}, "FM_avazu_gen", "gen"),
        ({**GEN, "use_fs": False}, "FM_avazu_fs", "gen"),
        ({**GEN, "use_fs": False}, "FM_avazu_gen_sigmoid", "gen"),
        ({**DIS, "use_gen": True}, "FM_avazu", "dis"),
    ],
)
def test_the_name_of_the_expid_decides_what_keys_contradict(caplog, given, expid, variant):
    assert check(given, expid).variant == variant
    assert f"make {variant.upper()}, as the expid's name says" in warned(caplog)


def test_a_switch_beside_an_activation_alone_says_that_there_is_no_encoder(caplog):
    bare = {"concat_emb": False, "emb_activation": "relu", "gamma": 6, "use_gen": True}
    assert check(bare).generator.source is None
    assert "use_gen: true (ignored: concat_emb: false counts, there is no encoder" in warned(caplog)


def test_high_cardinality_is_a_source_unless_another_key_says_it(caplog):
    high = {"use_high_cardinality_predict": True}
    assert check({**GEN, **high}).generator.source == "high"
    assert "(read as source: high)" in warned(caplog)
    assert check({**GEN, **high, "exp_group_idx": 1}).generator.source == "low"
    assert check({**GEN, **high, "exp_group_idx": 2}).generator.source == "all"
    assert check({**DIS, **high}, "FM_avazu").variant == "dis"


def test_a_group_of_fields_makes_no_gen_of_a_dis_config(caplog):
    assert check({**DIS, "exp_group_idx": 0}, "FM_avazu").variant == "dis"
    assert "exp_group_idx: 0 (ignored: concat_emb: false counts)" in warned(caplog)
    assert check({**DIS, "exp_group_idx": 2}, "FM_avazu").variant == "dis"
    assert check({**GEN, "exp_group_idx": 0}).generator.source == "high"
    with pytest.raises(ConfigError, match="'exp_group_idx': found 3"):
        check({**GEN, "exp_group_idx": 3})


@pytest.mark.parametrize(("word", "expected"), [("ReLU", "relu"), ("SiLU", "silu"), (None, None)])
def test_activations_are_taken_in_capitals(word, expected):
    found = check({**GEN, "emb_activation": word}).generator.emb_activation
    assert found == (expected or "linear")
    with pytest.raises(ConfigError, match="emb_activation"):
        check({**GEN, "emb_activation": "Relux"})


@pytest.mark.parametrize("given", [{"use_gen_rst": True}, {"covariance": 1}, {"hidden_units": [3]}])
def test_a_key_that_would_change_the_model_is_an_error(given):
    with pytest.raises(ConfigError, match=f"unknown key '{next(iter(given))}'"):
        check({**GEN, **given})


def test_a_config_of_the_papers_code_is_told_how_to_have_its_penalties(caplog):
    check({**GEN, "use_gen": True})
    assert "the paper's code penalises, set regularizer_scope: reference" in warned(caplog)
    for other in ({"patience": 3}, {"use_gen": True, "regularizer_scope": "all"}):
        caplog.clear()
        check({**GEN, **other})
        assert "regularizer_scope" not in warned(caplog)


@pytest.mark.parametrize("name", ["use_gen", "use_fs", "linear_gen", "use_x0"])
def test_a_switch_is_true_or_false(name):
    with pytest.raises(ConfigError, match=rf"'{name}': found 'perhaps', allowed: true, false \(x"):
        check({**GEN, name: "perhaps"})


def test_todays_name_counts_but_against_the_command_line(caplog):
    config = check({**GEN, "patience": 3, "early_stop_patience": 2, "workers": 4, "num_workers": 1})
    assert (config.train.early_stop_patience, config.run.num_workers) == (2, 1)
    assert "workers: 4 (ignored: num_workers: 1 counts)" in warned(caplog)
    with pytest.raises(ConfigError, match=r"'patience'.*allowed: --set early_stop_patience="):
        check({**GEN, "early_stop_patience": 2}, "e", None, "patience=5")


def test_a_models_activation_gets_the_name_that_the_model_has(caplog):
    dnn = {"dnn_activations": str, "cin_hidden_units": list[int]}
    given = {**GEN, "hidden_activations": "tanh", "cin_layer_units": [3]}
    found = check(given, own=dnn)
    assert found.model_params == {"dnn_activations": "tanh", "cin_hidden_units": [3]}
    assert "hidden_activations (now dnn_activations)" in warned(caplog)
    assert found.origins["dnn_activations"] == "x.yaml (e)"
    caplog.clear()
    both = {**GEN, "hidden_activations": "tanh", "dnn_activations": "relu"}
    assert check(both, own=dnn).model_params == {"dnn_activations": "relu"}
    assert "hidden_activations: tanh (ignored: dnn_activations: relu counts)" in warned(caplog)
    mlp = {"hidden_activations": str}
    assert check({**GEN, "hidden_activations": "tanh"}, own=mlp).model_params == {
        "hidden_activations": "tanh"
    }


def test_a_model_keeps_the_parameters_that_it_has(caplog):
    own = {"use_gen": bool, "debug": str, "cov_weight": float, "use_x0": bool}
    given = {"use_gen": False, "debug": "d", "cov_weight": 0.5, "use_x0": True}
    assert check({**GEN, **given}, own=own).model_params == given
    assert not warned(caplog)


def test_the_older_word_for_a_missing_value():
    def columns(**keys: str) -> list:
        entry = {"name": ["a", "b"], **keys}
        return DatasetConfig(dataset_id="d", feature_cols=[entry]).columns()

    assert [c.fill_na for c in columns(na_value="none")] == ["none", "none"]
    with pytest.raises(ConfigError, match="keys 'fill_na' and 'na_value' differ"):
        columns(na_value="none", fill_na="other")
