"""Figure of an ablation: the test AUC of its arms between DIS and the full GEN."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from fuxictr.datasets import registry
from fuxictr.errors import DataError
from fuxictr.plotting.naming import figure_stem, seeds_text
from fuxictr.plotting.style import (
    COLOURS,
    COLUMN_WIDTH,
    GREY,
    GRID,
    INK,
    MARKERS,
    SMALL,
    figure_style,
    finish_figure,
    new_figure,
    save_figure,
    save_numbers,
)

if TYPE_CHECKING:
    from fuxictr.experiment.tables.comparisons import ArmResult

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


@dataclass(frozen=True)
class Bar:
    """One arm.

    Attributes:
        label: its name on the axis.
        mean: mean over the seeds.
        std: sample standard deviation over the seeds; None with one seed.
        num_seeds: number of seeds.
        variant: ``dis``, ``gen`` (the full one) or ``arm``.
        published: the published value, where there is one.
    """

    label: str
    mean: float
    std: float | None
    num_seeds: int
    variant: str
    published: float | None = None


def ablation_figure(
    bars: Sequence[Bar], xlabel: str = "Test AUC", title: str = "", caption: str = ""
) -> Figure:
    """Draws one bar an arm, from the mean of DIS, where the axis is cut, to the arm's own mean.

    The length of a bar is a difference to DIS. Dots are means, error bars the sample standard
    deviations, hollow markers published values; vertical lines carry DIS and the full GEN across.

    Args:
        bars: the arms from top to bottom; one of them is DIS.
        xlabel: what the values are.
        title: heading.
        caption: data, sample and seeds.

    Raises:
        DataError: DIS, from which the bars start, is not among them.
    """
    base = next((bar.mean for bar in bars if bar.variant == "dis"), None)
    if base is None:
        raise DataError(
            "no ablation to draw: DIS, from which the bars start, is not among the runs"
        )
    labels = [textwrap.fill(bar.label, 18, break_long_words=False) for bar in bars]
    num_lines = max(label.count("\n") + 1 for label in labels)
    with figure_style():
        figure = new_figure(COLUMN_WIDTH, 0.75 + max(0.31, 0.06 + 0.13 * num_lines) * len(bars))
        axes = figure.add_subplot()
        for row, bar in enumerate(bars):
            _draw_bar(axes, row, bar, base)
        axes.set_yticks(range(len(bars)), labels)
        axes.set_ylim(len(bars) - 0.45, -0.55)
        axes.tick_params(axis="y", length=0)
        _set_scale(axes, bars)
        axes.set_xlabel(f"{xlabel} (axis cut; bars start at DIS)")
        axes.set_axisbelow(True)
        finish_figure(figure, title, caption, _handles(bars))
    return figure


def ablation_numbers(bars: Sequence[Bar]) -> tuple[list[str], Iterator[list[object]]]:
    """Returns header and rows of what ``ablation_figure`` draws."""
    rows: Iterator[list[object]] = (
        [b.label, b.mean, b.std, b.num_seeds, b.published] for b in bars
    )
    return ["arm", f"test {METRIC}", "sample std", "seeds", "published"], rows


def write_ablation(
    root: str | Path,
    dataset_id: str,
    backbone: str,
    group: str,
    results: Sequence[ArmResult],
    published: Mapping[str, float],
) -> list[Path]:
    """Draws ``<backbone>_ab_<group>.{pdf,png,csv}``.

    Args:
        root: folder that holds figure/.
        dataset_id: the dataset.
        backbone: the backbone.
        group: source, encoder, target or activation.
        results: the arms, as ``ablation_results`` returned them.
        published: expid -> published test AUC.

    Raises:
        DataError: an arm misses a run of a seed; names the expid, the seeds and the command.
    """
    _check_complete(results, backbone, dataset_id, group)
    bars = [_bar(result, published.get(result.arm.expid)) for result in results]
    title = f"{backbone}: {_TITLES[group]}"
    figure = ablation_figure(bars, f"Test {METRIC}", title, _caption(results, dataset_id, bars))
    stem = figure_stem(root, dataset_id, f"{backbone}_ab_{group}")
    return [*save_figure(figure, stem), save_numbers(f"{stem}.csv", *ablation_numbers(bars))]


def _bar(result: ArmResult, published: float | None) -> Bar:
    arm, side = result.arm, result.side
    mean = side.mean(METRIC)
    assert mean is not None, "incomplete arms are refused before"
    variant = {"dis": "dis", "full": "gen"}.get(arm.word, "arm")
    return Bar(arm.label, mean, side.std(METRIC), len(side.seeds), variant, published)


def _draw_bar(axes: Axes, row: int, bar: Bar, base: float) -> None:
    colour = _ARM if bar.variant == "arm" else COLOURS[bar.variant][0]
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
        style = "-" if bar.variant == "dis" else (0, (4, 1.3))
        axes.axvline(bar.mean, color=colour, linewidth=0.8, linestyle=style, zorder=1.5)
    marker = MARKERS[bar.variant]
    dot = {"color": colour, "markeredgecolor": INK, "markeredgewidth": 0.5, "markersize": 4}
    error = {"xerr": bar.std, "capsize": 2.5, "elinewidth": 1, "ecolor": INK}
    axes.errorbar(bar.mean, row, fmt=marker, zorder=3, **dot, **error)
    if bar.published is not None:
        hollow = {"markerfacecolor": "none", "markeredgecolor": INK, "markersize": 7.5}
        axes.plot(bar.published, row, marker=marker, linestyle="", zorder=4, **hollow)
    # Beside the axes, where no bar can run through it.
    axes.annotate(
        f"{bar.mean:.5f}",
        (1, row),
        (3, 0),
        xycoords=axes.get_yaxis_transform(),
        textcoords="offset points",
        va="center",
        fontsize=SMALL,
        color=GREY,
        annotation_clip=False,
    )


def _set_scale(axes: Axes, bars: Sequence[Bar]) -> None:
    """Shows all that is drawn, with ticks that are written in full."""
    drawn = [bar.mean + sign * (bar.std or 0.0) for bar in bars for sign in (-1, 1)]
    drawn += [bar.published for bar in bars if bar.published is not None]
    margin = 0.08 * (max(drawn) - min(drawn)) or 1e-5
    axes.set_xlim(min(drawn) - margin, max(drawn) + margin)
    axes.xaxis.set_major_locator(MaxNLocator(4, min_n_ticks=3, steps=[1, 2, 2.5, 5, 10]))
    formatter = ScalarFormatter(useOffset=False)
    formatter.set_scientific(False)
    axes.xaxis.set_major_formatter(formatter)
    axes.grid(axis="x", color=GRID, linewidth=0.6)


def _handles(bars: Sequence[Bar]) -> list[Line2D]:
    several = any(bar.std is not None for bar in bars)
    name = f"mean over {bars[0].num_seeds} seeds ± sample std" if several else "one seed"
    dot = {"color": _ARM, "markeredgecolor": INK, "markersize": 4, "markeredgewidth": 0.5}
    handles = [Line2D([], [], marker=MARKERS["arm"], linestyle="", label=name, **dot)]
    if any(bar.published is not None for bar in bars):
        hollow = {"markerfacecolor": "none", "markeredgecolor": INK, "markersize": 7.5}
        marker = {"marker": MARKERS["arm"], "linestyle": "", "label": "published", **hollow}
        handles.append(Line2D([], [], **marker))
    return handles


def _check_complete(
    results: Sequence[ArmResult], backbone: str, dataset_id: str, group: str
) -> None:
    missing = []
    for result in results:
        side = result.side
        if not side.seeds:
            missing.append(f"{side.expid} (not run)")
        elif not side.is_complete:
            reasons = "; ".join(f"seed {seed}: {why}" for seed, why in side.missing.items())
            missing.append(f"{side.expid} ({reasons})")
        elif side.mean(METRIC) is None:
            missing.append(f"{side.expid} (no test {METRIC})")
    if missing:
        seeds = results[0].side.seeds
        options = f"--ablation {group} --dataset {registry.alias_of(dataset_id)}"
        options += f" --seeds {','.join(map(str, seeds))}" if len(seeds) > 1 else ""
        raise DataError(
            f"no figure of the {group} ablation of {backbone} on {dataset_id}: runs are missing: "
            f"{', '.join(missing)}; to make them run: bash 2.reproduce.sh {options}"
        )


def _caption(results: Sequence[ArmResult], dataset_id: str, bars: Sequence[Bar]) -> str:
    side = results[0].side
    num_rows = (side.runs[side.seeds[0]].get("rows") or {}).get("test")
    sample = f", {num_rows:,} rows of the test split" if num_rows else ", test split"
    published = any(bar.published is not None for bar in bars)
    return (
        f"{dataset_id}{sample}; trained with {seeds_text(side.seeds)}"
        + ("" if len(side.seeds) > 1 else ", so without error bars")
        + ("; hollow: published with the reference code" if published else "")
    )
