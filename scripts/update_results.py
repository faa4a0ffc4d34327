"""Copies measured results into docs/results/ and README.md, and builds the project page.

    python scripts/update_results.py [--dataset demo]

Run after `bash 3.analyze.sh --report`, whose report.json says which runs it shows and which figures
it drew: those go into docs/results/, with the tables of the same runs. Figures are shrunk, and of
some kinds only those of a few models are kept.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from fuxictr.cli.command import run_cli  # noqa: E402
from fuxictr.datasets import registry  # noqa: E402
from fuxictr.datasets.demo import DEFAULT_ROWS  # noqa: E402
from fuxictr.errors import DataError  # noqa: E402
from fuxictr.experiment.report import page as report_page  # noqa: E402
from fuxictr.files import write_atomically  # noqa: E402
from scripts.build_page import page  # noqa: E402
from scripts.measured import (  # noqa: E402
    Figure,
    backbone_rows,
    describe_seeds,
    figure_of,
    find_figures,
    read_table,
    seeds_of,
)

COMMAND = "python scripts/update_results.py"
MARKS = ("<!-- results: begin -->", "<!-- results: end -->")
# Figures that README.md shows, if they exist.
SHOWN = ("DCNv2_collapse", "DCNv2_gen_correlation", "redundancy", "DCNv2_ab_source")
# Models whose detailed figures are kept as well.
KEPT_MODELS = ("DCNv2", "DeepFM")
WIDTH = 1000  # pixels of a figure in docs/; 3.analyze.sh writes the full size
COLOURS = 128


def main() -> None:
    """Updates docs/results/<dataset_id>/, the results section of README.md, docs/index.html."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="demo", help="demo, avazu, criteo (default demo)")
    dataset = parser.parse_args().dataset
    update(ROOT, dataset)


def update(root: Path, dataset: str) -> None:
    """Updates the results of a repository.

    Raises:
        DataError: results or figures are missing; names the command that makes them.
    """
    dataset_id = registry.dataset_id_of(dataset)
    report = read_report(root, dataset)
    names = check_tables(root, report)
    target = root / "docs" / "results" / dataset_id
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / dataset_id
        made.mkdir()
        for name in names:
            shutil.copyfile(root / "results" / dataset_id / name, made / name)
        copy_figures(root, report, made)
        commands = [*commands_of(report), COMMAND + f" --dataset {dataset}" * (dataset != "demo")]
        about = [run_of(report), "Made by", "```bash\n" + "\n".join(commands) + "\n```"]
        write_atomically(made / "README.md", "\n\n".join(readme_of(made, about)) + "\n")
        readme = root / "README.md"
        text = with_section(readme, section(made, about)) if dataset == "demo" else ""
        shutil.rmtree(target, ignore_errors=True)
        made.rename(target)
    if text:
        write_atomically(readme, text)
    write_atomically(root / "docs" / "index.html", page(root))


def read_report(root: Path, dataset: str) -> dict[str, Any]:
    """Returns the record of itself that 3.analyze.sh --report wrote.

    Raises:
        DataError: there is no report of the dataset, or none that shows a figure.
    """
    path = root / "results" / registry.dataset_id_of(dataset) / "report.json"
    command = f"bash 3.analyze.sh --report --dataset {dataset}"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); run: {command}") from error
    lost = [name for name in report["figures"] if not (root / name).is_file()]
    if lost or not report["figures"]:
        what = f"names missing figures, such as {lost[0]}" if lost else "names no figures"
        raise DataError(f"{path} {what}; run: {command}")
    return report


def check_tables(root: Path, report: dict[str, Any]) -> list[str]:
    """Returns the names of the tables of the runs that the report shows.

    Raises:
        DataError: a table is missing, or lacks backbones or seeds of the report, as the last
            2.reproduce.sh was for others; names the commands that write it.
    """
    folder = root / "results" / report["dataset_id"]
    expected = {f"table{suffix}": report["backbones"] for suffix in (".md", ".tex", ".csv")}
    for a in report["ablations"]:
        stem = f"{a['backbone']}_ablation_{a['group']}"
        expected |= {f"{stem}{suffix}": [a] for suffix in (".md", ".tex", ".csv")}
    for name, shown in expected.items():
        path = folder / name
        wrong = "" if path.is_file() else "is missing"
        if path.suffix == ".csv" and not wrong:
            found = {row["backbone"]: seeds_of(row) for row in read_table(path)}
            unlike = [e["backbone"] for e in shown if found.get(e["backbone"]) != e["seeds"]]
            wrong = (
                f"lacks the seeds of {', '.join(unlike)} that the report shows" if unlike else ""
            )
        if wrong:
            raise DataError(f"{path} {wrong}; run: {' && '.join(report['train_commands'])}")
    return [*expected, *(["published.csv"] if (folder / "published.csv").is_file() else [])]


def copy_figures(root: Path, report: dict[str, Any], target: Path) -> None:
    """Copies the figures that the report drew, shrunk, and numbers of its recordings."""
    paths = [root / name for name in report["figures"]]
    for figure in map(figure_of, paths):
        if is_kept(figure):
            shrink(figure.path, target / figure.path.name)
    numbers = [path.with_suffix(".csv") for path in paths if path.stem == "redundancy"]
    for path in (*numbers, *(root / name for name in report["summaries"])):
        shutil.copyfile(path, target / path.name)


def commands_of(report: dict[str, Any]) -> list[str]:
    """Returns the commands that make the results.

    Raises:
        DataError: the runs have data of different sizes.
    """
    commands = [*report["train_commands"], report["command"]]
    sizes = [sum(size.values()) for size in report["sizes"]]
    if len(set(sizes)) > 1:
        raise DataError(f"the runs of the report have data of different sizes, {sizes} rows")
    if registry.alias_of(report["dataset_id"]) == "demo" and sizes and sizes[0] != DEFAULT_ROWS:
        commands.insert(0, f"bash 1.prepare.sh demo --rows {sizes[0]}")
    return commands


def run_of(report: dict[str, Any]) -> str:
    """Returns the devices and versions of the runs, in words."""
    torches = dict.fromkeys(version["torch"] for version in report["versions"])
    is_demo = registry.alias_of(report["dataset_id"]) == "demo"
    warning = " Synthetic data: a small log that ranks no models." if is_demo else ""
    return f"Measured on {'; '.join(report['devices'])} with torch {', '.join(torches)}.{warning}"


def is_kept(figure: Figure) -> bool:
    """Returns whether a figure goes into the repository."""
    return not figure.kind.is_detail or figure.path.stem.partition("_")[0] in KEPT_MODELS


def shrink(source: Path, target: Path) -> None:
    """Writes a figure with at most WIDTH pixels, in few colours, with its provenance."""
    about = PngInfo()
    about.add_text("Creator", COMMAND)
    with Image.open(source) as image:
        report_page.shrink(image, WIDTH, COLOURS).save(target, optimize=True, pnginfo=about)


def readme_of(folder: Path, about: list[str]) -> list[str]:
    """Returns the parts of docs/results/<dataset_id>/README.md."""
    parts = [f"# Measured on {folder.name}", *about, seeds_in(folder)]
    parts.append("[figures.md](../../figures.md) says how each number and figure is computed.")
    parts += ["## Tables", (folder / "table.md").read_text(encoding="utf-8").strip()]
    ablations = sorted(folder.glob("*_ablation_*.md"))
    parts += [path.read_text(encoding="utf-8").strip() for path in ablations]
    names = sorted(path.name for path in folder.glob("*") if path.suffix in (".csv", ".tex"))
    parts.append("Files: " + ", ".join(f"[{name}]({name})" for name in names) + ".")
    kind = None
    for figure in find_figures(folder):
        if figure.kind is not kind:
            kind = figure.kind
            parts += [f"## {kind.heading}", kind.shows]
        parts.append(f"![{figure.alt}]({figure.path.name})")
    return parts


def seeds_in(folder: Path) -> str:
    """Returns the seeds of each table of the folder, in words."""
    parts = [f"main table {describe_seeds(backbone_rows(read_table(folder / 'table.csv')))}"]
    by_seeds: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*_ablation_*.csv")):
        row = read_table(path)[0]
        seeds = ", ".join(map(str, seeds_of(row)))
        by_seeds.setdefault(seeds, []).append(f"{row['backbone']} {row['group']}")
    parts += [f"ablations {seeds} ({', '.join(names)})" for seeds, names in by_seeds.items()]
    return f"Seeds: {'; '.join(parts)}."


def section(folder: Path, about: list[str]) -> list[str]:
    """Returns the parts of README.md's section: the main table, a few figures, links.

    Raises:
        DataError: table.md holds no table.
    """
    blocks = (folder / "table.md").read_text(encoding="utf-8").strip().split("\n\n")
    tables = [block for block in blocks if block.startswith("|")]
    if not tables:
        raise DataError(f"{folder / 'table.md'}: holds no table")
    place = f"docs/results/{folder.name}"
    figures = {figure.path.stem: figure for figure in find_figures(folder)}
    shown = [f"![{figures[name].alt}]({place}/{name}.png)" for name in SHOWN if name in figures]
    rest = (
        f"Cost, ablations and all figures: [{place}]({place}/README.md) and "
        "[docs/index.html](docs/index.html), a page that opens from disk."
    )
    return [*about, seeds_in(folder), re.sub(r"\n  +", " ", blocks[0]), tables[0], *shown, rest]


def with_section(readme: Path, parts: list[str]) -> str:
    """Returns README.md with the parts between its marks.

    Raises:
        DataError: the marks are missing.
    """
    before, _, rest = readme.read_text(encoding="utf-8").partition(MARKS[0])
    _, mark, after = rest.partition(MARKS[1])
    if not mark:
        raise DataError(f"{readme}: the marks {MARKS[0]} and {MARKS[1]} are missing")
    body = "\n\n".join(parts)
    return f"{before}{MARKS[0]}\n\n{body}\n\n{MARKS[1]}{after}"


if __name__ == "__main__":
    run_cli(main)
