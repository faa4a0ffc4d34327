"""What all figures share: fonts, colours, and files that appear whole."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fuxictr.files import atomic_path, write_atomically

COLUMN_WIDTH, PAGE_WIDTH = 3.5, 7.0  # inches: one column and the full page of a paper
PNG_DPI = 300
INK, GREY = "#222222", "#666666"

# Okabe and Ito's colours, told apart by colour-blind readers; each variant has its own family.
COLOURS = {
    "dis": ("#0072B2", "#56B4E9", "#009E73"),
    "gen": ("#E69F00", "#D55E00", "#CC79A7"),
}

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
    """Context in which figures are made and saved; a user's own settings wait outside."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)
        yield


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty figure (inches) that makes room for its texts; needs no display."""
    return Figure(figsize=(width, height), layout="constrained")


def add_texts(figure: Figure, axes: Axes, title: str, caption: str) -> None:
    """Writes the heading above the axes and small grey lines below the figure, both wrapped."""
    width = figure.get_figwidth()
    axes.set_title(textwrap.fill(title, int(width * 11)))
    if caption:
        lines = textwrap.fill(caption, int(width * 19), break_on_hyphens=False)
        figure.supxlabel(lines, fontsize=6.5, color=GREY)


def save_figure(figure: Figure, stem: str | Path) -> list[Path]:
    """Writes ``<stem>.pdf`` (vector, without a date) and ``<stem>.png`` (300 dpi), each whole.

    Returns:
        The two paths.
    """
    paths = [Path(f"{stem}.pdf"), Path(f"{stem}.png")]
    with figure_style():
        with atomic_path(paths[0]) as temporary:
            figure.savefig(temporary, format="pdf", metadata={"CreationDate": None})
        with atomic_path(paths[1]) as temporary:
            figure.savefig(temporary, format="png", dpi=PNG_DPI)
    return paths


def save_numbers(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """Writes a csv file, whole, with numbers in ten significant digits; returns its path."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_plain(cell) for cell in row] for row in rows)
    write_atomically(path, text.getvalue())
    return Path(path)


def _plain(cell: object) -> object:
    return f"{cell:.10g}" if isinstance(cell, float) else cell
