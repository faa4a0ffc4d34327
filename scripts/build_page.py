"""Writes docs/index.html, the project page, from README.md and what lies in docs/.

    python scripts/build_page.py

The page opens from disk: one file with its style inside, figures from docs/, no requests.
"""

from __future__ import annotations

import hashlib
import re
import string
import sys
from html import escape
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from fuxictr.cli.command import run_cli  # noqa: E402
from fuxictr.errors import DataError  # noqa: E402
from fuxictr.experiment.report.sentences import (  # noqa: E402
    Pair,
    average_sentence,
    noise_sentence,
    winners_sentence,
)
from fuxictr.experiment.tables.text import format_number, format_p  # noqa: E402
from fuxictr.files import write_atomically  # noqa: E402
from scripts.measured import (  # noqa: E402
    KINDS,
    METRICS,
    Figure,
    backbone_rows,
    describe_seeds,
    find_figures,
    number,
    read_table,
    seeds_of,
)

TEMPLATE = Path(__file__).with_name("page_template.html")
Cells = list[str]


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
    wide, narrow = (
        svg_size(docs / "assets" / f"{name}.svg") for name in ("method", "method_narrow")
    )
    template = string.Template(TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(
        method_width=wide[0],
        method_height=wide[1],
        narrow_width=narrow[0],
        narrow_height=narrow[1],
        commands=escape(fenced(readme, "bash")),
        results="\n".join(map(results_part, folders)) or "<p>None yet.</p>",
        figures="\n".join(map(figures_part, folders)) or "<p>None yet.</p>",
        highlights="\n".join(highlights(readme)),
        docs="\n".join(map(docs_item, sorted(docs.glob("*.md")))),
        citation=escape(fenced(readme, "bibtex")),
    )


def results_part(folder: Path) -> str:
    """Returns sentences and tables of one dataset's results."""
    table = read_table(folder / "table.csv")
    rows = backbone_rows(table)
    name = folder.name
    link = f'<a href="results/{name}/README.md">all tables, how they were made</a>'
    parts = [f"<h3>{escape(name)}</h3>"]
    if not rows:
        return "\n".join([*parts, f"<p>No table of backbones; {link}.</p>"])
    parts.append(f"<p>{escape(summary(table))}</p>")
    others = [row for row in table if row not in rows]
    for metric in METRICS:
        better = "higher" if metric == "AUC" else "lower"
        caption = (
            f"{metric} on the test split of {name} ({better} is better): mean ± sample standard "
            f"deviation over seeds {describe_seeds(rows)}, lift of GEN over DIS, p of a paired "
            "t-test."
        )
        parts.append(accuracy_table([*rows, *others], metric, caption))
    if cost := cost_table(rows, f"What GEN needs more than DIS on {name}, in percent."):
        parts.append(cost)
    return "\n".join([*parts, f'<p class="note">{name}: {link}.</p>'])


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


def accuracy_table(rows: list[dict[str, str]], metric: str, caption: str) -> str:
    """Returns one metric of DIS and GEN, a row a backbone."""
    body = [
        [
            row.get("backbone", ""),
            *(_mean(row, variant, metric) for variant in ("dis", "gen")),
            format_number(number(row, f"{metric}_lift_percent"), "+.3f"),
            format_p(number(row, f"{metric}_p")),
        ]
        for row in rows
    ]
    return html_table(caption, ["Backbone", "DIS", "GEN", "lift %", "p"], body)


def cost_table(rows: list[dict[str, str]], caption: str) -> str:
    """Returns what GEN needs more than DIS; an empty text where nothing was measured."""
    costs = {
        "parameters": "parameters",
        "train_seconds": "training time",
        "seconds_per_row": "time a row",
        "peak_memory": "peak memory",
    }
    known = [
        c for c in costs if any(number(row, f"{c}_overhead_percent") is not None for row in rows)
    ]
    if not known:
        return ""
    body = []
    for row in rows:
        numbers = [number(row, f"{cost}_overhead_percent") for cost in known]
        body.append([row["backbone"], *(format_number(value, "+.1f") for value in numbers)])
    return html_table(caption, ["Backbone", *(costs[cost] for cost in known)], body)


def figures_part(folder: Path) -> str:
    """Returns the figures of one dataset, kind by kind."""
    figures = find_figures(folder)
    if not figures:
        return f"<p>No figures of {escape(folder.name)} yet.</p>"
    parts = []
    for kind in KINDS:
        found = [figure for figure in figures if figure.kind is kind]
        if found:
            parts += [f"<h3>{kind.heading}, {escape(folder.name)}</h3>", f"<p>{kind.shows}</p>"]
            parts += ['<div class="figures">', *map(figure_element, found), "</div>"]
    return "\n".join(parts)


def figure_element(figure: Figure) -> str:
    """Returns one figure that links to its file."""
    source = f"results/{figure.path.parent.name}/{figure.path.name}"
    with Image.open(figure.path) as image:
        size = f'width="{image.width}" height="{image.height}"'
    alt = escape(figure.alt, quote=True)
    picture = f'<img src="{source}" {size} loading="lazy" alt="{alt}">'
    caption = f"<figcaption>{escape(figure.caption)}</figcaption>"
    return f'<figure><a href="{source}">{picture}</a>{caption}</figure>'


def html_table(caption: str, head: Cells, body: list[Cells]) -> str:
    """Returns a table in a box that scrolls sideways where it is too wide."""
    columns = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    lines = []
    for name, *cells in body:
        texts = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{texts}</tr>')
    label = f"t-{hashlib.sha256(caption.encode()).hexdigest()[:8]}"
    return "\n".join(
        [
            f'<p class="note" id="{label}">{escape(caption)}</p>',
            f'<div class="table" tabindex="0" role="region" aria-labelledby="{label}">',
            f'<table aria-labelledby="{label}"><thead><tr>{columns}</tr></thead>',
            "<tbody>",
            *lines,
            "</tbody></table></div>",
        ]
    )


def highlights(readme: str) -> list[str]:
    """Returns the list items of README.md's section Highlights.

    Raises:
        DataError: there is no such section, or it has no items.
    """
    _, _, rest = readme.partition("\n## Highlights\n")
    items = re.findall(r"^- (.+(?:\n  .+)*)", rest.partition("\n## ")[0], flags=re.M)
    if not items:
        raise DataError("README.md: no list under '## Highlights'")
    return [f"<li>{inline_html(' '.join(item.split()))}</li>" for item in items]


def docs_item(path: Path) -> str:
    """Returns the list item of a page of docs/, under its first heading."""
    first = path.read_text(encoding="utf-8").splitlines()[0]
    return f'<li><a href="{path.name}">{escape(first.removeprefix("# "))}</a></li>'


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
