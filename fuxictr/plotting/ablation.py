"""Figure of an ablation: the test AUC of its arms between DIS and the full GEN."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from fuxictr.errors import DataError
from fuxictr.plotting import style
from fuxictr.plotting.naming import seeds_text

METRIC = "AUC"
_TITLES = {
    "source": "which fields predict",
    "encoder": "structure of the encoder",
    "target": "which fields are predicted",
    "activation": "activation of the encoder",
}
_TINTS = {"dis": "#CFE5F3", "gen": "#FBE7BF", "arm": "#D3EDE4"}
_HATCHES = {"dis": "", "gen": "", "arm": "///"}
_ARM = "#009E73"
_HOLLOW = {"mfc": "none", "mec": style.INK, "markersize": 7.5, "linestyle": ""}


@dataclass(frozen=True)
class Bar:
    """One arm, ``dis``, ``gen`` or ``arm``: mean and sample deviation (None with one seed)."""

    label: str
    mean: float
    std: float | None
    num_seeds: int
    variant: str
    published: float | None = None


def ablation_figure(bars: Sequence[Bar], title: str = "", caption: str = "") -> Figure:
    """Draws one bar per arm, from the mean of DIS to the arm's own mean; the axis is cut.

    Dots are means, error bars sample standard deviations, hollow markers published values; vertical
    lines mark DIS and the full GEN. Raises DataError without DIS.
    """
    base = next((bar.mean for bar in bars if bar.variant == "dis"), None)
    if base is None:
        raise DataError(
            "no ablation to draw: DIS, from which the bars start, is not among the runs"
        )
    labels = [textwrap.fill(bar.label, 18, break_long_words=False) for bar in bars]
    num_lines = max(label.count("\n") + 1 for label in labels)
    height = 0.75 + max(0.31, 0.06 + 0.13 * num_lines) * len(bars)
    with style.figure_style():
        figure = style.new_figure(style.COLUMN_WIDTH, height)
        axes = figure.add_subplot()
        for row, bar in enumerate(bars):
            _draw_bar(axes, row, bar, base)
        axes.set_yticks(range(len(bars)), labels)
        axes.set_ylim(len(bars) - 0.45, -0.55)
        axes.tick_params(axis="y", length=0)
        _set_scale(axes, bars)
        axes.set_xlabel(f"Test {METRIC} (axis cut; bars start at DIS)")
        style.finish_figure(figure, title, caption, _handles(bars))
    return figure


def write_ablation(
    root: str | Path,
    dataset_id: str,
    backbone: str,
    group: str,
    bars: Sequence[Bar],
    seeds: Sequence[int],
    num_rows: int | None = None,
) -> list[Path]:
    """Draws ``<backbone>_ab_<group>.{pdf,png,csv}``, the bars from top to bottom.

    All are over the ``seeds``, on ``num_rows`` rows of the test split (None = unknown).
    """
    sample = f", {num_rows:,} rows of the test split" if num_rows else ", test split"
    caption = f"{dataset_id}{sample}; trained with {seeds_text(seeds)}"
    caption += "" if len(seeds) > 1 else ", so without error bars"
    if any(bar.published is not None for bar in bars):
        caption += "; hollow: published with the reference code"
    figure = ablation_figure(bars, f"{backbone}: {_TITLES[group]}", caption)
    rows = ([bar.label, bar.mean, bar.std, bar.num_seeds, bar.published] for bar in bars)
    numbers = (["arm", f"test {METRIC}", "sample std", "seeds", "published"], rows)
    return style.write_figure(root, dataset_id, f"{backbone}_ab_{group}", figure, numbers)


def _draw_bar(axes: Axes, row: int, bar: Bar, base: float) -> None:
    colour = _ARM if bar.variant == "arm" else style.COLOURS[bar.variant][0]
    axes.barh(
        row,
        bar.mean - base,
        left=base,
        height=0.56,
        color=_TINTS[bar.variant],
        hatch=_HATCHES[bar.variant],
        edgecolor=colour,
        linewidth=0.6,
    )
    if bar.variant != "arm":
        dashes = "-" if bar.variant == "dis" else (0, (4, 1.3))
        axes.axvline(bar.mean, color=colour, linewidth=0.8, linestyle=dashes, zorder=1.5)
    marker = style.MARKERS[bar.variant]
    dot = {"color": colour, "markeredgecolor": style.INK, "markeredgewidth": 0.5, "markersize": 4}
    error = {"xerr": bar.std, "capsize": 2.5, "elinewidth": 1, "ecolor": style.INK}
    axes.errorbar(bar.mean, row, fmt=marker, zorder=3, **dot, **error)
    if bar.published is not None:
        axes.plot(bar.published, row, marker=marker, zorder=4, **_HOLLOW)
    # Beside the axes, so that no bar crosses it.
    axes.annotate(
        f"{bar.mean:.5f}",
        (1, row),
        (3, 0),
        xycoords=axes.get_yaxis_transform(),
        textcoords="offset points",
        va="center",
        fontsize=style.SMALL,
        color=style.GREY,
        annotation_clip=False,
    )


def _set_scale(axes: Axes, bars: Sequence[Bar]) -> None:
    """Sets limits that show everything drawn, and tick labels without an offset."""
    drawn = [bar.mean + sign * (bar.std or 0.0) for bar in bars for sign in (-1, 1)]
    drawn += [bar.published for bar in bars if bar.published is not None]
    margin = 0.08 * (max(drawn) - min(drawn)) or 1e-5
    axes.set_xlim(min(drawn) - margin, max(drawn) + margin)
    axes.xaxis.set_major_locator(MaxNLocator(4, min_n_ticks=3, steps=[1, 2, 2.5, 5, 10]))
    formatter = ScalarFormatter(useOffset=False)
    formatter.set_scientific(False)
    axes.xaxis.set_major_formatter(formatter)
    style.draw_grid(axes, "x")


def _handles(bars: Sequence[Bar]) -> list[Line2D]:
    several = any(bar.std is not None for bar in bars)
    name = f"mean over {bars[0].num_seeds} seeds ± sample std" if several else "one seed"
    dot = {"color": _ARM, "markeredgecolor": style.INK, "markersize": 4, "markeredgewidth": 0.5}
    handles = [Line2D([], [], marker=style.MARKERS["arm"], linestyle="", label=name, **dot)]
    if any(bar.published is not None for bar in bars):
        handles.append(Line2D([], [], marker=style.MARKERS["arm"], label="published", **_HOLLOW))
    return handles
