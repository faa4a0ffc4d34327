"""Copies measured results into docs/results/ and README.md: tables, figures and their commands.

Run after `bash 2.reproduce.sh --model all --dataset demo` and
`bash 3.analyze.sh --model all --dataset demo`.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from fuxictr.errors import DataError, run_cli  # noqa: E402
from fuxictr.files import write_atomically  # noqa: E402

DATASET = "demo_x1"
TARGET = ROOT / "docs" / "results" / DATASET
COMMANDS = (
    "bash 2.reproduce.sh --model all --dataset demo",
    "bash 3.analyze.sh --model all --dataset demo",
    "python scripts/update_results.py",
)
SHOWN = {
    "DeepFM_collapse": "Covariance spectrum of DeepFM's interacting embeddings, DIS and GEN",
    "DCNv2_collapse": "Covariance spectrum of DCN V2's interacting embeddings, DIS and GEN",
    "DCNv2_dis_correlation": "Correlation between the interacting sides, DIS DCN V2",
    "DCNv2_gen_correlation": "Correlation between the interacting sides, GEN DCN V2",
}
MARKS = ("<!-- results: begin -->", "<!-- results: end -->")
WIDTH = 1000  # pixels of a figure in docs/; the full size is what 3.analyze.sh writes


def main() -> None:
    """Updates docs/results/<dataset>/ and the results section of README.md."""
    table = ROOT / "results" / DATASET / "table.md"
    figures = sorted((ROOT / "figure" / "final" / DATASET).glob("*.png"))
    missing = [name for name in SHOWN if name not in {figure.stem for figure in figures}]
    if missing or not table.is_file():
        what = missing[0] if table.is_file() else table
        raise DataError(f"{what} is missing; run: {' && '.join(COMMANDS[:2])}")
    shutil.rmtree(TARGET, ignore_errors=True)
    TARGET.mkdir(parents=True)
    for path in (table.with_suffix(".csv"), *figures[0].parent.glob("*_summary.csv")):
        shutil.copyfile(path, TARGET / path.name)
    for figure in figures:
        _shrink(figure, TARGET / figure.name)
    head = _head(table)
    page = [f"# Measured on {DATASET}", *head]
    page += [f"![{figure.stem}]({figure.name})" for figure in figures]
    write_atomically(TARGET / "README.md", "\n\n".join(page) + "\n")
    folder = TARGET.relative_to(ROOT)
    shown = [f"![{text}]({folder}/{name}.png)" for name, text in SHOWN.items()]
    _update_readme(
        [*head, *shown, f"Figures and summaries of all backbones: [{folder}]({folder})."]
    )


def _head(table: Path) -> list[str]:
    """Returns what was run where, the commands, and the table."""
    last = json.loads((ROOT / "results" / "results.jsonl").read_text().splitlines()[-1])
    truth = ROOT / "data" / "Demo" / DATASET / "ground_truth.json"
    rows = json.loads(truth.read_text(encoding="utf-8"))["rows"]
    return [
        f"Demo data (synthetic, {rows:,} rows in all), one seed, {last['device']}, torch "
        f"{last['versions']['torch']}. One seed on one small log ranks no models. Made by",
        "```bash\n" + "\n".join(COMMANDS) + "\n```",
        table.read_text(encoding="utf-8").strip(),
    ]


def _shrink(source: Path, target: Path) -> None:
    with Image.open(source) as image:
        size = (WIDTH, round(image.height * WIDTH / image.width))
        small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        small.quantize(colors=256).save(target, optimize=True)


def _update_readme(parts: list[str]) -> None:
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(MARKS[0])
    _, mark, after = rest.partition(MARKS[1])
    if not mark:
        raise DataError(f"{readme}: the marks {MARKS[0]} and {MARKS[1]} are missing")
    body = "\n\n".join(parts)
    write_atomically(readme, f"{before}{MARKS[0]}\n\n{body}\n\n{MARKS[1]}{after}")


if __name__ == "__main__":
    run_cli(main)
