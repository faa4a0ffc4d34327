"""Copies measured results into docs/results/ and README.md, and builds the project page.

    python scripts/update_results.py [--dataset demo]

Run after `bash 2.reproduce.sh --paper --dataset demo --seeds 3 --ablation all` and
`bash 3.analyze.sh --report --dataset demo`. Everything in docs/results/ is made by this script from
results/ and figure/; figures are shrunk, and of some kinds only those of a few models are kept.
"""

from __future__ import annotations

import argparse
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

from fuxictr.datasets import registry  # noqa: E402
from fuxictr.datasets.demo import DEFAULT_ROWS  # noqa: E402
from fuxictr.errors import DataError, run_cli  # noqa: E402
from fuxictr.experiment.results import is_finished, read_results  # noqa: E402
from fuxictr.files import write_atomically  # noqa: E402
from scripts.build_page import page  # noqa: E402
from scripts.measured import (  # noqa: E402
    Figure,
    backbone_rows,
    find_figures,
    read_table,
    seeds_of,
)

COMMAND = "python scripts/update_results.py"
MARKS = ("<!-- results: begin -->", "<!-- results: end -->")
# What README.md shows, as far as it is there.
SHOWN = ("DCNv2_collapse", "DCNv2_gen_correlation", "redundancy", "DCNv2_ab_source")
# Models whose figures in detail are kept as well.
KEPT_MODELS = ("DCNv2", "DeepFM")
WIDTH = 1000  # pixels of a figure in docs/; the full size is what 3.analyze.sh writes
COLOURS = 128


def main() -> None:
    """Updates docs/results/<dataset_id>/, the results section of README.md, docs/index.html."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="demo", help="demo, avazu, criteo (default demo)")
    dataset = parser.parse_args().dataset
    update(ROOT, dataset)


def update(root: Path, dataset: str) -> None:
    """Does what the script is for, in a repository.

    Raises:
        DataError: results or figures are missing; names the command that makes them.
    """
    dataset_id = registry.dataset_id_of(dataset)
    tables = root / "results" / dataset_id
    figures = root / "figure" / "final" / dataset_id
    target = root / "docs" / "results" / dataset_id
    seeds = seeds_of(backbone_rows(read_table(tables / "table.csv")))
    commands = commands_of(dataset, len(seeds) or 3, root)
    for needed in (tables / "table.csv", tables / "table.md", figures):
        if not needed.exists():
            raise DataError(f"{needed} is missing; run: {' && '.join(commands[:-1])}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / dataset_id
        made.mkdir()
        copy_tables(tables, made)
        for path in (*figures.glob("*_summary.csv"), *figures.glob("redundancy.csv")):
            shutil.copyfile(path, made / path.name)
        for figure in find_figures(figures):
            if is_kept(figure):
                shrink(figure.path, made / figure.path.name)
        if not list(made.glob("*.png")):
            raise DataError(f"{figures} holds no figures; run: {' && '.join(commands[:-1])}")
        about = [run_of(root, dataset_id), "Made by", "```bash\n" + "\n".join(commands) + "\n```"]
        write_atomically(made / "README.md", "\n\n".join(readme_of(made, about)) + "\n")
        readme = root / "README.md"
        text = with_section(readme, section(made, about)) if dataset == "demo" else ""
        shutil.rmtree(target, ignore_errors=True)
        made.rename(target)
    if text:
        write_atomically(readme, text)
    write_atomically(root / "docs" / "index.html", page(root))


def commands_of(dataset: str, num_seeds: int, root: Path) -> list[str]:
    """Returns the commands that make the results, the last one this script's."""
    commands = [
        f"bash 2.reproduce.sh --paper --dataset {dataset} --seeds {num_seeds} --ablation all",
        f"bash 3.analyze.sh --report --dataset {dataset}",
        COMMAND if dataset == "demo" else f"{COMMAND} --dataset {dataset}",
    ]
    if dataset == "demo":
        rows = sum(last_run(root, registry.dataset_id_of(dataset)).get("rows", {}).values())
        if rows not in (0, DEFAULT_ROWS):
            commands.insert(0, f"bash 1.prepare.sh demo --rows {rows}")
    return commands


def last_run(root: Path, dataset_id: str) -> dict[str, Any]:
    """Returns the newest finished run on the dataset, or an empty row."""
    path = root / "results" / "results.jsonl"
    rows = read_results(path) if path.is_file() else []
    found = [row for row in rows if row.get("dataset_id") == dataset_id and is_finished(row)]
    return found[-1] if found else {}


def run_of(root: Path, dataset_id: str) -> str:
    """Returns what was run where, in words."""
    run = last_run(root, dataset_id)
    if not run:
        raise DataError(f"{root / 'results' / 'results.jsonl'}: no run on '{dataset_id}'")
    is_demo = registry.alias_of(dataset_id) == "demo"
    warning = " Synthetic data: a small log that ranks no models." if is_demo else ""
    return f"Measured on {run['device']} with torch {run['versions']['torch']}.{warning}"


def copy_tables(source: Path, target: Path) -> None:
    """Copies the tables; the report lies beside them and is left out."""
    for path in sorted(source.iterdir()):
        if path.suffix in (".md", ".csv", ".tex") and path.stem != "report":
            shutil.copyfile(path, target / path.name)


def is_kept(figure: Figure) -> bool:
    """Returns whether a figure goes into the repository."""
    return not figure.kind.is_detail or figure.path.stem.partition("_")[0] in KEPT_MODELS


def shrink(source: Path, target: Path) -> None:
    """Writes a figure at WIDTH pixels or fewer, in few colours, with how it was made."""
    about = PngInfo()
    about.add_text("Creator", COMMAND)
    with Image.open(source) as image:
        width = min(WIDTH, image.width)
        size = (width, round(image.height * width / image.width))
        small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        small.quantize(colors=COLOURS).save(target, optimize=True, pnginfo=about)


def readme_of(folder: Path, about: list[str]) -> list[str]:
    """Returns the parts of docs/results/<dataset_id>/README.md."""
    parts = [f"# Measured on {folder.name}", *about]
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


def section(folder: Path, about: list[str]) -> list[str]:
    """Returns the parts of README.md's section: the main table, a few figures, where the rest is.

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
    return [*about, re.sub(r"\n  +", " ", blocks[0]), tables[0], *shown, rest]


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
