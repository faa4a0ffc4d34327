"""Writes docs/performance.md from results.

    python benchmarks/report.py

The newest result of each benchmark under benchmarks/results/, where there is one, becomes
docs/performance/<name>.json; the page is made from the files there.
"""

from __future__ import annotations

import json
import shutil
from typing import Any

import common

PAGE = common.ROOT / "docs" / "performance.md"
KEPT = common.ROOT / "docs" / "performance"
HEAD = """# Performance, measured

Made by `python benchmarks/report.py` from [docs/performance](performance); benchmarks/README.md
says how each figure is taken. Medians; memory in MB of 10^6 bytes. Machines are shared and noisy:
compare within a table, not across.
"""


def keep_newest() -> None:
    """Copies the newest result of each benchmark, by name, to docs/performance/."""
    KEPT.mkdir(exist_ok=True)
    for path in sorted(common.RESULTS.glob("*.json")):  # the names end in the date
        name = json.loads(path.read_text())["benchmark"]
        shutil.copyfile(path, KEPT / f"{name}.json")


def page() -> str:
    """Returns the page of the kept results."""
    sections = {
        "build_throughput": build_section,
        "large_run": growth_section,
        "large_run_full": growth_section,
    }
    parts = [HEAD]
    for name, section in sections.items():
        path = KEPT / f"{name}.json"
        if path.is_file():
            parts.append(section(json.loads(path.read_text())))
    return "\n".join(parts)


def build_section(found: dict[str, Any]) -> str:
    """Returns the section of build_throughput.py."""
    rows = [
        ("rows/s", "rows_per_second"),
        ("seconds before the first row (a build of 2,000 rows)", "start_seconds"),
        ("rows/s beyond that", "marginal_rows_per_second"),
        ("peak memory with descendants, MB", "tree_peak_mb"),
    ]
    names = [name for name in ("ours", "peer") if name in found]
    titles = {"ours": "this project", "peer": "FuxiCTR 2.3.10"}
    lines = [
        f"\n## csv to parquet, {found['rows']:,} rows, {found['fields']} categorical fields\n",
        _row(["", *(titles[name] for name in names)]),
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
        _row(["step", "rows", "rows/s", "peak memory, MB", "bytes of it an added row"]),
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
