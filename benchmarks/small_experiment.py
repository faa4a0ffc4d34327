"""Measures a whole small experiment, from the start of the command to its end.

    python benchmarks/small_experiment.py --peer PEER_ENVIRONMENT/bin/python

csv -> encoded -> FM until early stop -> metrics of valid and test, as a user runs it: ours is
``run_expid.py`` with a config folder, the peer's a script of its documented calls. Each runs twice
a repeat, the second time with the data encoded already, because FuxiCTR's build starts a Ray
cluster, which costs more seconds than the rest of ours. Both get the same files and the same keys,
and a repeat has its own seed.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import common
from build_throughput import dataset_params

FIRST_SEED = 2019
EXPID = "FM_small"
RUN_EXPID = common.ROOT / "model_zoo" / "FM" / "run_expid.py"
PEER_SCRIPT = Path(__file__).resolve().with_name("experiment_peer.py")
# What both sides are told of the model and its training; FM_demo's values.
TRAINING = {
    "model": "FM",
    "task": "binary_classification",
    "loss": "binary_crossentropy",
    "metrics": ["AUC", "logloss"],
    "monitor": "AUC",
    "monitor_mode": "max",
    "early_stop_patience": 2,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "embedding_dim": 16,
    "embedding_regularizer": 1e-3,
    "shuffle": True,
}
# Both run a case twice: from the csv files, and with what the first run encoded.
CASES = ("whole", "encoded")


def generate(folder: str, rows: int) -> dict[str, Any]:
    """Writes the csv splits; returns their columns of values."""
    import avazu_shaped

    return {"columns": list(avazu_shaped.write_splits(folder, rows, FIRST_SEED))}


def run_ours(work: Path, dataset: dict[str, Any], training: dict[str, Any]) -> common.Child:
    """Runs run_expid.py with a config folder below ``work``; the answer is its row of results."""
    config = work / f"benchmark_{os.getpid()}"
    config.mkdir(exist_ok=True)
    blocks = {dataset["dataset_id"]: {k: v for k, v in dataset.items() if k != "dataset_id"}}
    (config / "dataset_config.yaml").write_text(json.dumps(blocks))  # JSON is YAML
    model = {"Base": {"model_root": f"{work}/checkpoints/"}, EXPID: training}
    (config / "model_config.yaml").write_text(json.dumps(model))
    results = work / "results.jsonl"
    run = [sys.executable, RUN_EXPID, "--config", config, "--expid", EXPID, "--gpu", "-1"]
    run += ["--results", results]
    command = f"{shlex.join(map(str, run))} >&2 && tail -n 1 {shlex.quote(str(results))}"
    try:
        return common.run_child(["bash", "-c", command], cwd=work, sample_tree=True)
    finally:  # FuxiCTR's line of results, which run_expid.py writes beside itself
        RUN_EXPID.with_name(f"{config.name}.csv").unlink(missing_ok=True)


def run_peer(
    python: str, work: Path, dataset: dict[str, Any], training: dict[str, Any], is_encoded: bool
) -> common.Child:
    """Runs experiment_peer.py; the answer is what it prints."""
    checkpoints = work / "checkpoints"
    (checkpoints / dataset["dataset_id"]).mkdir(parents=True, exist_ok=True)
    own = {"model_root": f"{checkpoints}/", "model_id": EXPID, "gpu": -1, "num_workers": 1}
    params = work / "params.json"
    params.write_text(json.dumps({**dataset, **training, **own, "is_encoded": is_encoded}))
    return common.run_child([python, "-I", PEER_SCRIPT, params], cwd=work, sample_tree=True)


def run_repeat(
    python: str | None, work: Path, columns: list[str], training: dict[str, Any]
) -> dict[str, common.Child]:
    """Runs both cases of one side in an empty folder; python is the peer's, None for ours."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    dataset = dataset_params(work.parent / "csv", work / "data", columns)
    found = {}
    for case in CASES:
        if python is None:
            found[case] = run_ours(work, dataset, training)
        else:
            is_encoded = case == "encoded"
            found[case] = run_peer(python, work, dataset, training, is_encoded)
    return found


def summary(runs: list[dict[str, common.Child]]) -> dict[str, Any]:
    """Returns medians over the repeats, and what the runs came to.

    Args:
        runs: one entry a repeat: case -> run.
    """
    result: dict[str, Any] = {}
    for case in CASES:
        seconds = [run[case].wall_seconds for run in runs]
        result[f"{case}_seconds"] = round(statistics.median(seconds), 2)
        result[f"{case}_seconds_each"] = [round(s, 2) for s in seconds]
    rows = [run["whole"].output for run in runs]
    for split in ("valid", "test"):
        each = [round(row[split]["AUC"], 6) for row in rows]
        result[f"{split}_auc"] = round(statistics.mean(each), 6)
        result[f"{split}_auc_each"] = each
    trees = [run["whole"].tree_peak_mb for run in runs]
    sampled = [tree for tree in trees if tree is not None]
    result["tree_peak_mb"] = round(statistics.median(sampled), 1) if sampled else None
    result["epochs_each"] = [row["epochs"] for row in rows]
    result["parameters"] = rows[0]["parameters"]
    return result


def compare(ours: list[dict[str, common.Child]], peer: list[dict[str, common.Child]]) -> dict:
    """Returns the ratios peer / ours of the pairs and their median, of each case."""
    result: dict[str, Any] = {}
    for case in CASES:
        each = [
            theirs[case].wall_seconds / own[case].wall_seconds
            for own, theirs in zip(ours, peer, strict=True)
        ]
        result[f"{case}_ratio"] = round(statistics.median(each), 2)
        result[f"{case}_ratio_each"] = [round(ratio, 2) for ratio in each]
    return result


def measure(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Generates the data and runs the experiments in turn."""
    child = common.run_self("generate", folder=work / "csv", rows=args.rows)
    pythons = {"ours": None} | ({"peer": args.peer} if args.peer else {})
    runs: dict[str, list[dict[str, common.Child]]] = {side: [] for side in pythons}
    for repeat in range(args.repeats):
        training = {**TRAINING, "batch_size": args.batch_size, "epochs": args.epochs}
        training |= {"seed": FIRST_SEED + repeat, "dataset_id": "avazu_shaped"}
        for side, python in pythons.items():
            found = run_repeat(python, work / side, child.output["columns"], training)
            runs[side].append(found)
            row = found["whole"].output
            print(
                f"{side} {repeat + 1}: whole {found['whole'].wall_seconds:.2f} s, encoded already "
                f"{found['encoded'].wall_seconds:.2f} s; {row['epochs']} epochs, "
                f"test AUC {row['test']['AUC']:.6f}",
                flush=True,
            )
    result: dict[str, Any] = {side: summary(found) for side, found in runs.items()}
    if args.peer:
        result |= compare(runs["ours"], runs["peer"])
    return result


def report(result: dict[str, Any]) -> None:
    """Prints the summary."""
    for side in ("ours", "peer"):
        if side in result:
            found = result[side]
            print(
                f"{side}: whole {found['whole_seconds']} s, encoded already "
                f"{found['encoded_seconds']} s; epochs {found['epochs_each']}; mean AUC valid "
                f"{found['valid_auc']}, test {found['test_auc']}; {found['parameters']:,} "
                f"parameters; peak with descendants {found['tree_peak_mb'] or 'not measurable'} MB"
            )
    for case in CASES:
        if f"{case}_ratio" in result:
            each = result[f"{case}_ratio_each"]
            print(f"ratio (peer / ours), {case}: {result[f'{case}_ratio']}, each pair {each}")


def main() -> None:
    """Parses the command line, measures, prints and stores."""
    if common.run_step({"generate": generate}):
        return
    parser = argparse.ArgumentParser(description="Seconds of a whole small experiment.")
    parser.add_argument("--rows", type=int, default=70_000, help="rows of all three splits")
    parser.add_argument("--batch-size", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=100, help="most epochs")
    parser.add_argument("--peer", help="a Python that has fuxictr 2.3.10, see benchmarks/README.md")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--results", type=Path, default=common.RESULTS, help="where to store")
    parser.add_argument("--work", help="folder for data (default: a temporary one)")
    args = parser.parse_args()
    machine = common.machine()
    common.warn_if_busy(machine)
    # Compiled modules are kept, as they are by default.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    record = {"rows": args.rows, "batch_size": args.batch_size, "machine": machine}
    record["versions"] = common.versions()
    if args.peer:
        record["peer_versions"] = common.peer_versions(args.peer)
    if args.work:
        Path(args.work).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        result = measure(args, Path(folder).resolve())
    report(result)
    print(f"wrote {common.store('small_experiment', {**record, **result}, args.results)}")


if __name__ == "__main__":
    main()
