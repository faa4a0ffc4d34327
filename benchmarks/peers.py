"""This project beside every library that people try first, on the same rows.

    python benchmarks/peers.py --size ml100k --peers DIR
    python benchmarks/peers.py --size 1m --peers DIR

DIR holds one environment per library, see README.md; one that is missing is left out, and said.
The encoded rows are written once. Every training is its own process, in the environment of its
side. In a repeat all sides of a backbone follow each other, ours first, with the repeat's seed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import peers_summary
import train_throughput

CHILD = Path(__file__).with_name("peer_child.py")
SEED = 2019
EMBEDDING_DIM = 16
INIT_STD = 1e-4
LEARNING_RATE = 1e-3
MODELS = ("FM", "DeepFM", "DCNv2", "xDeepFM")


# Side -> its environment below --peers.
ENVIRONMENTS = {
    "fuxictr": "fuxictr",
    "recbole": "recbole",
    "deepctr": "deepctr",
    "rechub": "rechub",
    "lightgbm": "gbdt",
    "catboost": "gbdt",
}
SIDES = ("ours", *ENVIRONMENTS)
# Side -> its backbones, if it has not all of them.
SIDE_MODELS: dict[str, tuple[str, ...]] = {
    "rechub": ("DeepFM", "DCNv2"),
    **dict.fromkeys(peers_summary.TREES, (peers_summary.TREES_BESIDE,)),
}


@dataclass(frozen=True)
class Size:
    """What is trained, and for how long at most."""

    rows: int
    batch_size: int
    epochs: int
    repeats: int
    limit_seconds: float


SIZES = {
    "ml100k": Size(rows=100_000, batch_size=2048, epochs=3, repeats=1, limit_seconds=45),
    "1m": Size(rows=1_000_000, batch_size=10_000, epochs=1, repeats=1, limit_seconds=45),
}


def prepare(**params: Any) -> dict[str, Any]:
    """Writes the encoded rows, see peer_data.py."""
    import peer_data

    return peer_data.prepare(**params)


def python_of(side: str, folder: Path) -> Path:
    """Returns the Python that runs a side."""
    if side == "ours":
        return Path(sys.executable)
    return folder / ENVIRONMENTS[side] / "bin" / "python"


def find_versions(side: str, folder: Path) -> dict[str, str]:
    """Returns the versions of the packages in the environment of a side; none if it is missing."""
    python = python_of(side, folder)
    if not python.exists():
        return {}
    package = peers_summary.PACKAGES.get(side)
    names = ["torch", "numpy", "pandas", *([package] if package else [])]
    code = (
        "import json, platform\nfrom importlib import metadata\n"
        "found = {'python': platform.python_version()}\n"
        f"for name in {names!r}:\n"
        "    try: found[name] = metadata.version(name)\n"
        "    except metadata.PackageNotFoundError: pass\n"
        "print(json.dumps(found))"
    )
    found: dict[str, str] = common.run_child([python, "-I", "-c", code]).output
    return found if package is None or package in found else {}


def ml100k_folder(folder: Path) -> Path:
    """Returns the folder of MovieLens-100K in RecBole's package.

    Raises:
        FileNotFoundError: the environment has none.
    """
    pattern = "recbole/lib/python*/site-packages/recbole/dataset_example/ml-100k"
    found = sorted(folder.glob(pattern))
    if not found:
        raise FileNotFoundError(f"--peers {folder}: found no {pattern}, which holds the rows")
    return found[-1]


def job_of(
    args: argparse.Namespace, data: dict[str, Any], scratch: Path, model: str, side: str, seed: int
) -> dict[str, Any]:
    """Returns what a child process is told.

    Its keys are those of ``data`` (see peer_data.prepare) and side, model, seed, root (of this
    project), scratch (a folder), batch_size, epochs, limit_seconds, and the sizes and rates.
    """
    return {
        **data,
        "side": side,
        "model": model,
        "seed": seed,
        "root": str(common.ROOT),
        "scratch": str(scratch),
        "batch_size": args.batch_size,
        "epochs": args.epochs,
        "limit_seconds": args.limit_seconds,
        "embedding_dim": EMBEDDING_DIM,
        "hidden_units": train_throughput.UNITS,
        "num_cross_layers": train_throughput.WIDTHS["DCNv2"]["num_cross_layers"],
        "cin_units": train_throughput.WIDTHS["xDeepFM"]["cin_hidden_units"],
        "init_std": INIT_STD,
        "learning_rate": LEARNING_RATE,
        "keys": train_throughput.widths(model, is_paper=False),
    }


def run_side(args: argparse.Namespace, job: dict[str, Any], work: Path) -> dict[str, Any]:
    """Trains one backbone with one library in its own process."""
    with tempfile.TemporaryDirectory(dir=work) as scratch:
        file = Path(scratch) / "job.json"
        file.write_text(json.dumps({**job, "scratch": scratch}))
        command = [python_of(job["side"], args.peers), "-I", CHILD, file]
        found = common.run_child(command, cwd=scratch, sample_tree=True)
    output = found.output
    return {
        "model": job["model"],
        "side": job["side"],
        "seed": job["seed"],
        "train_rows_per_second": round(output["train_rows"] / output["train_seconds"]),
        "evaluate_rows_per_second": round(output["evaluate_rows"] / output["evaluate_seconds"]),
        "wall_seconds": round(found.wall_seconds, 2),
        "peak_mb": round(found.peak_mb, 1),
        "tree_peak_mb": round(found.tree_peak_mb or found.peak_mb, 1),
        **output,
    }


def measure(
    args: argparse.Namespace, sides: list[str], work: Path
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Runs all sides of all backbones, repeat by repeat.

    Returns:
        One record per run, and model, side, seed and error of each run that failed.
    """
    source = str(ml100k_folder(args.peers)) if args.size == "ml100k" else ""
    params = {"folder": work, "size": args.size, "rows": args.rows, "source": source}
    data = common.run_self("prepare", **params).output
    records, failed = [], []
    for model in args.models:
        for seed in range(SEED, SEED + args.repeats):
            for side in (s for s in sides if model in SIDE_MODELS.get(s, MODELS)):
                try:
                    record = run_side(args, job_of(args, data, work, model, side, seed), work)
                except common.ChildError as error:
                    reason = str(error).splitlines()[-1]
                    failed.append({"model": model, "side": side, "seed": seed, "error": reason})
                    print(f"{model:8}{side:9} FAILED: {error}", flush=True)
                    continue
                records.append(record)
                print(
                    f"{model:8}{side:9} train {record['train_rows_per_second']:>9,} rows/s, "
                    f"evaluate {record['evaluate_rows_per_second']:>9,} rows/s, "
                    f"peak {record['tree_peak_mb']:>6,.0f} MB, test AUC {record['test_auc']:.5f}, "
                    f"{record['wall_seconds']:.1f} s" + (", stopped" * record["is_stopped"]),
                    flush=True,
                )
    return records, failed


def main() -> None:
    """Parses the command line, measures, prints and stores the record."""
    if common.run_step({"prepare": prepare}):
        return
    parser = argparse.ArgumentParser(description="Measure every peer on the same rows.")
    parser.add_argument("--size", choices=SIZES, default="ml100k")
    parser.add_argument(
        "--peers", type=Path, default=common.ROOT.parent / "peers", help="folder of environments"
    )
    parser.add_argument("--sides", default="all", help=f"of: {', '.join(SIDES)}")
    parser.add_argument("--models", default="all", help=f"of: {', '.join(MODELS)}")
    for name, kind in (("rows", int), ("batch-size", int), ("epochs", int), ("repeats", int)):
        parser.add_argument(f"--{name}", type=kind, help="default: that of the size")
    parser.add_argument("--limit-seconds", type=float, help="of one training; default: the size's")
    parser.add_argument("--results", type=Path, default=common.RESULTS, help="where to store")
    args = parser.parse_args()
    for name, value in vars(SIZES[args.size]).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    args.models = list(MODELS) if args.models == "all" else args.models.split(",")
    wanted = list(SIDES) if args.sides == "all" else args.sides.split(",")
    for chosen, allowed, key in ((args.models, MODELS, "models"), (wanted, SIDES, "sides")):
        if unknown := set(chosen) - set(allowed):
            parser.error(f"--{key}: {', '.join(sorted(unknown))}: allowed: {', '.join(allowed)}")
    machine = common.machine()
    common.warn_if_busy(machine)
    versions = {side: find_versions(side, args.peers) for side in wanted}
    missing = [side for side, found in versions.items() if not found]
    if missing:
        print(f"not installed below {args.peers}, left out: {', '.join(missing)}")
    sides = [side for side in wanted if versions[side]]
    with tempfile.TemporaryDirectory() as folder:
        records, failed = measure(args, sides, Path(folder).resolve())
    rows = peers_summary.summarize(records)
    names = ("size", "rows", "batch_size", "epochs", "repeats", "limit_seconds")
    record = {name: getattr(args, name) for name in names}
    record |= {"machine": machine, "versions": common.versions()}
    record |= {"peer_versions": {side: versions[side] for side in sides if side != "ours"}}
    record |= {"missing": missing, "failed": failed, "summary": rows, "runs": records}
    print("\n".join(peers_summary.table(rows) + peers_summary.remarks(rows, args.limit_seconds)))
    print(f"wrote {common.store(f'peers_{args.size}', record, args.results)}")
    if failed:
        sys.exit(f"runs that failed: {len(failed)}")


if __name__ == "__main__":
    main()
