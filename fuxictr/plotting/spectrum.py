"""Figure of singular value spectra: who collapses, and where."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure

from fuxictr.analysis.spectrum import EFFECTIVE_THRESHOLD, log_spectrum
from fuxictr.errors import DataError
from fuxictr.plotting.style import (
    COLUMN_WIDTH,
    GREY,
    GRID,
    figure_style,
    finish_figure,
    integer_ticks,
    line_style,
    new_figure,
)

Curve = tuple[str, str, np.ndarray]


def spectrum_figure(curves: Sequence[Curve], title: str = "", caption: str = "") -> Figure:
    """Draws ln(singular value / largest) against the rank of the singular value.

    Args:
        curves: (label, variant ``dis`` or ``gen``, singular values, falling) of each run.
        title: heading.
        caption: what was sampled, below the figure.

    Raises:
        DataError: there is no curve, or a curve without a positive, finite singular value.
    """
    if not curves:
        raise DataError("no spectrum to draw: no runs were given")
    for label, _, values in curves:
        _check_values(label, np.asarray(values))
    with figure_style():
        figure = new_figure(COLUMN_WIDTH, 2.5)
        axes = figure.add_subplot()
        seen: Counter[str] = Counter()
        for number, (label, variant, values) in enumerate(curves):
            stride = max(1, len(values) // 8)  # markers at other ranks on each curve
            axes.plot(
                np.arange(1, len(values) + 1),
                log_spectrum(values),
                label=label,
                markevery=(number * stride // len(curves), stride),
                linewidth=1.6 if len(curves) < 4 else 1.1,
                **line_style(variant, seen[variant]),
            )
            seen[variant] += 1
        threshold = {"color": GREY, "linewidth": 0.8, "linestyle": (0, (1, 2))}
        label = r"$10^{-6}$ of the largest"
        axes.axhline(math.log(EFFECTIVE_THRESHOLD), label=label, **threshold)
        axes.set(xlabel="Rank of the singular value", xlim=(0, None))
        axes.xaxis.set_major_locator(integer_ticks())
        axes.set_ylabel("ln (singular value / largest)")
        axes.grid(axis="y", color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        finish_figure(figure, title, caption, axes.lines)
    return figure


def spectrum_numbers(curves: Sequence[Curve]) -> tuple[list[str], Iterator[list[object]]]:
    """Returns header and rows of what ``spectrum_figure`` draws.

    Columns: rank, and for each curve the singular value and the natural logarithm of its share of
    the largest; a curve shorter than the others ends in empty cells.
    """
    header = ["rank"]
    columns: list[list[float]] = []
    for label, _, values in curves:
        header += [f"{label} singular value", f"{label} log"]
        columns += [np.asarray(values, np.float64).tolist(), log_spectrum(values).tolist()]
    num_ranks = max(map(len, columns))
    rows: Iterator[list[object]] = (
        [rank + 1, *(column[rank] if rank < len(column) else "" for column in columns)]
        for rank in range(num_ranks)
    )
    return header, rows


def _check_values(label: str, values: np.ndarray) -> None:
    if values.ndim != 1 or not values.size or not np.isfinite(values).all() or values.max() <= 0:
        raise DataError(
            f"no spectrum to draw for '{label}': of {values.size} singular values none is positive "
            f"or some are not finite; its embeddings do not vary over the sample, or diverged"
        )
