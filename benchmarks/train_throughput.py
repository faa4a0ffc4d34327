"""Rows per second of training and evaluation, beside FuxiCTR on the same data, with bounds.

    python benchmarks/train_throughput.py --models all --rows 1000000 --device cpu --peer PYTHON

Every measurement is its own process; in each repeat all sides of a backbone run one after the
other, with one seed a repeat. Both sides train the same rows for the same epochs with the same
widths, and their test AUC is given beside the speed, so that a faster but different computation
cannot hide. The widths are those of fuxictr-contract.md's table (3 x 400, three cross layers, CIN
[32]); --paper takes those of the shipped Avazu expids. ``--sides`` adds mixed precision and GEN.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import avazu_shaped
import common

MODELS = ("FM", "FwFM", "FmFM", "PNN", "DCNv2", "DeepFM", "xDeepFM")
# Backbones that the peer can be built for, see peer_models.py.
PEER_MODELS = ("FM", "FmFM", "PNN", "DCNv2", "DeepFM", "xDeepFM")
SEED = 2019
UNITS = [400, 400, 400]
GEN = {"concat_emb": True, "emb_activation": "relu", "gamma": 1}
# side -> keys that it adds to a config; the peer has none.
SIDES: dict[str, dict[str, Any]] = {
    "dis": {},
    "dis_bf16": {"amp": "bf16"},
    "gen": GEN,
    "gen_bf16": {**GEN, "amp": "bf16"},
    "dis_dense": {"table_updates": "dense"},
    "peer": {},
}
COMMON = {
    "dataset_id": "avazu_shaped",
    "embedding_dim": 16,
    "learning_rate": 1e-3,
    "optimizer": "adam",
    "loss": "binary_crossentropy",
    "task": "binary_classification",
    "metrics": ["AUC", "logloss"],
    "monitor": "AUC",
    "monitor_mode": "max",
    "early_stop_patience": 2,
    "shuffle": True,
    "embedding_regularizer": 0,
    "net_regularizer": 0,
}
WIDTHS: dict[str, dict[str, Any]] = {
    "PNN": {"hidden_units": UNITS},
    "DeepFM": {"hidden_units": UNITS},
    "DCNv2": {"parallel_dnn_hidden_units": UNITS, "num_cross_layers": 3, "head": "linear"},
    "xDeepFM": {"dnn_hidden_units": UNITS, "cin_hidden_units": [32]},
}
# tree_peak_mb counts all processes: the peer reads rows in its own workers.
FIGURES = ("train_rows_per_second", "evaluate_rows_per_second", "tree_peak_mb")
PAPER_UNITS = {"PNN": [1000] * 3, "DeepFM": [2000] * 4, "DCNv2": [2000] * 4, "xDeepFM": [500] * 3}


def widths(model: str, is_paper: bool) -> dict[str, Any]:
    """Returns the keys of a backbone's size, after the paper's Avazu configs or small."""
    keys = dict(WIDTHS.get(model, {}))
    if is_paper:
        units = {"hidden_units", "parallel_dnn_hidden_units", "dnn_hidden_units"} & keys.keys()
        keys |= {name: PAPER_UNITS[model] for name in units}
        keys |= {"DCNv2": {"num_cross_layers": 5}, "xDeepFM": {"cin_hidden_units": [276]}}.get(
            model, {}
        )
    return keys


def generate(folder: str, rows: int, full_vocab: bool) -> dict[str, Any]:
    """Writes the encoded splits, see avazu_encoded.py."""
    import avazu_encoded

    return {"folder": str(avazu_encoded.write_encoded(folder, rows, full_vocab))}


def cost(folder: str, model: str, keys: dict[str, Any], device: str) -> dict[str, Any]:
    """Counts what a row of a backbone costs, and measures what the device can do in a second."""
    sys.path.insert(0, str(common.ROOT))
    import torch

    from fuxictr.experiment.estimate.model_cost import measure_rates, model_cost
    from fuxictr.experiment.zoo.models import load_model_class
    from fuxictr.features import FeatureMap

    feature_map = FeatureMap.load(Path(folder) / "feature_map.json")
    with torch.device("meta"):
        network = load_model_class(model)(feature_map, **keys)
    found = model_cost(network, keys["batch_size"])
    rates = measure_rates(torch.device(device))
    return {
        "forward_flops": found.forward_flops,
        "training_flops": found.training_flops,
        "forward_bytes": found.forward_bytes,
        "training_bytes": found.training_bytes,
        "flops_per_second": rates.flops,
        "bytes_per_second": rates.bytes,
    }


def measure(args: argparse.Namespace, work: Path) -> list[dict[str, Any]]:
    """Runs all sides of all backbones, repeat by repeat; returns one record per run."""
    common.run_self("generate", folder=work, rows=args.rows, full_vocab=args.full_vocab)
    records = []
    for model in args.models:
        sides = [s for s in args.sides if s != "peer" or (args.peer and model in PEER_MODELS)]
        for repeat in range(args.repeats):
            for side in sides:
                record = {"model": model, "side": side, "seed": SEED + repeat}
                record |= run_side(args, work, model, side, SEED + repeat)
                records.append(record)
                print(
                    f"{model:8} {side:10} train {record['train_rows_per_second']:>10,} rows/s, "
                    f"evaluate {record['evaluate_rows_per_second']:>10,} rows/s, "
                    f"peak {record['tree_peak_mb']:>8,} MB, test AUC {record['test']['AUC']:.6f}",
                    flush=True,
                )
    return records


def run_side(
    args: argparse.Namespace,
    work: Path,
    model: str,
    side: str,
    seed: int,
    root: Path = common.ROOT,
) -> dict[str, Any]:
    """Trains one backbone on one side in its own process, with the code in the folder ``root``."""
    keys = {**COMMON, **widths(model, args.paper), **SIDES[side]}
    keys |= {"model_id": model, "seed": seed, "epochs": args.epochs, "batch_size": args.batch_size}
    is_peer = side == "peer"
    if is_peer:
        for name in ("parallel_dnn_hidden_units", "dnn_hidden_units"):
            if name in keys:
                keys["hidden_units"] = keys.pop(name)
    params = {
        "folder": str(work / COMMON["dataset_id"]),
        "rows": avazu_shaped.split_rows(args.rows),
        "model": model,
        "gpu": 0 if args.device == "cuda" else -1,
        "params": keys,
    }
    file = work / f"{model}_{side}.json"
    file.write_text(json.dumps(params))
    python = args.peer if is_peer else sys.executable
    child = root / "benchmarks" / "throughput_child.py"
    command = [python, "-I", child, file, *([] if is_peer else [root])]
    found = common.run_child(command, cwd=work, sample_tree=True)
    output = found.output
    return {
        "train_rows_per_second": round(output["train_rows"] / output["train_seconds"]),
        "evaluate_rows_per_second": round(output["evaluate_rows"] / output["evaluate_seconds"]),
        "load_rows_per_second": round(args.rows / output["load_seconds"]),
        "wall_seconds": round(found.wall_seconds, 2),
        "peak_mb": round(found.peak_mb, 1),
        "tree_peak_mb": round(found.tree_peak_mb or found.peak_mb, 1),
        **{key: output[key] for key in ("gpu_peak_mb", "parameters", "test")},
    }


def summarize(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns one record per backbone and side: medians, and ratios to the peer in each repeat."""
    found = []
    for model, side in dict.fromkeys((r["model"], r["side"]) for r in records):
        runs = {r["seed"]: r for r in records if (r["model"], r["side"]) == (model, side)}
        peers = {r["seed"]: r for r in records if (r["model"], r["side"]) == (model, "peer")}
        row: dict[str, Any] = {"model": model, "side": side}
        for name in FIGURES:
            row[name] = statistics.median(run[name] for run in runs.values())
            ratios = [run[name] / peers[seed][name] for seed, run in runs.items() if seed in peers]
            if side != "peer" and ratios:
                row[f"{name}_ratio"] = round(statistics.median(ratios), 2)
        aucs = [run["test"]["AUC"] for run in runs.values()]
        row["test_auc"] = round(statistics.mean(aucs), 6)
        row["test_auc_range"] = round(max(aucs) - min(aucs), 6)
        row["parameters"] = next(iter(runs.values()))["parameters"]
        found.append(row)
    return found


def measure_costs(
    args: argparse.Namespace, work: Path, rows: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Returns one record per backbone and side of ours: operations, bytes, device rates."""
    found = []
    for row in rows:
        if row["side"] == "peer" or "bf16" in row["side"]:
            continue
        keys = {**COMMON, **widths(row["model"], args.paper), **SIDES[row["side"]]}
        keys |= {"batch_size": args.batch_size}
        folder = work / COMMON["dataset_id"]
        output = common.run_self(
            "cost", folder=folder, model=row["model"], keys=keys, device=args.device
        ).output
        record = {"model": row["model"], "side": row["side"]}
        record |= {name: round(value) for name, value in output.items()}
        found.append({**record, "rows_per_second": row["train_rows_per_second"]})
    return found


def report(rows: list[dict[str, Any]], costs: list[dict[str, Any]]) -> None:
    """Prints the medians, the ratios and the shares of the machine's peak."""
    print(f"\n{'':19}{'train rows/s':>13}{'ratio':>8}{'evaluate':>12}{'ratio':>8}{'peak MB':>9}"
          f"{'ratio':>7}{'test AUC':>10}{'range':>9}")  # fmt: skip
    for row in rows:
        ratios = [row.get(f"{name}_ratio", "") for name in FIGURES]
        print(
            f"{row['model']:9}{row['side']:10}{row['train_rows_per_second']:>13,.0f}{ratios[0]:>8}"
            f"{row['evaluate_rows_per_second']:>12,.0f}{ratios[1]:>8}{row['tree_peak_mb']:>9,.0f}"
            f"{ratios[2]:>7}{row['test_auc']:>10.6f}{row['test_auc_range']:>9.6f}"
        )
    if costs:
        flops, size = common.peak_rates(costs)
        rates = f"{flops / 1e9:,.0f} GFLOP/s of float32 products, {size / 1e9:,.1f} GB/s of copies"
        print(f"\nThis machine: {rates}")
    for line, (of_products, of_memory) in zip(costs, common.shares_of_peak(costs), strict=True):
        print(
            f"{line['model']:9}{line['side']:10} {line['training_flops'] / 1e6:8.2f} MFLOP and "
            f"{line['training_bytes'] / 1e3:8.1f} KB per row in training; reached "
            f"{of_products:6.1%} of the products' peak, {of_memory:6.1%} of the memory's"
        )


def chosen(parser: argparse.ArgumentParser, option: str, text: str, allowed: Any) -> list[str]:
    """Returns the comma-separated words of an option, all of them for "all".

    A word that is not ``allowed`` ends the program with a message.
    """
    words = list(allowed) if text == "all" else text.split(",")
    if unknown := set(words) - set(allowed):
        parser.error(f"{option}: {', '.join(sorted(unknown))}: allowed: {', '.join(allowed)}")
    return words


def main() -> None:
    """Parses the command line, measures, prints and stores the record."""
    if common.run_step({"generate": generate, "cost": cost}):
        return
    parser = argparse.ArgumentParser(description="Measure training and evaluation throughput.")
    parser.add_argument("--models", default="all", help="comma-separated backbones, or all")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of all three splits")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--sides", default="dis,peer", help=f"of: {', '.join(SIDES)}")
    parser.add_argument("--peer", help="Python that has fuxictr 2.3.10, see benchmarks/README.md")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=10_000)
    parser.add_argument("--full-vocab", action="store_true", help="all 3.75 million features")
    parser.add_argument("--paper", action="store_true", help="widths of the paper's Avazu configs")
    parser.add_argument("--name", default="train_throughput", help="of the stored record")
    parser.add_argument("--note", default="", help="said beside the figures")
    parser.add_argument("--work", help="folder for data (default: a temporary one)")
    args = parser.parse_args()
    args.models = chosen(parser, "--models", args.models, MODELS)
    args.sides = chosen(parser, "--sides", args.sides, SIDES)
    machine = common.machine()
    common.warn_if_busy(machine)
    if args.peer:
        peer_versions = common.peer_versions(args.peer)
    if args.work:
        Path(args.work).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        work = Path(args.work or folder).resolve()
        records = measure(args, work)
        rows = summarize(records)
        costs = measure_costs(args, work, rows)
    report(rows, costs)
    settings = {
        key: getattr(args, key)
        for key in ("rows", "epochs", "batch_size", "full_vocab", "paper", "device", "note")
    }
    record = {**settings, "machine": machine, "versions": common.versions()}
    if args.peer:
        record["peer_versions"] = peer_versions
    record |= {"summary": rows, "costs": costs, "runs": records}
    print(f"wrote {common.store(args.name, record)}")


if __name__ == "__main__":
    main()
