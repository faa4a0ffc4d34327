"""A run is repeated from its record: identical, or what differs is named; nothing is touched."""

import json
import logging
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fuxictr.cli import show
from fuxictr.experiment.results.record import RunRecord
from fuxictr.experiment.run import run
from fuxictr.experiment.verify import compare as comparing
from fuxictr.experiment.verify import repeat as verify
from fuxictr.files import file_sha256
from fuxictr.pytorch.checkpoint.weights import read_tensors, write_tensors
from fuxictr.pytorch.training.state_saver import StateSaver

IDENTICAL = "Verdict: identical, bit for bit: metrics, history, parameters and weights."


class Results:
    """The results store of a test, and the command on it."""

    def __init__(self, path: Path, capsys) -> None:
        self.path, self.capsys = path, capsys

    def rows(self) -> list[dict]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def change(self, *keys, value) -> None:
        """Changes a value of the last row."""
        *others, last = self.rows()
        place = last
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value(place[keys[-1]]) if callable(value) else value
        self.path.write_text("".join(f"{json.dumps(row)}\n" for row in (*others, last)))

    def verify(self, *options: str, run: str = "last") -> tuple[int, str, str]:
        """Returns exit status, stdout and the last line of stderr."""
        with pytest.raises(SystemExit) as ended:
            show.main([run, "--verify", "--results", str(self.path), *options])
        captured = self.capsys.readouterr()
        return ended.value.code, captured.out, (captured.err.splitlines() or [""])[-1]


@pytest.fixture
def results(tmp_path, capsys) -> Results:
    return Results(tmp_path / "results.jsonl", capsys)


def files_below(folder: Path) -> dict[Path, tuple[str, int]]:
    found = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {path: (file_sha256(path), path.stat().st_mtime_ns) for path in found}


def test_a_repeat_is_identical_and_touches_nothing(user, train, results, tmp_path, monkeypatch):
    monkeypatch.chdir(user.path.parent)
    options = ("--seed", "3", "--set", "model_id=mine_gen_seed3", "analyze_every=1", "gamma=1.5")
    assert train(Path("my_config"), "mine_gen", *options)[0] == 0
    assert results.rows()[0]["collapse"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    before, handlers = files_below(tmp_path), list(logging.getLogger().handlers)
    status, out, _ = results.verify()
    assert (status, out.splitlines()[-1]) == (0, IDENTICAL)
    assert "Code, packages, machine, device, threads and flags are the same." in out
    assert files_below(tmp_path) == before
    assert not list((tmp_path / "temporary").iterdir())
    added = set(logging.getLogger().handlers) - set(handlers)
    assert not added, "the repeat's log is closed"


def test_a_run_that_was_interrupted_and_resumed_is_identical(user, train, results, monkeypatch):
    after_evaluation = StateSaver.after_evaluation

    def interrupted(saver: StateSaver, entry: dict) -> None:
        after_evaluation(saver, entry)
        if entry["epoch"] == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(StateSaver, "after_evaluation", interrupted)
        assert train(user.path, "mine")[0] == 130
    assert train(user.path, "mine", "--resume")[0] == 0
    assert [entry["epoch"] for entry in results.rows()[-1]["resumes"]] == [2]
    status, out, _ = results.verify()
    assert (status, out.splitlines()[-1]) == (0, IDENTICAL)


def test_a_changed_config_is_refused_with_both_values(user, train, results):
    assert train(user.path)[0] == 0
    user.model["mine"].update(learning_rate=0.06, num_workers=3, eval_steps=4)
    user.write_configs()
    status, out, error = results.verify()
    assert (status, out) == (1, "")
    assert error.startswith("ConfigError: expid 'mine': its config has changed since the run")
    assert "key 'learning_rate': was 0.05, is 0.06" in error
    assert "key 'eval_steps': was null, is 4" in error
    assert "num_workers" not in error, "it changes no number"


def test_keys_that_change_no_number_are_only_said(user, train, results, monkeypatch):
    def run_experiment(config, *others):
        ran.append(config)
        return run.run_experiment(config, *others)

    ran: list = []
    monkeypatch.setattr(verify, "run_experiment", run_experiment)
    assert train(user.path)[0] == 0
    user.model["mine"].update(num_workers=3, seed=99, analyze_every=1, tensorboard=True)
    user.model["Base"].update(model_root="./others/", save_steps=1)
    user.write_configs()
    status, out, _ = results.verify()
    assert (status, out.splitlines()[-1]) == (0, IDENTICAL)
    assert "key 'num_workers': was 1, is 3 (changes no number)" in out
    assert not (user.path / "others").exists()
    config = ran[-1].run
    assert (config.analyze_every, config.tensorboard, config.save_state) == (None, False, False)


def test_a_default_that_the_model_has_otherwise_by_now_is_refused(user, train, results):
    assert train(user.path)[0] == 0
    results.change("config", "keys", "default", "batch_norm", value=True)
    status, _, error = results.verify()
    assert status == 1 and error.endswith("another run: key 'batch_norm': was true, is false")


def test_an_option_that_the_model_did_not_have_then_is_said(user, train, results):
    assert train(user.path)[0] == 0
    results.change("config", "keys", "default", value=lambda keys: {**keys, "old_option": 1})
    status, out, _ = results.verify()
    assert (status, out.splitlines()[-1]) == (0, IDENTICAL)
    assert "key 'old_option': was 1, is no such key (of another version)" in out


def test_an_expid_that_is_gone_is_refused(user, train, results):
    assert train(user.path)[0] == 0
    user.model["other"] = user.model.pop("mine")
    user.write_configs()
    status, _, error = results.verify()
    assert status == 1 and "unknown expid 'mine'" in error


def test_changed_raw_data_are_refused_and_not_encoded(user, train, results):
    assert train(user.path)[0] == 0
    first = results.rows()[0]
    user.edit("train", 5, ",", ",9")
    before = files_below(user.path / "encoded")
    status, out, error = results.verify()
    assert (status, out) == (1, "")
    assert error.startswith("DataError: dataset 'clicks': the raw files of the train split changed")
    assert first["data_hash"] in error
    assert files_below(user.path / "encoded") == before

    assert train(user.path)[0] == 0
    second = results.rows()[1]
    status, _, error = results.verify(run=first["run_id"])
    assert status == 1 and error.startswith("DataError: dataset 'clicks': the encoded rows in ")
    assert f"was {first['data_hash']}, is {second['data_hash']}" in error
    assert results.verify()[0] == 0


def test_missing_encoded_data_are_said_to_be_missing(user, train, results):
    assert train(user.path)[0] == 0
    (user.path / "encoded" / "clicks" / "valid.parquet").unlink()
    status, _, error = results.verify()
    assert status == 1 and "valid.parquet is missing or damaged" in error
    assert "--verify encodes none" in error


def test_differences_are_named_with_their_size(user, train, results):
    assert train(user.path)[0] == 0
    results.change("test", "AUC", value=lambda auc: auc + 1e-6)
    results.change("history", value=lambda entries: [*entries[:-1], {**entries[-1], "step": 31}])
    results.change("environment", "git", value={"commit": "0" * 40})
    status, out, _ = results.verify()
    assert status == 2, "another commit of the same code explains no difference"
    named = ("  test.", "  history.")
    auc, step = (line.split() for line in out.splitlines() if line.startswith(named))
    assert (auc[0], auc[3]) == ("test.AUC", "1e-06")
    assert step == ["history.2.step", "31", "30", "1"]
    assert "DIFFERENT, though code, packages, device and threads are the same." in out

    results.change("environment", "packages", "torch", value="1.0")
    status, out, _ = results.verify()
    assert status == 0
    assert f"  packages.torch  was 1.0, is {torch.__version__}\n" in out
    assert "metrics equal within 0.0001" in out and "with another packages.torch." in out
    status, out, _ = results.verify("--tolerance", "1e-7")
    assert status == 2 and "metrics DIFFERENT by more than 1e-07" in out


def test_other_weights_are_named(user, train, results, tmp_path):
    assert train(user.path)[0] == 0
    path = Path(results.rows()[0]["checkpoint"])
    weights = read_tensors(path)
    name, tensor = next((n, t) for n, t in weights.items() if t.is_floating_point() and t.dim() > 1)
    tensor[0, 0] += 0.5
    write_tensors(weights, path)
    results.change("checkpoint_sha256", value=file_sha256(path))
    status, out, _ = results.verify()
    assert status == 2
    (line,) = (line.split() for line in out.splitlines() if line.startswith("  weight "))
    assert line[1] == name and float(line[-1]) == pytest.approx(0.5, abs=1e-6)

    path.unlink()
    status, out, _ = results.verify()
    assert status == 2 and "  checkpoint_sha256  " in out
    results.change("environment", "numerics", "cpu_capability", value="AVX2")
    status, out, _ = results.verify()
    assert status == 0
    assert out.splitlines()[-1].startswith(
        f"Verdict: identical, bit for bit: metrics, history and parameters; {path} is gone or"
    )


def test_a_run_of_a_gpu_asks_for_one(user, train, results):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert train(user.path)[0] == 0
    results.change("device", value="cuda:1 (NVIDIA H200)")
    status, _, error = results.verify()
    assert status == 1 and "--gpu 1: this machine has no CUDA GPU; use -1 for the CPU" in error
    status, out, _ = results.verify("--gpu", "-1")
    assert status == 0
    assert "  device  was cuda:1 (NVIDIA H200), is cpu " in out


# --- the parts ---


def row_of(**changes):
    values = {"code_hash": "c", "device": "cpu", "threads": 1, "versions": {"torch": "2"}}
    values |= {"valid": {"AUC": 0.5}, **changes}
    return RunRecord(expid="mine", dataset_id="d", seed=1, **values)


def test_what_an_older_row_holds_is_compared():
    environment = {
        "packages": {"torch": "3", "polars": "1"},
        "platform": {"cpu": "x"},
        "threads": {"inter_op": 1},
        "variables": {},
        "numerics": {},
    }
    now = row_of(code_hash="d", environment=environment)
    found = comparing.environment_differences(row_of(), now)
    assert [(d.name, d.before, d.now) for d in found] == [
        ("code_hash", "c", "d"),
        ("packages.torch", "2", "3"),
    ]
    set_now = {**environment, "variables": {"OMP_NUM_THREADS": "2"}}
    found = comparing.environment_differences(
        row_of(environment=environment), row_of(environment=set_now)
    )
    assert [(d.name, d.before, d.now) for d in found] == [("variables.OMP_NUM_THREADS", None, "2")]


def test_values_of_all_kinds_are_compared():
    nan = float("nan")
    same = row_of(valid={"AUC": nan}, epochs=2, history=[{"x": None}])
    assert comparing.differences(same, same) == []
    other = row_of(valid={"AUC": 0.5, "MRR": 1.0}, epochs=2.5, history=[])
    found = comparing.differences(same, other)
    assert [(d.name, d.before, d.now, d.size) for d in found if d.name != "valid.AUC"] == [
        ("epochs", 2, 2.5, 0.5),
        ("valid.MRR", None, 1.0, None),
    ]
    (auc,) = (d for d in found if d.name == "valid.AUC")
    assert auc.now == 0.5 and auc.size is None
    assert comparing.differences(row_of(), row_of(parameters=3)) == [], "an older row has none"


def test_weights_of_older_rows_are_compared_by_their_tensors(tmp_path):
    left, now = tmp_path / "left.model", tmp_path / "now.model"
    weights = {"a": torch.tensor([1.0, float("nan")]), "b": torch.tensor(2), "c": torch.zeros(0)}
    torch.save(weights, left)
    write_tensors(weights, now)
    row = row_of(checkpoint=str(left), checkpoint_sha256=file_sha256(left))
    assert file_sha256(left) != file_sha256(now)
    assert comparing.compare_weights(row, now, is_exact=False) == ([], None)
    write_tensors({**weights, "b": torch.tensor(2.0), "d": torch.zeros(1)}, now)
    found, _ = comparing.compare_weights(row, now, is_exact=False)
    assert [(d.name, d.before, d.now, d.size) for d in found] == [
        ("weight b", "torch.int64 ()", "torch.float32 ()", 0.0),
        ("weight d", None, "torch.float32 (1,)", None),
    ]
    row = replace(row, checkpoint_sha256="another run's")
    assert "is gone or is not what the run left" in comparing.compare_weights(row, now, False)[1]


def test_a_metric_that_is_missing_is_no_metric_within_the_tolerance(capsys):
    missing = comparing.Difference("test.AUC", 0.5, None)
    assert verify._conclude([missing], None, ["threads"], 1e-4, False) == 2
    assert "largest difference inf" in capsys.readouterr().out


def test_a_gpu_may_differ_each_time(capsys):
    small = comparing.Difference("test.AUC", 0.5, 0.5000001, 1e-7)
    assert verify._conclude([small], None, [], 1e-4, True) == 2
    assert "On a GPU some sums are formed in another order" in capsys.readouterr().out
