"""Encodes and trains on few, more and many rows, and shows how time and memory grow.

    python benchmarks/large_run.py --rows 10000000 --work DIR

At rows/10, rows/3 and rows: the csv files are generated, encoded, and trained on for one epoch,
once streamed from disk and once from memory, each step in its own process. All sizes have the
vocabularies of the smallest, so that what grows is the rows; --full-vocab gives Avazu_x4's instead,
as far as the rows can hold them. Everything is written below DIR, and generated files are used
again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import common

SEED = 2019
DATASET = "avazu_x4_3bbbc4c9"
SPLITS = ("train", "valid", "test")
MODES = {"stream": True, "memory": False}


def generate(folder: str, rows: int, vocab_rows: int | None) -> dict[str, Any]:
    """Writes the csv splits below a folder unless a finished generation of them is there."""
    import avazu_shaped

    vocab_rows = avazu_shaped.FULL_ROWS if vocab_rows is None else vocab_rows
    made = {
        "rows": rows,
        "seed": SEED,
        "values": avazu_shaped.cardinalities(rows, vocab_rows),
        "source": hashlib.sha256(Path(avazu_shaped.__file__).read_bytes()).hexdigest(),
    }
    mark = Path(folder) / "generated.json"  # written last: one cut off midway does not count
    if not mark.is_file() or json.loads(mark.read_text()) != made:
        mark.unlink(missing_ok=True)
        avazu_shaped.write_splits(folder, rows, SEED, vocab_rows)
        mark.write_text(json.dumps(made))
    return {"values": sum(made["values"].values())}


def write_config(
    work: str, model: str, expid: str, sizes: list[int], trained_rows: int = 0
) -> dict[str, Any]:
    """Writes a config folder: a dataset a size, an expid a size and mode, after a shipped expid.

    Args:
        work: folder for everything.
        model: a folder of model_zoo/.
        expid: whose keys to use.
        sizes: numbers of rows.
        trained_rows: train as many epochs as cover this many rows, one at least.
    """
    _import_package()
    import yaml

    from fuxictr.config import load_raw_config
    from fuxictr.experiment.zoo.models import ZOO

    folder = Path(work).resolve()
    zoo_dir = ZOO / model
    shipped = load_raw_config(zoo_dir / "config", expid, zoo_dir, zoo_dir).params
    blocks = yaml.safe_load((ZOO / "dataset_config.yaml").read_text())
    datasets, experiments = {}, {}
    for rows in sizes:
        files = {f"{s}_data": str(folder / f"csv_{rows}" / f"{s}.csv") for s in SPLITS}
        datasets[f"rows_{rows}"] = {**blocks[DATASET], **files, "data_root": f"{folder}/encoded/"}
        epochs = max(1, math.ceil(trained_rows / rows))
        for mode, streaming in MODES.items():
            kept = {key: v for key, v in shipped.items() if key not in blocks[DATASET]}
            changed = {"dataset_id": f"rows_{rows}", "streaming": streaming}
            changed |= {"epochs": epochs, "early_stop_patience": epochs}
            paths = {"model_root": f"{folder}/checkpoints/", "verbose": 0}
            experiments[f"{mode}_{rows}"] = {**kept, **changed, **paths}
            experiments[f"{mode}_{rows}"].pop("model_id", None)
    config = folder / "config"
    config.mkdir(parents=True, exist_ok=True)
    (config / "dataset_config.yaml").write_text(yaml.safe_dump(datasets))
    (config / "model_config.yaml").write_text(yaml.safe_dump(experiments))
    return {}


def encode(work: str, model: str, rows: int) -> dict[str, Any]:
    """Encodes the rows; reports the seconds of prepare_dataset."""
    _import_package()
    import time

    from fuxictr.experiment.zoo.models import ZOO, load_experiment
    from fuxictr.preprocess import prepare_dataset

    config, _ = load_experiment(f"memory_{rows}", ZOO / model, Path(work) / "config")
    start = time.perf_counter()
    encoded = prepare_dataset(config.dataset, config.data_dir, rebuild=True, verbose=0)
    seconds = time.perf_counter() - start
    return {
        "rows_per_second": rows / seconds,
        "ids": encoded.feature_map.total_features,
        "data_hash": encoded.data_hash,
    }


def train(work: str, model: str, rows: int, mode: str) -> dict[str, Any]:
    """Trains one epoch as run_expid.py does, but stores its row below the work folder."""
    _import_package()
    import torch

    from fuxictr.experiment.run.run import RunOptions, run_experiment
    from fuxictr.experiment.zoo.models import ZOO, load_experiment

    config, model_class = load_experiment(f"{mode}_{rows}", ZOO / model, Path(work) / "config")
    results = Path(work) / "results.jsonl"
    row = run_experiment(config, model_class, torch.device("cpu"), RunOptions(results_file=results))
    return {
        "rows_per_second": row.train_rows_per_second,
        "test": row.test,
        "parameters": row.parameters,
        "data_hash": row.data_hash,
    }


def measure(args: argparse.Namespace, work: Path, sizes: list[int]) -> list[dict[str, Any]]:
    """Runs all steps at all sizes; returns one record per step and size."""
    expid = args.expid or f"{args.model}_avazu"
    common.run_self("write_config", work=work, model=args.model, expid=expid, sizes=sizes)
    records = []
    for rows in sizes:
        vocab_rows = None if args.full_vocab else sizes[0]
        csv = work / f"csv_{rows}"
        common.run_self("generate", folder=csv, rows=rows, vocab_rows=vocab_rows)
        steps = {"encode": ("encode", {})}
        steps |= {mode: ("train", {"mode": mode}) for mode in args.modes.split(",")}
        for name, (step, params) in steps.items():
            child = common.run_self(step, work=work, model=args.model, rows=rows, **params)
            output = {**child.output, "rows_per_second": round(child.output["rows_per_second"])}
            record = {
                "step": name,
                "rows": rows,
                "wall_seconds": round(child.wall_seconds, 2),
                "peak_mb": round(child.peak_mb, 1),
                **output,
            }
            records.append(record)
            print(
                f"{name:7} {rows:>11,} rows: {record['rows_per_second']:>9,} rows/s, "
                f"peak {record['peak_mb']:>8,} MB, process {record['wall_seconds']} s"
            )
    return records


def growth(records: list[dict[str, Any]], key: str = "peak_mb") -> dict[str, list[float]]:
    """Returns step -> bytes of ``key`` that each row added from one size to the next."""
    steps = dict.fromkeys(record["step"] for record in records)
    found = {}
    for step in steps:
        runs = [record for record in records if record["step"] == step]
        found[step] = [
            round((b[key] - a[key]) * 1e6 / (b["rows"] - a["rows"]), 1) for a, b in pairwise(runs)
        ]
    return found


def _import_package() -> None:
    # Only in children: the process that starts them stays small.
    sys.path.insert(0, str(common.ROOT))


def main() -> None:
    """Parses the command line, measures, prints and stores."""
    steps = {"generate": generate, "write_config": write_config, "encode": encode, "train": train}
    if common.run_step(steps):
        return
    parser = argparse.ArgumentParser(description="Encoding and training of many rows.")
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows of all three splits")
    parser.add_argument("--model", default="FM", help="a folder of model_zoo/")
    parser.add_argument("--expid", help="whose keys to use (default <model>_avazu)")
    parser.add_argument("--modes", default=",".join(MODES), help="stream, memory, or both")
    parser.add_argument("--full-vocab", action="store_true", help="Avazu_x4's vocabularies")
    parser.add_argument("--note", help="a remark on the run, stored with it")
    parser.add_argument("--work", required=True, help="folder for data and results of runs")
    args = parser.parse_args()
    unknown = sorted(set(args.modes.split(",")) - set(MODES))
    if unknown:
        parser.error(f"--modes {args.modes}: allowed: {', '.join(MODES)}")
    machine = common.machine()
    common.warn_if_busy(machine)
    sizes = [args.rows // 10, args.rows // 3, args.rows]
    records = measure(args, Path(args.work).resolve(), sizes)
    added = growth(records)
    for step, values in added.items():
        print(f"{step:7} bytes of peak memory an added row: {', '.join(map(str, values))}")
    record = {"machine": machine, "versions": common.versions(), "runs": records}
    record["bytes_per_added_row"], record["note"] = added, args.note
    name = "large_run_full" if args.full_vocab else "large_run"
    print(f"wrote {common.store(name, record)}")


if __name__ == "__main__":
    main()
