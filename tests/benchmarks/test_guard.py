"""guard.py: a slower commit is found and named, noise and the same commit twice are not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def git(folder, *arguments):
    user = ["-c", "user.name=tester", "-c", "user.email=tester@example.org"]
    subprocess.run(["git", *user, *arguments], cwd=folder, check=True, capture_output=True)


def commit(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", f"Change {name}")


@pytest.fixture
def guard(script):
    return script("guard")


@pytest.fixture
def repository(tmp_path):
    """A repository in which the commands of the part ``startup`` exist and do nothing."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    for name in ("fuxictr/pytorch/models.py", "model_zoo/FM/run_expid.py"):
        commit(folder, name, "")
    commit(folder, "fuxictr/__init__.py", "")
    git(folder, "tag", "first")
    return folder


@pytest.fixture
def run_guard(tmp_path):
    """Runs the script; returns its exit status, what it printed, and the figures it stored."""

    def call(repository, *options):
        results = tmp_path / "results"
        command = [sys.executable, ROOT / "benchmarks" / "guard.py", *options]
        done = subprocess.run(
            [*command, "--repository", repository, "--results", results],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        stored = sorted(results.glob("guard_*.json"))
        assert stored, done.stderr[-3000:]
        return done.returncode, done.stdout, json.loads(stored[-1].read_text())

    return call


def test_a_slower_import_is_found_and_named(repository, run_guard):
    slow = "import time\ntime.sleep(0.3)\n"
    commit(repository, "fuxictr/__init__.py", slow)
    status, printed, stored = run_guard(repository, "first", "HEAD", "--parts", "startup")
    assert status == 1
    worse = {record["task"] for record in stored["figures"] if record["is_worse"]}
    assert worse == {"import fuxictr", "import fuxictr.pytorch.models"}
    assert "worse: import fuxictr, s:" in printed
    listed = subprocess.run(
        ["git", "worktree", "list"], cwd=repository, capture_output=True, text=True, check=True
    )
    assert len(listed.stdout.splitlines()) == 1, "no worktree is left behind"


def test_a_working_tree_that_is_faster_is_not_worse(repository, run_guard):
    commit(repository, "fuxictr/__init__.py", "import time\ntime.sleep(0.3)\n")
    (repository / "fuxictr" / "__init__.py").write_text("")
    status, printed, stored = run_guard(repository, "HEAD", ".", "--parts", "startup")
    assert status == 0
    assert stored["codes"]["new"].endswith("+dirty")
    assert "nothing is worse by more than 5%" in printed


def test_without_time_for_enough_pairs_nothing_is_decided(repository, run_guard):
    options = ("--parts", "startup", "--minutes", "0")
    status, printed, _ = run_guard(repository, "first", "first", *options)
    assert status == 2
    assert "fewer than 5 pairs decide nothing" in printed


def test_a_commit_that_does_not_exist_is_named(guard, script, repository):
    with (
        pytest.raises(script("common").ChildError, match="nowhere"),
        guard.checkouts(repository, {"old": "nowhere"}),
    ):
        pass


@pytest.mark.parametrize(
    ("new", "is_worse"),
    [
        ([1.1, 1.1, 1.2, 1.06, 1.3], True),
        ([1.1, 1.1, 1.2, 0.99, 1.3], False),  # 6 of 32 fair games of five tosses end so
        ([1.04, 1.04, 1.04, 1.04, 9.0], False),
        ([1.1] * 9 + [0.5], True),
        ([1.1] * 7 + [0.9] * 3, False),
    ],
)
def test_worse_are_a_median_above_the_limit_and_nearly_all_pairs(guard, new, is_worse):
    assert guard.judge([1.0] * len(new), new)["is_worse"] is is_worse


def test_pairs_are_compared_with_each_other_alone(guard):
    found = guard.judge([1.0, 10.0, 100.0], [2.0, 20.0, 200.0])
    assert (found["ratio"], found["lowest"], found["highest"]) == (2.0, 2.0, 2.0)
    assert (found["old"], found["new"], found["num_worse"]) == (10.0, 20.0, 3)


def test_sides_take_turns_and_what_seems_worse_is_measured_again(guard, capsys):
    calls = []

    def noisy(root):
        calls.append(root.name)
        return {"s": 1.0 if root.name == "old" else next(news)}

    news = iter([2.0] * 5 + [1.0] * 5)
    roots = {"old": Path("old"), "new": Path("new")}
    steady = guard.Task("steady", lambda root: {"s": 1.0 + (root.name == "new")})
    records = guard.compare([guard.Task("noisy", noisy), steady], roots, 5, float("inf"))
    assert calls[:4] == ["old", "new", "new", "old"]
    assert len(calls) == 20
    assert {record["task"]: record["is_worse"] for record in records} == {
        "noisy": False,
        "steady": True,
    }
    assert guard.report(records) == 1
    assert "worse: steady, s: 2.000 times" in capsys.readouterr().out


@pytest.mark.slow
def test_a_slower_layer_is_found_by_training_and_the_same_commit_twice_is_not(run_guard, tmp_path):
    folder = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(ROOT), str(folder))
    name = "fuxictr/pytorch/layers/interactions/pair_interactions.py"
    body = "    if left is right:\n        return _SelfPairSum"
    text = (folder / name).read_text()
    assert body in text
    commit(folder, name, text.replace(body, f"    time.sleep(0.02)\n{body}", 1) + "\nimport time\n")
    options = ("--parts", "train,build", "--models", "FM", "--sides", "dis", "--rows", "6000")
    options += ("--batch-size", "1000")
    status, _, stored = run_guard(folder, "HEAD~1", "HEAD", *options)
    worse = {(r["task"], r["figure"]) for r in stored["figures"] if r["is_worse"]}
    assert (status, worse) == (1, {("FM dis", "train us/row"), ("FM dis", "evaluate us/row")})
    status, _, stored = run_guard(folder, "HEAD", "HEAD", *options)
    assert status == 0, stored["figures"]
