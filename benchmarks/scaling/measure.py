"""Rows per second, memory and bytes per step of every backbone on one process and on several.

    python benchmarks/scaling/measure.py

Encoded rows in the shape of Avazu_x4 with all 3,750,999 ids are trained on by the Trainer, each run
in its own processes. In a round all runs of a backbone follow each other: one process of one
thread (one), one with as many threads as the others have together (threads), and several of one
thread, with whole tables (none) and with tables cut by rows (row). Every step is timed and its
bytes are counted from the interface of a private network; the first steps do not count. Beside
them is what formulas.py says for the distinct rows of these batches.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import formulas
import processes
import train_throughput
from processes import common

BACKBONES = ("FM", "FwFM", "FmFM", "PNN", "CrossNet", "DCNv2", "DeepFM", "xDeepFM")
VARIANTS: dict[str, dict[str, Any]] = {"dis": {}, "gen": train_throughput.GEN}
# name -> (several processes, several threads each, embedding_sharding)
RUNS = {
    "one": (False, False, "none"),
    "threads": (False, True, "none"),
    "none": (True, False, "none"),
    "row": (True, False, "row"),
}
TITLES = {"one": "1 process", "threads": "1 process, more threads"}
TITLES |= {"none": "whole tables", "row": "tables by rows"}
SKIPPED_STEPS = 2  # DistributedDataParallel arranges its buckets, memory is filled
SEED = 2019


def keys_of(backbone: str, variant: str, batch_size: int, is_paper: bool) -> dict[str, Any]:
    """Returns the config's keys of a backbone."""
    model = "DCNv2" if backbone == "CrossNet" else backbone
    keys = {**train_throughput.COMMON, **train_throughput.widths(model, is_paper)}
    keys |= VARIANTS[variant] | {"model_id": backbone, "batch_size": batch_size, "seed": SEED}
    if backbone == "CrossNet":
        del keys["parallel_dnn_hidden_units"]
        keys |= {"model_structure": "crossnet_only"}
    return {**keys, "epochs": 1, "model": model}


def train(folder: str, keys: dict[str, Any]) -> dict[str, Any]:
    """Trains one epoch on the ranks of this job; returns seconds, bytes and rows of each step."""
    sys.path.insert(0, str(common.ROOT))

    from fuxictr.config import TrainConfig
    from fuxictr.experiment.zoo.models import load_model_class
    from fuxictr.features import FeatureMap
    from fuxictr.pytorch.dataloaders import RankDataLoader, Share
    from fuxictr.pytorch.distributed.ranks import joined
    from fuxictr.pytorch.sharding.tables import defers_tables
    from fuxictr.pytorch.torch_utils import keep_freed_memory, seed_everything
    from fuxictr.pytorch.training.callback import Callback
    from fuxictr.pytorch.training.trainer import Trainer

    class Clock(Callback):
        """Notes time, bytes and memory after each step."""

        def __init__(self) -> None:
            self.noted: list[tuple[float, int | None]] = []
            self.peak_mb = 0.0

        def is_due(self, step: int) -> bool:
            self.noted.append((time.perf_counter(), processes.bytes_sent()))
            self.peak_mb = processes.peak_mb()
            return False

    keep_freed_memory()
    seed_everything(keys["seed"])
    data = Path(folder)
    feature_map = FeatureMap.load(data / "feature_map.json")
    known = {key: value for key, value in keys.items() if key in TrainConfig.keys()}
    config = TrainConfig.from_params(known, where="the benchmark")
    with joined("cpu") as ranks:
        loader = RankDataLoader(
            feature_map,
            stage="train",
            train_data=data / "train.parquet",
            batch_size=config.batch_size,
            seed=config.seed,
            share=Share(ranks.rank, ranks.size),
        )
        batches, _ = loader.make_iterator()
        width = int(keys["embedding_dim"])
        feature_map.defer_tables = defers_tables(feature_map, width, config, ranks)
        network = load_model_class(keys["model"])(feature_map, **keys)
        clock = Clock()
        trainer = Trainer(network, config, "cpu", verbose=0, callbacks=[clock])
        processes.forget_peak()
        result = trainer.fit(batches, None)
        sizes, distinct = formulas.sizes_of(network), _distinct_rows(network, batches)
        ranks.barrier()
    return {
        "noted": clock.noted,
        "training_mb": clock.peak_mb,
        "num_rows": result.num_rows,
        "num_steps": result.num_steps,
        "dense_weights": sizes.dense_weights,
        "table_weights": sizes.table_weights,
        "distinct": distinct,
        "by_formula": {
            mode: formulas.traffic(sizes, mode, ranks.size, distinct).total
            for mode in formulas.MODES
        },
        "memory_by_formula": {
            mode: formulas.memory(sizes, mode, ranks.size, mode != "all-reduce")
            for mode in formulas.MODES
        },
    }


def _distinct_rows(network: Any, batches: Any) -> list[float]:
    """Returns the mean number of distinct rows of a batch's part, of each group of tables."""
    from fuxictr.pytorch.batch import stack_columns
    from fuxictr.pytorch.sharding.tables import trained_blocks

    found: dict[tuple, list[int]] = {}
    for batch in batches:
        groups = {}
        for block in trained_blocks(network):
            rows = stack_columns(batch, block.layout.ids, integer=True) + block.offsets
            groups[block.row_key] = len(rows.unique())
        for key, count in groups.items():
            found.setdefault(key, []).append(count)
    return [statistics.mean(counts) for counts in found.values()]


def generate(folder: str, rows: int) -> dict[str, Any]:
    """Writes the encoded splits, see avazu_encoded.py."""
    import avazu_encoded

    return {"folder": str(avazu_encoded.write_encoded(folder, rows, full_vocab=True))}


def measure(args: argparse.Namespace, folder: str) -> list[dict[str, Any]]:
    """Does all runs, round by round, while there is time; returns one record per run."""
    records: list[dict[str, Any]] = []
    end = time.monotonic() + 60 * args.minutes
    for backbone in args.models:
        for variant in args.variants:
            keys = keys_of(backbone, variant, args.batch_size, args.paper)
            for _ in range(args.rounds):
                if time.monotonic() > end:
                    print(f"the {args.minutes} minutes are over: {backbone} {variant} left out")
                    continue
                for name in args.runs:
                    is_many, has_threads, sharding = RUNS[name]
                    ranks = processes.run_ranks(
                        "train",
                        {"folder": folder, "keys": {**keys, "embedding_sharding": sharding}},
                        num_ranks=args.ranks if is_many else 1,
                        threads=args.ranks if has_threads else 1,
                        timeout=args.timeout,
                    )
                    record = {"model": backbone, "variant": variant, "run": name}
                    records.append(record | figures(ranks, keys["batch_size"]))
                    _show(records[-1])
    return records


def figures(ranks: list[dict[str, Any]], batch_size: int) -> dict[str, Any]:
    """Returns what a run gave: of its steps the median, of its processes the largest."""
    first = ranks[0]
    noted = first["noted"][SKIPPED_STEPS - 1 :]
    steps = [after[0] - before[0] for before, after in zip(noted[:-1], noted[1:], strict=True)]
    start, end = noted[0][1], noted[-1][1]
    sent = None if start is None else (end - start) / len(steps) / len(ranks)
    mean = [statistics.mean(values) for values in zip(*(r["distinct"] for r in ranks), strict=True)]
    # All parts of touched rows are filled up to the largest.
    by_formula = {
        mode: (max if mode == "touched" else statistics.mean)(r["by_formula"][mode] for r in ranks)
        for mode in first["by_formula"]
    }
    return {
        "ranks": len(ranks),
        "rows_per_second": round(batch_size / statistics.median(steps)),
        "step_milliseconds": round(1e3 * statistics.median(steps), 1),
        "steps": len(steps),
        "bytes_sent_per_rank": None if sent is None else round(sent),
        "by_formula": {mode: round(value) for mode, value in by_formula.items()},
        "memory_by_formula": {m: round(v) for m, v in first["memory_by_formula"].items()},
        "training_mb": max(rank["training_mb"] for rank in ranks),
        "peak_mb": max(rank["peak_mb"] for rank in ranks),
        "distinct_rows": [round(value) for value in mean],
        "dense_weights": first["dense_weights"],
        "table_weights": first["table_weights"],
    }


def _show(record: dict[str, Any]) -> None:
    sent = record["bytes_sent_per_rank"]
    mode = {"none": "touched", "row": "row"}.get(record["run"], "")
    counted = "not counted" if sent is None else f"{sent / 1e6:8.3f} MB a rank and step"
    by_formula = f", {record['by_formula'][mode] / 1e6:8.3f} by formula" if mode else ""
    print(
        f"{record['model']:9}{record['variant']:4} {TITLES[record['run']]:24}"
        f"{record['rows_per_second']:>10,} rows/s {record['training_mb']:>7,.0f} MB  "
        f"{counted}{by_formula}",
        flush=True,
    )


def summarize(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns one record per backbone, variant and run: medians over the rounds, and efficiency.

    Efficiency is rows/s over as many times those of one process of one thread; ``of_threads`` is
    rows/s over those of one process that has all threads. Both are taken within a round, None
    where there is no such run.
    """
    found = []
    for name in dict.fromkeys((r["model"], r["variant"], r["run"]) for r in records):
        runs = [r for r in records if (r["model"], r["variant"], r["run"]) == name]
        bases = {
            base: [r for r in records if (r["model"], r["variant"], r["run"]) == (*name[:2], base)]
            for base in ("one", "threads")
        }
        line = dict(runs[0])
        for key in ("rows_per_second", "step_milliseconds", "bytes_sent_per_rank", "training_mb"):
            values = [run[key] for run in runs if run[key] is not None]
            line[key] = statistics.median(values) if values else None
        line["rows_per_second_each"] = [run["rows_per_second"] for run in runs]
        for key, base, factor in (
            ("efficiency", "one", line["ranks"]),
            ("of_threads", "threads", 1),
        ):
            pairs = zip(runs, bases[base], strict=True) if bases[base] else ()
            ratios = [run["rows_per_second"] / of["rows_per_second"] for run, of in pairs]
            line[key] = round(statistics.median(ratios) / factor, 3) if ratios else None
        found.append(line)
    return found


def main() -> None:
    """Parses the command line, measures, prints and stores the record."""
    if processes.run_step({"generate": generate, "train": train}):
        return
    parser = argparse.ArgumentParser(description="Measure training on one and several processes.")
    parser.add_argument("--models", default="all", help="comma-separated backbones, or all")
    parser.add_argument("--variants", default="dis,gen")
    parser.add_argument("--runs", default=",".join(RUNS), help=f"of: {', '.join(RUNS)}")
    parser.add_argument("--ranks", type=int, default=2, help="processes of the runs on several")
    parser.add_argument("--batch-size", type=int, default=10_000, help="of all processes together")
    parser.add_argument("--steps", type=int, default=6, help=f"the first {SKIPPED_STEPS} not timed")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=9, help="after which none is begun")
    parser.add_argument("--paper", action="store_true", help="widths of the paper's Avazu configs")
    parser.add_argument("--timeout", type=float, default=300, help="seconds of a run at most")
    parser.add_argument("--name", default="measure", help="of the stored record")
    parser.add_argument("--note", default="", help="said beside the figures")
    parser.add_argument("--work", help="folder for data (default: a temporary one)")
    parser.add_argument("--results", default=processes.RESULTS, help="folder of the record")
    args = parser.parse_args()
    args.models = list(BACKBONES) if args.models == "all" else args.models.split(",")
    args.variants, args.runs = args.variants.split(","), args.runs.split(",")
    chosen = ((args.models, BACKBONES, "models"), (args.variants, VARIANTS, "variants"))
    chosen += ((args.runs, RUNS, "runs"),)
    for names, allowed, key in chosen:
        if unknown := set(names) - set(allowed):
            parser.error(f"--{key}: {', '.join(sorted(unknown))}: allowed: {', '.join(allowed)}")
    if args.steps < SKIPPED_STEPS + 2:
        parser.error(f"--steps: found {args.steps}, allowed: {SKIPPED_STEPS + 2} and more")
    machine = common.machine()
    common.warn_if_busy(machine)
    if processes.private_network() is None:
        print("warning: no right to make a network namespace: bytes are not counted")
    if args.work:
        Path(args.work).mkdir(parents=True, exist_ok=True)
    rows = -(-args.steps * args.batch_size * 10 // 8)
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        work = Path(args.work or folder).resolve()
        made = common.run_self("generate", folder=work, rows=rows).output
        records = measure(args, made["folder"])
    settings = {
        key: getattr(args, key) for key in ("batch_size", "steps", "rounds", "paper", "note")
    }
    record = {**settings, "ranks": args.ranks, "machine": machine, "versions": common.versions()}
    record |= {"is_counted": processes.private_network() is not None}
    record |= {"summary": summarize(records), "runs": records}
    print(f"wrote {common.store(args.name, record, args.results)}")


if __name__ == "__main__":
    main()
