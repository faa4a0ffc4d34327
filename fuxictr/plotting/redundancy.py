"""Figure of the test AUC of all runs against the redundancy of their interacting sides."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fuxictr.analysis.rank_correlation import spearman
from fuxictr.errors import DataError
from fuxictr.plotting import style
from fuxictr.plotting.naming import seeds_text, signed


@dataclass(frozen=True)
class RunPoint:
    """One run: its test AUC and the mean absolute correlation of its interacting sides."""

    backbone: str
    variant: str
    seed: int
    auc: float
    redundancy: float


def redundancy_figure(points: Sequence[RunPoint], title: str = "", caption: str = "") -> Figure:
    """Draws one marker per run, hollow for DIS and filled for GEN, with a shape for each backbone.

    A thin line joins the means of DIS and GEN of a backbone. Raises DataError without a run.
    """
    if not points:
        raise DataError("no runs to draw: none has both a test AUC and a recording")
    backbones = list(dict.fromkeys(point.backbone for point in points))
    with style.figure_style():
        figure = style.new_figure(style.COLUMN_WIDTH, 2.8)
        axes = figure.add_subplot()
        handles = []
        for number, backbone in enumerate(backbones):
            shape = style.MORE_MARKERS[number % len(style.MORE_MARKERS)]
            _draw_backbone(axes, [p for p in points if p.backbone == backbone], shape)
            outline = {"markerfacecolor": "none", "markeredgecolor": style.INK, "markersize": 4.5}
            handles.append(Line2D([], [], label=backbone, marker=shape, linestyle="", **outline))
        handles += [
            Line2D([], [], label=f"{v.upper()} ({word})", marker="o", linestyle="", **_face(v))
            for v, word in (("dis", "hollow"), ("gen", "filled"))
        ]
        axes.set(xlabel="Mean absolute correlation of the two sides", ylabel="Test AUC")
        axes.ticklabel_format(useOffset=False)
        axes.margins(0.08)
        style.draw_grid(axes, "both")
        style.finish_figure(figure, title, caption, handles)
    return figure


def write_redundancy(
    root: str | Path, dataset_id: str, points: Sequence[RunPoint], sample: str = ""
) -> list[Path]:
    """Draws test AUC against redundancy over backbones: ``redundancy.{pdf,png,csv}``.

    ``sample`` says which rows the correlations are of, e.g. "50,000 rows of the valid split".
    """
    value = spearman([p.redundancy for p in points], [p.auc for p in points])
    known = [dataset_id, f"correlations of {sample}" if sample else ""]
    known.append(f"trained with {seeds_text(point.seed for point in points)}" if points else "")
    if value is not None:
        known.append(f"Spearman correlation over the {len(points)} runs: {signed(value)}")
    caption = "; ".join(filter(None, known))
    figure = redundancy_figure(points, "AUC and redundancy", caption)
    numbers = ([field.name for field in fields(RunPoint)], map(astuple, points))
    return style.write_figure(root, dataset_id, "redundancy", figure, numbers)


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
        axes.plot(*zip(*ends, strict=True), color=style.GREY, linewidth=0.6, zorder=1)


def _face(variant: str) -> dict[str, object]:
    colour = style.COLOURS[variant][0]
    face, edge, width = ("white", colour, 1) if variant == "dis" else (colour, style.INK, 0.4)
    return {"mfc": face, "mec": edge, "mew": width, "markersize": 4.5}
