"""Names are the texts that stand in the file, also where YAML takes them for something else."""

import pytest

from fuxictr.config import list_expids, load_config, load_raw_config, parse_overrides
from fuxictr.config.yaml_file import parse_yaml
from fuxictr.errors import ConfigError
from fuxictr.experiment.zoo.models import ZOO, load_experiment

NAMES = ["2024", "001", "1_000", "0x10", "2024-01-01", "on", "null", "~", "1.50", "1e3", "true"]


def write_configs(folder, expid: str, dataset_id: str, column: str, *keys: str):
    block = f"model: FM, dataset_id: {dataset_id}, {', '.join(keys)}"
    (folder / "model_config.yaml").write_text(f"Base: {{}}\n{expid}: {{{block}}}\n")
    (folder / "dataset_config.yaml").write_text(
        f"{dataset_id}:\n  feature_cols:\n    - {{name: [{column}, b]}}\n"
        f"    - {{name: c, share_embedding: {column if column not in ('null', '~') else 'b'}}}\n"
        f"  label_col: {{name: {column}y}}\n"
    )
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_expid_dataset_and_columns_are_found_as_they_are_written(tmp_path, name):
    folder = write_configs(tmp_path, name, name, name, f"use_features: [{name}, b]")
    assert list(list_expids(folder)) == [name]
    assert load_config(folder, name)["dataset_id"] == name
    config, _ = load_experiment(name, ZOO / "FM", folder)
    assert config.output_stem.parts[-2:] == (name, name)
    assert [column.name for column in config.dataset.columns()] == [name, "b", "c"]
    assert config.run.use_features == [name, "b"]
    with pytest.raises(ConfigError, match=r"unknown expid '0002'.*known: "):
        load_raw_config(folder, "0002")


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("null", "~")])
def test_a_group_a_model_id_and_a_path_are_what_is_written(tmp_path, name):
    keys = [f"group_id: {name}", f"model_id: {name}", f"model_root: {name}"]
    config, _ = load_experiment("e", ZOO / "FM", write_configs(tmp_path, "e", "d", name, *keys))
    assert config.train.group_id == name == config.run.model_id
    assert config.checkpoint_path == tmp_path / name / "d" / f"{name}.model"
    words = [f"group_id={name}", f"model_id={name}x", f"use_features=[{name}]"]
    config, _ = load_experiment("e", ZOO / "FM", tmp_path, words)
    assert (config.train.group_id, config.run.model_id) == (name, f"{name}x")
    assert config.run.use_features == [name]


def test_null_opens_what_may_be_open(tmp_path):
    folder = write_configs(tmp_path, "e", "d", "a", "group_id: null", "use_features: ~")
    params = load_config(folder, "e")
    assert params["group_id"] is params["use_features"] is None
    assert parse_overrides(["test_data=null", "dataset_id=null"]) == {
        "test_data": None,
        "dataset_id": "null",
    }


@pytest.mark.parametrize("text", ["2024: {}\n'2024': {}", "a: 1\n001: {}\n'001': {}"])
def test_a_name_and_its_quoted_twin_are_the_same_key(tmp_path, text):
    with pytest.raises(ConfigError, match=r"model_config.yaml, line \d: .*'\d+' is given twice"):
        (tmp_path / "model_config.yaml").write_text(text)
        list_expids(tmp_path)
    assert parse_yaml("1: a\n001: b", "f") == {"1": "a", "001": "b"}


def test_an_alias_of_a_name_stays_a_number_elsewhere():
    text = "a: {name: &n 007, seed: *n}\nb: {<<: {001: 1, seed: 2}, seed: 3}"
    assert parse_yaml(text, "f") == {"a": {"name": "007", "seed": 7}, "b": {"001": 1, "seed": 3}}


def test_set_dataset_id_takes_the_block_of_that_dataset(tmp_path):
    folder = write_configs(tmp_path, "e", "d", "a")
    text = (folder / "dataset_config.yaml").read_text()
    (folder / "dataset_config.yaml").write_text(text + text.replace("d:\n", "001:\n", 1))
    second = text.replace("d:\n", "002:\n", 1).replace("[a, b]", "[u, b]").replace(": a}", ": u}")
    (folder / "dataset_config.yaml").write_text(text + second)
    config, _ = load_experiment("e", ZOO / "FM", folder, ["dataset_id=002"])
    assert [column.name for column in config.dataset.columns()] == ["u", "b", "c"]
    with pytest.raises(ConfigError, match="unknown dataset_id '003'; did you mean '002'"):
        load_experiment("e", ZOO / "FM", folder, ["dataset_id=003"])


def test_a_block_in_two_files_of_a_folder_is_an_error(tmp_path):
    for stem, block in (("model", "e: {model: FM, dataset_id: d}"), ("dataset", "d: {}")):
        for name in ("a", "b"):
            (tmp_path / f"{stem}_config").mkdir(exist_ok=True)
            (tmp_path / f"{stem}_config" / f"{name}.yaml").write_text(block)
    with pytest.raises(ConfigError, match="expid 'e' is given twice, in .*a.yaml and .*b.yaml"):
        load_raw_config(tmp_path, "e")
    with pytest.raises(ConfigError, match="expid 'e' is given twice, in .*a.yaml and .*b.yaml"):
        list_expids(tmp_path)
    (tmp_path / "model_config" / "b.yaml").write_text("f: {}")
    with pytest.raises(ConfigError, match="dataset_id 'd' is given twice, in .*a.yaml and .*b"):
        load_raw_config(tmp_path, "e")
