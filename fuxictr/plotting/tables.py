"""Tables for the screen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fuxictr.analysis.spectrum import describe_condition
from fuxictr.analysis.summary import RunSummary

_SUMMARY_HEADER = (
    "Model",
    "Variant",
    "Expid",
    "RankMe",
    "Information abundance",
    "Dimensions > 1e-6",
    "At most",
    "Mean abs. correlation",
    "Dimensions for 98 %",
    "Condition number",
    "Uniformity",
)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], num_text: int = 1) -> str:
    """Returns a Markdown table with aligned columns: the first ``num_text`` left, others right."""
    rows = [list(row) for row in rows]
    widths = [max(len(row[i]) for row in [list(header), *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if i < num_text else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * w if i < num_text else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join([line(header), line(rule), *map(line, rows)])


def summary_table(summaries: Iterable[RunSummary]) -> str:
    """Returns collapse and redundancy of the runs, one row each, as an aligned Markdown table."""
    rows = (
        (
            run.model,
            run.variant.upper(),
            run.expid,
            f"{run.rankme:.2f}",
            f"{run.information_abundance:.2f}",
            f"{run.effective_dimensions} of {run.num_dimensions}",
            str(run.rank_bound),
            f"{run.mean_absolute_correlation:.4f}",
            str(run.dimensions_of_98_percent),
            describe_condition(run.condition_number),
            f"{run.uniformity:.4f}",
        )
        for run in summaries
    )
    return markdown_table(_SUMMARY_HEADER, rows, num_text=3)
