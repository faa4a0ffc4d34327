"""Measures training beside other busy programs: what a run keeps of its fair share of the CPUs.

    python benchmarks/busy.py

Each setting is a process of its own. It trains every backbone, DIS and GEN, for a second or two
alone and then beside k programs that compute without end, at the same priority. Settings take
turns, round by round.

The fair share of a program beside k others on C CPUs is C / (k + 1) of them, or what the others
leave, C - k, if that is more. Its rate is that of one thread for a share up to one CPU. Above, it
grows evenly up to the best rate alone.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import common

# Small widths, as those of the demo configs: small steps suffer most.
MODELS: dict[str, dict[str, Any]] = {
    "FM": {},
    "FwFM": {},
    "FmFM": {},
    "CrossNet": {"model_structure": "crossnet_only", "num_cross_layers": 3, "head": "linear"},
    "DeepFM": {"hidden_units": [128, 64]},
    "PNN": {"hidden_units": [128, 64]},
    "DCNv2": {
        "parallel_dnn_hidden_units": [128, 64],
        "num_cross_layers": 3,
        "head": "linear",
    },
    "xDeepFM": {"dnn_hidden_units": [128, 64], "cin_hidden_units": [16, 16]},
}
_CLASSES = {"CrossNet": "DCNv2"}  # of a backbone; most have their own name
VARIANTS: dict[str, dict[str, Any]] = {
    "dis": {},
    "gen": {"concat_emb": True, "emb_activation": "relu", "gamma": 1},
}
_UNSET = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
_BEST_ALONE, _LEAST_OF_SHARE = 0.97, 1 / 1.5
_BUSY_PROGRAM = [sys.executable, "-IS", "-c", "while True: pass"]


def settings(num_cpus: int) -> dict[str, dict[str, str]]:
    """Returns setting -> environment variables; those that are given are kept by the package.

    "before" is what torch and GNU OpenMP do by themselves: all CPUs, and 300,000 spins.
    """
    cpus = str(num_cpus)
    return {
        "before": {"OMP_NUM_THREADS": cpus, "GOMP_SPINCOUNT": "300000"},
        "passive": {"OMP_NUM_THREADS": cpus, "OMP_WAIT_POLICY": "passive"},
        "one thread": {"OMP_NUM_THREADS": "1"},
        "now": {},
    }


def generate(folder: str, rows: int) -> dict[str, Any]:
    """Writes the encoded splits, see avazu_encoded.py."""
    import avazu_encoded

    return {"folder": str(avazu_encoded.write_encoded(folder, rows, full_vocab=False))}


def train(folder: str, models: list[str], counts: list[int], **options: Any) -> dict[str, Any]:
    """Trains backbones beside each number of busy programs; returns their rates and CPUs used."""
    sys.path.insert(0, str(common.ROOT))
    from fuxictr.pytorch.torch_utils import keep_freed_memory

    keep_freed_memory()
    runs = []
    for model in models:
        for variant, keys in VARIANTS.items():
            for run in _train(Path(folder), model, MODELS[model] | keys, counts, **options):
                runs.append({"model": model, "variant": variant, **run})
    return {"runs": runs}


def _train(
    folder: Path,
    model: str,
    keys: dict[str, Any],
    counts: list[int],
    batch_size: int,
    seconds: float,
) -> Iterator[dict[str, Any]]:
    import torch

    from fuxictr.config import TrainConfig
    from fuxictr.experiment.zoo.models import load_model_class
    from fuxictr.features import FeatureMap
    from fuxictr.pytorch.dataloaders import RankDataLoader
    from fuxictr.pytorch.torch_utils import seed_everything
    from fuxictr.pytorch.training.spinning import spinning_where_alone
    from fuxictr.pytorch.training.trainer import Trainer

    seed_everything(2019)
    feature_map = FeatureMap.load(folder / "feature_map.json")
    params = {"embedding_dim": 16, "batch_size": batch_size, "embedding_regularizer": 1e-3}
    params |= {"metrics": ["AUC", "logloss"], "monitor": "AUC", "monitor_mode": "max"}
    config = TrainConfig.from_params(params, where="the benchmark")
    paths = {f"{split}_data": folder / f"{split}.parquet" for split in ("train", "valid", "test")}
    loader = RankDataLoader(feature_map, **paths, batch_size=batch_size, seed=2019)
    batches, _, _ = loader.make_iterator()
    network = load_model_class(_CLASSES.get(model, model))(feature_map, **keys, **params)
    trainer = Trainer(network, config, "cpu", verbose=0)
    network.train()

    def rate(least_seconds: float) -> tuple[float, float]:
        num_rows, start, used = 0, time.perf_counter(), time.process_time()
        while True:
            for batch in batches:
                trainer.train_step(batch)
                num_rows += batch.num_rows
                taken = time.perf_counter() - start
                if taken > least_seconds:
                    return num_rows / taken, (time.process_time() - used) / taken

    with spinning_where_alone(torch.device("cpu")):
        rate(seconds / 2)  # the first steps are slower
        for count in counts:
            with busy_programs(count):
                rate(seconds / 2)
                rows_per_second, cpus = rate(seconds)
            yield {
                "programs": count,
                "rows_per_second": round(rows_per_second),
                "cpus": round(cpus, 2),
                "threads": torch.get_num_threads(),
            }


@contextlib.contextmanager
def busy_programs(count: int) -> Iterator[None]:
    """Context in which that many programs compute without end."""
    programs = [subprocess.Popen(_BUSY_PROGRAM) for _ in range(count)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def fair_rate(one_thread: float, best: float, programs: int, num_cpus: int) -> float:
    """Returns the rate of a fair share of the CPUs beside that many programs."""
    share = max(num_cpus / (programs + 1), num_cpus - programs)
    if share <= 1 or num_cpus == 1:
        return one_thread * min(share, 1)
    return one_thread + (max(best, one_thread) - one_thread) * (share - 1) / (num_cpus - 1)


def summarize(records: list[dict[str, Any]], num_cpus: int) -> list[dict[str, Any]]:
    """Returns one record per backbone, variant, number of programs and setting, with its verdict.

    Rates are medians over the rounds. ``of_best`` is the share of the best setting alone, and
    ``of_fair`` that of the fair share's rate beside others.
    """
    rates: dict[tuple[str, str, int, str], float] = {}
    for key in dict.fromkeys(map(_key, records)):
        rates[key] = statistics.median(r["rows_per_second"] for r in records if _key(r) == key)
    names = dict.fromkeys(r["setting"] for r in records)
    rows = []
    for (model, variant, programs, setting), rate in rates.items():
        alone = {name: rates[model, variant, 0, name] for name in names}
        best = max(alone.values())
        row = {"model": model, "variant": variant, "programs": programs, "setting": setting}
        row |= {"rows_per_second": round(rate), "of_best": round(rate / best, 3)}
        if programs and "one thread" in alone:
            fair = fair_rate(alone["one thread"], best, programs, num_cpus)
            row["of_fair"] = round(rate / fair, 3)
        rows.append(row)
    return rows


def meets_target(row: dict[str, Any]) -> bool:
    """Returns whether a rate is within 3 % of the best alone, or 1.5 x of its fair share."""
    if row["programs"] == 0:
        return bool(row["of_best"] >= _BEST_ALONE)
    return bool(row["of_fair"] >= _LEAST_OF_SHARE)


def _key(record: dict[str, Any]) -> tuple[str, str, int, str]:
    return record["model"], record["variant"], record["programs"], record["setting"]


def measure(args: argparse.Namespace, work: Path, num_cpus: int) -> list[dict[str, Any]]:
    """Runs all settings in turn, round by round; returns one record per rate."""
    folder = common.run_self("generate", folder=work, rows=args.rows).output["folder"]
    params = {"folder": folder, "models": args.models, "counts": args.programs}
    params |= {"batch_size": args.batch_size, "seconds": args.seconds}
    records = []
    for round_number in range(args.repeats):
        for name in args.settings:
            variables = [f"{key}={text}" for key, text in settings(num_cpus)[name].items()]
            unset = [word for variable in _UNSET for word in ("-u", variable)]
            found = common.run_self("train", prefix=["env", *unset, *variables], **params).output
            records += [{"setting": name, "round": round_number, **run} for run in found["runs"]]
            print(f"round {round_number + 1}, {name}: done", flush=True)
    return records


def report(rows: list[dict[str, Any]]) -> None:
    """Prints the rates, one line per backbone and setting."""
    counts = sorted({row["programs"] for row in rows})
    print(
        f"\n{'':34}" + "".join(f"{f'beside {count}' if count else 'alone':>22}" for count in counts)
    )
    lines: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        lines.setdefault((row["model"], row["variant"], row["setting"]), []).append(row)
    for (model, variant, setting), cells in lines.items():
        shown = [
            f"{row['rows_per_second']:>13,} ({row.get('of_fair', row['of_best']):5.2f})"
            for row in sorted(cells, key=lambda row: row["programs"])
        ]
        print(f"{model:10}{variant:6}{setting:16}" + "".join(f"{cell:>22}" for cell in shown))


def main() -> None:
    """Parses the command line, measures, prints and stores the record."""
    if common.run_step({"generate": generate, "train": train}):
        return
    machine = common.machine()
    names = list(settings(machine["cores"]))
    parser = argparse.ArgumentParser(description="Training beside other busy programs.")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--settings", default="before,one thread,now", help=", ".join(names))
    parser.add_argument("--programs", default="0,1,2,4", help="numbers of busy programs")
    parser.add_argument("--rows", type=int, default=70_000)
    parser.add_argument("--batch-size", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--results", type=Path, default=common.RESULTS, help="where to store")
    parser.add_argument("--note", help="what a reader of the figures must know")
    args = parser.parse_args()
    args.models, args.settings = args.models.split(","), args.settings.split(",")
    args.programs = [0, *(int(n) for n in args.programs.split(",") if int(n))]
    for chosen, allowed, key in (
        (args.models, MODELS, "models"),
        (args.settings, names, "settings"),
    ):
        if unknown := set(chosen) - set(allowed):
            parser.error(f"--{key}: {', '.join(sorted(unknown))}: allowed: {', '.join(allowed)}")
    if "one thread" not in args.settings:
        parser.error("--settings: the fair share needs 'one thread'")
    common.warn_if_busy(machine)
    with tempfile.TemporaryDirectory() as work:
        records = measure(args, Path(work).resolve(), machine["cores"])
    rows = summarize(records, machine["cores"])
    report(rows)
    missed = [row for row in rows if row["setting"] == "now" and not meets_target(row)]
    print(f"\n{len(missed)} of {sum(row['setting'] == 'now' for row in rows)} miss their target")
    record = {"rows": args.rows, "batch_size": args.batch_size, "repeats": args.repeats}
    record |= {"seconds": args.seconds, "note": args.note, "machine": machine}
    record |= {"versions": common.versions(), "summary": rows, "runs": records}
    print(f"wrote {common.store('busy', record, args.results)}")


if __name__ == "__main__":
    main()
