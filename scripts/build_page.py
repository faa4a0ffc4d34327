"""Writes docs/index.html, the project page, from README.md and what lies in docs/.

    python scripts/build_page.py

The page opens from disk: one file with its style inside, figures from docs/, no requests.
"""

from __future__ import annotations

import hashlib
import re
import sys
from dataclasses import dataclass
from html import escape
from itertools import groupby
from pathlib import Path

from markupsafe import Markup
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from fuxictr.cli.command import run_cli  # noqa: E402
from fuxictr.errors import DataError  # noqa: E402
from fuxictr.experiment.report.page import html_templates  # noqa: E402
from fuxictr.experiment.report.sentences import (  # noqa: E402
    Pair,
    average_sentence,
    noise_sentence,
    winners_sentence,
)
from fuxictr.experiment.tables.text import format_number, format_p  # noqa: E402
from fuxictr.files import write_atomically  # noqa: E402
from scripts.measured import (  # noqa: E402
    METRICS,
    Figure,
    Kind,
    backbone_rows,
    describe_seeds,
    find_figures,
    number,
    read_table,
    seeds_of,
)

TEMPLATES = html_templates(Path(__file__).parent)


@dataclass(frozen=True)
class Table:
    """A table of the page; the first cell of each row of its body names the row."""

    caption: str
    head: list[str]
    body: list[list[str]]

    @property
    def label(self) -> str:
        """The id of its caption."""
        return f"t-{hashlib.sha256(self.caption.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Dataset:
    """What docs/results/<name>/ holds; each figure stands with its width and height in pixels."""

    name: str
    summary: str
    tables: list[Table]
    figures: list[tuple[Kind, list[tuple[Figure, int, int]]]]


def main() -> None:
    """Writes the page."""
    path = ROOT / "docs" / "index.html"
    write_atomically(path, page(ROOT))
    print(path.relative_to(ROOT))


def page(root: Path) -> str:
    """Returns the page of a repository.

    Raises:
        DataError: README.md or docs/ lack something that the page shows.
    """
    docs = root / "docs"
    readme = (root / "README.md").read_text(encoding="utf-8")
    folders = sorted(path for path in (docs / "results").glob("*/") if path.is_dir())
    return TEMPLATES.get_template("page_template.html").render(
        method=svg_size(docs / "assets" / "method.svg"),
        narrow=svg_size(docs / "assets" / "method_narrow.svg"),
        commands=fenced(readme, "bash"),
        datasets=[read_dataset(path) for path in folders],
        highlights=highlights(readme),
        docs=[(path.name, heading(path)) for path in sorted(docs.glob("*.md"))],
        citation=fenced(readme, "bibtex"),
    )


def read_dataset(folder: Path) -> Dataset:
    """Returns the tables and figures of a folder of docs/results/."""
    name, table = folder.name, read_table(folder / "table.csv")
    rows = backbone_rows(table)
    tables = []
    if rows:
        others = [row for row in table if row not in rows]
        for metric, better in METRICS.items():
            caption = (
                f"{metric} on the test split of {name} ({better} is better): mean ± sample "
                f"standard deviation over seeds {describe_seeds(rows)}, lift of GEN over DIS, p of "
                "a paired t-test."
            )
            tables.append(accuracy_table([*rows, *others], metric, caption))
        tables += cost_tables(rows, f"What GEN needs more than DIS on {name}, in percent.")
    figures = [
        (kind, [(figure, *image_size(figure.path)) for figure in found])
        for kind, found in groupby(find_figures(folder), lambda figure: figure.kind)
    ]
    return Dataset(name, summary(table), tables, figures)


def summary(table: list[dict[str, str]]) -> str:
    """Returns what the numbers say: who wins, whether it is more than noise, the mean lift."""
    pairs = []
    for row in backbone_rows(table):
        dis, gen = number(row, "dis_AUC_mean"), number(row, "gen_AUC_mean")
        if dis is not None and gen is not None:
            num_seeds = len(seeds_of(row))
            pairs.append(Pair(row["backbone"], dis, gen, number(row, "AUC_p"), num_seeds))
    sentences = [
        winners_sentence("test AUC", pairs, 6),
        noise_sentence(pairs, True, "DIS", "GEN"),
    ]
    for row in table:
        if row.get("backbone") == "average of all":
            count = len((row.get("averaged_over") or "").split())
            lift = number(row, "AUC_lift_percent")
            sentences.append(average_sentence("AUC", lift, "all", count, None))
    return " ".join(filter(None, sentences))


def accuracy_table(rows: list[dict[str, str]], metric: str, caption: str) -> Table:
    """Returns one metric of DIS and GEN, one row per backbone."""
    body = [
        [
            row.get("backbone", ""),
            *(_mean(row, variant, metric) for variant in ("dis", "gen")),
            format_number(number(row, f"{metric}_lift_percent"), "+.3f"),
            format_p(number(row, f"{metric}_p")),
        ]
        for row in rows
    ]
    return Table(caption, ["Backbone", "DIS", "GEN", "lift %", "p"], body)


def cost_tables(rows: list[dict[str, str]], caption: str) -> list[Table]:
    """Returns what GEN needs more than DIS, [] where nothing was measured."""
    costs = {
        "parameters": "parameters",
        "train_seconds": "training time",
        "seconds_per_row": "time per row",
        "peak_memory": "peak memory",
    }
    known = [
        c for c in costs if any(number(row, f"{c}_overhead_percent") is not None for row in rows)
    ]
    body = []
    for row in rows:
        numbers = [number(row, f"{cost}_overhead_percent") for cost in known]
        body.append([row["backbone"], *(format_number(value, "+.1f") for value in numbers)])
    head = ["Backbone", *(costs[cost] for cost in known)]
    return [Table(caption, head, body)] if known else []


def image_size(path: Path) -> tuple[int, int]:
    """Returns width and height of a picture in pixels."""
    with Image.open(path) as image:
        return image.size


def highlights(readme: str) -> list[Markup]:
    """Returns the list items of README.md's section Highlights.

    Raises:
        DataError: there is no such section, or it has no items.
    """
    _, _, rest = readme.partition("\n## Highlights\n")
    items = re.findall(r"^- (.+(?:\n  .+)*)", rest.partition("\n## ")[0], flags=re.M)
    if not items:
        raise DataError("README.md: no list under '## Highlights'")
    return [Markup(inline_html(" ".join(item.split()))) for item in items]


def heading(path: Path) -> str:
    """Returns the first heading of a page of docs/."""
    return path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")


def inline_html(text: str) -> str:
    """Returns a line of Markdown as HTML: bold, code and links, which are seen from docs/."""
    html = escape(text, quote=False)
    html = re.sub(r"`([^`]+)`", r"<code>\1</code>", html)
    html = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", html)
    return re.sub(r"\[([^\]]+)\]\(([^)]+)\)", _link, html)


def fenced(text: str, language: str) -> str:
    """Returns the first fenced block of a language.

    Raises:
        DataError: there is none.
    """
    match = re.search(rf"^```{language}\n(.*?)\n```", text, flags=re.S | re.M)
    if not match:
        raise DataError(f"README.md: no block of {language}")
    return match[1]


def svg_size(path: Path) -> tuple[int, int]:
    """Returns width and height of an SVG, from its view box.

    Raises:
        DataError: the file is absent or has none.
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    match = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    if not match:
        raise DataError(f"{path}: no SVG with a view box; run: python scripts/draw_method.py")
    return round(float(match[1])), round(float(match[2]))


def _mean(row: dict[str, str], variant: str, metric: str) -> str:
    mean, std = (number(row, f"{variant}_{metric}_{what}") for what in ("mean", "std"))
    if mean is None:
        return "missing runs" if row.get(f"{variant}_expid") else ""
    return f"{mean:.6f}" + ("" if std is None else f" ± {std:.6f}")


def _link(match: re.Match[str]) -> str:
    target = match[2]
    if "://" not in target:
        target = target.removeprefix("docs/") if target.startswith("docs/") else f"../{target}"
    return f'<a href="{target}">{match[1]}</a>'


if __name__ == "__main__":
    run_cli(main)
