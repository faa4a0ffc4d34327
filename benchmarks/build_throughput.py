"""Measures the build from csv to parquet: ours, and FuxiCTR 2.3.10's beside it.

    python benchmarks/build_throughput.py --rows 1000000 --peer PEER_ENVIRONMENT/bin/python

Each build has its own process and its own empty folder; they take turns, ours, theirs, ours,
theirs. A build of START_ROWS rows precedes each: FuxiCTR starts a Ray cluster, which costs seconds
whatever the rows, and a ratio over few rows shows little else. Its workers are daemons, so compare
the memory with descendants. Both read the same files with the same config: 22 categorical fields,
`hour` as plain text, because column functions differ between the two.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import common

SEED = 2019
DATASET_ID = "avazu_shaped"
PEER_VERSION = "2.3.10"
START_ROWS = 2000
UNKNOWN = "not measurable"
CHILD = Path(__file__).resolve().with_name("build_child.py")


def generate(folder: str, rows: int, full_vocab: bool) -> dict[str, Any]:
    """Writes the csv splits; returns their columns of values."""
    import avazu_shaped

    vocab_rows = avazu_shaped.FULL_ROWS if full_vocab else None
    return {"columns": list(avazu_shaped.write_splits(folder, rows, SEED, vocab_rows))}


def dataset_params(csv_folder: Path, data_root: Path, columns: list[str]) -> dict[str, Any]:
    """Returns the dataset config, which both packages understand."""
    files = {
        f"{split}_data": str(csv_folder / f"{split}.csv") for split in ("train", "valid", "test")
    }
    return {
        **files,
        "dataset_id": DATASET_ID,
        "data_root": f"{data_root}/",
        "data_format": "csv",
        "min_categr_count": 2,
        "feature_cols": [{"name": columns, "active": True, "dtype": "str", "type": "categorical"}],
        "label_col": {"name": "click", "dtype": "float"},
        "verbose": 0,
    }


def build(
    python: str,
    name: str,
    work: Path,
    csv_folder: str,
    columns: list[str],
    code: Path = common.ROOT,
) -> common.Child:
    """Runs one build in an empty folder <work>/<name>, with the project in the folder ``code``.

    The name ``peer`` takes the installed package instead.

    Raises:
        ChildError: it failed, or it ran with another package than the one that was meant.
    """
    root = work / name
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    params = work / f"{name}.json"
    params.write_text(json.dumps(dataset_params(work / csv_folder, root, columns)))
    ours = [] if name == "peer" else [code]
    child = common.run_child([python, "-I", CHILD, params, *ours], cwd=root, sample_tree=True)
    version, file = child.output["versions"]["fuxictr"], Path(child.output["file"])
    if file.is_relative_to((code / "fuxictr").resolve()) != (name != "peer"):
        raise common.ChildError(f"{name}: found the package {file}")
    if name == "peer" and version != PEER_VERSION:
        raise common.ChildError(f"--peer {python}: found fuxictr {version}, not {PEER_VERSION}")
    return child


def summary(runs: list[dict[str, common.Child]], rows: int) -> dict[str, Any]:
    """Returns medians over the repeats.

    Args:
        runs: one entry a repeat: the builds of START_ROWS rows (``start``) and of all (``full``).
        rows: of the full build.
    """
    full = [run["full"] for run in runs]
    seconds = [child.output["seconds"] for child in full]
    starts = [run["start"].output["seconds"] for run in runs]
    beyond = statistics.median(seconds) - statistics.median(starts)
    # What a further row costs is no number where starts differ about as much as that comes to.
    is_clear = len(runs) > 1 and beyond > 2 * (max(starts) - min(starts))
    trees = [child.tree_peak_mb for child in full if child.tree_peak_mb is not None]
    return {
        "rows_per_second": round(rows / statistics.median(seconds)),
        "rows_per_second_each": [round(rows / s) for s in seconds],
        "start_seconds": round(statistics.median(starts), 2),
        "start_seconds_each": [round(s, 2) for s in starts],
        "marginal_rows_per_second": round((rows - START_ROWS) / beyond) if is_clear else None,
        "wall_seconds": round(statistics.median(child.wall_seconds for child in full), 2),
        "peak_mb": round(statistics.median(child.peak_mb for child in full), 1),
        "tree_peak_mb": round(statistics.median(trees), 1) if trees else None,
        "versions": full[0].output["versions"],
    }


def compare_vocabularies(work: Path, columns: list[str]) -> dict[str, Any]:
    """Returns the sizes of the columns' vocabularies in both builds, and where they differ."""
    sizes: dict[str, dict[str, int]] = {}
    for name in ("ours", "peer"):
        with open(work / name / DATASET_ID / "feature_vocab.json") as file:
            vocabularies = json.load(file)
        sizes[name] = {column: len(vocabularies[column]) for column in columns}
    differing = [column for column in columns if sizes["ours"][column] != sizes["peer"][column]]
    return {
        "sizes": sizes["ours"],
        "differing": {c: [sizes[n][c] for n in sizes] for c in differing},
    }


def measure(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Generates the data and runs the builds in turn."""
    for folder, rows in (("start", START_ROWS), ("full", args.rows)):
        params = {"folder": work / folder, "rows": rows, "full_vocab": args.full_vocab}
        columns = common.run_self("generate", **params).output["columns"]
    pythons = {"ours": sys.executable} | ({"peer": args.peer} if args.peer else {})
    runs: dict[str, list[dict[str, common.Child]]] = {name: [] for name in pythons}
    for repeat in range(args.repeats):
        for name, python in pythons.items():
            run = {size: build(python, name, work, size, columns) for size in ("start", "full")}
            runs[name].append(run)
            first, last = (run[size].output["seconds"] for size in ("start", "full"))
            print(f"{name} {repeat + 1}: {last:.2f} s, {START_ROWS} rows alone {first:.2f} s")
    result: dict[str, Any] = {name: summary(found, args.rows) for name, found in runs.items()}
    if args.peer:
        ratios = [
            peer["full"].output["seconds"] / ours["full"].output["seconds"]
            for peer, ours in zip(runs["peer"], runs["ours"], strict=True)
        ]
        result["ratio"] = round(statistics.median(ratios), 2)
        result["ratio_each"] = [round(ratio, 2) for ratio in ratios]
        rates = [result[name]["marginal_rows_per_second"] for name in ("ours", "peer")]
        result["marginal_ratio"] = round(rates[0] / rates[1], 2) if all(rates) else None
        result["vocabularies"] = compare_vocabularies(work, columns)
    return result


def report(result: dict[str, Any]) -> None:
    """Prints the summary; a number that the run was too short for is "not measurable"."""
    for name in ("ours", "peer"):
        if name in result:
            found = result[name]
            marginal = found["marginal_rows_per_second"]
            beyond = f"{marginal:,} rows/s" if marginal else UNKNOWN
            print(
                f"{name}: fuxictr {found['versions']['fuxictr']}: "
                f"{found['rows_per_second']:,} rows/s; {START_ROWS} rows alone take "
                f"{found['start_seconds']} s, beyond them {beyond}; "
                f"whole process {found['wall_seconds']} s; peak {found['peak_mb']:,} MB, "
                f"with descendants {found['tree_peak_mb'] or UNKNOWN} MB"
            )
    if "ratio" in result:
        print(f"ratio (ours / peer): {result['ratio']}, each pair {result['ratio_each']}")
        print(f"ratio beyond the start: {result['marginal_ratio'] or UNKNOWN}")
        differing = result["vocabularies"]["differing"]
        print(f"vocabularies: {differing or 'equal sizes in every column'}")


def main() -> None:
    """Parses the command line, measures, prints and stores."""
    if common.run_step({"generate": generate}):
        return
    parser = argparse.ArgumentParser(description="Rows/s and memory of the csv to parquet build.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of all three splits")
    parser.add_argument("--peer", help="a Python that has fuxictr 2.3.10, see benchmarks/README.md")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--full-vocab", action="store_true", help="Avazu_x4's vocabularies")
    parser.add_argument("--work", help="folder for data (default: a temporary one)")
    args = parser.parse_args()
    machine = common.machine()
    common.warn_if_busy(machine)
    if args.work:
        Path(args.work).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        result = measure(args, Path(folder))
    report(result)
    record = {"rows": args.rows, "fields": 22, "machine": machine, **result}
    print(f"wrote {common.store('build_throughput', record)}")


if __name__ == "__main__":
    main()
