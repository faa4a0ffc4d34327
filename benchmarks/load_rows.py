"""Loads and trains on few, more and many encoded rows: time and memory per row.

    python benchmarks/load_rows.py --work DIR --peer PEER_ENVIRONMENT/bin/python

At each size the rows are generated and encoded once, as in large_run.py, with the vocabularies of
the smallest size. Then, in turn: all splits are loaded and passed over twice, by this project and
by the peer from the same files, and FM is trained from memory. Sizes below TRAINED_ROWS are trained
on several times over, so that what the first steps of a process cost is not taken for the rows'.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import common
import large_run

CHILD = Path(__file__).resolve().with_name("load_child.py")
MODEL = "FM"
TRAINED_ROWS = 1_000_000
BATCH_SIZE = 10_000
CELL_BYTES = 4


def load(python: str, side: str, work: Path, rows: int) -> dict[str, Any]:
    """Loads all splits of a size in its own process.

    Returns:
        rows/s from the files to the last batch of the first pass, those of the load and of the
        second pass alone, the seconds of a first load, and the memory.
    """
    folder = work / "encoded" / f"rows_{rows}"
    params = work / f"load_{side}.json"
    known = {"folder": folder, "dataset_id": f"rows_{rows}", "batch_size": BATCH_SIZE}
    params.write_text(json.dumps(known, default=str))
    ours = [common.ROOT] if side == "ours" else []
    child = common.run_child([python, "-I", CHILD, params, *ours], cwd=work, sample_tree=True)
    found = child.output
    first, second = found["pass_seconds"]
    return {
        "rows_per_second": round(rows / (found["load_seconds"] + first)),
        "load_rows_per_second": round(rows / found["load_seconds"]),
        "pass_rows_per_second": round(rows / second),
        "first_seconds": round(found["first_seconds"], 3),
        "data_bytes": found["data_bytes"],
        "grown_mb": found["grown_mb"],
        "grown_peak_mb": found["grown_peak_mb"],
        "tree_peak_mb": child.tree_peak_mb,
    }


def train(work: Path, rows: int) -> dict[str, Any]:
    """Trains from memory in its own process; returns rows/s of training and the peak."""
    child = common.run_self("train", work=work, model=MODEL, rows=rows, mode="memory")
    return {
        "rows_per_second": round(child.output["rows_per_second"]),
        "peak_mb": child.peak_mb,
    }


def prepare(work: Path, sizes: list[int]) -> int:
    """Generates and encodes all sizes; returns the number of columns, labels included."""
    known = {"work": work, "model": MODEL, "expid": f"{MODEL}_avazu", "sizes": sizes}
    common.run_self("write_config", **known, trained_rows=min(TRAINED_ROWS, max(sizes)))
    for rows in sizes:
        csv = work / f"csv_{rows}"
        common.run_self("generate", folder=csv, rows=rows, vocab_rows=sizes[0])
        child = common.run_self("encode", work=work, model=MODEL, rows=rows)
        print(f"encoded {rows:,} rows: {child.wall_seconds:.1f} s", flush=True)
    feature_map = json.loads((work / "encoded" / f"rows_{rows}" / "feature_map.json").read_text())
    return len(feature_map["features"]) + len(feature_map["labels"])


def medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the median of each figure, None where one is not known, and rows/s of each repeat."""
    found: dict[str, Any] = {}
    for key in runs[0]:
        values = [run[key] for run in runs]
        found[key] = None if None in values else round(statistics.median(values), 3)
        if key.endswith("rows_per_second"):
            found[f"{key}_each"] = values
    return found


def measure(args: argparse.Namespace, work: Path, sizes: list[int]) -> dict[str, Any]:
    """Runs all steps at all sizes in turn; returns columns and one record per step and size."""
    num_columns = prepare(work, sizes)
    steps = {"load": lambda rows: load(sys.executable, "ours", work, rows)}
    if args.peer:
        steps["peer_load"] = lambda rows: load(args.peer, "peer", work, rows)
    steps["train"] = lambda rows: train(work, rows)
    runs: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for repeat in range(args.repeats):
        for rows in sizes:
            for step, run in steps.items():
                found = run(rows)
                runs.setdefault((step, rows), []).append(found)
                print(f"{repeat + 1}: {step} {rows:,}: {found['rows_per_second']:,} rows/s")
    records = []
    for step in steps:
        for rows in sizes:
            record = {"step": step, "rows": rows, **medians(runs[step, rows])}
            # The peer's rows are in other processes: what it grew says nothing of them.
            if step == "load" and record["grown_mb"] is not None:
                cells = CELL_BYTES * num_columns * rows / 1e6
                record["grown_ratio"] = round(record["grown_mb"] / cells, 3)
                record["grown_peak_ratio"] = round(record["grown_peak_mb"] / cells, 3)
            records.append(record)
    return {"columns": num_columns, "runs": records}


def added_bytes(records: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Returns step -> bytes of memory that each row added: resident after a load, peak of training.

    The peer reads its rows in other processes, so its bytes are those of all of them at their peak.
    """
    keys = {"load": "grown_mb", "peer_load": "tree_peak_mb", "train": "peak_mb"}
    found: dict[str, list[float]] = {}
    for step, key in keys.items():
        runs = [record for record in records if record["step"] == step]
        if all(record[key] is not None for record in runs):
            found |= large_run.growth(runs, key)
    return found


def ratios(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns ours / the peer's rows/s of each size, medians over the pairs of a repeat.

    ``ratio`` is of load and first pass, ``pass_ratio`` of a later pass.
    """
    runs = {(record["step"], record["rows"]): record for record in records}
    found = []
    for (step, rows), peer in runs.items():
        if step != "peer_load":
            continue
        record: dict[str, Any] = {"rows": rows}
        for name, key in (("ratio", "rows_per_second"), ("pass_ratio", "pass_rows_per_second")):
            pairs = zip(runs["load", rows][f"{key}_each"], peer[f"{key}_each"], strict=True)
            each = [own / theirs for own, theirs in pairs]
            record[name] = round(statistics.median(each), 2)
            record[f"{name}_each"] = [round(ratio, 2) for ratio in each]
        found.append(record)
    return found


def report(result: dict[str, Any]) -> None:
    """Prints the curves."""
    for record in result["runs"]:
        micro = 1e6 / record["rows_per_second"]
        line = f"{record['step']:9} {record['rows']:>11,} rows: {record['rows_per_second']:>10,.0f}"
        line += f" rows/s, {micro:.3f} us per row"
        if record["step"] != "train":
            line += f"; load alone {record['load_rows_per_second']:,.0f} rows/s"
            line += f", second pass {record['pass_rows_per_second']:,.0f} rows/s"
        if "grown_ratio" in record:
            line += f"; memory {record['grown_mb']:,.1f} MB, {record['grown_ratio']} x the cells"
            line += f", peak {record['grown_peak_ratio']} x"
        print(line)
    for step, values in result["bytes_per_added_row"].items():
        print(f"{step:9} bytes of memory an added row: {', '.join(map(str, values))}")
    print(f"{'cells':9} bytes per row: {CELL_BYTES * result['columns']}")
    for ratio in result["ratios"]:
        print(
            f"ratio (ours / peer) at {ratio['rows']:,} rows: load and first pass {ratio['ratio']}, "
            f"a further pass {ratio['pass_ratio']}"
        )


def main() -> None:
    """Parses the command line, measures, prints and stores."""
    steps = {name: getattr(large_run, name) for name in ("generate", "write_config", "encode")}
    if common.run_step({**steps, "train": large_run.train}):
        return
    parser = argparse.ArgumentParser(description="Loading and training of encoded rows.")
    parser.add_argument("--sizes", default="100000,1000000,10000000", help="rows of all splits")
    parser.add_argument("--peer", help="a Python that has fuxictr 2.3.10, see benchmarks/README.md")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--results", type=Path, default=common.RESULTS, help="where to store")
    parser.add_argument("--work", required=True, help="folder for data, generated once")
    args = parser.parse_args()
    sizes = sorted({int(size) for size in args.sizes.split(",")})
    machine = common.machine()
    common.warn_if_busy(machine)
    record: dict[str, Any] = {"machine": machine, "versions": common.versions()}
    if args.peer:
        record["peer_versions"] = common.peer_versions(args.peer)
    work = Path(args.work).resolve()
    work.mkdir(parents=True, exist_ok=True)
    result = measure(args, work, sizes)
    result["bytes_per_added_row"] = added_bytes(result["runs"])
    result["ratios"] = ratios(result["runs"])
    report(result)
    print(f"wrote {common.store('load_rows', {**record, **result}, args.results)}")


if __name__ == "__main__":
    main()
