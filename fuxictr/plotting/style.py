"""What all figures share: fonts, colours, room for texts, and files that are written whole."""

from __future__ import annotations

import csv
import io
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fuxictr.files import write_atomically
from fuxictr.plotting.naming import figure_stem

Numbers = tuple[Sequence[str], Iterable[Sequence[object]]]  # header and rows of a csv file

COLUMN_WIDTH, PAGE_WIDTH = 3.5, 7.0  # inches: one column and the full page of a paper
PNG_DPI = 300
SMALL = 6.5  # points: the smallest text
INK, GREY, PALE, GRID = "#222222", "#666666", "#B5B5B5", "#E5E5E5"

# Okabe and Ito's colours, told apart by colour-blind readers; each variant has its own family.
COLOURS = {
    "dis": ("#0072B2", "#56B4E9", "#009E73"),
    "gen": ("#E69F00", "#D55E00", "#CC79A7"),
}
# What tells runs apart in grey print: each variant has its own line styles.
_LINES = {"dis": ("-", ":"), "gen": ((0, (4, 1.3)), "-.")}
MARKERS = {"dis": "o", "gen": "s", "arm": "D"}
MORE_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "*", "h", "d", "H", "8")

_RC = {
    "font.family": "sans-serif",
    "font.size": 8,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.7,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.color": INK,
    "ytick.color": INK,
    "pdf.fonttype": 42,  # fonts are embedded as TrueType, so that the text stays text
    "ps.fonttype": 42,
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Context in which figures are made and saved, unaffected by the user's own settings."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)
        yield


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty figure (size in inches) that makes room for its texts; needs no display."""
    return Figure(figsize=(width, height), layout="constrained")


def line_style(variant: str, index: int) -> dict[str, object]:
    """Returns colour, line style and marker of the index-th run of a variant.

    Line style and marker alone tell 30 runs of each variant apart; the first two have no marker.
    """
    colours, lines = COLOURS[variant], _LINES[variant]
    num_bare = len(lines)
    marker = "" if index < num_bare else MORE_MARKERS[(index - num_bare) % len(MORE_MARKERS)]
    return {
        "color": colours[index % len(colours)],
        "linestyle": lines[index % len(lines)],
        "marker": marker,
        "markersize": 3.5,
    }


def line_styles(variants: Iterable[str]) -> list[dict[str, object]]:
    """Returns the line style of each run, given the runs' variants."""
    seen: Counter[str] = Counter()
    styles = []
    for variant in variants:
        styles.append(line_style(variant, seen[variant]))
        seen[variant] += 1
    return styles


def draw_grid(axes: Axes, axis: str = "y") -> None:
    """Draws pale grid lines behind the data; ``axis`` is ``x``, ``y`` or ``both``."""
    axes.grid(axis=axis, color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def integer_ticks(num_ticks: int = 6) -> MaxNLocator:
    """Returns a locator of at most ``num_ticks`` round integers."""
    return MaxNLocator(num_ticks, integer=True, steps=[1, 2, 5, 10])


def finish_figure(
    figure: Figure, title: str = "", caption: str = "", handles: Sequence[Artist] = ()
) -> None:
    """Adds the title above the axes, and below them a legend of ``handles`` and a grey caption.

    The figure grows by their height, so the axes keep their size. Texts are wrapped.
    """
    width, height = figure.get_size_inches()
    if title:
        heading = figure.suptitle(title, fontsize=9, fontweight="bold")
        wrap_text(heading, width - 0.1)
    foot = 0.03
    if caption:
        small = {"fontsize": SMALL, "color": GREY, "va": "bottom", "linespacing": 1.15}
        note = figure.text(0, 0, caption, **small)
        wrap_text(note, width - 0.1)
        note.set_in_layout(False)
        foot += text_size(note)[1]
    if handles:
        legend = _legend(figure, handles, width - 0.05)
        foot += 0.06 + text_size(legend)[1]
    figure.set_size_inches(width, height + foot)
    if caption:
        note.set_position((0.05 / width, 0.03 / (height + foot)))
    if handles:
        top = foot / (height + foot)
        legend.set_bbox_to_anchor((0.5, top), transform=figure.transFigure)
    figure.get_layout_engine().set(rect=(0, foot / (height + foot), 1, height / (height + foot)))


def wrap_text(text: Artist, width: float) -> None:
    """Breaks a text into lines that are no wider than ``width`` inches."""
    whole = " ".join(text.get_text().split())
    num_characters = len(whole)
    while text_size(text)[0] > width and num_characters > 8:
        num_characters = min(
            num_characters - 1, int(num_characters * width / text_size(text)[0]) + 2
        )
        text.set_text(textwrap.fill(whole, num_characters, break_on_hyphens=False))


def text_size(artist: Artist) -> tuple[float, float]:
    """Returns width and height in inches."""
    box = artist.get_window_extent()
    dpi = artist.get_figure().dpi
    return box.width / dpi, box.height / dpi


def shorten(names: Sequence[str], limit: int = 22) -> list[str]:
    """Returns the names as figures show them, with the middle of long ones left out.

    Different names stay different, and a dollar sign does not start a formula.
    """
    tail = limit // 3
    short = [n if len(n) <= limit else f"{n[: limit - tail - 1]}…{n[-tail:]}" for n in names]
    shown = short if len(set(short)) == len(set(names)) else names
    return [name.replace("$", r"\$") for name in shown]


def save_figure(figure: Figure, stem: str | Path) -> list[Path]:
    """Writes ``<stem>.pdf`` (vector, without a date) and ``<stem>.png`` (300 dpi)."""
    paths = [Path(f"{stem}.pdf"), Path(f"{stem}.png")]
    # Drawn in memory: on a full disk the pdf writer fails while it cleans up.
    pdf, png = io.BytesIO(), io.BytesIO()
    with figure_style():
        figure.savefig(pdf, format="pdf", metadata={"CreationDate": None})
        figure.savefig(png, format="png", dpi=PNG_DPI)
    for path, content in zip(paths, (pdf, png), strict=True):
        write_atomically(path, content.getvalue())
    return paths


def save_numbers(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """Writes a csv file with floats in ten significant digits; returns its path."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_plain(cell) for cell in row] for row in rows)
    write_atomically(path, text.getvalue())
    return Path(path)


def write_figure(
    root: str | Path, dataset_id: str, name: str, figure: Figure, numbers: Numbers
) -> list[Path]:
    """Writes ``<root>/figure/final/<dataset_id>/<name>.{pdf,png,csv}``; returns the paths."""
    stem = figure_stem(root, dataset_id, name)
    return [*save_figure(figure, stem), save_numbers(f"{stem}.csv", *numbers)]


def _legend(figure: Figure, handles: Sequence[Artist], width: float) -> Artist:
    """Returns a legend with as many columns as fit into the width; long labels are wrapped."""
    style = {"labelspacing": 0.3, "columnspacing": 1.2, "handletextpad": 0.5, "borderpad": 0.1}
    has_lines = any(handle.get_linestyle() not in ("", "None") for handle in handles)
    style["handlelength"] = 2.6 if has_lines else 1.4  # shows a full period of every line style
    labels = [str(handle.get_label()) for handle in handles]
    for num_columns in range(min(4, len(handles)), 0, -1):
        legend = figure.legend(
            handles, labels, loc="upper center", ncols=num_columns, borderaxespad=0, **style
        )
        legend.set_in_layout(False)
        if text_size(legend)[0] <= width:
            return legend
        if num_columns > 1:
            legend.remove()
    for text in legend.get_texts():
        wrap_text(text, width - 0.5)
    return legend


def _plain(cell: object) -> object:
    return f"{cell:.10g}" if isinstance(cell, float) else cell
