"""Configs that once ended in a traceback, a hang or a wrong number, each as small as it can be."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from fuxictr.config import DatasetConfig, RunConfig, TrainConfig, apply_overrides, load_raw_config
from fuxictr.config.coercion import WrongValue, coerce
from fuxictr.config.loading import check_config
from fuxictr.config.yaml_file import MAX_BYTES, MAX_DEPTH, MAX_VALUES, parse_yaml, read_yaml_file
from fuxictr.errors import ConfigError
from tests.fuzz.mutations import no_hang


def chain(merged: str, number: int = 9) -> str:
    """Mappings that each hold the one before ten times: 10**number values of the first."""
    lines = ["a0: &a0 {x: 1}"]
    for i in range(1, number + 1):
        lines.append(merged.format(this=i, before=", ".join([f"*a{i - 1}"] * 10)))
    return "\n".join(lines)


def write_config(folder: Path) -> None:
    experiment = "e: {model: FM, dataset_id: d, early_stop_patience: 2}"
    (folder / "model_config.yaml").write_text(experiment)
    dataset = "d: {feature_cols: [{name: a}], label_col: {name: y}}"
    (folder / "dataset_config.yaml").write_text(dataset)


LAUGHS = {
    "lists": chain("a{this}: &a{this} [{before}]"),
    "merges": chain("a{this}: &a{this} {{<<: [{before}]}}"),
    "a large merge in many blocks": "a: &a {"
    + ", ".join(f"k{i}: 1" for i in range(1000))
    + "}\n"
    + "\n".join(f"b{i}: {{<<: *a}}" for i in range(1000)),
}


@pytest.mark.parametrize("text", LAUGHS.values(), ids=LAUGHS.keys())
def test_aliases_that_grow_are_refused(text):
    with no_hang(), pytest.raises(ConfigError, match=f"more than {MAX_VALUES} values"):
        parse_yaml(text, "f")


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: *a}", "a: &a {<<: *a}", "&a {*a : 1}"])
def test_an_alias_of_itself_is_refused(text):
    with pytest.raises(ConfigError, match="f, line 1: .*alias 'a' stands within what it is"):
        parse_yaml(text, "f")


@pytest.mark.parametrize("bracket", ["[", "{", "- ", "? ", "[{a: "])
def test_deep_nesting_is_refused(bracket):
    with no_hang(), pytest.raises(ConfigError, match=f"nested more than {MAX_DEPTH} deep"):
        parse_yaml(bracket * 100_000, "f")


def test_aliases_do_not_hide_deep_nesting():
    lines = ["a0: &a0 {x: 1}", *(f"a{i}: &a{i} {{x: *a{i - 1}}}" for i in range(1, MAX_DEPTH + 1))]
    with pytest.raises(ConfigError, match=f"line {MAX_DEPTH - 1}: .*more than {MAX_DEPTH} deep"):
        parse_yaml("\n".join(lines), "f")
    assert parse_yaml("\n".join(lines[: MAX_DEPTH - 2]), "f")


def test_a_chain_of_merges_is_not_deep():
    lines = ["a0: &a0 {x: 1}", *(f"a{i}: &a{i} {{<<: *a{i - 1}, k{i}: 1}}" for i in range(1, 200))]
    text = "\n".join(lines)
    assert parse_yaml(text, "f") == yaml.safe_load(text)


def test_a_large_file_is_refused(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_text("a: 1\n" + "#" * MAX_BYTES)
    with pytest.raises(ConfigError, match=f"f.yaml: more than {MAX_BYTES} bytes"):
        read_yaml_file(path)
    with pytest.raises(ConfigError, match="f: more than"):
        parse_yaml("#" * (MAX_BYTES + 1), "f")
    path.write_text("a: 1\n" + "#" * (MAX_BYTES - 5))
    assert read_yaml_file(path) == {"a": 1}


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ConfigError, match="not readable"):
        read_yaml_file(tmp_path)


def test_a_key_of_a_block_given_twice_is_a_warning(caplog):
    assert parse_yaml("b: 1\na: {c: 1,\n  c: 2}", "some.yaml") == {"b": 1, "a": {"c": 2}}
    (record,) = caplog.records
    assert record.getMessage() == (
        "some.yaml: key 'c' is given twice, in lines 2 and 3; the last one counts"
    )


def test_a_tuple_is_a_tuple():
    found = parse_yaml("a: !!python/tuple [x, [1, 2], !!python/tuple [y]]", "f")
    assert found == {"a": ("x", [1, 2], ("y",))}
    for text in ("a: !!python/tuple x", "a: !!python/name:os.system", "a: !!python/object:x {}"):
        with pytest.raises(ConfigError, match="f, line 1: not valid YAML"):
            parse_yaml(text, "f")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("b: 1\na: 1\na: 2", "3: .*key 'a' is given twice, first in line 2"),
        ("true: 1\n'true': 2", "key 'true' is given twice"),
        ("a: 2001-13-01", "'2001-13-01' is no timestamp"),
        ("a: 2001-01-01 00:00:00 +99:99", "is no timestamp"),
        ("a: 0x_", "'0x_' is no int"),
        ("a: 0b_", "'0b_' is no int"),
        ("a: !!int x", "'x' is no int"),
        ("a: !!int ''", "'' is no int"),
        ("a: !!float x", "'x' is no float"),
        ("a: !!bool x", "'x' is no bool"),
        ("a: !!timestamp ''", "'' is no timestamp"),
        ("a: " + "9" * 5000, "is no int of at most"),
        ("a: 1" + ":1" * 50_000, "is no int of at most"),
        ("a: 1" + ":1" * 190 + ".5", "is no float"),
        ('"\\UFFFFFFFF"', "no character of this number"),
        ('"\\U00110000"', "no character of this number"),
        ('"\\ud800"', "half a surrogate pair"),
        ("a: 1\nb: \0", "2: .*holds no character"),
    ],
)
def test_a_value_that_is_none_of_its_type_names_the_line(text, message):
    with no_hang(), pytest.raises(ConfigError, match=f"^f, line .*{message}"):
        parse_yaml(text, "f")


def test_own_keys_win_over_merged_ones_and_are_not_given_twice():
    text = "a: &a {x: 1, y: 1}\nb: {<<: *a, x: 2}\nc: {x: 3, <<: [*a, {y: 4, z: 5}]}"
    assert parse_yaml(text, "f") == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("section", "params", "message"),
    [
        (RunConfig, {"model": "../../x"}, "'model': .*allowed: the name of a class"),
        (RunConfig, {"model_id": "../x"}, "'model_id': .*without / and"),
        (RunConfig, {"model_id": "x" * 300}, "'model_id': .*at most 200 bytes"),
        (RunConfig, {"model_root": "a\0b"}, "'model_root': .*allowed: a file, a folder"),
        (RunConfig, {"num_workers": 10**6}, "'num_workers': .*<= 1024"),
        (RunConfig, {"analyze_every": "9" * 5000}, "'analyze_every': .*allowed: null, or N"),
        (
            RunConfig,
            {"feature_specs": {1: {}}},
            "'feature_specs': .*unknown key '1' in it",
        ),
        (TrainConfig, {"batch_size": 2**63}, "'batch_size': .*allowed: int of 64 bits"),
        (TrainConfig, {"monitor": {None: 1}}, "'monitor': .*allowed: str [|] mapping"),
        (DatasetConfig, {"dataset_id": "d", "data_root": "a\0"}, "'data_root': .*a folder"),
        (
            DatasetConfig,
            {"dataset_id": "d", "data_root": "~no_such_user/"},
            "'data_root': .*user of",
        ),
        (DatasetConfig, {"dataset_id": "d", "train_data": "./~x"}, "'train_data': .*user of"),
        (DatasetConfig, {"dataset_id": "d", "train_data": "x" * 300}, "'train_data': .*takes"),
        (DatasetConfig, {"dataset_id": "d", "label_col": {"a": {1}}}, "'label_col': .*not set"),
        (DatasetConfig, {"dataset_id": "d", "label_col": {None: 1}}, "'label_col': "),
    ],
)
def test_values_that_no_run_can_use(section, params, message):
    with pytest.raises(ConfigError, match=message):
        section.from_params(params)


@pytest.mark.parametrize(
    ("key", "annotation", "refused", "taken"),
    [
        ("embedding_dim", int, (0, -1, 10**9), (1, 16)),
        ("dnn_hidden_units", list[int] | None, ([0], [4, -1]), (None, [], [1])),
        ("net_dropout", float | list[float], (-1, 1, [0.5, 2]), (0, 0.5, [0, 0.9])),
        ("cross_drop", float, (-0.1, 3), (0.1,)),
        ("num_cross_layers", int, (-1, 10**11), (0, 3)),
        ("field_dims", Any, (), (-1, [0])),
    ],
)
def test_widths_rates_and_counts_of_a_model(tmp_path, key, annotation, refused, taken):
    write_config(tmp_path)
    for values, fits in ((refused, False), (taken, True)):
        for value in values:
            raw = load_raw_config(tmp_path, "e")
            raw.params[key] = value
            if fits:
                assert check_config(raw, "e", {key: annotation}).model_params[key] == value
                continue
            with pytest.raises(ConfigError, match=f"key '{key}': found .*, allowed: "):
                check_config(raw, "e", {key: annotation})


def test_a_long_value_is_not_printed_in_full():
    with pytest.raises(ConfigError) as error:
        TrainConfig.from_params({"metrics": ["x" * 10_000]})
    assert len(str(error.value)) < 12_000
    with pytest.raises(ConfigError) as error:
        TrainConfig.from_params({"epochs": "x" * 10_000})
    assert len(str(error.value)) < 1_000


def test_an_int_in_a_text_keeps_all_its_digits():
    assert coerce("9007199254740993", int) == 9007199254740993
    with pytest.raises(WrongValue, match="64 bits"):
        coerce("1e30", int)


@pytest.mark.parametrize("value", [{1, 2}, b"x", {None: 1}, {1: 2, "a": 3}, float("nan"), [{2}]])
def test_a_key_of_any_type_takes_what_can_be_written_down(value):
    with pytest.raises(WrongValue):
        coerce(value, object)


def test_both_names_of_a_key_must_agree(tmp_path):
    write_config(tmp_path)
    for patience, agrees in ((2, True), (5, False)):
        raw = load_raw_config(tmp_path, "e")
        apply_overrides(raw, [f"patience={patience}"])
        if agrees:
            assert check_config(raw, "e", {}).train.early_stop_patience == 2
            continue
        with pytest.raises(ConfigError, match="'early_stop_patience' and 'patience'.*2.* and 5"):
            check_config(raw, "e", {})


def test_many_problems_take_no_time_and_are_counted():
    names = [f"c{i}" for i in range(20_000)]
    columns = [{"name": name, "typ": 1} for name in names[:5000]]
    start = time.perf_counter()
    with pytest.raises(ConfigError, match="unknown key 'typ'; did you mean 'type'.*and 4980 more"):
        DatasetConfig.from_params({"dataset_id": "d", "feature_cols": columns}).columns()
    with pytest.raises(ConfigError, match="column 'c0' is listed twice"):
        DatasetConfig.from_params(
            {"dataset_id": "d", "feature_cols": [{"name": [*names, "c0"]}]}
        ).columns()
    assert time.perf_counter() - start < 10
