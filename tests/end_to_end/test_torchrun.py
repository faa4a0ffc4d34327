"""The real command in two processes on a CPU: started by torchrun, killed, gone on with."""

import json
import re
import shutil
import time
from pathlib import Path

import pytest

from fuxictr.pytorch.checkpoint.weights import read_tensors
from tests.end_to_end.jobs import OF_THE_LIFE, Job, assert_same, rows_of
from tests.preloaded import python

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
SCRIPT = ["model_zoo/DeepFM/run_expid.py", "--expid", "DeepFM_demo_gen", "--gpu", "-1"]
# 80 rows a batch make 80 steps an epoch: time enough to be killed in the middle.
KEYS = ["batch_size=80", "epochs=2", "early_stop_patience=9", "save_steps=20", "analyze_every=1"]


class Clone:
    """A clone with a small demo log, in which jobs run, each with files of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def files(self, name: str) -> Path:
        return self.path / "model_zoo" / "DeepFM" / name / "demo_x1"

    def results(self, name: str) -> Path:
        return self.path / f"{name}.jsonl"

    def row(self, name: str) -> dict:
        (row,) = rows_of(self.results(name))
        return row

    def arguments(self, name: str, *options: str) -> list[str]:
        keys = ["--set", f"model_root={name}", *KEYS]
        return [*SCRIPT, *options, "--results", f"{name}.jsonl", *keys]

    def start(self, name: str, *options: str, launch: tuple[str, ...] = ()) -> Job:
        launch = ("--standalone", "--nproc_per_node=2", *launch)
        log = self.path / f"{name}.txt"
        return Job([*launch, *self.arguments(name, *options)], self.path, log)

    def kill_one(self, job: Job, name: str, rank: int) -> float:
        """Kills a process in the second epoch; returns when."""
        job.wait_for(lambda: "Epoch=1 end" in job.said())
        job.kill_worker(rank)
        return time.monotonic()

    def leftovers(self, name: str) -> set[str]:
        known = {f"DeepFM_demo_gen.{end}" for end in ("model", "model.json", "log")}
        known |= {".DeepFM_demo_gen.lock", "DeepFM_demo_gen.collapse.jsonl"}
        return {path.name for path in self.files(name).iterdir()} - known


@pytest.fixture(scope="module")
def demo(shell, clone) -> Clone:
    shell("bash", "1.prepare.sh", "demo", "--rows", "8000")
    return Clone(clone)


@pytest.fixture(scope="module")
def undisturbed(demo) -> dict:
    """The row of a run on two processes that nothing disturbs."""
    job = demo.start("undisturbed")
    assert job.wait() == 0, job.said()[-3000:]
    return demo.row("undisturbed")


def test_two_processes_give_the_numbers_of_one(demo, undisturbed, shell):
    shell(python(), *demo.arguments("alone"))
    alone = demo.row("alone")
    assert undisturbed["processes"] == 2 and alone["processes"] == 1
    assert undisturbed["device"].startswith("2 x cpu (")
    for key in ("config_hash", "data_hash", "code_hash", "rows", "parameters", "epochs", "seed"):
        assert undisturbed[key] == alone[key], key
    assert undisturbed.keys() == alone.keys()
    for split in ("valid", "test"):
        assert undisturbed[split] == pytest.approx(alone[split], abs=1e-5)
    for one, two in zip(alone["history"], undisturbed["history"], strict=True):
        assert two["metrics"] == pytest.approx(one["metrics"], abs=1e-5)
        numbers = [{k: v for k, v in entry.items() if k != "metrics"} for entry in (one, two)]
        assert numbers[1] == pytest.approx(numbers[0], abs=1e-5)
    for one, two in zip(alone["collapse"], undisturbed["collapse"], strict=True):
        assert two == pytest.approx(one, rel=1e-3)
    weights, one = (
        read_tensors(Path(undisturbed["checkpoint"])),
        read_tensors(Path(alone["checkpoint"])),
    )
    assert weights.keys() == one.keys()
    assert all(weights[name].shape == one[name].shape for name in one)


def test_what_is_said_and_written_is_of_one_process(demo, undisturbed):
    assert demo.leftovers("undisturbed") == set()
    said = (demo.path / "undisturbed.txt").read_text()
    log = (demo.files("undisturbed") / "DeepFM_demo_gen.log").read_text()
    for text in (said, log):
        assert text.count("Total number of parameters") == 1
        assert text.count("Train loss: ") == text.count("Epoch=") == 2
        assert len(set(re.findall(r" P(\d+) INFO ", text))) == 1
    assert "Traceback" not in said and "FutureWarning" not in said
    spectra = demo.files("undisturbed") / "DeepFM_demo_gen.collapse.jsonl"
    assert [json.loads(line)["epoch"] for line in spectra.read_text().splitlines()] == [0, 1, 2]
    line = (demo.path / "model_zoo/DeepFM/config.csv").read_text().splitlines()[0]
    command = "torchrun --standalone --nproc_per_node=2 model_zoo/DeepFM/run_expid.py --expid"
    assert f",[command] {command}" in line


def test_the_weights_are_those_of_a_model_on_one_device(demo, undisturbed, shell):
    options = ["--model", "DeepFM", "--expid", "DeepFM_demo_gen", "--gpu", "-1"]
    source = demo.path / "data/Demo/demo_x1/test.csv"
    root = demo.path / "model_zoo/DeepFM"
    shutil.rmtree(root / "checkpoints", ignore_errors=True)  # of another test of this clone
    shutil.copytree(root / "undisturbed", root / "checkpoints")
    shell(python(), "predict.py", *options, "--data", str(source), "--out", "scores.csv")
    assert len((demo.path / "scores.csv").read_text().splitlines()) == 801


@pytest.fixture(scope="module")
def killed(demo, undisturbed) -> str:
    """The name of a job that a killed process ended in the middle."""
    job = demo.start("killed")
    moment = demo.kill_one(job, "killed", rank=1)
    assert job.wait(60) != 0
    assert time.monotonic() - moment < 60
    said = job.said()
    assert "RankError: rank 0: another process of the job is gone" in said or (
        "rank      : 1 (local_rank: 1)\n  exitcode  : -9" in said
    )
    assert rows_of(demo.results("killed")) == []
    assert (demo.files("killed") / "DeepFM_demo_gen.state").is_file()
    assert not [name for name in demo.leftovers("killed") if ".tmp" in name]
    return "killed"


def copy_of(demo: Clone, name: str, other: str) -> None:
    root = demo.path / "model_zoo" / "DeepFM"
    shutil.copytree(root / name, root / other)


def test_two_processes_go_on_to_the_same_bits(demo, undisturbed, killed):
    copy_of(demo, killed, "on_two")
    job = demo.start("on_two", "--resume")
    assert job.wait() == 0, job.said()[-3000:]
    row = demo.row("on_two")
    assert_same(row, undisturbed)
    assert len(row["resumes"]) == 1 and row["resumes"][0]["step"] >= 80
    assert demo.leftovers("on_two") == set()
    assert "The last digits may differ" not in job.said()


def test_one_process_goes_on_with_the_state_of_two(demo, undisturbed, killed, shell):
    copy_of(demo, killed, "on_one")
    done = shell(python(), *demo.arguments("on_one", "--resume"))
    (line,) = re.findall("The last digits may differ from an undisturbed run: .*", done.stderr)
    assert "device (was '2 x cpu" in line and "processes (was 2, is 1)" in line
    row = demo.row("on_one")
    assert row["processes"] == 1 and len(row["resumes"]) == 1
    assert row["test"] == pytest.approx(undisturbed["test"], abs=1e-5)
    assert demo.leftovers("on_one") == set()


def test_torchrun_restarts_a_job_that_goes_on_by_itself(demo, undisturbed):
    job = demo.start("restarted", launch=("--max-restarts=1",))
    demo.kill_one(job, "restarted", rank=0)
    assert job.wait() == 0, job.said()[-3000:]
    row = demo.row("restarted")
    assert_same(row, undisturbed)
    assert len(row["resumes"]) == 1
    assert demo.leftovers("restarted") == set()
    assert OF_THE_LIFE <= row.keys()
