"""Writes docs/scaling.md from results, formulas and its text, page.md.

    python benchmarks/scaling/page.py

The newest result of measure.py and sharding_options.py under benchmarks/results/scaling/, where
there is one, becomes docs/scaling/<name>.json; the tables are made from the files there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from string import Template
from typing import Any

import processes
import projection
import sharding_options
from processes import common

sys.path.insert(0, str(common.ROOT))
import formulas
import measure

PAGE = common.ROOT / "docs" / "scaling.md"
KEPT = common.ROOT / "docs" / "scaling"
TEXT = Path(__file__).with_name("page.md")
_MODES = {"alone": "", "touched": "whole", "row": "by rows"}
_MEGA, _GIGA = 1e6, 1e9


def keep_newest() -> None:
    """Copies the newest result of each benchmark, by name, to docs/scaling/."""
    common.keep_newest(processes.RESULTS, KEPT)


def page() -> str:
    """Returns the page."""
    names = ("sharding_options", "measure", "measure_four")
    options, measured, of_four = (json.loads((KEPT / f"{name}.json").read_text()) for name in names)
    projected = [line for log in projection.logs() for line in projection.project(log)]
    return Template(TEXT.read_text()).substitute(
        options=options_table(options),
        options_taken=_taken(options),
        formulas=formulas_table(),
        batch=f"{measured['batch_size']:,}",
        traffic=traffic_table(measured),
        traffic_of_four=traffic_table(of_four),
        four_taken=_taken(of_four),
        speed=speed_table(measured),
        measured_taken=_taken(measured),
        projected_memory=memory_table(projected),
        projected_time=time_table(projected),
    )


def options_table(found: dict[str, Any]) -> str:
    """Returns the table of sharding_options.py."""
    counts = sorted({line["ranks"] for line in found["lines"]})
    heads = [f"{text}, {count} processes" for count in counts for text in ("ms", "MB sent")]
    rows = []
    for way, title in sharding_options.WAYS.items():
        lines = {line["ranks"]: line for line in found["lines"] if line["way"] == way}
        if lines:
            cells = [(lines[n]["milliseconds"], lines[n]["bytes_sent_per_rank"]) for n in counts]
            shown = [(f"{ms:.1f}", _size(sent, _MEGA, 2)) for ms, sent in cells]
            rows.append([title, *(cell for pair in shown for cell in pair)])
    return _table(["a lookup and its gradient", *heads], rows, num_texts=1)


def formulas_table() -> str:
    """Returns memory and traffic of each backbone's Avazu configs, by formula."""
    fields = formulas.avazu_fields()
    feature_map = formulas.feature_map_of(fields)
    rows = []
    for backbone in measure.BACKBONES:
        for variant, suffix in (("DIS", ""), ("GEN", "_gen")):
            sizes, _, batch_size = formulas.cost_of(f"{backbone}_avazu{suffix}", feature_map)
            cells = [backbone, variant, f"{sizes.dense_weights / _MEGA:.2f}"]
            cells += [f"{sizes.table_weights / _MEGA:.1f}"]
            for num_ranks, modes in ((2, formulas.MODES), (8, formulas.MODES)):
                distinct = formulas.expected_distinct(fields.values(), batch_size // num_ranks)
                for mode in modes:
                    sent = formulas.traffic(sizes, mode, num_ranks, [distinct] * len(sizes.groups))
                    cells.append(_size(sent.total, _MEGA, 2))
            for num_ranks, mode in ((1, "touched"), (8, "touched"), (8, "row")):
                cells.append(_size(formulas.memory(sizes, mode, num_ranks, False), _GIGA, 2))
            rows.append(cells)
    heads = ["backbone", "", "dense W, M", "tables V, M"]
    heads += [
        f"MB, {n} ranks, {text}" for n in (2, 8) for text in ("all-reduce", "whole", "by rows")
    ]
    heads += ["GB, 1 rank", "GB, 8, whole", "GB, 8, by rows"]
    return _table(heads, rows)


def traffic_table(found: dict[str, Any]) -> str:
    """Returns bytes and memory of measure.py beside those of the formulas."""
    rows = []
    for line in found["summary"]:
        mode = {"none": "touched", "row": "row"}.get(line["run"])
        if mode is None:
            continue
        expected, sent = line["by_formula"][mode], line["bytes_sent_per_rank"]
        cells = [line["model"], line["variant"].upper(), _MODES[mode]]
        cells += [f"{line['distinct_rows'][0]:,}", _size(expected, _MEGA, 3)]
        cells += [_size(sent, _MEGA, 3), "" if sent is None else f"{sent / expected - 1:+.1%}"]
        held = line["memory_by_formula"][mode] / _MEGA
        cells += [f"{held:,.0f}", f"{line['training_mb']:,.0f}"]
        rows.append(cells)
    heads = [
        "backbone",
        "",
        "tables",
        "distinct rows U",
        "MB by formula",
        "MB measured",
        "",
        "memory",
    ]
    return _table([*heads[:-1], "weights, MB", "process, MB"], rows, num_texts=3)


def speed_table(found: dict[str, Any]) -> str:
    """Returns rows per second and efficiency of measure.py."""
    lines = {(line["model"], line["variant"], line["run"]): line for line in found["summary"]}
    rows = []
    for model, variant in dict.fromkeys(name[:2] for name in lines):
        runs = {run: lines.get((model, variant, run)) for run in measure.RUNS}
        cells = [model, variant.upper()]
        cells += [f"{line['rows_per_second']:,.0f}" if line else "" for line in runs.values()]
        for key in ("efficiency", "of_threads"):
            for run in ("none", "row"):
                value = (runs[run] or {}).get(key)
                cells.append("" if value is None else f"{value:.2f}")
        rows.append(cells)
    count = found["ranks"]
    heads = ["backbone", "", "1 process", f"1 process, {count} threads"]
    heads += [f"{count} processes, whole", f"{count} processes, by rows", "efficiency, whole"]
    heads += ["by rows", f"of {count} threads, whole", "by rows"]
    return _table(heads, rows)


def memory_table(lines: list[dict[str, Any]]) -> str:
    """Returns what a projected log needs of each GPU and of the hosts."""
    rows = [
        [
            line["log"],
            str(line["gpus"]),
            _MODES[line["mode"]],
            _size(line["weights_bytes"], _GIGA, 2),
            _size(line["activation_bytes"], _GIGA, 2),
            "yes" if line["fits"] else "no",
            _size(line["rows_bytes"], _GIGA, 1),
            _size(line["checkpoint_bytes"], _GIGA, 1),
            _size(3 * line["checkpoint_bytes"], _GIGA, 1),
        ]
        for line in lines
    ]
    heads = ["log", "GPUs", "tables", "weights and Adam, GB", "activations, GB", "fits 80 GB"]
    return _table([*heads, "rows, GB a GPU", "checkpoint, GB", "state, GB"], rows, num_texts=1)


def time_table(lines: list[dict[str, Any]]) -> str:
    """Returns how long a projected log takes."""
    alone = {line["log"]: line["fits"] for line in lines if line["mode"] == "alone"}
    rows = []
    for line in (line for line in lines if line["fits"]):
        cells = [line["log"], str(line["gpus"]), _MODES[line["mode"]], f"{line['batch_size']:,}"]
        cells.append(_size(line["sent_bytes"], _MEGA, 1))
        parts = ("compute", "network", "waiting", "step")
        cells += [f"{1e3 * line[f'{part}_seconds']:.2f}" for part in parts]
        cells.append(f"{60 * line['epoch_hours']:.1f}")
        cells.append(f"{line['efficiency']:.2f}" if alone[line["log"]] else "")
        rows.append(cells)
    heads = [
        "log",
        "GPUs",
        "tables",
        "batch",
        "MB sent",
        "compute, ms",
        "network, ms",
        "waiting, ms",
    ]
    return _table([*heads, "step, ms", "minutes an epoch", "efficiency"], rows, num_texts=1)


def _table(heads: list[str], rows: list[list[str]], num_texts: int = 2) -> str:
    marks = ["---"] * num_texts + ["---:"] * (len(heads) - num_texts)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, marks, *rows))


def _size(num_bytes: float | None, unit: float, digits: int) -> str:
    return "not counted" if num_bytes is None else f"{num_bytes / unit:,.{digits}f}"


def _taken(found: dict[str, Any]) -> str:
    machine, versions = found["machine"], found["versions"]
    shown = ", ".join(f"{name} {version}" for name, version in versions.items())
    where = f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gb']} GB"
    busy = machine["load_before"] > 0.3 * machine["cores"]
    note = " Other programs ran beside it: bytes count, times only roughly." if busy else ""
    note += f" {found['note']}" if found.get("note") else ""
    return f"{where}, {found['date'][:10]}; {shown}.{note}\n\n```bash\n{found['command']}\n```"


def main() -> None:
    """Keeps the newest results and writes the page."""
    keep_newest()
    PAGE.write_text(page())
    print(f"wrote {PAGE.relative_to(common.ROOT)}")


if __name__ == "__main__":
    main()
