"""Writes docs/performance.md from results.

    python benchmarks/report.py

Copies the newest result of each benchmark from benchmarks/results/ to docs/performance/<name>.json
and makes the page from the files there.
"""

from __future__ import annotations

import json
from typing import Any

import common
import peers_summary
from gpu_report import gpu_section

PAGE = common.ROOT / "docs" / "performance.md"
KEPT = common.ROOT / "docs" / "performance"
_TITLES = {"ours": "this project", "peer": "FuxiCTR 2.3.10"}
_SIDES = {
    "dis": "DIS",
    "dis_bf16": "DIS, bf16",
    "dis_dense": "DIS, dense Adam",
    "gen": "GEN",
    "gen_bf16": "GEN, bf16",
    "peer": "FuxiCTR",
}
# Ratios to the peer on two CPU cores: side -> backbone -> least (training, evaluation).
TARGETS = {
    "dis": {
        "FM": (4, 15),
        "FmFM": (70, 50),
        "xDeepFM": (2.5, 2.5),
        "DeepFM": (1.4, 2.3),
        "PNN": (1.45, 2.8),
        "DCNv2": (1.25, 1.9),
    },
    "dis_bf16": {
        "FmFM": (90, None),
        "xDeepFM": (3, None),
        "DeepFM": (2, None),
        "PNN": (2, None),
        "DCNv2": (1.9, None),
    },
}
HEAD = common.ROOT / "benchmarks" / "performance_head.txt"


def keep_newest() -> None:
    """Copies the newest result of each benchmark, by name, to docs/performance/."""
    common.keep_newest(common.RESULTS, KEPT)


def page() -> str:
    """Returns the page of the kept results."""
    sections = {
        "train_throughput": throughput_section,
        "train_throughput_auc": throughput_section,
        "train_throughput_memory": throughput_section,
        "train_throughput_full": throughput_section,
        "train_throughput_cuda": throughput_section,
        "busy": busy_section,
        "peers_ml100k": peers_section,
        "peers_1m": peers_section,
        "compile_cpu": compile_section,
        "small_experiment": experiment_section,
        "sweep": sweep_section,
        "startup": startup_section,
        "build_throughput": build_section,
        "load_rows": load_section,
        "large_run": growth_section,
        "large_run_full": growth_section,
    }
    parts = [HEAD.read_text()]
    for name, section in sections.items():
        path = KEPT / f"{name}.json"
        if path.is_file():
            parts.append(section(json.loads(path.read_text())))
    measured = KEPT / "gpu.json"
    parts.append(gpu_section(json.loads(measured.read_text()) if measured.is_file() else None))
    return "\n".join(parts)


def peers_section(found: dict[str, Any]) -> str:
    """Returns the section of peers.py: every library that people try first."""
    return "\n".join([*peers_summary.section(found), _taken(found)])


def compile_section(found: dict[str, Any]) -> str:
    """Returns the section of compile_cpu.py."""
    largest = max(row["loss_difference"] for row in found["summary"])
    lines = [
        "\n## `compile: true` on the CPU\n",
        "Training steps with and without it, in turn in one process, batch "
        f"{found['batch_size']:,}, the widths of the first table. A run compiles before its first "
        "step, and again faster where an earlier run has left compiled code. The losses of a step "
        f"differ by at most {largest:.1g} of their value. Without a number of rows no gain was "
        "found.\n",
        _row(["model", "side", "rows/s", "compiled", "ratio", "compile, s", "again, s",
              "pays after rows"]),
        _row(["---", "---", *["---:"] * 6]),
    ]  # fmt: skip
    for row in found["summary"]:
        cells = [_number(row["plain_rows_per_second"]), _number(row["compiled_rows_per_second"])]
        cells += [f"{row['ratio']:.2f}", f"{row['compile_seconds']:.0f}"]
        cells += [f"{row['again_seconds']:.0f}", _number(row["pays_after_rows"])]
        lines.append(_row([row["model"], _SIDES[row["side"]], *cells]))
    return "\n".join([*lines, _taken(found)])


def experiment_section(found: dict[str, Any]) -> str:
    """Returns the section of small_experiment.py."""
    names = [name for name in ("ours", "peer") if name in found]
    lines = [
        f"\n## A whole experiment: {found['rows']:,} rows, FM until early stop\n",
        "Time from the start of the command to its end, imports included; batch "
        f"{found['batch_size']:,}; median of the repeats, one seed each.\n",
        _row(["", "from csv, s", "encoded already, s", "epochs", "test AUC", "peak MB"]),
        _row(["---", *["---:"] * 5]),
    ]
    for name in names:
        side = found[name]
        epochs = ", ".join(map(str, side["epochs_each"]))
        cells = [_number(side["whole_seconds"]), _number(side["encoded_seconds"]), epochs]
        cells += [f"{side['test_auc']:.5f}", _number(side["tree_peak_mb"])]
        lines.append(_row([_TITLES[name], *cells]))
    if "peer" in found:
        lines.append(
            f"\nRatio from csv {found['whole_ratio']}, encoded already {found['encoded_ratio']} "
            "(each >= 4)."
        )
    return "\n".join([*lines, _taken(found)])


def busy_section(found: dict[str, Any]) -> str:
    """Returns the section of busy.py: what a run keeps beside other busy programs."""
    counts = sorted({row["programs"] for row in found["summary"]})
    others = [f"beside {count}" for count in counts if count]
    lines = [
        "\n## Beside other busy programs\n",
        f"Training rows/s, {found['rows']:,} rows, 24 fields, batch {found['batch_size']:,}, d 16, "
        "MLP [128, 64], CIN [16, 16], alone and beside programs that compute without end. In "
        "brackets: the share of the best setting alone (>= 0.97), and of the rate of a fair share "
        "of the CPUs (>= 0.67). Medians of the rounds. *before*: all CPUs and 300,000 spins, as "
        "torch and GNU OpenMP do by themselves. *now*: what this project does by itself.\n",
        _row(["model", "variant", "setting", "alone", *others]),
        _row(["---", "---", "---", *["---:"] * len(counts)]),
    ]
    rates = {
        (row["model"], row["variant"], row["setting"], row["programs"]): row
        for row in found["summary"]
    }
    for model, variant, setting in dict.fromkeys(key[:3] for key in sorted(rates)):
        cells = [rates[model, variant, setting, count] for count in counts]
        shown = [
            f"{row['rows_per_second']:,} ({row.get('of_fair', row['of_best']):.2f})"
            for row in cells
        ]
        lines.append(_row([model, variant.upper(), setting, *shown]))
    return "\n".join([*lines, _taken(found)])


def startup_section(found: dict[str, Any]) -> str:
    """Returns the section of startup.py: imports, and the slowest --help."""
    commands = found["commands"]
    helps = [c for c in commands if c["side"] == "ours" and "--help" in c["name"]]
    slowest = max(helps, key=lambda command: command["seconds"])
    shown = [c for c in commands if c not in helps]
    lines = [
        "\n## Start-up\n",
        _row(["", "seconds"]),
        _row(["---", "---:"]),
        *(_row([f"{_TITLES[c['side']]}: {c['name']}", f"{c['seconds']:.2f}"]) for c in shown),
        _row([f"{len(helps)} command lines, the slowest: {slowest['name']}",
              f"{slowest['seconds']:.2f}"]),
        f"\n`import fuxictr` and each `--help` should stay below {found['limit_seconds']} s.",
    ]  # fmt: skip
    return "\n".join([*lines, _taken(found)])


def sweep_section(found: dict[str, Any]) -> str:
    """Returns the section of sweep.py: seconds of a run, and what of it is not training."""
    sides = {
        "forked": "2.reproduce.sh",
        "fresh": "2.reproduce.sh --fresh-processes",
        "peer_loop": "RecBole 1.2.1, run_recbole in a loop",
        "peer_commands": "RecBole 1.2.1, a command a run",
    }
    lines = [
        f"\n## A sweep of small runs: FM, {found['rows']:,} rows ({found['data']}), a seed each\n",
        f"{found['epochs']} epochs, batch {found['batch_size']:,}, d {found['embedding_dim']}, "
        f"OMP_NUM_THREADS={found['threads']}, one run at a time. The start is the median of the "
        "seconds between the last evaluation of a run and the first batch of the next. Memory is "
        "that of all processes together. RecBole initialises in its own way, writes no checkpoint "
        "here, and tests the last epoch's weights. Ours writes weights, state and results of each "
        "run, and tests the best weights.\n",
        _row(["", "runs", "seconds", "a run", "start", "share of training", "peak MB", "test AUC"]),
        _row(["---", *["---:"] * 7]),
    ]
    for side, title in sides.items():
        if side in found:
            row = found[side]
            cells = [str(row["runs"]), _number(row["seconds"]), f"{row['seconds_per_run']:.2f}"]
            cells.append(f"{row['start_seconds']:.2f}" if row.get("start_seconds") else "")
            cells.append(f"{row['training_share']:.0%}" if "training_share" in row else "")
            cells += [_number(row["tree_peak_mb"]), f"{row['test_auc']:.5f}"]
            lines.append(_row([title, *cells]))
    lines.append(
        f"\nThe largest peak of a run by itself, as its row of results has it: "
        f"{_number(found['forked']['run_peak_mb'])} MB forked, "
        f"{_number(found['fresh']['run_peak_mb'])} MB started anew; the weights are the same bits."
    )
    if "peer_loop" in found:
        lines.append(
            f"A run in RecBole's loop takes {found['peer_loop']['imported_seconds_per_run']:.2f} s "
            f"without its imports: ratio to 2.reproduce.sh {found['peer_loop_ratio']}. By commands "
            f"the ratio is {found['peer_commands_ratio']}."
        )
    return "\n".join([*lines, _taken(found)])


def load_section(found: dict[str, Any]) -> str:
    """Returns the section of load_rows.py: how time and memory grow with the rows."""
    lines = [
        f"\n## Loading and training as the rows grow, {found['columns']} columns\n",
        "Memory is the growth of the process, beside the 4 bytes of each cell. The rest is Arrow's "
        "and does not grow. Training is one epoch of FM.\n",
        _row(["step", "rows", "rows/s", "microseconds per row", "grown MB", "of the cells"]),
        _row(["---", *["---:"] * 5]),
    ]
    titles = {"load": "load and first pass", "peer_load": "FuxiCTR, the same", "train": "train"}
    for run in found["runs"]:
        is_own = run["step"] == "load"
        cells = [_number(run["rows"]), _number(run["rows_per_second"])]
        cells.append(f"{1e6 / run['rows_per_second']:.2f}")
        cells += [_number(run["grown_mb"]), f"{run['grown_ratio']:.2f}"] if is_own else ["", ""]
        lines.append(_row([titles[run["step"]], *cells]))
    added = found["bytes_per_added_row"]
    for step in (step for step in titles if step in added):
        each = ", ".join(map(str, added[step]))
        lines.append(f"\nBytes of memory per added row, {titles[step]}: {each}.")
    for ratio in found["ratios"]:
        lines.append(
            f"\nRatio at {ratio['rows']:,} rows: load and first pass {ratio['ratio']}, a further "
            f"pass {ratio['pass_ratio']}."
        )
    return "\n".join([*lines, _taken(found)])


def build_section(found: dict[str, Any]) -> str:
    """Returns the section of build_throughput.py."""
    rows = [
        ("rows/s", "rows_per_second"),
        ("seconds before the first row (a build of 2,000 rows)", "start_seconds"),
        ("rows/s beyond that", "marginal_rows_per_second"),
        ("peak memory with descendants, MB", "tree_peak_mb"),
    ]
    names = [name for name in ("ours", "peer") if name in found]
    lines = [
        f"\n## csv to parquet, {found['rows']:,} rows, {found['fields']} categorical fields\n",
        _row(["", *(_TITLES[name] for name in names)]),
        _row(["---", *["---:"] * len(names)]),
        *(_row([text, *(_number(found[name][key]) for name in names)]) for text, key in rows),
    ]
    if "peer" in found:
        lines.append(
            f"\nRatio of the whole build {found['ratio']} (each pair: "
            f"{', '.join(map(str, found['ratio_each']))}), beyond the start "
            f"{found['marginal_ratio']}; the vocabularies "
            + ("differ." if found["vocabularies"]["differing"] else "have equal sizes.")
        )
    return "\n".join([*lines, _taken(found)])


def throughput_section(found: dict[str, Any]) -> str:
    """Returns the section of train_throughput.py: speed beside the peer, and what bounds it."""
    size = "the paper's Avazu widths" if found["paper"] else "3 x 400, three cross layers, CIN [32]"
    vocabulary = "3,750,999 ids" if found["full_vocab"] else "vocabularies scaled to the rows"
    epochs = "one epoch" if found["epochs"] == 1 else f"{found['epochs']} epochs"
    is_tree = "tree_peak_mb" in found["summary"][0]
    memory = "tree_peak_mb" if is_tree else "peak_mb"
    ratios = ("train_rows_per_second", "evaluate_rows_per_second", memory)
    titles = ("train rows/s", "ratio", "evaluate rows/s", "ratio", "peak MB", "ratio")
    scale = f"{found['rows']:,} rows, {epochs}" + (", all ids" if found["full_vocab"] else "")
    lines = [
        f"\n## Training and evaluation on the {found['device'].upper()}, {scale}\n",
        f"{found['rows']:,} rows, 24 fields, {vocabulary}, batch {found['batch_size']:,}, d 16, "
        f"{size}, {epochs}. Ratios are to FuxiCTR 2.3.10 in the same repeat, with their targets in "
        "brackets. The test AUC is the mean over the repeats, one seed each, with its range. "
        f"Memory is that of {'all processes' if is_tree else 'the largest process'}.\n",
        _row(["model", "side", *titles, "test AUC", "range"]),
        _row(["---", "---", *["---:"] * 8]),
    ]
    for row in found["summary"]:
        cells = [row["model"], _SIDES.get(row["side"], row["side"])]
        targets = TARGETS.get(row["side"], {}).get(row["model"], (None, None))
        for name, target in zip(ratios, (*targets, None), strict=True):
            ratio = row.get(f"{name}_ratio")
            shown = "" if ratio is None else f"{ratio:.2f}"
            has_target = shown and target is not None and found["device"] == "cpu"
            cells += [_number(row[name]), f"{shown} (>= {target})" if has_target else shown]
        lines.append(_row([*cells, f"{row['test_auc']:.5f}", f"{row['test_auc_range']:.5f}"]))
    if found["costs"] and not found["full_vocab"]:  # the count assumes dense updates
        lines += roofline(found["costs"])
    return "\n".join([*lines, _taken(found)])


def roofline(costs: list[dict[str, Any]]) -> list[str]:
    """Returns the lines of the cost of a row, and of the share of the machine's peak reached."""
    products, memory = common.peak_rates(costs)
    peaks = f"{products / 1e9:,.0f} GFLOP/s of float32 products, {memory / 1e9:,.1f} GB/s of copies"
    lines = [
        "\nThe cost of a row in training, counted from the model, and the share reached of "
        f"the machine's peak. The peak was measured at the same time: {peaks}. All bytes of an "
        "operation count as read from memory, even if they lie in cache.\n",
        _row(["model", "side", "MFLOP", "of the products", "KB", "of the memory"]),
        _row(["---", "---", *["---:"] * 4]),
    ]
    for cost, (of_products, of_memory) in zip(costs, common.shares_of_peak(costs), strict=True):
        cells = [f"{cost['training_flops'] / 1e6:.2f}", f"{of_products:.0%}"]
        cells += [f"{cost['training_bytes'] / 1e3:.1f}", f"{of_memory:.0%}"]
        lines.append(_row([cost["model"], _SIDES.get(cost["side"], cost["side"]), *cells]))
    return lines


def growth_section(found: dict[str, Any]) -> str:
    """Returns the section of large_run.py."""
    titles = {
        "encode": "csv to parquet",
        "stream": "training, streamed",
        "memory": "training, from memory",
    }
    runs = found["runs"]
    largest = max(run["rows"] for run in runs)
    ids = max(run["ids"] for run in runs if "ids" in run)
    lines = [
        f"\n## Up to {largest:,} rows, {ids:,} ids\n",
        _row(["step", "rows", "rows/s", "peak memory, MB", "bytes per added row"]),
        _row(["---", "---:", "---:", "---:", "---:"]),
    ]
    for step in (name for name in titles if any(run["step"] == name for run in runs)):
        added = ["", *found["bytes_per_added_row"][step]]
        of_step = [run for run in runs if run["step"] == step]
        for run, growth in zip(of_step, added, strict=True):
            cells = [run["rows"], run["rows_per_second"], run["peak_mb"], growth]
            lines.append(_row([titles[step], *map(_number, cells)]))
    return "\n".join([*lines, _taken(found)])


def _taken(found: dict[str, Any]) -> str:
    machine = found["machine"]
    versions = found.get("versions") or found["ours"]["versions"]
    shown = ", ".join(f"{name} {version}" for name, version in versions.items())
    where = f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gb']} GB"
    shown += f". {found['note']}" if found.get("note") else ""
    command = f"```bash\n{found['command']}\n```\n"
    return f"\n{where}, {found['date'][:10]}; {shown}.\n\n{command}"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float | str | None) -> str:
    if value is None or value == "":
        return ""
    return f"{value:,.0f}" if abs(float(value)) >= 100 else f"{value:.1f}"


def main() -> None:
    """Keeps the newest results and writes the page."""
    keep_newest()
    PAGE.write_text(page())
    print(f"wrote {PAGE.relative_to(common.ROOT)}")


if __name__ == "__main__":
    main()
