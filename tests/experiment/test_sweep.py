"""What a sweep plans, what it skips, what it says, and how it names failures."""

import argparse
import os
import sys
from dataclasses import replace

import pytest
import torch

from fuxictr.errors import ConfigError
from fuxictr.experiment.results.code_hash import code_hash, package_digest
from fuxictr.experiment.results.identity import PresentData, find_finished, runs_of
from fuxictr.experiment.results.record import RunRecord
from fuxictr.experiment.results.store import last_failures
from fuxictr.experiment.run.run import identity
from fuxictr.experiment.sweep import reasons, runner
from fuxictr.experiment.sweep.plan import plan_ablations, plan_backbones, unique_runs
from fuxictr.experiment.sweep.progress import expected_seconds
from fuxictr.experiment.sweep.reproduce import _slots, _slots_of
from fuxictr.experiment.zoo.ablations import GROUPS, ablated_backbones, find_arms, parse_groups
from fuxictr.experiment.zoo.models import ROOT, backbones


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
            assert params[key] == arm.word.removesuffix("_reference") != full[key]


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


def slots_of(*options: str) -> list[str]:
    args = argparse.Namespace(gpu=None, gpus=None, gpus_per_run=None, jobs=None)
    for name, value in zip(options[::2], options[1::2], strict=True):
        setattr(args, name, int(value) if name in ("gpus_per_run", "jobs") else value)
    return _slots_of(args, False)


def test_several_gpus_are_one_run_or_several(monkeypatch):
    assert slots_of() == ["-1"]
    assert slots_of("gpus", "-1,-1") == ["-1,-1"]
    assert slots_of("gpus", "-1,-1,-1,-1", "gpus_per_run", "2") == ["-1,-1"] * 2
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert slots_of("gpus", "0,1, 2,3") == ["0,1,2,3"]
    assert slots_of("gpus", "3,1,0,2", "gpus_per_run", "2") == ["3,1", "0,2"]
    assert slots_of("gpus", "0,1", "gpus_per_run", "1") == ["0", "1"]
    assert slots_of("gpu", "0,2") == ["0", "2"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("gpus", "0,7"), "--gpu 7: this machine has GPUs 0..3"),
        (("gpus", "0,0"), "--gpus 0,0: a GPU is named twice"),
        (("gpus", "0,-1"), "--gpus 0,-1: allowed: GPUs, as 0,1,2,3, or -1 for each process"),
        (("gpus", "auto"), "--gpus auto: allowed: GPUs"),
        (("gpus", ","), "--gpus ,: allowed: GPUs"),
        (("gpus", "0,1,2,3", "gpus_per_run", "3"), "--gpus-per-run 3: 4 .*; allowed: 1, 2, 4"),
        (("gpus", "0,1", "gpus_per_run", "0"), "--gpus-per-run 0: 2 GPUs are named; allowed: 1, 2"),
        (("gpus_per_run", "2"), "--gpus-per-run 2: --gpus is missing"),
        (("gpus", "0,1", "gpu", "0"), "--gpu 0 and --gpus 0,1: allowed: one of them"),
        (("gpus", "0,1", "jobs", "2"), "--jobs 2 and --gpus 0,1: .*--gpus-per-run sets"),
    ],
)
def test_options_that_contradict_each_other(monkeypatch, options, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with pytest.raises(ConfigError, match=message):
        slots_of(*options)


def test_the_command_of_a_run_is_torchruns_where_it_has_several_processes(run, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    rest = ["--seed", "2019", "--set", "model_id=FM_demo"]
    script = ["model_zoo/FM/run_expid.py", "--expid", "FM_demo", "--gpu"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    assert runner.run_command(run, "1") == [sys.executable, *script, "1", *rest]
    assert runner.run_command(run, "-1,-1") == [*launch, *script, "-1", *rest]
    seen = ["env", "CUDA_VISIBLE_DEVICES=2,0"]
    assert runner.run_command(run, "2,0") == [*seen, *launch, *script, "auto", *rest]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-5,6")
    seen = ["env", "CUDA_VISIBLE_DEVICES=6,4"]
    assert runner.run_command(run, "2,0")[:2] == seen, "indices are among those that are seen"


def test_processes_of_a_run_share_the_cores(monkeypatch, tmp_path):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))

    def threads(*gpus: str) -> str | None:
        sweep = runner.Sweep([], gpus, tmp_path / "results.jsonl")
        return sweep._environment().get("OMP_NUM_THREADS")

    assert threads("-1") is None and threads("0") is None, "a run alone takes what it has work for"
    assert threads(*["-1"] * 8) == "1" and threads("0", "1") == "4", "runs at a time share as well"
    assert threads("-1,-1") == "4"
    assert threads("0,1", "2,3") == "2"
    assert threads(",".join(["-1"] * 12)) == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads("-1,-1") == "3"


def row_of(run, **changes) -> RunRecord:
    done = {"data_hash": "d", "valid": {}, "test": {"AUC": 0.5}, "seconds": 3.0}
    return replace(identity(run.config, run.model_class), **(done | changes))


@pytest.fixture
def run():
    return plan_backbones(["FM"], "demo", ["dis"], "1")[0]


@pytest.fixture
def encoded(monkeypatch):
    monkeypatch.setattr(PresentData, "data_hash", lambda self, config: "d")


def test_a_run_with_the_same_config_data_and_code_is_finished(run, encoded):
    assert runner.unfinished([run], [row_of(run)]) == []


@pytest.mark.parametrize("key", ["config_hash", "data_hash", "code_hash", "expid", "seed"])
def test_a_run_that_differs_is_not_finished(run, encoded, key):
    assert runner.unfinished([run], [row_of(run, **{key: "other"})]) == [run]


def test_a_failed_run_is_not_finished(run, encoded):
    assert runner.unfinished([run], [row_of(run, failed="why")]) == [run]
    assert runner.unfinished([run], [row_of(run), row_of(run, failed="why")]) == []


def test_data_that_would_be_encoded_anew_finish_nothing(run, monkeypatch):
    monkeypatch.setattr(PresentData, "data_hash", lambda self, config: None)
    assert runner.unfinished([run], [row_of(run)]) == [run]


def test_runs_share_config_data_and_code(run):
    key = row_of(run)
    rows = [
        row_of(run, seed=1, code_hash="old"),
        row_of(run, seed=2, test={"AUC": 0.6}),
        row_of(run, seed=2, test={"AUC": 0.7}),
        row_of(run, seed=3, failed="why"),
    ]
    found = runs_of(rows, key)
    assert {seed: row.test["AUC"] for seed, row in found.items()} == {2: 0.7}
    assert runs_of(rows, key, [1])[1].code_hash == "old"
    assert last_failures(rows, "FM_demo", "demo_x1") == {3: "why"}
    assert last_failures([*rows, row_of(run, seed=3)], "FM_demo", "demo_x1") == {}


def test_a_finished_run_is_found_whatever_its_data_where_they_are_not_known(run):
    row = row_of(run)
    assert find_finished([row], replace(row, data_hash=None), row.seed) is row
    assert find_finished([row], replace(row, data_hash="e"), row.seed) is None


def test_the_time_left_is_that_of_finished_runs():
    dis, gen = plan_backbones(["FM"], "demo", ["dis", "gen"], "1")
    assert expected_seconds([dis, gen], []) is None
    rows = [row_of(dis, seconds=s) for s in (1.0, 2.0, 9.0)] + [row_of(dis, failed="x")]
    assert expected_seconds([dis], rows) == 2.0
    assert expected_seconds([dis, gen], rows) == 4.0
    assert expected_seconds([dis, gen], [*rows, row_of(gen, seconds=30.0)]) == 32.0
    assert expected_seconds([dis], rows, num_processes=2) is None
    rows.append(row_of(dis, seconds=1.5, processes=2))
    assert expected_seconds([dis], rows, num_processes=2) == 1.5
    assert expected_seconds([dis], rows) == 2.0


def test_reasons():
    assert (
        reasons.find_reason(1, "bar\r 10%\nDataError: no such file\n\n")
        == "DataError: no such file"
    )
    assert reasons.find_reason(-9, "anything").startswith(
        "ended by SIGKILL; the machine may have run"
    )
    assert reasons.find_reason(-6, "") == "ended by SIGABRT"
    cuda = (
        "Traceback\n  File x\ntorch.AcceleratorError: CUDA error: illegal\nFor debugging, pass 1\n"
    )
    assert (
        reasons.find_reason(1, cuda)
        == "torch.AcceleratorError: CUDA error: illegal For debugging, pass 1"
    )
    assert len(reasons.find_reason(1, "ValueError: " + "x y " * 999)) <= 500
    assert reasons.find_reason(0, "log") == "ended without a row of results (log)"


TORCHRUN = (
    "W1126 11:38:32.653000 1732 torch/distributed/elastic/multiprocessing/api.py:1028] Sending "
    "process 1746 closing signal SIGTERM\n"
    "E1126 11:38:32.767000 1732 torch/distributed/elastic/multiprocessing/api.py:1002] failed "
    "(exitcode: {}) local_rank: 1 (pid: 1747) of binary: /usr/bin/python\n"
    "Traceback (most recent call last):\n  File x\n"
    "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n=====\nx FAILED\n"
)
GONE = "RankError: rank 0: another process of the job is gone, its own message says why (gloo)\n"


def test_reasons_of_one_of_several_processes():
    own = "RankError: rank 1: DataError: no such id\n"
    for said in (own + GONE, GONE + own):
        found = reasons.find_reason(1, f"log\n{said}{TORCHRUN.format(1)}")
        assert found == "RankError: rank 1: DataError: no such id"
    found = reasons.find_reason(1, GONE + TORCHRUN.format(-9))
    assert found == "rank 1: ended by SIGKILL; the machine may have run out of memory"
    assert reasons.find_reason(1, GONE + TORCHRUN.format(3)) == "rank 1: ended with status 3"
    defect = "[rank1]: Traceback\n[rank1]:   File x\n[rank1]: KeyError: 'a'\n"
    assert reasons.find_reason(1, defect + TORCHRUN.format(1)) == "KeyError: 'a'"


def test_code_hash_is_of_what_computes(monkeypatch, tmp_path):
    from pathlib import Path

    fm, other = plan_backbones(["FM", "DeepFM"], "demo", ["dis"], "1")
    read = Path.read_bytes

    def forget() -> None:
        code_hash.cache_clear()
        package_digest.cache_clear()

    forget()
    before = [code_hash(run.model_class) for run in (fm, other)]
    assert before[0] != before[1]

    def after_a_change_of(name: str) -> list[str]:
        def changed(path: Path) -> bytes:
            return read(path) + b"#" * path.is_relative_to(ROOT / name)

        monkeypatch.setattr(Path, "read_bytes", changed)
        forget()
        return [code_hash(run.model_class) for run in (fm, other)]

    for name in (
        "fuxictr/cli",
        "fuxictr/plotting",
        "fuxictr/analysis",
        "fuxictr/experiment/tables",
        "fuxictr/experiment/sweep",
    ):
        assert after_a_change_of(name) == before, name
    for name in (
        "fuxictr/pytorch/training/trainer.py",
        "fuxictr/experiment/run/run.py",
        "fuxictr/metrics",
    ):
        assert set(after_a_change_of(name)).isdisjoint(before), name
    changed = after_a_change_of("model_zoo/FM/src/FM.py")
    assert changed[0] != before[0] and changed[1] == before[1]
    monkeypatch.undo()
    forget()
