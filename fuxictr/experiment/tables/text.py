"""Tables of text: aligned Markdown for a screen, LaTeX with booktabs for a paper."""

from __future__ import annotations

import csv
import io
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fuxictr.datasets import registry
from fuxictr.experiment.tables.seed_runs import SeedRuns

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
        widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
        rules = [
            "-" * width if place < self.num_left else "-" * (width - 1) + ":"
            for place, width in enumerate(widths)
        ]
        texts = []
        for line in (lines[0], rules, *lines[1:]):
            padded = [
                cell.ljust(width) if place < self.num_left else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(line, widths, strict=True))
            ]
            texts.append(f"| {' | '.join(padded)} |")
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


def to_csv(columns: Sequence[str], records: Iterable[Mapping[str, Any]]) -> str:
    """Returns csv with all digits; empty where there is nothing to say."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return buffer.getvalue()


def describe_runs(sides: Sequence[SeedRuns], dataset: str, name_expids: bool = False) -> str:
    """Returns the data, their rows, the seeds and on demand the expids, as one sentence.

    Args:
        sides: whose runs.
        dataset: as --dataset.
        name_expids: whether to name the expids, which stand for the configs.
    """
    text = registry.dataset_id_of(dataset)
    rows = [run.rows for side in sides for run in side.runs.values()]
    if rows and rows[0] and all(found == rows[0] for found in rows):
        text += f" ({', '.join(f'{n:,} {split}' for split, n in rows[0].items())} rows)"
    groups: dict[str, list[str]] = {}
    for side in sides:
        groups.setdefault(", ".join(map(str, side.seeds)) or "none", []).append(side.expid)
    if len(groups) == 1:
        parts = [f"seeds {seeds}" for seeds in groups]
    else:
        parts = [f"seeds {seeds} of {', '.join(expids)}" for seeds, expids in groups.items()]
    if name_expids:
        parts.append(f"configs of model_zoo: {', '.join(side.expid for side in sides)}")
    return "; ".join([text, *parts]) + "."


def format_mean(side: SeedRuns, metric: str) -> str:
    """Returns ``0.712345 ± 0.000123``, or in its place what is missing."""
    value, deviation = side.mean(metric), side.std(metric)
    if value is None:
        return side.status
    return f"{value:.6f}" + ("" if deviation is None else f" ± {deviation:.6f}")


def format_p(p: float | None) -> str:
    """Returns ``0.012`` or ``<0.001``, empty where the test is not defined."""
    if p is None:
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def format_number(value: float | None, spec: str = ".6f") -> str:
    """Returns the number in a format, empty for None."""
    return "" if value is None else f"{value:{spec}}"
