"""The paper's sweep on a small demo log: killed, gone on with, failing, dry."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.preloaded import python

PAPER = ["bash", "2.reproduce.sh", "--paper", "--dataset", "demo", "--gpu", "-1", "--seeds", "2"]


class Repository:
    """A clone with a small demo log, in which sweeps run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.env = {**os.environ, "PYTHON": python()}
        for config in path.glob("model_zoo/*/config/model_config.yaml"):
            config.write_text(config.read_text().replace("epochs: 100", "epochs: 2"))

    def run(self, *command: str, status: int = 0) -> subprocess.CompletedProcess:
        done = subprocess.run(
            command, cwd=self.path, capture_output=True, text=True, env=self.env, check=False
        )
        assert done.returncode == status, done.stdout[-2000:] + done.stderr[-3000:]
        return done

    def start(self, *command: str) -> subprocess.Popen:
        return subprocess.Popen(
            command,
            cwd=self.path,
            env=self.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def rows(self) -> list[dict]:
        path = self.path / "results" / "results.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def processes(self) -> dict[int, str]:
        """Returns the processes that run here -> their command lines and names.

        A process that a fork server forked has its command line, and the name of its script.
        """
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if Path(os.readlink(process / "cwd")).is_relative_to(self.path):
                    command = (process / "cmdline").read_text().replace("\0", " ")
                    found[int(process.name)] = (command, (process / "comm").read_text())
            except OSError:
                continue
        return {pid: command + name for pid, (command, name) in found.items() if command}

    def runs(self) -> list[int]:
        """Returns the processes of runs, or of torchrun that starts one."""
        return [pid for pid, line in self.processes().items() if "run_expid.py" in line]


@pytest.fixture(scope="module")
def repository(clone, tmp_path_factory) -> Repository:
    target = tmp_path_factory.mktemp("sweep") / "GE4Rec"
    written = shutil.ignore_patterns("results", "checkpoints", "data", "figure", "*.csv")

    def ignored(folder: str, names: list[str]) -> set[str]:
        has_sources = Path(folder).relative_to(clone).parts[:1] in (("fuxictr",), ("docs",))
        return set() if has_sources else written(folder, names)

    shutil.copytree(clone, target, ignore=ignored)
    repository = Repository(target)
    repository.run("bash", "1.prepare.sh", "demo", "--rows", "3000")
    return repository


def wait_for(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_dry_run_lists_the_runs_and_trains_nothing(repository):
    done = repository.run(*PAPER, "--model", "FM,DCNv2", "--ablation", "source", "--dry-run")
    for expid in ("FM_demo", "FM_demo_gen", "DCNv2_demo_gen_source_own"):
        assert sum(expid in line.split() for line in done.stdout.splitlines()) == 2, "two seeds"
    assert not repository.rows()


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="needs /proc")
def test_killed_sweep_goes_on_to_the_same_numbers(repository):
    command = [*PAPER, "--model", "FM"]
    sweep = repository.start(*command)
    wait_for(lambda: len(repository.rows()) == 1)
    wait_for(repository.runs)
    sweep.send_signal(signal.SIGKILL)
    sweep.wait()
    wait_for(lambda: not repository.processes())
    num_before = len(repository.rows())
    assert 1 <= num_before < 4

    done = repository.run(*command)
    assert f"{num_before} of 4 runs are in the results already" in done.stdout
    rows = repository.rows()
    wanted = {(expid, seed) for expid in ("FM_demo", "FM_demo_gen") for seed in (2019, 2020)}
    assert len(rows) == 4
    assert {(row["expid"], row["seed"]) for row in rows} == wanted
    table = (repository.path / "results/demo_x1/table.csv").read_text()

    repository.run(*command, "--rerun", "--jobs", "2")
    undisturbed = {(row["expid"], row["seed"]): row for row in repository.rows()[4:]}
    assert set(undisturbed) == wanted
    for row in rows:
        twin = undisturbed[row["expid"], row["seed"]]
        for key in ("valid", "test", "history", "config_hash", "data_hash", "code_hash"):
            assert row[key] == twin[key]
    again = (repository.path / "results/demo_x1/table.csv").read_text()
    assert accuracy(again) == accuracy(table)
    check_by_hand(repository, undisturbed["FM_demo_gen", 2020])


def check_by_hand(repository: Repository, row: dict) -> None:
    """Checks that a run of a sweep has the bits of its command, started anew, and of --verify."""
    command = [sys.executable, *row["environment"]["argv"]]
    command.remove("--end-with-stdin")
    command[command.index("--results") + 1] = "by_hand.jsonl"
    env = os.environ | row["environment"]["variables"]
    subprocess.run(command, cwd=repository.path, env=env, stderr=subprocess.DEVNULL, check=True)
    (twin,) = map(json.loads, (repository.path / "by_hand.jsonl").read_text().splitlines())
    assert twin["environment"] | {"argv": 0, "git": 0} == row["environment"] | {"argv": 0, "git": 0}
    for key in ("valid", "test", "history", "checkpoint_sha256", "code_hash", "threads", "device"):
        assert twin[key] == row[key], key
    assert 0.9 < twin["peak_memory_bytes"] / row["peak_memory_bytes"] < 1.15
    done = repository.run(python(), "-m", "fuxictr", "show", row["run_id"], "--verify")
    assert "identical, bit for bit: metrics, history, parameters and weights" in done.stdout


def test_a_sweep_goes_on_without_its_fork_server(repository):
    sweep = subprocess.Popen(
        [*PAPER, "--model", "CrossNet"],
        cwd=repository.path,
        env=repository.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_for(repository.runs)
    servers = [pid for pid, line in repository.processes().items() if "fork_server" in line]
    for pid in servers:
        if pid not in repository.runs():
            os.kill(pid, signal.SIGKILL)
    output, _ = sweep.communicate(timeout=120)
    assert sweep.returncode == 0, output[-2000:]
    assert output.count("The fork server of the sweep takes no more runs; from now on") == 1
    rows = [row for row in repository.rows() if row["expid"].startswith("CrossNet")]
    assert len({(row["expid"], row["seed"]) for row in rows}) == len(rows) == 4
    assert not any("failed" in row for row in rows)


def accuracy(table: str) -> list[dict]:
    rows = list(csv.DictReader(table.splitlines()))
    kept = [name for name in rows[0] if "AUC" in name or "logloss" in name]
    assert len(kept) >= 6
    return [{name: row[name] for name in kept} for row in rows]


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_sweep_says_how_to_go_on(repository, kind):
    sweep = subprocess.Popen(
        [*PAPER, "--model", "PNN"],
        cwd=repository.path,
        env=repository.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    wait_for(repository.runs)
    time.sleep(0.3)
    if kind == signal.SIGINT:  # as a terminal does it: to the whole group
        os.killpg(sweep.pid, kind)
    else:
        sweep.terminate()
    output, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == 130
    assert "Interrupted. The same command continues with the remaining runs" in output
    wait_for(lambda: not repository.processes())
    assert not any(row["model"] == "PNN" and "failed" in row for row in repository.rows())


def test_two_sweeps_at_once_train_each_run_once(repository):
    command = [*PAPER[:-1], "1", "--model", "DeepFM", "--variants", "dis"]
    sweeps = [repository.start(*command) for _ in range(2)]
    assert [sweep.wait(timeout=120) for sweep in sweeps] == [0, 0]
    assert len([row for row in repository.rows() if row["expid"] == "DeepFM_demo"]) == 1


def test_changed_raw_data_make_finished_runs_stale(repository):
    command = [*PAPER[:-1], "1", "--model", "DeepFM", "--variants", "dis"]
    assert "1 of 1 runs are in the results already" in repository.run(*command).stdout
    repository.run("bash", "1.prepare.sh", "demo", "--rows", "3200")
    assert "already" not in repository.run(*command).stdout
    rows = [row for row in repository.rows() if row["expid"] == "DeepFM_demo"]
    assert len({row["data_hash"] for row in rows}) == len(rows) == 2


def test_a_failed_run_is_recorded_and_the_sweep_continues(repository):
    config = repository.path / "model_zoo" / "FwFM" / "config" / "model_config.yaml"
    whole = config.read_text()
    before, mark, after = whole.partition("FwFM_demo_gen:\n")
    assert mark
    config.write_text(before + mark + "  learning_rate: 1.0e+30\n" + after)
    command = [*PAPER[:-1], "2", "--model", "FwFM"]
    done = repository.run(*command, status=1)
    failed = [row for row in repository.rows() if "failed" in row]
    assert [(row["expid"], row["seed"]) for row in failed] == [
        ("FwFM_demo_gen", 2019),
        ("FwFM_demo_gen", 2020),
    ]
    assert failed[0]["failed"].startswith("NotFiniteError: epoch 1, step ")
    assert "2 of 4 runs failed" in done.stderr
    assert "NotFiniteError" in (repository.path / "results/demo_x1/table.md").read_text()
    num_rows = len(repository.rows())

    config.write_text(whole)
    done = repository.run(*command)
    assert "2 of 4 runs are in the results already" in done.stdout
    assert {row["expid"] for row in repository.rows()[num_rows:]} == {"FwFM_demo_gen"}
    assert "failed" not in (repository.path / "results/demo_x1/table.md").read_text()


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="needs /proc")
def test_runs_of_two_processes_end_with_their_sweep_and_go_on(repository):
    command = ["bash", "2.reproduce.sh", "--dataset", "demo", "--model", "FmFM"]
    command += ["--variants", "dis", "--gpus=-1,-1"]
    done = repository.run(*command, "--dry-run")
    assert "Each run takes 2 processes at once (2 processes on the CPU); the times" in done.stdout
    sweep = repository.start(*command)

    def workers() -> list[str]:
        found = [line for line in repository.processes().values() if "run_expid.py" in line]
        return [line for line in found if "torch.distributed.run" not in line]

    wait_for(lambda: len(workers()) == 2)
    sweep.send_signal(signal.SIGKILL)
    sweep.wait()
    wait_for(lambda: not repository.processes())
    assert not any(row["model"] == "FmFM" for row in repository.rows())

    done = repository.run(*command)
    assert "FmFM_demo, seed 2019, 2 processes on the CPU" in done.stdout
    (row,) = (row for row in repository.rows() if row["model"] == "FmFM")
    assert row["processes"] == 2 and row["jobs"] == 1
    assert row["device"].startswith("2 x cpu (")
    assert "1 of 1 runs are in the results already" in repository.run(*command).stdout
