"""Whatever a process is killed at, its file is the old or the new one, and the next run works."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reliability.victims import KINDS, Victims

LONGEST = 0.15  # seconds from the fork to the kill; a version of most kinds takes some milliseconds
MOST_STEPS = 200
STRIDES = {"dataset": 17, "demo": 23, "figure": 6, "scores": 4}  # those that take long


@pytest.fixture(scope="module")
def victims() -> Iterator[Victims]:
    started = Victims()
    yield started
    started.close()


def check_next_run(kind: str, folder: Path) -> None:
    """Asserts that what a killed process left is whole, that the next run works, and cleans up."""
    write, read = KINDS[kind]
    before = read(folder)
    assert before >= 0 or kind == "demo"
    write(folder, 0)
    assert read(folder) == 0
    left = [p for p in folder.rglob(".*") if p.name != ".lock"]
    assert left == [], "the next run removes what the killed one left"


@pytest.mark.parametrize("num_kills", [3, pytest.param(40, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_any_moment(tmp_path, victims, kind, num_kills):
    rng, folder = random.Random(f"{kind}{num_kills}"), tmp_path / "run"
    folder.mkdir()
    KINDS[kind][0](folder, 0)
    for _ in range(num_kills):
        pid = victims.start(kind, folder)
        time.sleep(rng.uniform(0, LONGEST))
        assert victims.end(pid) == -9
        check_next_run(kind, folder)


@pytest.mark.parametrize("is_thorough", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_killed_before_a_step(tmp_path, victims, kind, is_thorough):
    """Before each of them; where they are many the quick form leaves some out."""
    folder = tmp_path / "run"
    folder.mkdir()
    KINDS[kind][0](folder, 0)
    for step in range(1, MOST_STEPS, 1 if is_thorough else STRIDES.get(kind, 1)):
        pid = victims.start(kind, folder, die_before=step)
        status = victims.end(pid, is_killed=False)
        if status == 0:
            break
        assert status == -9
        check_next_run(kind, folder)
    assert 4 <= step < MOST_STEPS - 1, f"{step} steps"
    assert KINDS[kind][1](folder) == 1
