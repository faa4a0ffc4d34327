"""A user's own data and config folder: it trains, and each mistake gets its line."""

import json
import shutil

import pytest
import yaml

from fuxictr.analysis.records import load_records
from fuxictr.analysis.sample import Sample
from fuxictr.experiment.recordings.record import record_run
from fuxictr.experiment.recordings.trained import TrainedRun
from fuxictr.experiment.zoo.models import ZOO, load_experiment

from .conftest import SHARED


def fails(result: tuple[int, str], *texts: str) -> None:
    """The command ended with status 1 and one line that holds all texts."""
    status, stderr = result
    last = stderr.strip().splitlines()[-1]
    assert status == 1, stderr
    assert "Traceback" not in stderr
    for text in texts:
        assert text in last, f"{text!r} is not in {last!r}"


@pytest.mark.parametrize("expid", ["mine", "mine_gen"])
def test_trains_where_the_folder_lies(user, train, tmp_path, expid):
    status, _ = train(user.path, expid)
    assert status == 0
    assert (user.path / "checkpoints" / "clicks" / f"{expid}.model").is_file()
    assert (user.path / "encoded" / "clicks" / "feature_map.json").is_file()
    assert (tmp_path / "DeepFM" / "my_config.csv").is_file()
    row = json.loads((tmp_path / "results.jsonl").read_text())
    assert row["variant"] == ("gen" if expid == "mine_gen" else "dis")
    assert row["test"]["AUC"] > 0.6


def test_a_changed_config_or_source_is_encoded_anew(user, train, tmp_path):
    def hashes() -> list[str]:
        lines = (tmp_path / "results.jsonl").read_text().splitlines()
        return [json.loads(line)["data_hash"] for line in lines]

    assert train(user.path)[0] == train(user.path)[0] == 0
    user.dataset["min_categr_count"] = 40
    user.write_configs()
    assert train(user.path)[0] == 0
    user.edit(
        "test",
        2,
        ",",
        ",9",
    )
    assert train(user.path)[0] == 0
    first, again, other_config, other_source = hashes()
    assert first == again
    assert len({first, other_config, other_source}) == 3


def test_set_and_seed_override_the_files(user, train, tmp_path):
    assert train(user.path, "mine", "--seed", "3", "--set", "epochs=1", "batch_size=50")[0] == 0
    row = json.loads((tmp_path / "results.jsonl").read_text())
    assert (row["seed"], row["epochs"]) == (3, 1)


def test_unknown_expid(user, train):
    where = str(user.path / "model_config.yaml")
    fails(train(user.path, "mine_gem"), "'mine_gem'", "did you mean 'mine_gen'", where)


def test_misspelt_keys_are_listed_at_once(user, train):
    user.model["mine"].update({"learnin_rate": 1, "hiden_units": [3]})
    user.write_configs()
    fails(train(user.path), "did you mean 'learning_rate'", "did you mean 'hidden_units'")


def test_wrong_type(user, train):
    user.model["mine"]["hidden_units"] = "wide"
    user.write_configs()
    fails(train(user.path), "'hidden_units': found 'wide'", "list of int", "model_config.yaml")
    fails(train(user.path, "mine_gen", "--set", "epochs=many"), "'epochs': found 'many'", "--set")


def test_unknown_model(user, train):
    user.model["Base"]["model"] = "DeepFN"
    user.write_configs()
    fails(train(user.path), "no model 'DeepFN'", "did you mean 'DeepFM'")


def test_missing_config_folder(user, train):
    fails(train(user.path / "nowhere"), "no such folder", str(user.path / "nowhere"))


def test_missing_data_file(user, train):
    (user.path / "valid.csv").unlink()
    fails(train(user.path), "valid_data", str(user.path / "valid.csv"))


def test_missing_column(user, train):
    user.edit("train", 1, "item", "itm")
    fails(train(user.path), "train.csv", "'item'", "did you mean 'itm'")


@pytest.mark.parametrize("content", ["", "click,user,item,price\n"])
def test_empty_file(user, train, content):
    (user.path / "train.csv").write_text(content)
    fails(train(user.path), "train.csv")


@pytest.mark.parametrize(("split", "value"), [("train", "2"), ("valid", ""), ("test", "yes")])
def test_label_that_is_not_0_or_1(user, train, split, value):
    path = user.path / f"{split}.csv"
    lines = path.read_text().splitlines()
    lines[7] = value + lines[7][1:]
    path.write_text("\n".join(lines) + "\n")
    fails(train(user.path), f"{split}.csv", "'click'", "row 7")


def test_no_number_in_a_numeric_column(user, train):
    path = user.path / "train.csv"
    lines = path.read_text().splitlines()
    lines[41] = lines[41].rpartition(",")[0] + ",cheap"
    path.write_text("\n".join(lines) + "\n")
    fails(train(user.path), "train.csv", "'price'", "row 41", "cheap")
    assert not list((user.path / "encoded").rglob("*.parquet")), "nothing is half-written"


def test_gpu_that_does_not_exist(user, train):
    fails(train(user.path, "mine", "--gpu", "17"), "--gpu 17", "use -1 for the CPU or auto")


def test_checkpoint_that_does_not_fit(user, train, monkeypatch):
    assert train(user.path)[0] == 0
    config, model_class = load_experiment(
        "mine", ZOO / "DeepFM", user.path, ["embedding_dim=5", "verbose=0"]
    )
    from fuxictr.errors import CheckpointError

    with pytest.raises(CheckpointError, match="does not fit the model DeepFM: weight .* shape"):
        record_run(TrainedRun("DeepFM", config, model_class), -1, Sample())


def test_columns_of_different_widths_train_and_are_analysed(user, train, tmp_path, monkeypatch):
    from fuxictr.experiment.recordings import trained

    user.dataset["feature_cols"][0]["embedding_dim"] = 6
    user.model["Base"]["model"] = "DCNv2"
    for block in ("mine", "mine_gen"):
        del user.model[block]["hidden_units"]
    user.write_configs()
    assert train(user.path, "mine_gen")[0] == 0
    monkeypatch.setattr(trained, "ROOT", tmp_path)
    config, model_class = load_experiment("mine_gen", ZOO / "DCNv2", user.path)
    records = load_records(record_run(TrainedRun("DCNv2", config, model_class), -1, Sample()))
    assert (records.meta.fields, records.meta.embedding_dim) == (("all fields",), 16)


AVAZU = {
    "feature_cols": [
        {"name": "hour", "dtype": "str", "type": "categorical", "preprocess": "convert_hour"},
        {
            "name": ["C1", "banner_pos", "site_id", "app_id", "device_id", "device_ip", "C14"],
            "dtype": "str",
            "type": "categorical",
        },
        {"name": "weekday", "dtype": "str", "type": "categorical", "preprocess": "convert_weekday"},
        {"name": "weekend", "dtype": "str", "type": "categorical", "preprocess": "convert_weekend"},
    ],
    "label_col": {"name": "click", "dtype": "float"},
    "min_categr_count": 2,
}
CRITEO = {
    "feature_cols": [
        {"name": [f"I{i}" for i in range(1, 14)], "dtype": "float", "type": "numeric"},
        {"name": [f"C{i}" for i in range(1, 27)], "dtype": "str", "type": "categorical"},
    ],
    "label_col": {"name": "label", "dtype": "float"},
}


@pytest.mark.parametrize(("name", "block"), [("avazu_sample", AVAZU), ("criteo_sample", CRITEO)])
@pytest.mark.parametrize("expid", ["mine", "mine_gen"])
def test_real_rows_train(user, train, tmp_path, name, block, expid):
    if not (SHARED / name).is_dir():
        pytest.skip(f"{SHARED / name} is not there")
    for split in ("train", "valid", "test"):
        shutil.copyfile(SHARED / name / f"{split}.csv", user.path / f"{split}.csv")
    paths = {f"{split}_data": f"./{split}.csv" for split in ("train", "valid", "test")}
    dataset = {"data_root": "./encoded/", "data_format": "csv", **paths, **block}
    (user.path / "dataset_config.yaml").write_text(yaml.safe_dump({"clicks": dataset}))
    normalized = ["gamma=0.1"] if name == "criteo_sample" and expid == "mine_gen" else ["gamma=1"]
    status, stderr = train(user.path, expid, "--set", *normalized)
    assert status == 0, stderr
    row = json.loads((tmp_path / "results.jsonl").read_text())
    assert 0.4 < row["valid"]["AUC"] < 1


def test_what_is_warned_of_before_the_log_is_open_stands_in_it(user, train):
    user.model["mine"] |= {"shuffle_window": 10, "pickle_feature_encoder": True}
    user.write_configs()
    assert train(user.path)[0] == 0
    (log,) = (user.path / "checkpoints").rglob("*.log")
    text = log.read_text()
    assert text.count("WARNING expid 'mine': keys without an effect: shuffle_window") == 1
    assert text.count("WARNING Keys of older configs: pickle_feature_encoder") == 1
