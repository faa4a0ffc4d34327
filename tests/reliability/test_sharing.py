"""Processes that share a dataset cache, files of a run and the results store."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fuxictr.errors import DataError
from fuxictr.experiment.results import code_hash
from fuxictr.experiment.run.run import load_dataset, run_experiment
from fuxictr.experiment.zoo.models import ROOT, ZOO, load_experiment
from tests.end_to_end.conftest import UserFolder

SEEDS = range(4)


class Worker:
    """A process of tests.reliability.sharing; what it says goes to a file of its own."""

    def __init__(self, folder: Path, name: str) -> None:
        self.log = folder / f"{name}.err"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "tests.reliability.sharing"]
                + [str(folder), str(folder / "results.jsonl")],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    def tell(self, **order) -> None:
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict:
        line = self.process.stdout.readline()
        assert line, self.said()[-3000:]
        return json.loads(line)

    def said(self) -> str:
        return self.log.read_text()

    def wait_for(self, text: str) -> None:
        limit = time.monotonic() + 60
        while text not in self.said():
            assert time.monotonic() < limit, f"{text!r} was not said: {self.said()[-3000:]}"
            time.sleep(0.02)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@contextlib.contextmanager
def working(folder: Path, number: int) -> Iterator[list[Worker]]:
    """Workers that are ready; those that are left in the end are killed."""
    workers = [Worker(folder, f"worker{index}") for index in range(number)]
    try:
        for worker in workers:
            assert worker.answer() == {"is_ready": True}
        yield workers
    finally:
        for worker in workers:
            worker.kill()


@pytest.fixture
def folder(tmp_path) -> Path:
    """A user's folder with an expid for each seed, and the common one, mine."""
    (tmp_path / "shared").mkdir()
    user = UserFolder(tmp_path / "shared")
    user.model |= {f"own{seed}": {**user.model["mine"], "seed": seed} for seed in SEEDS}
    user.write_configs()
    return user.path


def rows_of(folder: Path) -> list[dict]:
    """All lines of the results store, each of which must be whole."""
    text = (folder / "results.jsonl").read_text()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def numbers(row: dict) -> dict:
    names = (
        "expid",
        "seed",
        "valid",
        "test",
        "history",
        "data_hash",
        "epochs",
        "checkpoint_sha256",
    )
    return {name: row[name] for name in names}


def builds(workers: list[Worker]) -> int:
    return sum(worker.said().count("Built dataset 'clicks'") for worker in workers)


def test_four_processes_beside_a_builder_that_is_killed(folder):
    with working(folder, 5) as (builder, *workers):
        builder.tell(hang=True)
        assert builder.answer() == {"is_building": True}
        for seed, worker in zip(SEEDS, workers, strict=True):
            worker.tell(expid=f"own{seed}")
        for worker in workers:
            worker.wait_for("Waiting for another process that builds")
        builder.kill()
        own = [worker.answer() for worker in workers]
        assert builds(workers) == 1
        assert sorted(map(numbers, rows_of(folder)), key=lambda row: row["seed"]) == list(
            map(numbers, own)
        )
        assert len((folder / "lines.csv").read_text().splitlines()) == 4
        left = [path.name for path in (folder / "encoded/clicks").iterdir()]
        assert not [name for name in left if name.startswith(".") and name != ".lock"]

        for worker in workers:
            worker.tell(expid="mine", skip_finished=True)
        common = [worker.answer() for worker in workers]
        assert len({row["run_id"] for row in common}) == 1
        assert sum("Already in" in worker.said() for worker in workers) == 3
        assert len(rows_of(folder)) == 5

        for seed, worker in zip(SEEDS, workers, strict=True):
            others = [f"data_root=./alone{seed}/", f"model_root=./alone{seed}/"]
            worker.tell(expid=f"own{seed}", overrides=others)
            assert numbers(worker.answer()) == numbers(own[seed])
        assert builds(workers) == 5


@pytest.mark.slow
def test_a_hundred_and_twenty_rows_in_one_results_file(folder):
    keys = ["epochs=1", "eval_steps=3"]
    with working(folder, 4) as workers:
        expected = []
        for number in range(30):
            for worker in workers:
                worker.tell(expid="mine" if number % 3 else "mine_gen", overrides=keys)
            expected += [worker.answer() for worker in workers]
    rows = rows_of(folder)
    assert sorted(row["run_id"] for row in rows) == sorted(row["run_id"] for row in expected)
    assert len(rows) == len({row["run_id"] for row in rows}) == 120
    assert len((folder / "lines.csv").read_text().splitlines()) == 120
    for expid in ("mine", "mine_gen"):
        first, *others = (numbers(row) for row in rows if row["expid"] == expid)
        assert all(other == first for other in others)


@pytest.mark.slow
def test_builders_that_are_killed_at_any_moment(folder):
    draw = random.Random(0)
    keys = ["epochs=3", "streaming=true", "num_workers=2", "shuffle_window=300"]
    with working(folder, 3) as workers:
        expected = {}
        for number in range(12):
            for seed, worker in zip(SEEDS, workers, strict=False):
                worker.tell(expid=f"own{seed}", overrides=keys)
            with working(folder, 1) as (builder,):
                builder.tell(build=True)
                time.sleep(draw.random() * 0.3)
                builder.kill()
            for seed, worker in zip(SEEDS, workers, strict=False):
                found = numbers(worker.answer())
                assert found == expected.setdefault(seed, found), number
    assert len(rows_of(folder)) == 36


def encode_other_rows(folder: Path, keys: list[str]) -> None:
    """Does what another process may do: encodes other rows under the same names."""
    lines = (folder / "train.csv").read_text().splitlines()
    (folder / "train.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    config, _ = load_experiment("mine", ZOO / "DeepFM", folder, keys)
    assert load_dataset(config).rebuilt


@pytest.mark.parametrize(
    ("moment", "streaming", "block_size"),
    [
        ("model is built", False, 0),
        ("model is built", True, 100),
        ("second epoch", False, 0),
        ("second epoch", True, 0),
        ("second epoch", True, 100),
    ],
)
def test_rows_that_are_encoded_anew_under_a_run(folder, monkeypatch, moment, streaming, block_size):
    keys = [f"streaming={streaming}", f"data_block_size={block_size}", "epochs=2"]
    config, kind = load_experiment("mine", ZOO / "DeepFM", folder, keys)
    untouched = run_experiment(config, kind, torch.device("cpu")).to_json()

    class Disturbed(kind):
        def __init__(self, *args, **params):
            super().__init__(*args, **params)
            self.num_steps = 0
            if moment == "model is built":
                encode_other_rows(folder, keys)

        def forward(self, inputs):
            self.num_steps += self.training
            if self.num_steps == 10 and moment == "second epoch":
                self.num_steps += 1
                encode_other_rows(folder, keys)
            return super().forward(inputs)

    monkeypatch.setattr(code_hash, "code_hash", lambda _: untouched["code_hash"])
    if moment == "second epoch" and not streaming:  # all rows are in memory
        row = run_experiment(config, Disturbed, torch.device("cpu")).to_json()
        assert numbers(row) == numbers(untouched)
        return
    with pytest.raises(DataError, match="another process .* meanwhile; start again"):
        run_experiment(config, Disturbed, torch.device("cpu"))
