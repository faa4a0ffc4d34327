"""What `compile: true` gives on the CPU: rows/s with and without, and what compiling costs.

    python benchmarks/compile_cpu.py --models all

Each backbone trains twice in one process, from the same weights and on the same batches, with its
defaults and with `compile: true`. The steps of the two take turns, and their losses must agree. The
cache of compiled code is empty at first; a second process then compiles again from it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import avazu_shaped
import common
import train_throughput
from train_throughput import COMMON, SIDES, widths

# Of the losses of one step, relative: float32 sums in another order differ by less.
TOLERANCE = 1e-3
# Steps of each side before those that count.
WARM_UP = 2
SEED = 2019
SETTINGS = ("rows", "batch_size", "steps", "full_vocab")
AVAZU_ROWS = avazu_shaped.split_rows(avazu_shaped.FULL_ROWS)["train"]


def train(folder: str, model: str, keys: dict[str, Any], steps: int, cache: str) -> dict[str, Any]:
    """Trains one backbone with and without `compile: true`, whose steps take turns.

    Args:
        folder: encoded splits.
        model: the backbone's class.
        keys: of a config.
        steps: how many of each side count; 0: only the first step of the compiled one is made.
        cache: folder where torch keeps compiled code.

    Returns:
        ``first_seconds`` of the compiled side's first step; and for each pair of steps that counts
        the seconds ``plain`` and ``compiled``, and ``loss_difference``, the largest, relative.

    Raises:
        ValueError: two losses of one step differ by more than TOLERANCE.
    """
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
    sys.path.insert(0, str(common.ROOT))
    from fuxictr.pytorch.torch_utils import keep_freed_memory

    keep_freed_memory()
    compiled = training(folder, model, {**keys, "compile": True})
    first = next(compiled)
    if not steps:
        return {"first_seconds": first[1]}
    plain = training(folder, model, keys)
    pairs = [(next(plain), first)]
    for _ in range(WARM_UP + steps - 1):
        pairs.append((next(plain), next(compiled)))
    difference = max(abs(one[0] - two[0]) / abs(one[0]) for one, two in pairs)
    if not difference <= TOLERANCE:
        raise ValueError(
            f"{model}: losses with and without compile: found a relative difference of "
            f"{difference:.2g}, allowed: {TOLERANCE}"
        )
    counted = pairs[WARM_UP:]
    return {
        "first_seconds": first[1],
        "plain": [one[1] for one, _ in counted],
        "compiled": [two[1] for _, two in counted],
        "loss_difference": difference,
    }


def training(folder: str, model: str, keys: dict[str, Any]) -> Iterator[tuple[float, float]]:
    """Returns an endless training: the loss and the seconds of each step, compiling included."""
    from fuxictr.config import TrainConfig
    from fuxictr.experiment.zoo.models import load_model_class
    from fuxictr.features import FeatureMap
    from fuxictr.pytorch.dataloaders import RankDataLoader
    from fuxictr.pytorch.torch_utils import get_device, seed_everything
    from fuxictr.pytorch.training.step import TrainingStep

    feature_map = FeatureMap.load(Path(folder) / "feature_map.json")
    known = {key: value for key, value in keys.items() if key in TrainConfig.keys()}
    config = TrainConfig.from_params(known, where="the benchmark")
    loader = RankDataLoader(
        feature_map,
        stage="train",
        train_data=Path(folder) / "train.parquet",
        batch_size=config.batch_size,
        seed=config.seed,
    )
    batches, _ = loader.make_iterator()
    num_full = batches.num_rows // config.batch_size  # a batch of another size is never compiled
    seed_everything(config.seed)
    step = TrainingStep(load_model_class(model)(feature_map, **keys), config, get_device(-1))
    start = time.perf_counter()
    step.compile(config.batch_size)
    while True:
        for batch in itertools.islice(batches, num_full):
            loss = step(batch).item()
            yield loss, time.perf_counter() - start
            start = time.perf_counter()


def measure(args: argparse.Namespace, work: Path) -> list[dict[str, Any]]:
    """Measures all backbones, DIS and GEN; returns one record each."""
    common.run_self("generate", folder=work, rows=args.rows, full_vocab=args.full_vocab)
    records = []
    for model, side in itertools.product(args.models, ("dis", "gen")):
        keys = {**COMMON, **widths(model, is_paper=False), **SIDES[side], "model_id": model}
        params = {
            "folder": work / COMMON["dataset_id"],
            "model": model,
            "keys": {**keys, "seed": SEED, "batch_size": args.batch_size},
        }
        with tempfile.TemporaryDirectory(dir=work) as cache:
            found = common.run_self("train", steps=args.steps, cache=cache, **params).output
            again = common.run_self("train", steps=0, cache=cache, **params).output
        again_seconds = again["first_seconds"]
        record = summary(found, again_seconds, args.batch_size)
        records.append({"model": model, "side": side, **record})
        print(line(records[-1]), flush=True)
    return records


def summary(found: dict[str, Any], again_seconds: float, batch_size: int) -> dict[str, Any]:
    """Returns the figures of one backbone.

    Args:
        found: what ``train`` returned.
        again_seconds: of the first step of a later process, which finds compiled code.
        batch_size: rows of a step.

    Returns:
        Medians of rows per second, the median ratio of pairs of steps, the seconds of compiling
        (a first step beyond a later one), and the rows after which they are made up for; None
        where chance explains the pairs that are faster, or none are.
    """
    plain, compiled = (statistics.median(found[name]) for name in ("plain", "compiled"))
    ratios = [one / two for one, two in zip(found["plain"], found["compiled"], strict=True)]
    ratio, num_faster = statistics.median(ratios), sum(ratio > 1 for ratio in ratios)
    is_faster = common.sign_probability(num_faster, len(ratios)) <= common.SIGNIFICANCE
    compile_seconds = found["first_seconds"] - compiled
    saved = plain * (1 - 1 / ratio) / batch_size  # seconds a row
    return {
        "plain_rows_per_second": round(batch_size / plain),
        "compiled_rows_per_second": round(batch_size / compiled),
        "ratio": round(ratio, 3),
        "pairs": len(ratios),
        "num_faster": num_faster,
        "compile_seconds": round(compile_seconds, 1),
        "again_seconds": round(again_seconds - compiled, 1),
        "pays_after_rows": round(compile_seconds / saved) if is_faster else None,
        "loss_difference": found["loss_difference"],
    }


def line(record: dict[str, Any]) -> str:
    """Returns what is printed of one backbone."""
    rows = record["pays_after_rows"]
    return (
        f"{record['model']:8} {record['side']:4} plain {record['plain_rows_per_second']:>9,} "
        f"rows/s, compiled {record['compiled_rows_per_second']:>9,}, ratio {record['ratio']:.2f}, "
        f"compile {record['compile_seconds']:.0f} s, again {record['again_seconds']:.0f} s, pays "
        + (
            "never"
            if rows is None
            else f"after {rows:,} rows ({rows / AVAZU_ROWS:.2f} Avazu epochs)"
        )
    )


def earlier(path: Path, record: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the figures of an earlier record.

    Raises:
        ValueError: its settings, machine or versions differ from those of ``record``.
    """
    found = json.loads(path.read_text())
    for name in (*SETTINGS, "versions"):
        if found[name] != record[name]:
            raise ValueError(f"--add {path}: found {name} {found[name]}, allowed: {record[name]}")
    for name in ("cpu", "cores"):
        if found["machine"][name] != record["machine"][name]:
            raise ValueError(f"--add {path}: another machine, by its {name}")
    return list(found["summary"])


def main() -> None:
    """Parses the command line, measures, prints and stores."""
    if common.run_step({"generate": train_throughput.generate, "train": train}):
        return
    parser = argparse.ArgumentParser(description="What compile: true gives on the CPU.")
    parser.add_argument("--models", default="all", help="comma-separated backbones, or all")
    parser.add_argument("--rows", type=int, default=150_000, help="rows of all three splits")
    parser.add_argument("--batch-size", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=12, help="pairs of steps that count")
    parser.add_argument("--full-vocab", action="store_true", help="all 3.75 million features")
    parser.add_argument("--add", type=Path, help="an earlier record, whose other backbones stay")
    parser.add_argument("--work", help="folder for data (default: a temporary one)")
    parser.add_argument("--results", type=Path, default=common.RESULTS, help="where to store")
    args = parser.parse_args()
    args.models = train_throughput.chosen(parser, "--models", args.models, train_throughput.MODELS)
    if avazu_shaped.split_rows(args.rows)["train"] < args.batch_size:
        parser.error(f"--rows {args.rows}: the training rows fill no batch of {args.batch_size}")
    machine = common.machine()
    common.warn_if_busy(machine)
    settings = {key: getattr(args, key) for key in SETTINGS}
    record = {**settings, "machine": machine, "versions": common.versions()}
    kept = earlier(args.add, record) if args.add else []
    if args.work:
        Path(args.work).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        records = measure(args, Path(args.work or folder).resolve())
    figures = [old for old in kept if old["model"] not in args.models] + records
    print(f"wrote {common.store('compile_cpu', {**record, 'summary': figures}, args.results)}")


if __name__ == "__main__":
    main()
