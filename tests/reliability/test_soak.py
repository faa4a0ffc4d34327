"""Short runs in one process, good ones and failing ones, leave nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fuxictr.experiment.zoo.models import ROOT
from tests.reliability.soak import MODES

# What must be the same after any number of runs.
COUNTED = ["tensors", "files", "threads", "handlers", "loggers", "modules", "cached", "temporary"]
# Pools of the table libraries start a thread late, but not one a run.
FEW_THREADS = 4
CYCLE = len(MODES)


def soak(tmp_path: Path, num_runs: int, every: int) -> list[dict[str, int]]:
    """What a process holds after each ``every``-th of its runs."""
    (tmp_path / "tmp").mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.reliability.soak"]
        + [str(tmp_path / "my_config"), str(num_runs), str(every)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path / "tmp")},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Exception ignored" not in done.stderr and "Traceback" not in done.stderr
    points = [json.loads(line) for line in done.stdout.splitlines()]
    assert [point["runs"] for point in points] == list(range(every, num_runs + 1, every))
    return points


def held(points: list[dict[str, int]], key: str) -> list[int]:
    return [point[key] for point in points]


def slope(points: list[dict[str, int]], key: str) -> float:
    """The growth of a run, by a straight line through the points."""
    return float(np.polyfit(held(points, "runs"), held(points, key), 1)[0])


def test_a_few_runs(tmp_path):
    points = soak(tmp_path, 3 * CYCLE, CYCLE)
    for key in COUNTED:
        assert len(set(held(points, key))) == 1, (key, held(points, key))
    objects, memory, tasks = (held(points, key) for key in ("objects", "rss_kib", "tasks"))
    assert tasks[-1] - tasks[0] <= FEW_THREADS, tasks
    assert objects[-1] - objects[0] <= 5 * 2 * CYCLE, objects
    assert memory[-1] - memory[0] <= 512 * 2 * CYCLE, memory


@pytest.mark.slow
def test_two_hundred_runs(tmp_path):
    points = soak(tmp_path, 200, 5)
    settled = points[10:]  # every mode has met every model
    for key in [*COUNTED, "in_folder"]:
        assert len(set(held(settled, key))) == 1, (key, held(settled, key))
    tasks = held(settled, "tasks")
    assert max(tasks) - min(tasks) <= FEW_THREADS, tasks
    assert slope(settled, "objects") <= 1, held(settled, "objects")
    assert slope(settled, "rss_kib") <= 64, held(settled, "rss_kib")
