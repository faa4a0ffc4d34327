"""Runs that are killed, interrupted and gone on with, as whole processes."""

import json
import random
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from fuxictr.experiment.zoo.models import ROOT
from fuxictr.metrics import format_metrics
from tests.end_to_end.conftest import UserFolder
from tests.preloaded import python

SCRIPT = ROOT / "model_zoo" / "DeepFM" / "run_expid.py"
# What a run may take from its clock and from its interruptions.
OF_THE_LIFE = {"run_id", "time", "seconds", "resumes", "train_seconds", "train_rows_per_second"}
OF_THE_LIFE |= {"peak_memory_bytes", "checkpoint", "encoded", "config", "environment"}


class LongRun(UserFolder):
    """A run that saves its state, of some megabytes, after each of its 200 steps."""

    def __init__(self, path: Path) -> None:
        path.mkdir()
        super().__init__(path)
        self.model["mine"] |= {
            "embedding_dim": 32,
            "net_dropout": 0.2,
            "epochs": 20,
            "early_stop_patience": 100,
            "eval_steps": 7,
            "save_steps": 1,
        }
        rng = np.random.default_rng(1)
        items = rng.integers(0, 20_000, 1000)
        self.write_rows(
            "train",
            ["click", "user", "item", "price"],
            rng.integers(0, 2, 1000),
            rng.integers(0, 20, 1000),
            items,
            rng.normal(size=1000).round(4),
        )
        self.write_configs()

    @property
    def stem(self) -> Path:
        return self.path / "checkpoints" / "clicks" / "mine"

    def command(self, *options: str) -> list[str]:
        results = ["--results", str(self.path / "results.jsonl")]
        config = ["--config", str(self.path), "--expid", "mine", "--gpu", "-1"]
        return [python(), str(SCRIPT), *config, *results, *options]

    def start(self, *options: str) -> subprocess.Popen:
        return subprocess.Popen(
            self.command(*options), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def run(self, *options: str, status: int = 0) -> str:
        done = subprocess.run(
            self.command(*options), capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == status, done.stderr[-3000:]
        return done.stderr

    def row(self) -> dict:
        (line,) = (self.path / "results.jsonl").read_text().splitlines()
        return json.loads(line)

    def log(self) -> str:
        path = self.stem.with_name("mine.log")
        return path.read_text() if path.exists() else ""

    def wait_for_training(self, process: subprocess.Popen, num_before: int) -> None:
        """Waits until a process trains, or has ended."""
        end = time.monotonic() + 120
        while self.log().count(" training: ") <= num_before and process.poll() is None:
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.01)

    def leftovers(self) -> list[str]:
        names = [path.name for path in self.stem.parent.iterdir()]
        return sorted(set(names) - {"mine.log", "mine.model", "mine.model.json", ".mine.lock"})


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[dict, float]:
    """The row of a run that nothing disturbs, and the seconds that its training takes."""
    folder = LongRun(tmp_path_factory.mktemp("undisturbed") / "folder")
    process = folder.start()
    folder.wait_for_training(process, 0)
    begin = time.monotonic()
    process.communicate()
    assert process.returncode == 0
    assert folder.leftovers() == []
    return folder.row(), time.monotonic() - begin


def assert_same(row: dict, wanted: dict) -> None:
    for name in row.keys() - OF_THE_LIFE:
        assert row[name] == wanted[name], name


@pytest.mark.parametrize("num_kills", [3, pytest.param(25, marks=pytest.mark.slow)])
def test_killed_at_random_moments_and_gone_on_with(tmp_path, undisturbed, num_kills):
    wanted, seconds = undisturbed
    rng, num_killed, num_writing = random.Random(num_kills), 0, 0
    while num_killed < num_kills:  # a run may end before enough of its lives were killed
        folder = LongRun(tmp_path / f"folder{num_killed}")
        folder.run("--set", "epochs=1")  # encodes, and leaves another run's checkpoint behind
        (folder.path / "results.jsonl").unlink()
        num_before = num_killed
        while not (folder.path / "results.jsonl").exists() and num_killed < num_kills:
            num_lives = folder.log().count(" training: ")
            process = folder.start("--resume")
            folder.wait_for_training(process, num_lives)
            time.sleep(rng.uniform(0, 0.15 * seconds))
            process.kill()
            process.communicate()
            num_killed += process.returncode == -signal.SIGKILL
            num_writing += any(name.startswith(".mine.state.") for name in folder.leftovers())
        folder.run("--resume")
        row = folder.row()
        assert_same(row, wanted)
        assert len(row["resumes"]) <= num_killed - num_before
        assert folder.leftovers() == []
    assert num_writing or num_kills < 10, "none was killed while it wrote its state"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_save_and_say_how_to_go_on(tmp_path, undisturbed, number):
    wanted, _ = undisturbed
    folder = LongRun(tmp_path / "folder")
    folder.model["mine"] |= {"save_steps": None}
    folder.write_configs()
    process = folder.start()
    while folder.log().count("Train loss") < 3:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number
    assert "Traceback" not in said
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    found = said.strip().splitlines()[-1].partition(" resume with: python ")
    assert found[0] == f"{name}: the state is in {folder.stem}.state;"
    assert not (folder.path / "results.jsonl").exists()
    command = [python(), *shlex.split(found[2])]
    assert command == folder.command("--resume")
    folder.run("--resume")
    row = folder.row()
    assert_same(row, wanted)
    assert [entry["step"] > 0 for entry in row["resumes"]] == [True]
    assert folder.leftovers() == []


def test_what_changed_is_refused_and_named(tmp_path):
    folder = LongRun(tmp_path / "folder")
    process = folder.start()
    folder.wait_for_training(process, 0)
    while not Path(f"{folder.stem}.state").exists():
        time.sleep(0.01)
    process.kill()
    process.communicate()

    folder.model["mine"]["learning_rate"] = 0.01
    folder.write_configs()
    said = folder.run("--resume", "--seed", "7", status=1)
    assert "ConfigError: " in said and f"{folder.stem}.state: the interrupted run was" in said
    assert "seed (was 2019, is 7), key 'learning_rate' (was 0.05, is 0.01);" in said
    assert "set back what differs, or train without --resume" in said
    folder.model["mine"]["learning_rate"] = 0.05
    folder.write_configs()

    rows = (folder.path / "train.csv").read_text()
    folder.write_rows("train", ["click", "user", "item", "price"], [0, 1], [1, 2], [3, 4], [5, 6])
    assert "another one: data (was " in folder.run("--resume", status=1)
    (folder.path / "train.csv").write_text(rows)

    state = Path(f"{folder.stem}.state")
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    said = folder.run("--resume", status=1)
    assert f"CheckpointError: {state}: not a readable checkpoint" in said

    # A sweep passes over what does not fit, and trains anew.
    folder.model["mine"] |= {"learning_rate": 0.01, "epochs": 1}
    folder.write_configs()
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    said = folder.run("--resume", "--skip-finished")
    assert "training anew" in said and folder.row()["resumes"] == []
    assert folder.leftovers() == []


def test_finished_runs_are_not_trained_again(tmp_path):
    folder = LongRun(tmp_path / "folder")
    folder.model["mine"] |= {"epochs": 1}
    folder.write_configs()
    folder.run("--resume")  # there is nothing to go on from
    row = folder.row()
    assert row["resumes"] == []
    # Killed between the row and the end of its state: the state is of a run that is finished.
    shutil.copy(f"{folder.stem}.model", f"{folder.stem}.state")
    said = folder.run("--resume")
    assert "Already in" in said and folder.row() == row
    for split in ("valid", "test"):
        assert f"[Metrics] {format_metrics(row[split])}" in said
    assert folder.leftovers() == []
    # Without its weights it is trained again.
    Path(f"{folder.stem}.model").unlink()
    folder.run("--resume")
    assert len((folder.path / "results.jsonl").read_text().splitlines()) == 2


def test_without_states_a_signal_ends_at_once(tmp_path):
    folder = LongRun(tmp_path / "folder")
    folder.model["mine"] |= {"save_state": False}
    folder.write_configs()
    process = folder.start()
    folder.wait_for_training(process, 0)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and said.endswith("Interrupted.\n")
    assert folder.leftovers() == []
