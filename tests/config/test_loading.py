"""Config folders: precedence, closed vocabulary, clear errors."""

from pathlib import Path

import pytest

from fuxictr.config import (
    DatasetConfig,
    GeneratorConfig,
    TrainConfig,
    apply_overrides,
    check_config,
    load_config,
    load_raw_config,
)
from fuxictr.config.section import parse_regularizer
from fuxictr.errors import ConfigError

MODEL_YAML = """
Base:
  model: DeepFM
  learning_rate: 1e-3
  batch_size: 10
  model_root: ./base/
M_a: &a
  dataset_id: d1
  batch_size: 20
  embedding_dim: 4
M_a_gen:
  <<: *a
  concat_emb: true
  gamma: 6
"""
DATASET_YAML = """
d1:
  data_root: ./data/
  train_data: ./train.csv
  seed: 7
  feature_cols:
    - {name: [a, b], dtype: str, type: categorical}
  label_col: {name: click, dtype: float}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model_config.yaml").write_text(MODEL_YAML)
    (tmp_path / "dataset_config.yaml").write_text(DATASET_YAML)
    return tmp_path


def check(folder: Path, expid: str = "M_a", *overrides: str, own: dict | None = None):
    raw = load_raw_config(folder, expid)
    apply_overrides(raw, overrides)
    return check_config(raw, expid, own or {"embedding_dim": int})


def test_precedence_is_base_expid_dataset_command_line(folder):
    params = load_config(folder, "M_a_gen")
    assert params["batch_size"] == 20
    assert params["model_root"] == "./base/"
    assert params["seed"] == 7
    assert params["model_id"] == "M_a_gen"
    config = check(folder, "M_a_gen", "batch_size=30", "learning_rate=1e-4")
    assert (config.train.batch_size, config.train.learning_rate) == (30, 1e-4)
    assert config.variant == "gen"
    assert config.model_params == {"embedding_dim": 4}
    assert config.origins["batch_size"] == "command line (--set)"
    assert "dataset_config.yaml (d1)" in config.origins["seed"]


def test_folders_of_yaml_files_are_read(tmp_path):
    for stem, text in (("model_config", MODEL_YAML), ("dataset_config", DATASET_YAML)):
        (tmp_path / stem).mkdir()
        (tmp_path / stem / "any.yaml").write_text(text)
    assert load_config(tmp_path, "M_a")["batch_size"] == 20


def test_all_unknown_keys_and_wrong_values_are_listed_at_once(folder):
    with pytest.raises(ConfigError) as error:
        check(folder, "M_a", "learning_rat=1", "epochs=0", "embeding_dim=3", "shuffle=maybe")
    text = str(error.value)
    assert "unknown key 'learning_rat'; did you mean 'learning_rate'?" in text
    assert "unknown key 'embeding_dim'; did you mean 'embedding_dim'?" in text
    assert "'epochs': found 0, allowed: >= 1" in text
    assert "'shuffle': found 'maybe', allowed: true, false" in text
    assert "command line (--set)" in text


def test_wrong_type_in_the_file_names_the_file(folder):
    text = MODEL_YAML.replace("batch_size: 20", "batch_size: many")
    (folder / "model_config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"'batch_size': found 'many'.*model_config.yaml \(M_a\)"):
        check(folder)


def test_unknown_expid_names_the_nearest_and_where_it_looked(folder):
    with pytest.raises(ConfigError) as error:
        load_config(folder, "M_a_gem")
    text = str(error.value)
    assert "unknown expid 'M_a_gem'; did you mean 'M_a_gen'?" in text
    assert str(folder / "model_config.yaml") in text


def test_unknown_dataset(folder):
    text = MODEL_YAML.replace("dataset_id: d1", "dataset_id: d2")
    (folder / "model_config.yaml").write_text(text)
    with pytest.raises(ConfigError, match="unknown dataset_id 'd2'"):
        load_config(folder, "M_a")


def test_missing_files_and_broken_yaml(tmp_path, folder):
    with pytest.raises(ConfigError, match="no .*nowhere/model_config.yaml"):
        load_config(tmp_path / "nowhere", "M_a")
    (folder / "model_config.yaml").write_text("Base:\n  model: [1, 2\n")
    with pytest.raises(ConfigError, match=r"model_config.yaml, line \d+: not valid YAML"):
        load_config(folder, "M_a")
    (folder / "model_config.yaml").write_text("- a\n- b\n")
    with pytest.raises(ConfigError, match="expected a mapping of blocks, found list"):
        load_config(folder, "M_a")
    (folder / "model_config.yaml").write_text("M_a: 3\n")
    with pytest.raises(ConfigError, match="block 'M_a': expected a mapping"):
        load_config(folder, "M_a")


def test_keys_of_older_configs_are_mapped_or_ignored_with_one_warning(folder, caplog):
    config = check(folder, "M_a", "patience=5", "use_hdf5=true", "workers=3")
    assert config.train.early_stop_patience == 5
    assert config.run.num_workers == 3
    assert len([r for r in caplog.records if "older configs" in r.message]) == 1


def test_column_errors_are_listed_at_once():
    config = DatasetConfig.from_params(
        {
            "dataset_id": "d",
            "feature_cols": [
                {"name": "a", "typ": "numeric"},
                {"name": "b", "type": "sequenze"},
                {"name": ["c", "c"]},
                {"dtype": "str"},
                {"name": "e", "splitter": "^"},
                {"name": "f", "type": "sequence", "pooling": "mean"},
                {"name": "g", "pretrained_emb": "v.npz", "category_processor": "hash_bucket"},
            ],
        }
    )
    with pytest.raises(ConfigError) as error:
        config.columns()
    text = str(error.value)
    assert "column 'a': unknown key 'typ'; did you mean 'type'?" in text
    assert "column 'b': key 'type': found 'sequenze', allowed: categorical, numeric, seq" in text
    assert "column 'c' is listed twice" in text
    assert "key 'name': found None" in text
    assert "column 'e': key 'splitter': its type is categorical, allowed: sequence, emb" in text
    assert "column 'f': key 'feature_encoder': found 'mean', allowed: null, average, sum" in text
    assert "column 'g': key 'pretrained_emb': buckets have no tokens" in text


def test_label_col_is_needed():
    with pytest.raises(ConfigError, match="label_col"):
        DatasetConfig.from_params({"dataset_id": "d"}).labels()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, []),
        (0, []),
        (1e-5, [(2, 1e-5)]),
        ("l1(0.5)", [(1, 0.5)]),
        ("l2(1e-3)", [(2, 1e-3)]),
        ("l1_l2(1e-3, 2)", [(1, 1e-3), (2, 2.0)]),
    ],
)
def test_regularizers(value, expected):
    assert parse_regularizer(value) == expected


def test_a_regularizer_that_yaml_reads_as_text_is_a_number(folder):
    assert check(folder, "M_a", "embedding_regularizer=1e-5").train.embedding_regularizer == 1e-5


@pytest.mark.parametrize("value", ["l3(1)", "__import__('os')", -1, "l2(-1)", "l2(x)"])
def test_wrong_regularizers(value):
    with pytest.raises(ConfigError, match="net_regularizer"):
        TrainConfig.from_params({"net_regularizer": value})


def test_variant_follows_from_the_generator_keys():
    assert GeneratorConfig().variant == "dis"
    assert GeneratorConfig(concat_emb=True).variant == "gen"
    assert GeneratorConfig(gamma=2).variant == "gen"
    assert GeneratorConfig(small_transformation=True).variant == "gen"
    with pytest.raises(ConfigError, match="small_transformation"):
        GeneratorConfig(concat_emb=True, small_transformation=True)


def test_config_hash_follows_what_is_computed(folder):
    base = check(folder).config_hash()
    assert check(folder, "M_a", "seed=99", "num_workers=8", "verbose=0").config_hash() == base
    assert check(folder, "M_a", "learning_rate=0.01").config_hash() != base
    assert check(folder, "M_a_gen").config_hash() != base


def test_assignment_without_equals_sign(folder):
    with pytest.raises(ConfigError, match="--set batch_size: allowed: key=value"):
        check(folder, "M_a", "batch_size")


def test_a_monitor_against_its_mode_names_both_keys_and_the_file(folder):
    words = ["monitor=logloss", "monitor_mode=min"]
    assert check(folder, "M_a", *words).train.monitor_mode == "min"
    assert check(folder, "M_a", "monitor=logloss").train.monitor_mode == "min"
    with pytest.raises(
        ConfigError, match=r"'monitor_mode': found max, key 'monitor': found logloss.*--set"
    ):
        check(folder, "M_a", "monitor=logloss", "monitor_mode=max")
    with pytest.raises(ConfigError, match=r"expid 'M_a': unknown key 'gama'.*'monitor'.*gAUC"):
        check(folder, "M_a", "gama=1", "monitor=gAUC")
