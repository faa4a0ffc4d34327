"""benchmarks/gpu.py, tiny on the CPU: what its checks find, and how its steps are kept."""

import contextlib
import inspect
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import torch.distributed as dist

import fuxictr.metrics
from fuxictr.pytorch.sharding.row_wise import ShardGroup
from tests.gpu.scripts import (
    BENCHMARKS,
    gpu,
    gpu_agree,
    gpu_checks,
    gpu_report,
    gpu_setup,
    gpu_speed,
    gpu_steps,
)

TINY = ("--device", "cpu", "--tiny")
SIZES = {"num_steps": 5, "batch_size": 40}
SMALL = {"device": "cpu", "num_rows": 400, "batch_size": 100, "is_small": True}


@pytest.mark.parametrize("model", gpu_setup.MODELS)
def test_rounding_is_within_the_limits_of_every_backbone(model):
    found = gpu_agree.agree(model, "cpu", **SIZES)
    assert found["ok"], found
    for side in gpu_setup.SIDES:
        plain = found[f"{side}_none"]
        # Another order of the rows costs a hundredth of what is allowed, but it is seen.
        assert all(plain[name] < limit / 10 for name, limit in gpu_agree.LIMITS.items())
        assert plain["gradient"] > 0
        assert found[f"{side}_bf16"]["gradient"] > gpu_agree.LIMITS["gradient"]


def scaled_penalties(network):
    right = network._penalties

    class Scaled(type(network)):
        _penalties = {
            group: [(p, 1.05 * factor) for p, factor in terms] for group, terms in right.items()
        }

    network.__class__ = Scaled


def scaled_interaction(network):
    forward = network.generator.forward
    network.generator.forward = lambda emb: 1.01 * forward(emb)


def scaled_weight(network):
    with torch.no_grad():
        next(network.parameters()).mul_(1.001)


@pytest.mark.parametrize("change", [scaled_penalties, scaled_interaction, scaled_weight])
def test_a_formula_that_is_a_little_wrong_is_found(change):
    right = gpu_agree.trajectory("DeepFM", "gen", "cpu", **SIZES)
    wrong = gpu_agree.trajectory("DeepFM", "gen", "cpu", **SIZES, change=change)
    errors = gpu_agree.differences(right, wrong)
    assert any(errors[name] > limit for name, limit in gpu_agree.LIMITS.items()), errors


def test_a_metric_that_is_a_little_wrong_is_found(monkeypatch):
    assert gpu_checks.metrics("cpu", 2000)["ok"]
    is_wrong = iter([False, True, True])
    right = fuxictr.metrics.evaluate_metrics

    def evaluate(*args):
        found = right(*args)
        return {**found, "AUC": found["AUC"] + 1e-12 * next(is_wrong)}

    monkeypatch.setattr(fuxictr.metrics, "evaluate_metrics", evaluate)
    assert not gpu_checks.metrics("cpu", 2000)["ok"]


def test_bits_that_a_resumption_changes_are_found(monkeypatch):
    assert gpu_checks.resume("cpu", 400)["ok"]
    monkeypatch.setattr("fuxictr.pytorch.training.trainer.load_random_numbers", lambda *args: True)
    found = gpu_checks.resume("cpu", 400)
    assert not found["ok"]
    assert found["largest_difference_of_a_repeat"] == 0
    assert found["largest_difference_of_a_resumption"] > 0


def test_one_process_runs_the_collective_operations_of_several(monkeypatch):
    counts = {}
    for name in ("all_reduce", "broadcast", "all_to_all_single"):
        monkeypatch.setattr(dist, name, counted(getattr(dist, name), counts, name))
    found = gpu_checks.one_process_of_several("cpu", 400)
    assert found["ok"], found
    assert all(counts[name] > 20 for name in ("all_reduce", "broadcast", "all_to_all_single"))
    send = ShardGroup.send_gradients
    monkeypatch.setattr(ShardGroup, "send_gradients", lambda group: (send(group), double(group)))
    assert not gpu_checks.one_process_of_several("cpu", 400)["ok"]


def counted(function, counts, name):
    def call(*args, **options):
        counts[name] = counts.get(name, 0) + 1
        return function(*args, **options)

    return call


def double(group):
    for table in group.tables:
        table.row_gradients().grad.mul_(2)


def test_compiled_code_is_compared_with_plain_code(monkeypatch):
    options = ("FM", "cpu", 200, True, [False, "auto"])
    found = gpu_checks.compile_modes(*options)
    assert found["ok"] and {"dis_false", "gen_auto"} < found.keys()
    plain = gpu_checks._compiled_training

    def other(*args):
        result = plain(*args)
        losses = [loss + 0.01 * (args[-1] == "auto") for loss in result["losses"]]
        return {**result, "losses": losses}

    monkeypatch.setattr(gpu_checks, "_compiled_training", other)
    assert not gpu_checks.compile_modes(*options)["ok"]


def test_speeds_are_those_of_a_training():
    found = gpu_speed.epoch("FM", **SMALL)
    assert found["rows"] == 400
    for name in gpu_speed.FORMATS:
        result = found[name]
        assert result["rows_per_second"] == 400 / result["epoch_seconds"]
        assert 0.5 < result["train_auc"] <= 1 and result["gpu_peak_mb"] is None
    found = gpu_speed.evaluation("FM", **SMALL)
    assert found["seconds"] == min(found["seconds_each"]) > 0
    found = gpu_speed.speed("FwFM", **SMALL)
    wanted = {f"{side}_{name}" for side in ("dis", "gen") for name in gpu_speed.FORMATS}
    assert set(found) == wanted - {"gen_bf16_graphs"}


def test_a_number_format_that_fails_has_its_error(monkeypatch):
    train = gpu_speed._train

    def fail(*arguments):
        if "compile" in arguments[-1]:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return train(*arguments)

    monkeypatch.setattr(gpu_speed, "_train", fail)
    found = gpu_speed.epoch("FM", **SMALL)
    assert found["bf16_graphs"] == {"error": "OutOfMemoryError: CUDA out of memory"}
    assert found["bf16"]["epoch_seconds"] > 0


@pytest.mark.parametrize("is_tiny", [False, True])
def test_every_step_fits_its_function(is_tiny):
    steps = gpu_steps.plan("cuda:0", is_tiny, "python")
    for name, step in steps.items():
        inspect.signature(gpu_steps.FUNCTIONS[step.function]).bind(**step.params)
        assert step.limit <= 900, name
    assert {step.function for step in steps.values()} == set(gpu_steps.FUNCTIONS)
    for model in gpu_setup.MODELS:
        assert {f"agree_{model}", f"speed_{model}"} <= steps.keys()
    assert steps["epoch_DeepFM"].params["num_rows"] == (1500 if is_tiny else 32_343_172)


def test_the_environment_names_the_gpu(monkeypatch):
    class Known:
        name, major, minor = "Some GPU", 9, 0

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Known)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (70e9, 80e9))
    found = gpu_steps.environment("cuda:0")["gpu"]
    assert (found["name"], found["capability"], found["memory_gb"]) == ("Some GPU", "9.0", 80)


def test_figures_beside_fuxictr_are_those_of_its_benchmark(monkeypatch, tmp_path):
    record = tmp_path / "train_throughput_gpu_1.json"
    record.write_text(json.dumps({"summary": [{"model": "FM"}], "peer_versions": {"torch": "2"}}))
    commands = []

    def run(command, **options):
        commands.append(command)
        is_wrong = len(commands) == 2
        out = "no such thing" if is_wrong else f"FM  dis\nwrote {record}\n"
        return subprocess.CompletedProcess(command, int(is_wrong), out, "it broke")

    monkeypatch.setattr(gpu_steps.subprocess, "run", run)
    found = gpu_steps.peer("cuda:0", "PEER", 1000)
    assert found == {"summary": [{"model": "FM"}], "peer_versions": {"torch": "2"}}
    assert "--device cuda --peer PEER --paper --full-vocab --rows 1000" in " ".join(commands[0])
    assert not record.exists(), "it is no result of its own"
    with pytest.raises(RuntimeError, match="it broke"):
        gpu_steps.peer("cuda:0", "PEER", 1000)


def test_the_expids_are_those_of_the_model_zoo():
    assert json.loads(gpu_setup.EXPIDS.read_text()) == gpu_setup.shipped_expids()


def test_rows_are_drawn_alike_and_have_the_sizes_of_avazu():
    feature_map = gpu_setup.avazu_map()
    assert (feature_map.num_fields, feature_map.total_features) == (24, 3_750_951 + 2 * 24)
    data = gpu_setup.draw_rows(feature_map, 3000, "cpu")
    again = gpu_setup.draw_rows(feature_map, 3000, "cpu")
    assert torch.equal(data.ids, again.ids) and torch.equal(data.values, again.values)
    sizes = [spec["vocab_size"] for spec in feature_map.fields.values()]
    assert data.ids.min() >= 1 and (data.ids.max(dim=0).values < torch.tensor(sizes) - 1).all()
    assert 0.1 < data.values.mean() < 0.4


WITHOUT_PACKAGES = """
import sys

absent = ("polars", "pyarrow", "pandas", "yaml", "tqdm", "scipy", "sklearn", "h5py", "psutil")
sys.modules.update(dict.fromkeys(absent))  # None: an import of the name fails
import gpu_steps

steps = gpu_steps.plan("cpu", True, None)
for name in ("environment", "resume", "nccl", "evaluation_FM"):
    found = gpu_steps.FUNCTIONS[steps[name].function](**steps[name].params)
    assert found.get("ok") is not False, found
"""


def test_steps_need_torch_and_numpy_alone():
    subprocess.run([sys.executable, "-c", WITHOUT_PACKAGES], cwd=BENCHMARKS, check=True)


@pytest.fixture
def steps():
    on = {"device": "cpu"}
    return {
        "works": gpu_steps.Step("environment", on, 60),
        "breaks": gpu_steps.Step("environment", {}, 60),
        "hangs": gpu_steps.Step("environment", on, 0.05),
        "lacks": gpu_steps.Step("environment", on, 60, ("no_such_package",)),
    }


def test_steps_are_kept_one_by_one_and_not_run_again(steps, tmp_path, capsys):
    file, later = tmp_path / "gpu.json", time.monotonic() + 1000

    def run(chosen, stop_at=later, rerun=()):
        return gpu.run_steps(chosen, file, {"date": "now"}, stop_at, set(rerun))["steps"]

    assert run(steps, stop_at=time.monotonic()) == {}
    assert "no time is left" in capsys.readouterr().out
    found = run(steps)
    assert [record["status"] for record in found.values()] == [
        "done",
        "failed",
        "failed",
        "skipped",
    ]
    assert found["works"]["result"]["versions"]["torch"] == torch.__version__
    assert "missing 1 required positional argument: 'device'" in found["breaks"]["error"][-1]
    assert found["hangs"]["error"][-1] == "ended after its limit of 0 s"
    assert found["lacks"]["reason"] == "needs no_such_package, not installed here"
    assert [gpu.is_bad(record) for record in found.values()] == [False, True, True, False]
    shown = capsys.readouterr().out
    assert "works                done, " in shown and "breaks               FAILED after" in shown
    assert run(steps) == found == json.loads(file.read_text())["steps"]
    mended = {**steps, "hangs": steps["works"], "breaks": steps["works"]}
    assert run({"hangs": mended["hangs"]}, rerun=["hangs"])["hangs"]["status"] == "done"
    assert run(mended)["breaks"]["status"] == "failed"


def test_a_step_ends_with_the_script(tmp_path):
    psutil = pytest.importorskip("psutil")
    command = ["bash", BENCHMARKS / "gpu.sh", tmp_path, *TINY, "--only", "agree_xDeepFM"]
    environment = {**os.environ, "PYTHON": sys.executable}
    script = subprocess.Popen(command, env=environment)  # bash is replaced by Python
    steps = []
    while not steps:
        assert script.poll() is None, "the script ended before its step was seen"
        time.sleep(0.05)
        with contextlib.suppress(psutil.NoSuchProcess):  # a child that has just ended
            children = psutil.Process(script.pid).children()
            steps = [child for child in children if "--step" in child.cmdline()]
    script.terminate()
    assert script.wait() == 128 + signal.SIGTERM
    assert not psutil.pid_exists(steps[0].pid)
    assert not list(tmp_path.iterdir())


def test_the_script_says_why_it_cannot_run(tmp_path):
    def run(*options):
        command = ["bash", BENCHMARKS / "gpu.sh", tmp_path / "out", *options]
        environment = {**os.environ, "PYTHON": sys.executable}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    assert run("--device", "cpu")[1].endswith(
        "--device cpu: allowed with --tiny; train_throughput.py measures a CPU\n"
    )
    assert "--only x: allowed: beginnings of environment, agree_FM" in run(*TINY, "--only", "x")[1]
    assert "--rerun x: allowed: all, failed, environment" in run(*TINY, "--rerun", "x")[1]
    if not torch.cuda.is_available():
        status, text = run()
        assert status == 2 and "finds no CUDA device; --device cpu --tiny runs" in text
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_all_steps_run_tiny_on_the_cpu(tmp_path):
    command = ["bash", BENCHMARKS / "gpu.sh", tmp_path, *TINY]
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    stored = json.loads((tmp_path / "gpu_tiny.json").read_text())
    assert set(stored["steps"]) == set(gpu_steps.plan("cpu", True, None))
    assert {record["status"] for record in stored["steps"].values()} == {"done"}
    with pytest.raises(ValueError, match="found device cpu, expected cuda"):
        gpu_report.gpu_section(stored)


def measured(steps):
    done = {name: {"status": "done", "seconds": 1, "result": r} for name, r in steps.items()}
    head = {"device": "cuda", "date": "2026-12-01T00:00", "command": "bash benchmarks/gpu.sh"}
    return {**head, "versions": {"torch": "2"}, "steps": done}


def test_the_section_says_which_targets_were_met():
    epoch = {"rows": 32_343_172, "float32": {"epoch_seconds": 31.0}, "bf16": {"epoch_seconds": 9.5}}
    speeds = {"dis_float32": {"rows_per_second": 5e6, "evaluate_rows_per_second": 8e6}}
    speeds["dis_float32"]["gpu_peak_mb"] = 1234.5
    rates = [{"model": "FM", "train_rows_per_second_ratio": 14.9}, {"model": "FM"}]
    steps = {
        "environment": {"gpu": {"name": "Some GPU", "memory_gb": 80, "cuda": "13"}},
        "agree_FM": {"ok": True},
        "agree_PNN": {"ok": False},
        "epoch_FM": epoch,
        "epoch_DeepFM": {"rows": 32_343_172, "float32": {"epoch_seconds": 30.0}},
        "evaluation_FM": {"rows": 4_000_000, "seconds": 1.99},
        "speed_FM": speeds,
        "peer": {"summary": rates},
    }
    found = measured(steps)
    found["steps"]["resume"] = {"status": "failed", "seconds": 1, "error": ["a", "no memory"]}
    text = gpu_report.gpu_section(found)
    assert [line[-1] for line in gpu_report.targets(found["steps"])] == [False, True, False, True]
    for line in (
        "Some GPU, 80 GB, CUDA 13, torch 2;",
        "| training as on the CPU | 1 of 2 | agree_PNN |",
        "| the same bits after a resumption | 0 of 1 | resume |",
        "| all collective operations, over NCCL | not run |  |",
        "| FM, rows/s of training, ratio to FuxiCTR | 14.90 | >= 15 | **no** |",
        "| FM, an epoch of 32,343,172 rows, s (bf16) | 9.50 | < 10 | yes |",
        "| DeepFM, an epoch of 32,343,172 rows, s (float32) | 30.00 | < 30 | **no** |",
        "| FM, evaluation of 4,000,000 rows, s | 1.99 | < 2 | yes |",
        "| FM | DIS | 5,000 |  |  |  | 8,000 | 1,234 |",
        "Failed: resume: `no memory`",
    ):
        assert line in text, text


def test_without_a_json_the_section_says_that_nothing_was_measured():
    text = gpu_report.gpu_section(None)
    assert "Nothing of this project was measured on a GPU yet" in text
    assert "in less than 10 s for FM, and 30 s for DeepFM" in text
