"""A page of sentences, tables and pictures, as one HTML file or as Markdown.

The HTML file holds all that it shows and runs no script; all text is escaped. Its template is
page.html.
"""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuxictr.text_tables import TextTable

if TYPE_CHECKING:
    from jinja2 import Environment
    from PIL import Image

MAX_WIDTH = 1120  # pixels of an embedded picture; its file has the full size
WIDE = 1200  # pixels from which pictures stand two in a row, not three


@dataclass(frozen=True)
class Picture:
    """A figure on disk: ``<stem>.png``, .pdf and .csv; ``alt`` is for readers who cannot see it."""

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
    """A heading and its content; a ``str`` among the blocks is a paragraph."""

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
    """Returns the picture of that name, [] where it was not drawn."""
    return [Picture(drawn[name], alt, caption)] if name in drawn else []


def gallery(pictures: Sequence[Picture]) -> list[Gallery]:
    """Returns the pictures side by side, [] where there are none."""
    return [Gallery(tuple(pictures))] if pictures else []


def to_html(page: Page) -> str:
    """Returns the page as one HTML file with its pictures in it."""
    templates = html_templates(Path(__file__).parent)
    templates.filters["embed"] = _embed
    return templates.get_template("page.html").render(page=page)


def html_templates(folder: Path) -> Environment:
    """Returns the jinja2 templates of a folder; texts are escaped, without control characters."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def to_markdown(page: Page, folder: Path) -> str:
    """Returns the page as Markdown, with links to the pictures relative to ``folder``."""
    parts = [f"# {_plain(page.title)}", _plain(page.lead)]
    for section in page.sections:
        parts.append(f"## {_plain(section.title)}")
        parts += [_block_markdown(block, folder) for block in section.blocks]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def shrink(
    image: Image.Image, width: int, num_colours: int = 256, refine: bool = True
) -> Image.Image:
    """Returns a picture at most ``width`` pixels wide, with a palette that keeps its colour bar.

    ``refine`` replaces each colour of the palette by the mean of the colours that it stands for.
    """
    from PIL import Image

    small = image.convert("RGB")
    if width < image.width:
        size = (width, round(image.height * width / image.width))
        small = small.resize(size, Image.Resampling.LANCZOS)
    # The default, median cut, drops the rare colours of a colour bar.
    return small.quantize(num_colours, Image.Quantize.MAXCOVERAGE, kmeans=int(refine))


@dataclass(frozen=True)
class _Image:
    """A picture as a data URL, with the size that it is shown at."""

    source: str
    width: int
    height: int
    is_wide: bool


def _embed(picture: Picture) -> _Image:
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(f"{picture.stem}.png") as image:
        is_wide = image.width >= WIDE
        small = shrink(image, MAX_WIDTH, refine=is_wide)
    small.save(buffer, "png", optimize=True)
    content = base64.b64encode(buffer.getvalue()).decode("ascii")
    return _Image(f"data:image/png;base64,{content}", small.width, small.height, is_wide)


def _block_markdown(block: Block, folder: Path) -> str:
    if isinstance(block, str):
        return _plain(block)
    if isinstance(block, Commands):
        return "```bash\n" + "\n".join(block.lines) + "\n```"
    if isinstance(block, Items):
        return "\n".join(f"- {_plain(text)}" for text in block.texts)
    if isinstance(block, Gallery):
        return "\n\n".join(_picture_markdown(picture, folder) for picture in block.pictures)
    table = replace(
        block,
        title=_plain(block.title),
        columns=[_plain(text) for text in block.columns],
        rows=[[_plain(text) for text in row] for row in block.rows],
        notes=[_plain(text) for text in block.notes],
    )
    return table.to_markdown()


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


def _plain(text: str) -> str:
    """Returns the text with everything escaped that Markdown would take for markup."""
    return re.sub(r"([\\`*\[\]])", r"\\\1", escape(_printable(" ".join(text.split())), quote=False))


def _printable(value: Any) -> Any:
    """Returns a text without control characters, and other values as they are."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", value) if type(value) is str else value
