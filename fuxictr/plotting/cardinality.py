"""Figure of each field's dimensions in use against the size of its vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fuxictr.analysis.fields import FieldSummary, field_summary, shared_fields
from fuxictr.analysis.rank_correlation import spearman
from fuxictr.analysis.records import Records
from fuxictr.errors import DataError
from fuxictr.plotting import style
from fuxictr.plotting.naming import model_names, run_labels, sample_caption, signed
from fuxictr.plotting.point_labels import name_points

Run = tuple[str, str, Sequence[FieldSummary]]  # label, variant ``dis`` or ``gen``, fields
_PANELS = {"rankme": "RankMe", "information_abundance": "Information abundance"}


def cardinality_figure(
    runs: Sequence[Run], embedding_dim: int, title: str = "", caption: str = ""
) -> Figure:
    """Draws RankMe and information abundance (at most D) of each field against its cardinality.

    Fields of unknown cardinality stand apart at the left. A thin line joins a field's points; names
    stand where there is room. Raises DataError without a run or a known cardinality.
    """
    if not runs or not any(field.cardinality for field in runs[0][2]):
        raise DataError(
            "no cardinalities to draw against: no runs, or runs recorded by an earlier version, "
            "which did not keep them; record them again: bash 3.analyze.sh"
        )
    summaries = runs[0][2]
    x = _places([field.cardinality for field in summaries])
    markers = _markers([variant for _, variant, _ in runs])
    panels = [
        (label, np.array([[getattr(field, key) for field in fields] for _, _, fields in runs]))
        for key, label in _PANELS.items()
    ]
    with style.figure_style():
        figure = style.new_figure(style.COLUMN_WIDTH, 4.4)
        grid = figure.subplots(2, 1, sharex=True)
        for axes, (label, heights) in zip(grid, panels, strict=True):
            _draw_panel(axes, x, heights, markers)
            axes.set_ylabel(f"{label} (of {embedding_dim})")
        _set_ticks(grid[1], x, summaries)
        handles = [
            Line2D([], [], label=label, linestyle="", **marker)
            for (label, _, _), marker in zip(runs, markers, strict=True)
        ]
        style.finish_figure(figure, title, caption, handles)
        names = style.shorten([field.field for field in summaries], 14)
        for axes, (_, heights) in zip(grid, panels, strict=True):
            name_points(axes, x, heights[::-1], names)
    return figure


def write_cardinality(
    root: str | Path, dataset_id: str, model: str, records: Sequence[Records]
) -> list[Path]:
    """Draws the fields' collapse against cardinality: ``<model>_cardinality.{pdf,png,csv}``.

    Raises CheckpointError as ``record_spectra``, DataError for different fields or a recording
    without cardinalities.
    """
    metas = [run.meta for run in records]
    shared_fields(metas)
    runs = [
        (label, run.meta.variant, field_summary(run))
        for label, run in zip(run_labels(metas), records, strict=True)
    ]
    caption = f"{sample_caption(metas)}; {cardinality_sentence(runs)}"
    title = f"{model_names(metas)}: dimensions in use by field"
    figure = cardinality_figure(runs, max(meta.embedding_dim for meta in metas), title, caption)
    numbers = cardinality_numbers(runs)
    return style.write_figure(root, dataset_id, f"{model}_cardinality", figure, numbers)


def cardinality_numbers(runs: Sequence[Run]) -> style.Numbers:
    """Returns what ``cardinality_figure`` draws, one row per run and field."""
    rows = (
        [
            label,
            field.field,
            field.cardinality or None,
            float(np.log10(field.cardinality)) if field.cardinality else None,
            field.rankme,
            field.information_abundance,
            field.effective_dimensions,
        ]
        for label, _, fields in runs
        for field in fields
    )
    header = ["run", "field", "cardinality", "log10 cardinality", "rankme"]
    return [*header, "information_abundance", "effective_dimensions"], rows


def cardinality_sentence(runs: Sequence[Run]) -> str:
    """Says how RankMe correlates with cardinality in each run."""
    parts = []
    for label, _, fields in runs:
        known = [field for field in fields if field.cardinality]
        value = spearman([f.cardinality for f in known], [f.rankme for f in known])
        if value is not None:
            parts.append(f"{label.partition(',')[0]} {signed(value)}")
    shown = ", ".join(parts) or "not defined"
    return f"Spearman correlation of RankMe and cardinality: {shown}"


def _places(cardinalities: Sequence[int]) -> np.ndarray:
    """Returns log10 of the cardinalities; places unknown ones side by side at the left."""
    known = [np.log10(count) for count in cardinalities if count]
    left = np.floor(min(known) * 2) / 2 - 0.6
    num_unknown = sum(not count for count in cardinalities)
    spread = iter(left + np.linspace(-0.35, 0.35, num_unknown) if num_unknown > 1 else [left])
    return np.array([np.log10(count) if count else next(spread) for count in cardinalities])


def _draw_panel(
    axes: Axes, x: np.ndarray, heights: np.ndarray, markers: Sequence[dict[str, object]]
) -> None:
    line = {"colors": style.PALE, "linewidth": 0.5, "zorder": 1}
    axes.vlines(x, heights.min(axis=0), heights.max(axis=0), **line)
    for values, marker in zip(heights, markers, strict=True):
        axes.plot(x, values, linestyle="", **marker)
    axes.margins(x=0.08, y=0.12)
    if heights.min() < 0.5:  # both numbers are at least about 1, or 0 for a field without variance
        axes.set_ylim(0, None)
    style.draw_grid(axes)


def _markers(variants: Sequence[str]) -> list[dict[str, object]]:
    """Returns each run's marker: circles for DIS, squares for GEN, filled for the first of each."""
    markers = []
    for number, look in enumerate(style.line_styles(variants)):
        is_first = variants[number] not in variants[:number]
        colours = {"mec": look["color"], "mfc": look["color"] if is_first else "white"}
        shape = style.MARKERS[variants[number]]
        markers.append({"marker": shape, "markersize": 4, **colours})
    return markers


def _set_ticks(axes: Axes, x: np.ndarray, fields: Sequence[FieldSummary]) -> None:
    is_known = np.array([field.cardinality > 0 for field in fields])
    first, last = np.floor(x[is_known].min()), np.ceil(x[is_known].max())
    ticks = np.arange(first, last + 1)
    ticks = ticks[(ticks >= x[is_known].min() - 0.3) & (ticks <= x[is_known].max() + 0.3)]
    labels = [f"{tick:.0f}" for tick in ticks]
    if not is_known.all():
        ticks = np.append(ticks, x[~is_known].mean())
        labels.append("numeric or\nunknown")
    axes.set_xticks(ticks, labels)
    axes.set_xlabel(r"$\log_{10}$ vocabulary size of the field")
