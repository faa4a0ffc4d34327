"""Figure of singular value spectra: who collapses, and where."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from fuxictr.analysis.spectrum import EFFECTIVE_THRESHOLD, log_spectrum
from fuxictr.errors import DataError
from fuxictr.plotting.style import (
    COLOURS,
    COLUMN_WIDTH,
    GREY,
    add_texts,
    figure_style,
    new_figure,
)

Curve = tuple[str, str, np.ndarray]
LINE_STYLES = ("-", "--", ":", "-.")
LEGEND_LINE = 0.15  # inches


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
        figure = new_figure(COLUMN_WIDTH, 2.5 + LEGEND_LINE * (len(curves) + 1))
        axes = figure.add_subplot()
        seen: Counter[str] = Counter()
        for label, variant, values in curves:
            style = _line(variant, seen[variant])
            seen[variant] += 1
            axes.plot(np.arange(1, len(values) + 1), log_spectrum(values), label=label, **style)
        axes.axhline(
            math.log(EFFECTIVE_THRESHOLD),
            color=GREY,
            linewidth=0.8,
            linestyle=(0, (1, 2)),
            label=r"$10^{-6}$ of the largest",
        )
        axes.set(xlabel="Rank of the singular value", xlim=(0, None))
        axes.set_ylabel("ln (singular value / largest)")
        axes.grid(axis="y", color="#E5E5E5", linewidth=0.6)
        axes.set_axisbelow(True)
        _add_legend(figure, axes)
        add_texts(figure, axes, title, caption)
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


def _add_legend(figure: Figure, axes: Axes) -> None:
    """Puts the legend under the rank axis, where no curve can run through it."""
    below_axis_label = ScaledTranslation(0, -0.4, figure.dpi_scale_trans)
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=axes.transAxes + below_axis_label,
        borderaxespad=0,
        borderpad=0.2,
        labelspacing=0.3,
    )


def _line(variant: str, index: int) -> dict[str, str]:
    """Returns colour and line style of the index-th curve of a variant."""
    colours = COLOURS[variant]
    cycle, colour = divmod(index, len(colours))
    return {"color": colours[colour], "linestyle": LINE_STYLES[cycle % len(LINE_STYLES)]}
