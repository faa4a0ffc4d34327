"""Text for a screen or a paper: aligned columns, Markdown and LaTeX tables, durations, sizes."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

WIDTH = 120  # characters of a line of pairs
SCREEN = 150  # characters of the longest line
_LATIN_END = "\u0180"  # LaTeX's fonts have the characters before it
LATEX_PREAMBLE = "% needs \\usepackage{booktabs,graphicx} in the preamble\n"
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "±": r"$\pm$",
    "µ": r"$\mu$",
}


@dataclass(frozen=True)
class TextTable:
    """One table of text.

    Attributes:
        title: what it shows.
        columns: the head; names may repeat.
        rows: as wide as the head.
        num_left: so many first columns are words, the others numbers.
        num_last: so many last rows stand below a rule (LaTeX).
        notes: sentences below the table.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    num_left: int = 1
    num_last: int = 0
    notes: Sequence[str] = ()

    def to_markdown(self) -> str:
        """Returns the title, the aligned table and its notes; the notes are wrapped."""
        lines = [[cell.replace("|", "\\|") for cell in row] for row in (self.columns, *self.rows)]
        rule = ["---"] * self.num_left + ["--:"] * (len(self.columns) - self.num_left)
        layout = "<" * self.num_left + ">" * (len(self.columns) - self.num_left)
        head, *rows = _pad(lines, layout, least=3)
        rules = [mark.rjust(len(cell), "-") for mark, cell in zip(rule, head, strict=True)]
        texts = [f"| {' | '.join(cells)} |" for cells in (head, rules, *rows)]
        parts = [f"**{self.title}**", "\n".join(texts)]
        if self.notes:
            parts.append("\n".join(wrap(f"- {note}") for note in self.notes))
        return "\n\n".join(parts) + "\n"

    def to_latex(self, caption: str, label: str) -> str:
        """Returns a ``table*`` of a two-column paper, as wide as the text; notes stand below."""
        lines = [" & ".join(map(_latex_cell, row)) + r" \\" for row in self.rows]
        if self.num_last:
            lines.insert(len(lines) - self.num_last, r"\midrule")
        columns = "l" * self.num_left + "r" * (len(self.columns) - self.num_left)
        notes = [rf"\par\smallskip\footnotesize {escape_latex(note)}" for note in self.notes]
        body = [
            r"\begin{table*}[t]",
            r"\centering",
            rf"\caption{{{escape_latex(f'{self.title}. {caption}')}}}",
            rf"\label{{{label}}}",
            r"\resizebox{\linewidth}{!}{%",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(map(escape_latex, self.columns)) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}}",
            *notes,
            r"\end{table*}",
        ]
        return "\n".join(body) + "\n"


def escape_latex(text: str) -> str:
    """Returns the text with everything escaped that LaTeX takes for markup, ? for what it lacks."""
    return "".join(_LATEX.get(c, c if c < _LATIN_END else "?") for c in text)


def _latex_cell(text: str) -> str:
    return re.sub(r"^([+-])(?=[\d.])", r"$\1$", escape_latex(text))


def wrap(text: str) -> str:
    """Returns the text in lines that fit a screen; those of a list's item are indented."""
    indent = "  " * text.startswith("- ")
    return textwrap.fill(text, SCREEN, subsequent_indent=indent, break_on_hyphens=False)


def align_columns(lines: Sequence[Sequence[str]], layout: str = "", indent: int = 0) -> list[str]:
    """Returns lines of cells as texts with aligned columns.

    Args:
        lines: the cells, equally many per line.
        layout: one ``<`` (left) or ``>`` (right) per column; all left by default.
        indent: blanks at the beginning of each line.
    """
    padded = _pad(lines, layout or "<" * len(lines[0]))
    return [f"{'':{indent}}{'  '.join(cells)}".rstrip() for cells in padded]


def align_pairs(pairs: Iterable[tuple[str, str]], indent: int = 2) -> list[str]:
    """Returns one line per name and text, the texts below each other and long ones wrapped."""
    pairs = list(pairs)
    start = indent + max((len(name) for name, _ in pairs), default=0) + 2
    wrapper = textwrap.TextWrapper(
        max(WIDTH - start, 40), break_long_words=False, break_on_hyphens=False
    )
    lines = []
    for name, text in pairs:
        first = f"{'':{indent}}{name}".ljust(start)
        wrapped = wrapper.wrap(text) or [""]
        lines += [f"{first}{wrapped[0]}".rstrip(), *(f"{'':{start}}{more}" for more in wrapped[1:])]
    return lines


def format_duration(seconds: float) -> str:
    """Returns ``45 s``, ``12 min`` or ``3 h 05 min``."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def format_size(num_bytes: float) -> str:
    """Returns ``12 MB`` or ``3.5 GB``."""
    megabytes = num_bytes / 1e6
    return f"{max(1, round(megabytes))} MB" if megabytes < 1000 else f"{megabytes / 1000:.1f} GB"


def _pad(lines: Sequence[Sequence[str]], layout: str, least: int = 0) -> Iterator[list[str]]:
    """Yields the cells of each line as wide as their column, ``least`` or more."""
    widths = [max(least, *map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        columns = zip(line, layout, widths, strict=True)
        yield [f"{cell:{side}{width}}" for cell, side, width in columns]
