"""Measures a sweep of small runs: FM on 100,000 ratings, one run a seed.

    python benchmarks/sweep.py --data ml-100k.inter --peer PEER_ENVIRONMENT/bin/python

Ours is ``bash 2.reproduce.sh`` in a copy of this project, as it is by default, and with
``--fresh-processes``, which starts Python anew for each run. The peer's are RecBole 1.2.1's
``run_recbole`` in a loop in one process, and one command a run. All train the same rows with the
same batch, width, learning rate and epochs. Where the start dominates, fewer runs are made.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import common
import sweep_data

FIRST_SEED = 2019
EXPID = "FM_sweep"
PEER_SCRIPT = Path(__file__).resolve().with_name("sweep_recbole.py")
PEER_RECBOLE = "1.2.1"
TRAINING = {"batch_size": 2048, "embedding_dim": 10, "learning_rate": 1e-3}
COPIED = ("fuxictr", "model_zoo", "scripts", "docs/reference", "2.reproduce.sh", "requirements.txt")
# What a run's log says when a training begins, and when a split was evaluated.
_MOMENT = re.compile(r"(\S+ \S+) P\d+ INFO (Start training|\[Metrics\])")


def make_repository(folder: Path, rows: Path, epochs: int) -> None:
    """Copies this project, tracked by git, and adds a dataset and an expid of the rows."""
    left_out = shutil.ignore_patterns("__pycache__", "checkpoints", "*.csv.lock")
    for name in COPIED:
        source, target = common.ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=left_out)
        else:
            shutil.copyfile(source, target)
    dataset = {
        "data_root": "../../data/",
        **{f"{split}_data": str(rows / f"{split}.csv") for split in sweep_data.SPLITS},
        "feature_cols": [{"name": ["user_id", "item_id"], "dtype": "str", "type": "categorical"}],
        "label_col": {"name": "label", "dtype": "float"},
    }
    training = {**TRAINING, "dataset_id": "sweep", "monitor": "AUC", "epochs": epochs}
    training |= {"seed": FIRST_SEED, "early_stop_patience": epochs}
    generated = {"concat_emb": True, "emb_activation": "relu", "gamma": 1}
    expids = {EXPID: training, f"{EXPID}_gen": {**training, **generated}}
    for file, blocks in (
        ("model_zoo/dataset_config.yaml", {"sweep": dataset}),
        ("model_zoo/FM/config/model_config.yaml", expids),
    ):
        with open(folder / file, "a", encoding="utf-8") as config:
            for name, block in blocks.items():
                config.write(f"\n{name}: {json.dumps(block)}\n")  # JSON is YAML
    (folder / ".gitignore").write_text("results/\ncheckpoints/\ndata/\n*.csv\n__pycache__/\n")
    git = ["git", "-c", "user.name=benchmark", "-c", "user.email=benchmark", "-C", str(folder)]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "copy"]):
        subprocess.run([*git, *command], check=True)


def run_sweep(repository: Path, seeds: list[int], *options: str) -> dict[str, Any]:
    """Runs a sweep to its end, in a fresh store of results; returns the figures of a side."""
    shutil.rmtree(repository / "results", ignore_errors=True)
    command = ["bash", "2.reproduce.sh", "--model", "FM", "--variants", "dis", "--dataset", "sweep"]
    command += ["--gpu", "-1", "--seeds", str(len(seeds)), *options]  # from FIRST_SEED on
    script = f'{" ".join(command)} >&2 && echo "{{}}"'
    child = common.run_child(["bash", "-c", script], cwd=repository, sample_tree=True)
    lines = (repository / "results" / "results.jsonl").read_text().splitlines()
    rows = {row["seed"]: row for row in map(json.loads, lines)}
    if sorted(rows) != sorted(seeds) or any("failed" in row for row in rows.values()):
        raise common.ChildError(f"{len(rows)} of {len(seeds)} runs, or a failed one: {command}")
    trained = sum(row["train_seconds"] for row in rows.values())
    starts = gaps(repository, seeds)
    return {
        **figures(len(seeds), child.wall_seconds),
        "training_share": round(trained / child.wall_seconds, 3),
        "start_seconds": round(statistics.median(starts), 3) if starts else None,
        "run_peak_mb": round(max(r["peak_memory_bytes"] for r in rows.values()) / 1e6, 1),
        "tree_peak_mb": child.tree_peak_mb and round(child.tree_peak_mb, 1),
        "test_auc": round(statistics.mean(row["test"]["AUC"] for row in rows.values()), 6),
        "bits": {s: [r["checkpoint_sha256"], r["test"], r["history"]] for s, r in rows.items()},
    }


def gaps(repository: Path, seeds: list[int]) -> list[float]:
    """Returns the seconds between the last evaluation of a run and the first batch of the next.

    A side whose runs overlap has none of them: here one run trains at a time.
    """
    begun, ended = [], []
    for seed in seeds:
        name = EXPID if seed == FIRST_SEED else f"{EXPID}_seed{seed}"
        log = repository / "model_zoo" / "FM" / "checkpoints" / "sweep" / f"{name}.log"
        found = [_MOMENT.match(line) for line in log.read_text().splitlines()]
        moments = [(datetime.fromisoformat(m[1].replace(",", ".")), m[2]) for m in found if m]
        begun.append(max(moment for moment, what in moments if what == "Start training"))
        ended.append(moments[-1][0])
    pairs = zip(sorted(ended)[:-1], sorted(begun)[1:], strict=True)
    return [(begin - end).total_seconds() for end, begin in pairs]


def figures(num_runs: int, seconds: float) -> dict[str, Any]:
    """Returns the seconds of a side, whole and of a run."""
    per_run = round(seconds / num_runs, 3)
    return {"runs": num_runs, "seconds": round(seconds, 2), "seconds_per_run": per_run}


def run_peer(python: str, params: Path, seeds: list[int], is_loop: bool) -> dict[str, Any]:
    """Runs RecBole, all seeds in one process or each in its own; returns the figures of a side."""
    groups = [seeds] if is_loop else [[seed] for seed in seeds]
    start = time.perf_counter()
    children = [
        common.run_child([python, "-I", PEER_SCRIPT, params, *map(str, group)], sample_tree=True)
        for group in groups
    ]
    seconds = time.perf_counter() - start
    runs = [run for child in children for run in child.output["runs"]]
    imported = sum(child.output["seconds"] for child in children)
    peaks = [child.tree_peak_mb for child in children if child.tree_peak_mb]
    return {
        **figures(len(seeds), seconds),
        "imported_seconds_per_run": round(imported / len(seeds), 3),
        "tree_peak_mb": round(max(peaks), 1) if peaks else None,
        "test_auc": round(statistics.mean(run["test"]["auc"] for run in runs), 6),
    }


def measure(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Runs all sides, one after the other."""
    rows = sweep_data.read_rows(args.data) if args.data else sweep_data.make_rows()
    sweep_data.write_splits(rows, work / "rows")
    repository = work / "repository"
    make_repository(repository, work / "rows", args.epochs)
    seeds = list(range(FIRST_SEED, FIRST_SEED + args.runs))
    few = seeds[: args.few_runs]
    run_sweep(repository, seeds[:1], "--fresh-processes")  # encodes the rows; compiles the modules
    found: dict[str, Any] = {"rows": len(rows)}
    found["forked"] = run_sweep(repository, seeds)
    found["fresh"] = run_sweep(repository, few, "--fresh-processes")
    bits = [found[side].pop("bits") for side in ("forked", "fresh")]
    if any(bits[0][seed] != bits[1][seed] for seed in few):
        raise common.ChildError("forked and fresh runs differ in weights, metrics or history")
    if args.peer:
        scratch = work / "scratch"
        scratch.mkdir()
        params = {**TRAINING, "epochs": args.epochs, "folder": str(work / "rows")}
        file = work / "peer.json"
        file.write_text(json.dumps({**params, "scratch": str(scratch)}))
        found["peer_loop"] = run_peer(args.peer, file, seeds[: args.peer_runs], is_loop=True)
        found["peer_commands"] = run_peer(args.peer, file, few, is_loop=False)
        # A loop imports once: its few runs are not to bear that, while ours of a sweep do.
        for side, key in (("loop", "imported_seconds_per_run"), ("commands", "seconds_per_run")):
            ratio = found[f"peer_{side}"][key] / found["forked"]["seconds_per_run"]
            found[f"peer_{side}_ratio"] = round(ratio, 2)
    return found


def report(found: dict[str, Any]) -> None:
    """Prints the sides."""
    for side in ("forked", "fresh", "peer_loop", "peer_commands"):
        if side in found:
            print(f"{side}: " + ", ".join(f"{k} {v}" for k, v in found[side].items()))
        if f"{side}_ratio" in found:
            print(f"ratio ({side} / forked), seconds a run: {found[f'{side}_ratio']}")


def find_data(peer: str) -> Path:
    """Returns the ratings that RecBole's package ships.

    Raises:
        ChildError: it has another version, or none.
    """
    code = (
        "import importlib.metadata as m, json; d = m.distribution('recbole'); "
        "print(json.dumps({'version': d.version, "
        "'file': str(d.locate_file('recbole/dataset_example/ml-100k/ml-100k.inter'))}))"
    )
    known = common.run_child([peer, "-I", "-c", code]).output
    if known["version"] != PEER_RECBOLE:
        raise common.ChildError(f"--peer {peer}: recbole {known['version']}, not {PEER_RECBOLE}")
    return Path(known["file"])


def main() -> None:
    """Parses the command line, measures, prints and stores."""
    parser = argparse.ArgumentParser(description="Seconds of a sweep of small runs.")
    parser.add_argument("--data", type=Path, help="ratings as csv or .inter (none: made)")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--few-runs", type=int, default=10, help="of sides that start anew")
    parser.add_argument("--peer-runs", type=int, default=100, help="of RecBole in one process")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--peer", help="a Python that has recbole 1.2.1, see benchmarks/README.md")
    parser.add_argument("--results", type=Path, default=common.RESULTS, help="where to store")
    parser.add_argument("--work", help="folder for data (default: a temporary one)")
    args = parser.parse_args()
    machine = common.machine()
    common.warn_if_busy(machine)
    # Compiled modules are kept, as they are by default.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHON"] = sys.executable
    if args.peer and not args.data:
        args.data = find_data(args.peer)
    record = {"epochs": args.epochs, **TRAINING, "machine": machine}
    record |= {"data": args.data.name if args.data else "made", "versions": common.versions()}
    record["threads"] = os.environ.get("OMP_NUM_THREADS")
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        found = measure(args, Path(folder).resolve())
    report(found)
    print(f"wrote {common.store('sweep', {**record, **found}, args.results)}")


if __name__ == "__main__":
    main()
