"""What relative paths in a config resolve against: the model's folder, or the config's own."""

import pytest

from fuxictr.errors import DataError
from fuxictr.experiment.results.config_record import config_record, load_recorded
from fuxictr.experiment.results.record import RunRecord
from fuxictr.experiment.run.run import load_dataset
from fuxictr.experiment.zoo import models as zoo

MODELS = "Base: {model_root: ./checkpoints/}\ne: {model: FM, dataset_id: clicks}\n"
DATASETS = """
clicks:
  data_root: ./data/
  train_data: ./train.csv
  feature_cols: [{name: a}]
  label_col: {name: y, dtype: float}
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with the models FM and DeepFM; FM's class is that of the real one."""
    for model in ("FM", "DeepFM"):
        (tmp_path / "model_zoo" / model / "src").mkdir(parents=True)
    source = zoo.ZOO / "FM" / "src" / "FM.py"
    (tmp_path / "model_zoo" / "FM" / "src" / "FM.py").write_text(source.read_text())
    monkeypatch.setattr(zoo, "ROOT", tmp_path)
    monkeypatch.setattr(zoo, "ZOO", tmp_path / "model_zoo")
    return tmp_path


def write_configs(folder):
    folder.mkdir(parents=True)
    (folder / "model_config.yaml").write_text(MODELS)
    (folder / "dataset_config.yaml").write_text(DATASETS)


@pytest.mark.parametrize(
    ("folder", "base"),
    [
        ("my_config", "my_config"),
        ("experiments/today", "experiments/today"),
        ("model_zoo/mine", "model_zoo/mine"),
        ("model_zoo/FM/config", "model_zoo/FM"),
        ("model_zoo/FM/config_of_mine", "model_zoo/FM"),
        ("model_zoo/DeepFM/config", "model_zoo/FM"),
    ],
)
def test_what_relative_paths_of_a_config_folder_resolve_against(
    repository, monkeypatch, folder, base
):
    monkeypatch.chdir(repository)
    write_configs(repository / folder)
    zoo_dir = repository / "model_zoo" / "FM"
    config, model_class = zoo.load_experiment("e", zoo_dir, folder)
    assert config.checkpoint_path == repository / base / "checkpoints" / "clicks" / "e.model"
    with pytest.raises(DataError) as error:
        load_dataset(config)
    assert str(error.value).startswith(f"{repository / base / 'train.csv'}: no such file")
    record = config_record(config, model_class)
    row = RunRecord(expid="e", dataset_id="d", seed=3, config=record)
    again, _ = load_recorded(row)  # as show, --verify and sweeps do
    assert (again.run_dir, again.data_dir) == (config.run_dir, config.data_dir)


def test_a_shared_dataset_resolves_against_the_model_also_for_a_folder_of_ones_own(
    repository, monkeypatch
):
    write_configs(repository / "my_config")
    (repository / "my_config" / "dataset_config.yaml").unlink()
    (repository / "model_zoo" / "dataset_config.yaml").write_text(DATASETS)
    zoo_dir = repository / "model_zoo" / "FM"
    config, _ = zoo.load_experiment("e", zoo_dir, repository / "my_config")
    assert (config.run_dir, config.data_dir) == (repository / "my_config", zoo_dir)


def test_the_home_folder_is_one_for_checkpoints_too(repository, monkeypatch):
    write_configs(repository / "my_config")
    monkeypatch.setenv("HOME", str(repository / "home"))
    zoo_dir = repository / "model_zoo" / "FM"
    config, _ = zoo.load_experiment("e", zoo_dir, repository / "my_config", ["model_root=~/ckpt"])
    assert config.checkpoint_path == repository / "home" / "ckpt" / "clicks" / "e.model"


@pytest.mark.parametrize("spelling", ["config", "./config", "./config/"])
def test_a_folder_that_is_typed_is_where_the_user_stands(repository, monkeypatch, spelling):
    own, zoo_dir = repository / "here", repository / "model_zoo" / "FM"
    write_configs(own / "config")
    write_configs(zoo_dir / "config")
    monkeypatch.chdir(own)
    assert zoo.find_config_dir(spelling, zoo_dir) == own / "config"
    assert zoo.find_config_dir(None, zoo_dir) == zoo_dir / "config"
    monkeypatch.chdir(repository)
    assert zoo.find_config_dir(spelling, zoo_dir) == zoo_dir / "config"
