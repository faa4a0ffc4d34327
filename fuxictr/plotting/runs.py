"""Figure over runs: test AUC against the redundancy of the interacting sides."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fuxictr.analysis.ranks import spearman
from fuxictr.errors import DataError
from fuxictr.plotting.curves import write_collapse_curve, write_training_curves
from fuxictr.plotting.naming import figure_stem, seeds_text, signed
from fuxictr.plotting.style import (
    COLOURS,
    COLUMN_WIDTH,
    GREY,
    GRID,
    INK,
    MORE_MARKERS,
    figure_style,
    finish_figure,
    new_figure,
    save_figure,
    save_numbers,
)

__all__ = [
    "RunPoint",
    "redundancy_figure",
    "write_collapse_curve",
    "write_redundancy",
    "write_training_curves",
]


@dataclass(frozen=True)
class RunPoint:
    """One run: its test AUC and the mean absolute correlation of its interacting sides."""

    backbone: str
    variant: str
    seed: int
    auc: float
    redundancy: float


def redundancy_figure(points: Sequence[RunPoint], title: str = "", caption: str = "") -> Figure:
    """Draws one marker a run, hollow for DIS and filled for GEN, with a shape for each backbone.

    A thin line joins the means of DIS and GEN of a backbone.

    Raises:
        DataError: there are no runs.
    """
    if not points:
        raise DataError("no runs to draw: none has both a test AUC and a recording")
    backbones = list(dict.fromkeys(point.backbone for point in points))
    with figure_style():
        figure = new_figure(COLUMN_WIDTH, 2.8)
        axes = figure.add_subplot()
        handles = []
        for number, backbone in enumerate(backbones):
            shape = MORE_MARKERS[number % len(MORE_MARKERS)]
            _draw_backbone(axes, [p for p in points if p.backbone == backbone], shape)
            outline = {"markerfacecolor": "none", "markeredgecolor": INK, "markersize": 4.5}
            handles.append(Line2D([], [], label=backbone, marker=shape, linestyle="", **outline))
        handles += [
            Line2D([], [], label=f"{v.upper()} ({word})", marker="o", linestyle="", **_face(v))
            for v, word in (("dis", "hollow"), ("gen", "filled"))
        ]
        axes.set(xlabel="Mean absolute correlation of the two sides", ylabel="Test AUC")
        axes.ticklabel_format(useOffset=False)
        axes.margins(0.08)
        axes.grid(color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        finish_figure(figure, title, caption, handles)
    return figure


def write_redundancy(
    root: str | Path, dataset_id: str, points: Sequence[RunPoint], sample: str = ""
) -> list[Path]:
    """Draws test AUC against redundancy over backbones: ``redundancy.{pdf,png,csv}``.

    Args:
        root: folder that holds figure/.
        dataset_id: the dataset.
        points: the runs.
        sample: which rows the correlations are of, e.g. "50,000 rows of the valid split".

    Returns:
        The paths written.

    Raises:
        DataError: there are no runs.
    """
    value = spearman([p.redundancy for p in points], [p.auc for p in points])
    known = [dataset_id, f"correlations of {sample}" if sample else ""]
    known.append(f"trained with {seeds_text(point.seed for point in points)}" if points else "")
    if value is not None:
        known.append(f"Spearman correlation over the {len(points)} runs: {signed(value)}")
    caption = "; ".join(filter(None, known))
    figure = redundancy_figure(points, "AUC and redundancy", caption)
    stem = figure_stem(root, dataset_id, "redundancy")
    return [*save_figure(figure, stem), save_numbers(f"{stem}.csv", *redundancy_numbers(points))]


def redundancy_numbers(points: Sequence[RunPoint]) -> tuple[list[str], Iterator[Sequence[object]]]:
    """Returns header and rows of what ``redundancy_figure`` draws, one row a run."""
    return [field.name for field in fields(RunPoint)], map(astuple, points)


def _draw_backbone(axes: Axes, points: Sequence[RunPoint], shape: str) -> None:
    ends = []
    for variant in ("dis", "gen"):
        runs = [point for point in points if point.variant == variant]
        if not runs:
            continue
        x, y = [run.redundancy for run in runs], [run.auc for run in runs]
        axes.plot(x, y, marker=shape, linestyle="", zorder=3, **_face(variant))
        ends.append((statistics.fmean(x), statistics.fmean(y)))
    if len(ends) == 2:
        axes.plot(*zip(*ends, strict=True), color=GREY, linewidth=0.6, zorder=1)


def _face(variant: str) -> dict[str, object]:
    colour = COLOURS[variant][0]
    face = "white" if variant == "dis" else colour
    edge = colour if variant == "dis" else INK
    width = 1 if variant == "dis" else 0.4
    return {
        "markerfacecolor": face,
        "markeredgecolor": edge,
        "markeredgewidth": width,
        "markersize": 4.5,
    }
