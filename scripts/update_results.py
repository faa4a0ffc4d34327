"""Copies measured results into docs/ and README.md: the demo table, figures and their commands.

Run after `bash 2.reproduce.sh --model all --dataset demo` and
`bash 3.analyze.sh --model all --dataset demo`.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from fuxictr.errors import DataError, run_cli  # noqa: E402
from fuxictr.files import write_atomically  # noqa: E402

DATASET = "demo_x1"
COMMANDS = (
    "bash 2.reproduce.sh --model all --dataset demo",
    "bash 3.analyze.sh --model all --dataset demo",
)
FIGURES = (
    ("DeepFM_collapse", "Covariance spectrum of DeepFM's interacting embeddings, DIS and GEN"),
    ("DeepFM_dis_correlation", "Correlation between the interacting sides, DIS DeepFM"),
    ("DeepFM_gen_correlation", "Correlation between the interacting sides, GEN DeepFM"),
)
MARKS = ("<!-- results: begin -->", "<!-- results: end -->")


def main() -> None:
    """Updates docs/results/, docs/assets/ and the results section of README.md."""
    table = ROOT / "results" / DATASET / "table.md"
    figures = ROOT / "figure" / "final" / DATASET
    sources = [table, table.with_suffix(".csv"), *(figures / f"{n}.png" for n, _ in FIGURES)]
    summaries = sorted(figures.glob("*_summary.csv"))
    for path in sources:
        if not path.is_file():
            raise DataError(f"{path}: missing; run: {' && '.join(COMMANDS)}")
    target = ROOT / "docs" / "results" / DATASET
    target.mkdir(parents=True, exist_ok=True)
    for path in (*sources[:2], *summaries):
        shutil.copyfile(path, target / path.name)
    for path in sources[2:]:
        shutil.copyfile(path, ROOT / "docs" / "assets" / f"{DATASET}_{path.name}")
    _update_readme(table.read_text(encoding="utf-8"))


def _update_readme(table: str) -> None:
    last = json.loads((ROOT / "results" / "results.jsonl").read_text().splitlines()[-1])
    parts = [
        f"Demo data (synthetic, 200,000 rows), one seed, {last['device']}, torch "
        f"{last['versions']['torch']}; made by",
        "```bash\n" + "\n".join(COMMANDS) + "\npython scripts/update_results.py\n```",
        table.strip(),
        *(f"![{text}](docs/assets/{DATASET}_{name}.png)" for name, text in FIGURES),
        f"More numbers: [docs/results/{DATASET}](docs/results/{DATASET}).",
    ]
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(MARKS[0])
    _, mark, after = rest.partition(MARKS[1])
    if not mark:
        raise DataError(f"{readme}: the marks {MARKS[0]} and {MARKS[1]} are missing")
    body = "\n\n".join(parts)
    write_atomically(readme, f"{before}{MARKS[0]}\n\n{body}\n\n{MARKS[1]}{after}")


if __name__ == "__main__":
    run_cli(main)
