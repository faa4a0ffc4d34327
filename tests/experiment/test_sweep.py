"""What a sweep plans, what it skips, what it says, and how it names failures."""

import pytest
import torch

from fuxictr.errors import ConfigError
from fuxictr.experiment.ablation import GROUPS, ablated_backbones, find_arms, parse_groups
from fuxictr.experiment.reproduction import _slots
from fuxictr.experiment.results import find_finished, last_failures, newest_runs
from fuxictr.experiment.run import code_hash, identity
from fuxictr.experiment.sweep import runner
from fuxictr.experiment.sweep.plan import plan_ablations, plan_backbones, unique_runs
from fuxictr.experiment.sweep.progress import expected_seconds
from fuxictr.experiment.zoo import ROOT, backbones


def test_the_first_seed_of_all_backbones_comes_before_the_second_of_any():
    runs = plan_backbones(["FM", "DeepFM"], "demo", ["dis", "gen"], "2")
    assert [(run.expid, run.seed) for run in runs] == [
        (expid, seed)
        for seed in (2019, 2020)
        for expid in ("FM_demo", "FM_demo_gen", "DeepFM_demo", "DeepFM_demo_gen")
    ]
    assert all(run.config.train.seed == run.seed for run in runs)


def test_files_of_other_seeds_than_the_configs_own_are_named_after_the_seed():
    runs = plan_backbones(["FM"], "demo", ["dis"], "7,2019")
    names = [run.config.checkpoint_path.name for run in runs]
    assert names == ["FM_demo_seed7.model", "FM_demo.model"]
    assert len({run.config.config_hash() for run in runs}) == 1


def test_all_backbones_are_those_of_the_zoo():
    runs = plan_backbones(["all"], "avazu", ["dis", "gen"], "5")
    assert len(runs) == len(backbones("avazu")) * 2 * 5
    assert len(backbones("avazu")) == 8


def test_ablations_come_with_their_references_and_once():
    runs = unique_runs(plan_ablations(["all"], "demo", ["source", "target"], "1"))
    expids = [run.expid for run in runs]
    assert len(expids) == len(set(expids)) == 2 + 3 + 4
    assert {"DCNv2_demo", "DCNv2_demo_gen"} < set(expids)


@pytest.mark.parametrize("dataset", ["demo", "avazu", "criteo"])
@pytest.mark.parametrize("group", GROUPS)
def test_every_arm_differs_from_the_full_gen_in_its_group(dataset, group):
    for backbone in ablated_backbones(dataset, group):
        arms = find_arms(backbone, dataset, group)
        assert [arms[0].word, arms[-1].word] == ["dis", "full"]
        assert len({arm.label for arm in arms}) == len(arms)
        configs = {r.expid: r.config for r in plan_ablations([backbone], dataset, [group], "1")}
        key = {"activation": "emb_activation"}.get(group, group)
        full = configs[arms[-1].expid].params()
        for arm in arms[1:-1]:
            params = configs[arm.expid].params()
            assert params[key] == arm.word != full[key]


def test_unknown_ablations():
    assert parse_groups("target, source") == ["source", "target"]
    assert parse_groups("all") == list(GROUPS)
    for wrong in ("", "sorce"):
        with pytest.raises(ConfigError, match=f"--ablation {wrong}: allowed: all, source"):
            parse_groups(wrong)
    with pytest.raises(ConfigError, match="backbones that have: DCNv2"):
        find_arms("FM", "demo", "source")


def test_slots_take_the_devices_in_turn(monkeypatch):
    assert _slots("-1", None, True) == ["-1"]
    assert _slots("-1", 3, True) == ["-1"] * 3
    assert _slots("auto", None, True) == ["-1"]
    with pytest.raises(ConfigError, match="--jobs 0: allowed: >= 1"):
        _slots("-1", 0, True)
    with pytest.raises(ConfigError, match="--gpu 99"):
        _slots("-1,99", None, True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert _slots("auto", None, True) == ["0", "1", "2"]
    assert _slots("auto", None, False) == ["0"]
    assert _slots("0,2", None, False) == ["0", "2"]
    assert _slots("0,2", 3, True) == ["0", "2", "0"]


def rows_of(run, **changes) -> dict:
    done = {"valid": {}, "test": {"AUC": 0.5}, "seconds": 3.0}
    return identity(run.config, run.model_class) | {"data_hash": "d"} | done | changes


@pytest.fixture
def run():
    return plan_backbones(["FM"], "demo", ["dis"], "1")[0]


@pytest.fixture
def encoded(monkeypatch):
    monkeypatch.setattr(runner, "current_data_hash", lambda run: "d")


def test_a_run_with_the_same_config_data_and_code_is_finished(run, encoded):
    assert runner.unfinished([run], [rows_of(run)]) == []


@pytest.mark.parametrize("key", ["config_hash", "data_hash", "code_hash", "expid", "seed"])
def test_a_run_that_differs_is_not_finished(run, encoded, key):
    assert runner.unfinished([run], [rows_of(run, **{key: "other"})]) == [run]


def test_a_failed_run_is_not_finished(run, encoded):
    assert runner.unfinished([run], [rows_of(run, failed="why")]) == [run]
    assert runner.unfinished([run], [rows_of(run), rows_of(run, failed="why")]) == []


def test_data_that_would_be_encoded_anew_finish_nothing(run, monkeypatch):
    monkeypatch.setattr(runner, "current_data_hash", lambda run: None)
    assert runner.unfinished([run], [rows_of(run)]) == [run]


def test_newest_runs_share_config_data_and_code(run):
    rows = [
        rows_of(run, seed=1, code_hash="old"),
        rows_of(run, seed=2, test={"AUC": 0.6}),
        rows_of(run, seed=2, test={"AUC": 0.7}),
        rows_of(run, seed=3, failed="why"),
    ]
    found = newest_runs(rows, "FM_demo", "demo_x1")
    assert {seed: row["test"]["AUC"] for seed, row in found.items()} == {2: 0.7}
    assert newest_runs(rows, "FM_demo", "demo_x1", [1])[1]["code_hash"] == "old"
    assert last_failures(rows, "FM_demo", "demo_x1") == {3: "why"}
    assert last_failures([*rows, rows_of(run, seed=3)], "FM_demo", "demo_x1") == {}


def test_a_finished_run_is_found_whatever_its_data_where_they_are_not_known(run):
    row = rows_of(run)
    assert find_finished([row], row | {"data_hash": None}) is row
    assert find_finished([row], row | {"data_hash": "e"}) is None


def test_the_time_left_is_that_of_finished_runs():
    dis, gen = plan_backbones(["FM"], "demo", ["dis", "gen"], "1")
    assert expected_seconds([dis, gen], []) is None
    rows = [rows_of(dis, seconds=s) for s in (1.0, 2.0, 9.0)] + [rows_of(dis, failed="x")]
    assert expected_seconds([dis], rows) == 2.0
    assert expected_seconds([dis, gen], rows) == 4.0
    assert expected_seconds([dis, gen], [*rows, rows_of(gen, seconds=30.0)]) == 32.0


def test_reasons():
    assert runner._reason(1, "bar\r 10%\nDataError: no such file\n\n") == "DataError: no such file"
    assert runner._reason(-9, "anything").startswith("ended by SIGKILL; the machine may have run")
    assert runner._reason(-6, "") == "ended by SIGABRT"
    cuda = (
        "Traceback\n  File x\ntorch.AcceleratorError: CUDA error: illegal\nFor debugging, pass 1\n"
    )
    assert (
        runner._reason(1, cuda)
        == "torch.AcceleratorError: CUDA error: illegal For debugging, pass 1"
    )
    assert len(runner._reason(1, "ValueError: " + "x y " * 999)) <= 500
    assert runner._reason(0, "log") == "ended without a row of results (log)"


def test_code_hash_is_of_what_computes(monkeypatch, tmp_path):
    from pathlib import Path

    fm, other = plan_backbones(["FM", "DeepFM"], "demo", ["dis"], "1")
    read = Path.read_bytes
    code_hash.cache_clear()
    before = [code_hash(run.model_class) for run in (fm, other)]
    assert before[0] != before[1]

    def after_a_change_of(name: str) -> list[str]:
        def changed(path: Path) -> bytes:
            return read(path) + b"#" * path.is_relative_to(ROOT / name)

        monkeypatch.setattr(Path, "read_bytes", changed)
        code_hash.cache_clear()
        return [code_hash(run.model_class) for run in (fm, other)]

    for name in (
        "fuxictr/plotting",
        "fuxictr/analysis",
        "fuxictr/experiment/tables",
        "fuxictr/experiment/sweep",
    ):
        assert after_a_change_of(name) == before, name
    for name in ("fuxictr/pytorch/trainer.py", "fuxictr/experiment/run.py", "fuxictr/metrics"):
        assert set(after_a_change_of(name)).isdisjoint(before), name
    changed = after_a_change_of("model_zoo/FM/src/FM.py")
    assert changed[0] != before[0] and changed[1] == before[1]
    monkeypatch.undo()
    code_hash.cache_clear()
