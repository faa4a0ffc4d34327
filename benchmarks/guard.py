"""Compares the speed and the memory of two commits; exit status 1 names what got slower.

    python benchmarks/guard.py main .

OLD and NEW are commits, or `.` for the working tree. Both train and evaluate every backbone, DIS
and GEN, at small sizes, start up, and build parquet from csv. Each measurement is a process of its
own; those of a pair follow each other, and every other pair begins with the new side.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import build_throughput
import common
import startup
import train_throughput

# A figure is worse where its median is by more than this, and chance hardly explains its pairs.
LIMIT = 1.05
# With fewer pairs, chance explains even pairs that are all worse.
MIN_PAIRS = 5
PARTS = ("train", "startup", "build")
# A training of these is short.
EPOCHS = {"FM": 8, "FwFM": 4, "FmFM": 3}
STARTUP = {
    "import fuxictr": ["-c", "import fuxictr"],
    "import fuxictr.pytorch.models": ["-c", "import fuxictr.pytorch.models"],
    "run_expid.py --help": ["model_zoo/FM/run_expid.py", "--help"],
}
TOO_FEW = 2  # exit status

Roots = dict[str, Path]  # side, old or new -> its folder
# What a task measures, all the better the smaller: time, or memory.
Figures = dict[str, float]


@dataclass(frozen=True)
class Task:
    """One process of a side: from the side's folder to figures."""

    name: str
    run: Callable[[Path], Figures]
    has_warm_up: bool = False


@contextlib.contextmanager
def checkouts(repository: Path, commits: dict[str, str]) -> Iterator[Roots]:
    """Gives a folder with the code of each commit, in a temporary git worktree.

    Args:
        repository: whose working tree ``.`` is.
        commits: side -> commit, or ``.``.

    Raises:
        ChildError: git knows no such commit.
    """
    with tempfile.TemporaryDirectory() as temporary:
        roots: Roots = {}
        try:
            for side, commit in commits.items():
                if commit == ".":
                    roots[side] = repository
                    continue
                folder = Path(temporary).resolve() / side
                _git(repository, "worktree", "add", "--detach", str(folder), commit)
                roots[side] = folder
            yield roots
        finally:
            for folder in roots.values():
                if folder != repository:
                    _git(repository, "worktree", "remove", "--force", str(folder))


def _git(repository: Path, *arguments: str) -> str:
    command = ["git", "-C", str(repository), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise common.ChildError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.strip()


def tasks(args: argparse.Namespace, work: Path) -> list[Task]:
    """Writes the data that the chosen parts need; returns their tasks."""
    found = []
    if "train" in args.parts:
        common.run_self("generate", folder=work, rows=args.rows, full_vocab=False)
        found += [
            Task(f"{model} {side}", _training(args, work, model, side))
            for model, side in itertools.product(args.models, args.sides)
        ]
    if "startup" in args.parts:
        found += [Task(name, _start(options), True) for name, options in STARTUP.items()]
    if "build" in args.parts:
        found.append(Task("csv to parquet", _build(args.rows, work)))
    return found


def _training(
    args: argparse.Namespace, work: Path, model: str, side: str
) -> Callable[[Path], Figures]:
    settings = argparse.Namespace(
        rows=args.rows,
        batch_size=args.batch_size,
        epochs=EPOCHS.get(model, 1),
        paper=False,
        device="cpu",
    )

    def run(root: Path) -> Figures:
        seed = train_throughput.SEED
        found = train_throughput.run_side(settings, work, model, side, seed, root)
        return {
            "train us/row": 1e6 / found["train_rows_per_second"],
            "evaluate us/row": 1e6 / found["evaluate_rows_per_second"],
            "peak MB": found["peak_mb"],
        }

    return run


def _start(options: list[str]) -> Callable[[Path], Figures]:
    return lambda root: {"s": startup.seconds_of([sys.executable, *options], root)}


def _build(rows: int, work: Path) -> Callable[[Path], Figures]:
    params = {"folder": work / "csv", "rows": rows, "full_vocab": False}
    columns = common.run_self("generate_csv", **params).output["columns"]

    def run(root: Path) -> Figures:
        child = build_throughput.build(sys.executable, "build", work, "csv", columns, root)
        return {"s": child.output["seconds"], "peak MB": child.peak_mb}

    return run


def measure(
    found: list[Task], roots: Roots, pairs: int, until: float
) -> dict[tuple[str, str], dict[str, list[float]]]:
    """Runs all tasks pair by pair.

    Args:
        found: the tasks.
        roots: side -> folder.
        pairs: how many of each task.
        until: value of time.monotonic() after which no pair of all tasks begins.

    Returns:
        (task, figure) -> side -> its values, one a pair.
    """
    values: dict[tuple[str, str], dict[str, list[float]]] = {}
    for task, root in itertools.product(found, roots.values()):
        if task.has_warm_up:  # modules are compiled, files come into memory
            task.run(root)
    for number in range(pairs):
        if time.monotonic() > until:
            break
        sides = list(roots) if number % 2 == 0 else list(reversed(roots))
        for task in found:
            for side in sides:
                for name, value in task.run(roots[side]).items():
                    of_sides = values.setdefault((task.name, name), {key: [] for key in roots})
                    of_sides[side].append(value)
        print(f"pair {number + 1} of {pairs}", flush=True)
    return values


def judge(old: list[float], new: list[float]) -> dict[str, Any]:
    """Compares the values of one figure, pair by pair.

    Returns:
        ``old``, ``new`` (medians), ``ratio`` (new / old, the median of the pairs), its ``lowest``
        and ``highest``, ``pairs``, ``num_worse`` of them, and ``is_worse``: ratio > LIMIT, and by
        chance as many pairs would be worse with a probability of at most
        common.SIGNIFICANCE.
    """
    ratios = [after / before for before, after in zip(old, new, strict=True)]
    num_worse = sum(ratio > 1 for ratio in ratios)
    ratio = statistics.median(ratios)
    is_significant = common.sign_probability(num_worse, len(ratios)) <= common.SIGNIFICANCE
    return {
        "old": statistics.median(old),
        "new": statistics.median(new),
        "ratio": round(ratio, 4),
        "lowest": round(min(ratios), 4),
        "highest": round(max(ratios), 4),
        "pairs": len(ratios),
        "num_worse": num_worse,
        "is_worse": ratio > LIMIT and is_significant,
    }


def compare(found: list[Task], roots: Roots, pairs: int, until: float) -> list[dict[str, Any]]:
    """Measures and judges; what seems worse is measured again, and is worse if it is so twice."""
    records = _judged(measure(found, roots, pairs, until))
    suspects = {record["task"] for record in records if record["is_worse"]}
    if not suspects:
        return records
    print(f"again: {', '.join(sorted(suspects))}", flush=True)
    again = measure([task for task in found if task.name in suspects], roots, pairs, math.inf)
    second = {(record["task"], record["figure"]): record for record in _judged(again)}
    for record in (record for record in records if record["is_worse"]):
        record["again"] = second[record["task"], record["figure"]]
        record["is_worse"] = record["again"]["is_worse"]
    return records


def _judged(values: dict[tuple[str, str], dict[str, list[float]]]) -> list[dict[str, Any]]:
    return [
        {"task": task, "figure": figure, **judge(sides["old"], sides["new"])}
        for (task, figure), sides in values.items()
    ]


def report(records: list[dict[str, Any]]) -> int:
    """Prints the table and what got worse; returns the exit status."""
    print(f"\n{'':32}{'figure':16}{'old':>12}{'new':>12}{'ratio':>8}{'from':>8}{'to':>8}  worse")
    for record in records:
        again = record.get("again")
        print(
            f"{record['task']:32}{record['figure']:16}{record['old']:>12.4g}{record['new']:>12.4g}"
            f"{record['ratio']:>8.3f}{record['lowest']:>8.3f}{record['highest']:>8.3f}"
            f"  {record['num_worse']} of {record['pairs']}"
            + (f", again {again['ratio']:.3f}" if again else "")
        )
    worse = [record for record in records if record["is_worse"]]
    for record in worse:
        print(f"worse: {record['task']}, {record['figure']}: {record['again']['ratio']:.3f} times")
    if worse:
        return 1
    if not records or min(record["pairs"] for record in records) < MIN_PAIRS:
        print(f"fewer than {MIN_PAIRS} pairs decide nothing: give more --minutes or --pairs")
        return TOO_FEW
    print(f"nothing is worse by more than {LIMIT - 1:.0%}")
    return 0


def main() -> int:
    """Parses the command line, measures, prints and stores; returns the exit status."""
    steps = {"generate": train_throughput.generate, "generate_csv": build_throughput.generate}
    if common.run_step(steps):
        return 0
    parser = argparse.ArgumentParser(description="What a commit made slower, or larger in memory.")
    parser.add_argument("old", metavar="OLD", help="a commit, or . for the working tree")
    parser.add_argument("new", metavar="NEW", help="the same")
    parser.add_argument("--parts", default="all", help=f"of: {', '.join(PARTS)}")
    parser.add_argument("--models", default="all", help="comma-separated backbones, or all")
    parser.add_argument("--sides", default="dis,gen", help="of: dis, gen")
    parser.add_argument("--rows", type=int, default=60_000, help="rows of all three splits")
    parser.add_argument("--batch-size", type=int, default=5_000)
    parser.add_argument("--pairs", type=int, default=MIN_PAIRS, help="of each measurement")
    parser.add_argument("--minutes", type=float, default=60, help="begin no pair of all after them")
    parser.add_argument(
        "--repository", type=Path, default=common.ROOT, help="where the commits are"
    )
    parser.add_argument("--results", type=Path, default=common.RESULTS, help="where to store")
    args = parser.parse_args()
    chosen = train_throughput.chosen
    args.parts = chosen(parser, "--parts", args.parts, PARTS)
    args.models = chosen(parser, "--models", args.models, train_throughput.MODELS)
    args.sides = chosen(parser, "--sides", args.sides, ("dis", "gen"))
    if args.pairs < MIN_PAIRS:
        parser.error(f"--pairs {args.pairs}: allowed: {MIN_PAIRS} or more")
    machine = common.machine()
    until = time.monotonic() + 60 * args.minutes
    repository = args.repository.resolve()
    with (
        checkouts(repository, {"old": args.old, "new": args.new}) as roots,
        tempfile.TemporaryDirectory() as work,
    ):
        codes = {side: common.commit_of(root) for side, root in roots.items()}
        records = compare(tasks(args, Path(work).resolve()), roots, args.pairs, until)
    status = report(records)
    settings = {key: getattr(args, key) for key in ("rows", "batch_size", "pairs", "minutes")}
    record = {**settings, "codes": codes, "machine": machine, "versions": common.versions()}
    print(f"wrote {common.store('guard', {**record, 'figures': records}, args.results)}")
    return status


if __name__ == "__main__":
    sys.exit(main())
