"""A page of sentences, tables and pictures, as one HTML file or as Markdown.

The HTML file holds everything it shows and runs no script; all text is escaped.
"""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from fuxictr.experiment.tables.text import TextTable

if TYPE_CHECKING:
    from PIL import Image

# Pixels of an embedded picture; the files beside the page have the full size.
MAX_WIDTH = 1120
# Pictures of at least so many pixels stand two in a row, others three.
WIDE = 1200


@dataclass(frozen=True)
class Picture:
    """A figure on disk: ``<stem>.png``, and the pdf and csv beside it.

    Attributes:
        stem: path without suffix.
        alt: what it shows, for those who do not see it.
        caption: what it says.
    """

    stem: Path
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side."""

    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Commands:
    """Lines to type."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Items:
    """Sentences one below the other."""

    texts: tuple[str, ...]


Block = str | TextTable | Gallery | Commands | Items


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it; a ``str`` among the blocks is a paragraph."""

    title: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        """The section's id: its title in lower case with hyphens."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class Page:
    """The whole report."""

    title: str
    lead: str
    sections: Sequence[Section]


def find_pictures(drawn: Mapping[str, Path], name: str, alt: str, caption: str) -> list[Picture]:
    """Returns the picture of a name where it was drawn, else none."""
    return [Picture(drawn[name], alt, caption)] if name in drawn else []


def gallery(pictures: Sequence[Picture]) -> list[Gallery]:
    """Returns the pictures side by side, nothing where there are none."""
    return [Gallery(tuple(pictures))] if pictures else []


def to_html(page: Page) -> str:
    """Returns the page as one HTML file with its pictures in it."""
    links = "".join(
        f'<li><a href="#{section.anchor}">{_escape(section.title)}</a></li>\n'
        for section in page.sections
    )
    sections = "".join(
        f'<section id="{section.anchor}">\n<h2>{_escape(section.title)}</h2>\n'
        + "".join(map(_block_html, section.blocks))
        + "</section>\n"
        for section in page.sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_escape(page.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<header>\n<h1>{_escape(page.title)}</h1>\n<p>{_escape(page.lead)}</p>\n</header>\n"
        f'<nav aria-label="Sections">\n<ol>\n{links}</ol>\n</nav>\n'
        f"<main>\n{sections}</main>\n</body>\n</html>\n"
    )


def to_markdown(page: Page, folder: Path) -> str:
    """Returns the page as Markdown.

    Args:
        page: the page.
        folder: where it is going to lie; links to the pictures are relative to it.
    """
    parts = [f"# {_plain(page.title)}", _plain(page.lead)]
    for section in page.sections:
        parts.append(f"## {_plain(section.title)}")
        parts += [_block_markdown(block, folder) for block in section.blocks]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _block_html(block: Block) -> str:
    if isinstance(block, str):
        return f"<p>{_escape(block)}</p>\n"
    if isinstance(block, Commands):
        return f"<pre><code>{_escape(chr(10).join(block.lines))}</code></pre>\n"
    if isinstance(block, Items):
        return _list_html(block.texts, "items")
    if isinstance(block, Gallery):
        encoded = [
            _embed(picture.stem.with_name(f"{picture.stem.name}.png")) for picture in block.pictures
        ]
        kind = "wide" if any(is_wide for _, is_wide in encoded) else "narrow"
        figures = "".join(
            f'<figure>\n<img {source} alt="{_escape(picture.alt)}">\n'
            f"<figcaption>{_escape(picture.caption)}</figcaption>\n</figure>\n"
            for picture, (source, _) in zip(block.pictures, encoded, strict=True)
        )
        return f'<div class="gallery {kind}">\n{figures}</div>\n'
    return _table_html(block)


def _table_html(table: TextTable) -> str:
    title = _escape(table.title)
    head = "".join(_cell_html("th", text, i, table) for i, text in enumerate(table.columns))
    head = f"<thead><tr>{head}</tr></thead>\n" if any(table.columns) else ""
    rows = []
    for place, row in enumerate(table.rows):
        cells = "".join(
            _cell_html("td", text, i, table) if i else f'<th scope="row">{_escape(text)}</th>'
            for i, text in enumerate(row)
        )
        is_ruled = table.num_last and place == len(table.rows) - table.num_last
        rows.append(f'<tr class="rule">{cells}</tr>\n' if is_ruled else f"<tr>{cells}</tr>\n")
    return (
        f'<div class="scroll" role="region" aria-label="{title}" tabindex="0">\n'
        f"<table>\n<caption><span>{title}</span></caption>\n{head}"
        f"<tbody>\n{''.join(rows)}</tbody>\n</table>\n</div>\n{_list_html(table.notes, 'notes')}"
    )


def _cell_html(tag: str, text: str, place: int, table: TextTable) -> str:
    kind = "" if not place else ' class="n"' if place >= table.num_left else ' class="w"'
    return f"<{tag}{kind}>{_escape(text)}</{tag}>"


def _list_html(texts: Sequence[str], kind: str) -> str:
    items = "".join(f"<li>{_escape(text)}</li>\n" for text in texts)
    return f'<ul class="{kind}">\n{items}</ul>\n' if items else ""


def shrink(
    image: Image.Image, width: int, num_colours: int = 256, refine: bool = True
) -> Image.Image:
    """Returns a picture of that width or less, with a palette that keeps its colour bar.

    Args:
        image: the picture.
        width: pixels.
        num_colours: size of the palette.
        refine: whether the palette's colours become the means of what they stand for.
    """
    from PIL import Image

    small = image.convert("RGB")
    if width < image.width:
        size = (width, round(image.height * width / image.width))
        small = small.resize(size, Image.Resampling.LANCZOS)
    # The median cut, which is the default, takes the rare colours from a colour bar.
    return small.quantize(num_colours, Image.Quantize.MAXCOVERAGE, kmeans=int(refine))


def _embed(path: Path) -> tuple[str, bool]:
    """Returns the attributes of an image that holds the picture, and whether it is a wide one."""
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(path) as image:
        is_wide = image.width >= WIDE
        few = shrink(image, MAX_WIDTH, refine=is_wide)
    few.save(buffer, "png", optimize=True)
    content = base64.b64encode(buffer.getvalue()).decode("ascii")
    source = f'src="data:image/png;base64,{content}" width="{few.width}" height="{few.height}"'
    return source, is_wide


def _block_markdown(block: Block, folder: Path) -> str:
    if isinstance(block, str):
        return _plain(block)
    if isinstance(block, Commands):
        return "```bash\n" + "\n".join(block.lines) + "\n```"
    if isinstance(block, Items):
        return "\n".join(f"- {_plain(text)}" for text in block.texts)
    if isinstance(block, Gallery):
        return "\n\n".join(_picture_markdown(picture, folder) for picture in block.pictures)
    return _escaped(block, _plain).to_markdown()


def _picture_markdown(picture: Picture, folder: Path) -> str:
    link = Path(os.path.relpath(picture.stem, folder)).as_posix()
    files = ", ".join(
        f"[{suffix}]({link}.{suffix})"
        for suffix in ("pdf", "csv")
        if Path(f"{picture.stem}.{suffix}").is_file()
    )
    alt = _plain(picture.alt).replace("[", "\\[").replace("]", "\\]")
    caption = f"{_plain(picture.caption)} ({files})" if files else _plain(picture.caption)
    return f"![{alt}]({link}.png)\n\n{caption}"


def _escaped(table: TextTable, change: Callable[[str], str]) -> TextTable:
    return replace(
        table,
        title=change(table.title),
        columns=[change(text) for text in table.columns],
        rows=[[change(text) for text in row] for row in table.rows],
        notes=[change(text) for text in table.notes],
    )


def _plain(text: str) -> str:
    """Returns the text with everything escaped that Markdown would take for markup."""
    return re.sub(r"([\\`*\[\]])", r"\\\1", _escape(" ".join(text.split()), quote=False))


def _escape(text: str, quote: bool = True) -> str:
    """Returns the text escaped for HTML, without control characters."""
    return escape(re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", text), quote)


_STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1e; --paper: #fff; --soft: #5c5c66; --line: #d9d9de;
  --shade: #f4f4f6; --link: #0059a8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8ea; --paper: #17171a; --soft: #a5a5ae;
  --line: #3a3a42; --shade: #222227; --link: #7cb8f2; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 74rem; padding: 1rem 1rem 4rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 1rem 0 .5rem; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .75rem; padding-top: .75rem;
  border-top: 1px solid var(--line); }
p, ul { max-width: 46rem; }
ul { padding-left: 1.2rem; }
a { color: var(--link); }
nav ol { columns: 15rem; padding-left: 2rem; margin: 1rem 0; }
pre { background: var(--shade); padding: .75rem 1rem; border-radius: 6px; overflow-x: auto;
  font-size: .875rem; }
.scroll { overflow-x: auto; margin: 1rem 0 .5rem; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .35rem; }
caption span { position: sticky; left: 0; display: inline-block; max-width: calc(100vw - 2rem); }
th, td { padding: .3rem .6rem; text-align: left; border-bottom: 1px solid var(--line);
  white-space: nowrap; vertical-align: top; }
th { font-weight: 600; }
thead th { white-space: normal; vertical-align: bottom; border-bottom: 2px solid var(--soft); }
th.n, td.n { text-align: right; }
td.w { white-space: normal; }
tbody th { position: sticky; left: 0; background: var(--paper); }
tr.rule > * { border-top: 2px solid var(--soft); }
.notes { color: var(--soft); font-size: .875rem; margin: .5rem 0 1rem; }
.gallery { display: grid; gap: 1.25rem; margin: 1rem 0; align-items: start; }
.gallery.narrow { grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }
.gallery.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 30rem), 1fr)); }
figure { margin: 0; break-inside: avoid; }
img { display: block; width: 100%; height: auto; background: #fff; border-radius: 6px;
  border: 1px solid var(--line); }
figcaption { color: var(--soft); font-size: .875rem; margin-top: .4rem; }
@media print { :root { color-scheme: light; --ink: #000; --paper: #fff; --soft: #444;
  --line: #bbb; --link: #000; } body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; } h2 { break-after: avoid; } .scroll { overflow: visible; }
  table { font-size: 7pt; } th, td { padding: .15rem .3rem; }
  tbody th, caption span { position: static; }
  .gallery.narrow { grid-template-columns: 1fr 1fr; }
  .gallery.wide { grid-template-columns: 1fr; } }
"""
