"""The section of docs/performance.md about GPUs, from what gpu.py measured."""

from __future__ import annotations

from typing import Any

TITLE = "\n## On a GPU\n"
NOTHING = (
    "Nothing of this project was measured on a GPU yet. `bash benchmarks/gpu.sh` checks and "
    "measures everything on one. The targets are:\n\n"
    "- at least {ratio} times the rows/s of FuxiCTR, for every backbone;\n"
    "- an epoch of 32.3 million rows in less than {FM} s for FM, and {DeepFM} s for DeepFM;\n"
    "- an evaluation of 4 million rows in less than {evaluation} s.\n"
)
# Least ratio of rows/s to FuxiCTR; most seconds of an epoch of 32.3 million rows, and of an
# evaluation of 4 million.
TARGETS = {"ratio": 15, "FM": 10, "DeepFM": 30, "evaluation": 2}
_FORMATS = ("float32", "tf32", "bf16", "bf16_graphs")
_NAMES = {"float32": "float32", "tf32": "TF32", "bf16": "bf16", "bf16_graphs": "bf16, CUDA graphs"}
_CHECKS = {
    "agree_": "training as on the CPU",
    "metrics": "AUC and logloss of tensors",
    "resume": "the same bits after a resumption",
    "nccl": "all collective operations, over NCCL",
    "compile_": "compiled code",
    "tests": "tests marked gpu",
}


def gpu_section(found: dict[str, Any] | None) -> str:
    """Returns the section; ``found`` is the json of gpu.py, None: nothing was measured."""
    if found is None:
        return TITLE + "\n" + NOTHING.format(**TARGETS)
    if found["device"] != "cuda":
        raise ValueError(f"gpu.json: found device {found['device']}, expected cuda")
    steps = found["steps"]
    environment = _results(steps, "environment").get("environment", {})
    gpu = environment.get("gpu", {})
    versions = environment.get("versions", found["versions"])
    lines = [
        TITLE,
        f"{gpu.get('name', 'GPU')}, {gpu.get('memory_gb', '?')} GB, CUDA {gpu.get('cuda', '?')}, "
        f"torch {versions.get('torch', '?')}; the paper's Avazu configs with 3.75 million ids, "
        "batch 10,000, rows on the device.\n",
        *_checks(steps),
        *_targets(steps),
        *_speeds(steps),
        *_failures(steps),
        f"\n{found['date'][:10]}.\n\n```bash\n{found['command']}\n```\n",
    ]
    return "\n".join(lines)


def targets(steps: dict[str, Any]) -> list[tuple[str, float, str, bool]]:
    """Returns (what, measured, target, whether it was met) of all targets that were measured.

    Epochs and evaluations count in the fastest number format.
    """
    found = []
    for row in _results(steps, "peer").get("peer", {}).get("summary", []):
        ratio = row.get("train_rows_per_second_ratio")
        if ratio is not None:
            name = f"{row['model']}, rows/s of training, ratio to FuxiCTR"
            found.append((name, ratio, f">= {TARGETS['ratio']}", ratio >= TARGETS["ratio"]))
    for name, result in _results(steps, "epoch_").items():
        model = name.removeprefix("epoch_")
        runs = {key: result.get(key, {}) for key in _FORMATS}
        seconds = {key: run["epoch_seconds"] for key, run in runs.items() if "epoch_seconds" in run}
        if not seconds:
            continue
        best = min(seconds, key=lambda key: seconds[key])
        what = f"{model}, an epoch of {result['rows']:,} rows, s ({_NAMES[best]})"
        is_met = seconds[best] < TARGETS[model]
        found.append((what, seconds[best], f"< {TARGETS[model]}", is_met))
    for name, result in _results(steps, "evaluation_").items():
        what = f"{name.removeprefix('evaluation_')}, evaluation of {result['rows']:,} rows, s"
        limit = TARGETS["evaluation"]
        found.append((what, result["seconds"], f"< {limit}", result["seconds"] < limit))
    return found


def _targets(steps: dict[str, Any]) -> list[str]:
    lines = ["\n| target | measured | wanted | met |", "| --- | ---: | ---: | --- |"]
    for what, value, wanted, is_met in targets(steps):
        lines.append(f"| {what} | {value:.2f} | {wanted} | {'yes' if is_met else '**no**'} |")
    if "peer" not in steps or steps["peer"]["status"] != "done":
        lines.append(f"| ratio to FuxiCTR | not measured | >= {TARGETS['ratio']} | |")
    return lines


def _checks(steps: dict[str, Any]) -> list[str]:
    lines = ["| check | right | wrong or failed |", "| --- | ---: | --- |"]
    for start, title in _CHECKS.items():
        own = {n: r for n, r in steps.items() if n.startswith(start) and r["status"] != "skipped"}
        wrong = [n for n, record in own.items() if record.get("result", {}).get("ok") is not True]
        shown = f"{len(own) - len(wrong)} of {len(own)}" if own else "not run"
        lines.append(f"| {title} | {shown} | {', '.join(wrong)} |")
    return lines


def _speeds(steps: dict[str, Any]) -> list[str]:
    results = _results(steps, "speed_")
    if not results:
        return []
    formats = " | ".join(_NAMES[name] for name in _FORMATS)
    lines = [
        "\nRows/s of training in thousands, by number format; then rows/s of evaluation in "
        "thousands and GPU memory in MB, both in float32.\n",
        f"| model | side | {formats} | evaluation | MB |",
        "| --- | --- |" + " ---: |" * (len(_FORMATS) + 2),
    ]
    for name, result in results.items():
        for side in ("dis", "gen"):
            runs = [result.get(f"{side}_{key}", {}) for key in _FORMATS]
            rates = [_thousands(run.get("rows_per_second")) for run in runs]
            evaluation = _thousands(runs[0].get("evaluate_rows_per_second"))
            memory = runs[0].get("gpu_peak_mb")
            cells = [name.removeprefix("speed_"), side.upper(), *rates, evaluation]
            lines.append(f"| {' | '.join([*cells, '' if memory is None else f'{memory:,.0f}'])} |")
    return lines


def _failures(steps: dict[str, Any]) -> list[str]:
    failed = {name: record for name, record in steps.items() if record["status"] == "failed"}
    return [f"\nFailed: {name}: `{record['error'][-1]}`" for name, record in failed.items()]


def _results(steps: dict[str, Any], start: str) -> dict[str, Any]:
    return {
        name: record["result"]
        for name, record in steps.items()
        if name.startswith(start) and record["status"] == "done"
    }


def _thousands(value: float | None) -> str:
    return "" if value is None else f"{value / 1000:,.0f}"
