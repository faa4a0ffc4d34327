"""What peers.py measured, as one row per backbone and library, and as a table."""

from __future__ import annotations

import statistics
from typing import Any

TITLES = {
    "ours": "this project",
    "fuxictr": "FuxiCTR",
    "recbole": "RecBole",
    "deepctr": "DeepCTR-Torch",
    "rechub": "torch-rechub",
    "lightgbm": "LightGBM",
    "catboost": "CatBoost",
}
PACKAGES = {
    "fuxictr": "fuxictr",
    "recbole": "recbole",
    "deepctr": "deepctr-torch",
    "rechub": "torch-rechub",
    "lightgbm": "lightgbm",
    "catboost": "catboost",
}
TREES = ("lightgbm", "catboost")
# Boosted trees have no backbone; they run beside this one.
TREES_BESIDE = "DeepFM"
SPEEDS = ("train_rows_per_second", "evaluate_rows_per_second")
COSTS = ("wall_seconds", "tree_peak_mb")
_NAMES = {
    "train_rows_per_second": "training",
    "evaluate_rows_per_second": "evaluation",
    "same_auc_seconds": "seconds to the same AUC",
    "wall_seconds": "whole process",
    "tree_peak_mb": "memory",
    "test_auc": "test AUC",
}


def seconds_to(history: list[dict[str, float]], auc: float) -> float:
    """Returns the seconds from the start of a training until its validation AUC reached ``auc``."""
    return next(entry["seconds"] for entry in history if entry["auc"] >= auc)


def same_auc(ours: dict[str, Any], peer: dict[str, Any]) -> dict[str, float]:
    """Returns the lower of both best validation AUCs, and the seconds that each took to it."""
    auc = min(max(entry["auc"] for entry in run["history"]) for run in (ours, peer))
    return {
        "same_auc": auc,
        "same_auc_seconds": seconds_to(peer["history"], auc),
        "same_auc_ours_seconds": seconds_to(ours["history"], auc),
    }


def summarize(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns one row per backbone and side.

    It holds medians over the repeats. Ratios are those of ours to the side's in the same repeat, so
    that a ratio above 1 says of a speed that ours is faster, of a cost that ours costs more.
    """
    found = []
    for model, side in dict.fromkeys((r["model"], r["side"]) for r in records):
        runs = {r["seed"]: r for r in records if (r["model"], r["side"]) == (model, side)}
        ours = {r["seed"]: r for r in records if (r["model"], r["side"]) == (model, "ours")}
        pairs = [(ours[seed], run) for seed, run in runs.items() if seed in ours]
        row: dict[str, Any] = {"model": model, "side": side}
        for name in (*SPEEDS, *COSTS):
            row[name] = statistics.median(run[name] for run in runs.values())
            if side != "ours" and pairs:
                ratio = statistics.median(own[name] / run[name] for own, run in pairs)
                row[f"{name}_ratio"] = round(ratio, 3)
        if side != "ours" and pairs:
            same = [same_auc(own, run) for own, run in pairs]
            for name in same[0]:
                row[name] = round(statistics.median(each[name] for each in same), 6)
        aucs = [run["test_auc"] for run in runs.values()]
        row["test_auc"] = round(statistics.mean(aucs), 6)
        row["test_auc_range"] = round(max(aucs) - min(aucs), 6)
        row["train_rows"] = round(statistics.median(run["train_rows"] for run in runs.values()))
        row["is_stopped"] = any(run["is_stopped"] for run in runs.values())
        row["parameters"] = next(iter(runs.values()))["parameters"]
        found.append(row)
    return found


def ahead(rows: list[dict[str, Any]]) -> list[str]:
    """Returns where a peer has the better figure, as ``backbone, peer: figure``."""
    found = []
    own_auc = {row["model"]: row["test_auc"] for row in rows if row["side"] == "ours"}
    for row in (row for row in rows if "same_auc" in row):  # others have no run of ours beside them
        names = [name for name in SPEEDS if row[f"{name}_ratio"] < 1]
        names += [name for name in COSTS if row[f"{name}_ratio"] > 1]
        if row["same_auc_seconds"] < row["same_auc_ours_seconds"]:
            names.append("same_auc_seconds")
        if row["test_auc"] > own_auc[row["model"]]:
            names.append("test_auc")
        if row["side"] in TREES:  # rows times trees are no rows of an epoch
            names = [name for name in names if name != "train_rows_per_second"]
        if names:
            shown = ", ".join(_NAMES[name] for name in names)
            found.append(f"{row['model']}, {TITLES[row['side']]}: {shown}")
    return found


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Returns the lines of the table in Markdown."""
    titles = ["train rows/s", "ratio", "evaluate rows/s", "ratio", "s to the same AUC", "ours"]
    titles += ["whole process, s", "peak MB", "test AUC"]
    lines = [_row(["model", "side", *titles]), _row(["---", "---", *["---:"] * len(titles)])]
    for row in rows:
        is_trees = row["side"] in TREES
        cells = ["boosted trees" if is_trees else row["model"], TITLES[row["side"]]]
        for name in SPEEDS:
            mark = " *" if row["is_stopped"] and name == SPEEDS[0] else ""
            ratio = None if is_trees and name == SPEEDS[0] else row.get(f"{name}_ratio")
            cells += [f"{row[name]:,.0f}{mark}", "" if ratio is None else f"{ratio:.2f}"]
        for name in ("same_auc_seconds", "same_auc_ours_seconds"):
            cells.append(f"{row[name]:.1f}" if name in row else "")
        cells += [f"{row['wall_seconds']:.1f}", f"{row['tree_peak_mb']:,.0f}"]
        lines.append(_row([*cells, f"{row['test_auc']:.5f}"]))
    return lines


def remarks(rows: list[dict[str, Any]], limit_seconds: float) -> list[str]:
    """Returns what is said below the table: who was stopped, and where a peer is ahead."""
    lines = []
    stopped = [row for row in rows if row["is_stopped"]]
    if stopped:
        lines.append(
            f"\n\\* Stopped after {limit_seconds:g} s and evaluated then. Rows until then, of "
            "trees rows times trees:\n"
        )
        lines += [
            f"- {row['model']}, {TITLES[row['side']]}: {row['train_rows']:,}" for row in stopped
        ]
    better = ahead(rows)
    if better:
        lines.append("\nWhere a peer has the better figure:\n")
        lines += [f"- {entry}" for entry in better]
    return lines


def section(found: dict[str, Any]) -> list[str]:
    """Returns the lines of a section of docs/performance.md."""
    data = "real rows of MovieLens-100K" if found["size"] == "ml100k" else "rows of Avazu's shape"
    epochs = "one epoch" if found["epochs"] == 1 else f"{found['epochs']} epochs"
    libraries = [
        f"{TITLES[side]} {versions[PACKAGES[side]]}"
        for side, versions in found["peer_versions"].items()
    ]
    lines = [
        f"\n## Beside every peer: {found['rows']:,} {data}\n",
        f"Batch {found['batch_size']:,}, d 16, MLP 3 x 400, Adam 1e-3, no dropout, no penalty, "
        f"{epochs}, repeats: {found['repeats']}. Each library trains with its own trainer and data "
        "classes. A ratio above 1 says that this project is faster. The same AUC is the lower of "
        "the best validation AUCs of this project and of the peer. Its seconds count from the "
        "start of fit, evaluations included, and stand beside ours.\n",
        f"Boosted trees run beside {TREES_BESIDE}. Their training rows are rows times trees, up to "
        "their own early stop, so they have no ratio. FuxiCTR reads its files in every pass, which "
        "costs about two seconds on few rows, too.\n",
        f"Libraries: {', '.join(libraries)}.\n",
    ]
    if found["missing"]:
        missing = ", ".join(TITLES[side] for side in found["missing"])
        lines.append(f"Not installed, so not measured: {missing}.\n")
    for run in found["failed"]:
        where = f"{run['model']}, {TITLES[run['side']]}, seed {run['seed']}"
        lines.append(f"Failed: {where}: `{run['error']}`\n")
    return [*lines, *table(found["summary"]), *remarks(found["summary"], found["limit_seconds"])]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
