"""Figures over training time: loss and validation AUC, and the collapse curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fuxictr.analysis.sample import Sample
from fuxictr.errors import DataError
from fuxictr.plotting import style
from fuxictr.plotting.naming import seeds_text

Entries = Sequence[Mapping[str, Any]]


class _Row(Protocol):
    """What the curves take from a row of results."""

    @property
    def expid(self) -> str: ...
    @property
    def variant(self) -> str | None: ...
    @property
    def seed(self) -> int: ...
    @property
    def rows(self) -> Mapping[str, int] | None: ...
    @property
    def history(self) -> Entries | None: ...
    @property
    def collapse(self) -> Entries | None: ...


@dataclass(frozen=True)
class Curve:
    """One run's numbers over training: name -> one number per entry of ``epochs``.

    The runs of one expid share a label; ``epochs`` are passes over the training rows.
    """

    label: str
    variant: str
    seed: int
    epochs: np.ndarray
    numbers: Mapping[str, np.ndarray]


def curves_figure(
    curves: Sequence[Curve], names: Sequence[str], title: str = "", caption: str = ""
) -> Figure:
    """Draws one panel per name: thin lines are seeds, a thick line their mean, a band +- one std.

    Mean and band (sample standard deviation) end where the shortest run ends. Curves of one label
    are seeds of one expid. Raises DataError if nothing is finite.
    """
    names = [n for n in names if any(np.isfinite(curve.numbers[n]).any() for curve in curves)]
    if not names:
        raise DataError("no curves to draw: no runs were given, or none has a finite number")
    variants = {curve.label: curve.variant for curve in curves}
    looks = dict(zip(variants, style.line_styles(variants.values()), strict=True))
    with style.figure_style():
        figure = style.new_figure(style.COLUMN_WIDTH, 0.4 + 1.7 * len(names))
        grid = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
        for axes, name in zip(grid, names, strict=True):
            for label, look in looks.items():
                _draw_runs(axes, [c for c in curves if c.label == label], name, look)
            axes.set_ylabel(name)
            style.draw_grid(axes)
        grid[-1].set_xlabel("Epoch (passes over the training rows)")
        grid[-1].xaxis.set_major_locator(style.integer_ticks())
        figure.align_ylabels(grid)
        handles = [Line2D([], [], label=label, **look) for label, look in looks.items()]
        style.finish_figure(figure, title, caption, handles)
    return figure


def write_training_curves(
    root: str | Path, dataset_id: str, model: str, rows: Sequence[_Row]
) -> list[Path]:
    """Draws validation AUC and training loss over epochs: ``<model>_training.{pdf,png,csv}``.

    Returns [] where no row has a history.
    """
    curves = []
    for row in rows:
        if entries := row.history:
            auc = [(entry.get("metrics") or {}).get("AUC") for entry in entries]
            loss = [entry.get("train_loss") for entry in entries]
            curves.append(_curve(row, entries, {"Validation AUC": auc, "Training loss": loss}))
    if not curves:
        return []
    caption = _caption(dataset_id, rows, curves)
    figure = curves_figure(curves, list(curves[0].numbers), f"{model}: training", caption)
    return style.write_figure(root, dataset_id, f"{model}_training", figure, curve_numbers(curves))


def write_collapse_curve(
    root: str | Path, dataset_id: str, model: str, rows: Sequence[_Row]
) -> list[Path]:
    """Draws RankMe and information abundance: ``<model>_collapse_curve.{pdf,png,csv}``.

    The csv also has the effective dimensions. Returns [] where no row has a collapse curve.
    """
    keys = {
        "RankMe": "rankme",
        "Information abundance": "information_abundance",
        "Effective dimensions": "effective_dimensions",
    }
    curves = []
    for row in rows:
        if entries := row.collapse:
            numbers = {name: [entry.get(key) for entry in entries] for name, key in keys.items()}
            curves.append(_curve(row, entries, numbers))
    if not curves:
        return []
    caption = _caption(dataset_id, rows, curves, Sample())
    names = ["RankMe", "Information abundance"]
    figure = curves_figure(curves, names, f"{model}: collapse over training", caption)
    table = curve_numbers(curves)
    return style.write_figure(root, dataset_id, f"{model}_collapse_curve", figure, table)


def curve_numbers(curves: Sequence[Curve]) -> style.Numbers:
    """Returns the numbers of the curves, one row per run and time."""
    names = list(curves[0].numbers)
    rows = (
        [
            curve.label,
            curve.variant,
            curve.seed,
            float(epoch),
            *(float(curve.numbers[name][i]) for name in names),
        ]
        for curve in curves
        for i, epoch in enumerate(curve.epochs)
    )
    return ["run", "variant", "seed", "epoch", *names], rows


def _caption(
    dataset_id: str, rows: Sequence[_Row], curves: Sequence[Curve], sample: Sample | None = None
) -> str:
    """Returns data, validation rows (of the sample, where one was drawn) and seeds."""
    sizes = {row.rows["valid"] for row in rows if row.rows and row.rows.get("valid")}
    text = dataset_id
    for size in sorted(sizes):
        count = size if sample is None else min(size, sample.num_rows)
        text += f", {count:,} rows of the valid split"
        text += "" if sample is None else f" (sample seed {sample.seed})"
    seeds = {curve.seed for curve in curves}
    band = "; thin: single seeds, band: mean ± sample std" if len(seeds) > 1 else ""
    return f"{text}; trained with {seeds_text(seeds)}{band}"


def _curve(row: _Row, entries: Entries, numbers: Mapping[str, list]) -> Curve:
    return Curve(
        label=f"{str(row.variant).upper()} ({row.expid})",
        variant=str(row.variant),
        seed=row.seed,
        epochs=np.array(_epochs(row, entries), dtype=np.float64),
        numbers={name: np.array(values, dtype=np.float64) for name, values in numbers.items()},
    )


def _epochs(row: _Row, entries: Entries) -> list[float]:
    """Returns the passes over the training rows at each entry of a run."""
    num_rows = (row.rows or {}).get("train")
    last = (row.history or [{}])[-1]
    if num_rows and all("rows" in entry for entry in entries):
        return [entry["rows"] / num_rows for entry in entries]
    if num_rows and last.get("step") and all("step" in entry for entry in entries):
        return [entry["step"] * last["rows"] / last["step"] / num_rows for entry in entries]
    return [entry["epoch"] for entry in entries]


def _draw_runs(axes: Axes, runs: Sequence[Curve], name: str, look: Mapping[str, object]) -> None:
    if len(runs) > 1:
        for run in runs:
            axes.plot(run.epochs, run.numbers[name], **{**look, "marker": ""}, linewidth=0.4)
    num_shared = min(len(run.epochs) for run in runs)
    stacked = np.stack([run.numbers[name][:num_shared] for run in runs])
    epochs, mean = runs[0].epochs[:num_shared], stacked.mean(axis=0)
    is_short = num_shared < 3
    axes.plot(epochs, mean, **{**look, "marker": "o" if is_short else look["marker"]})
    if len(runs) > 1:
        std = stacked.std(axis=0, ddof=1)
        band = {"color": look["color"], "alpha": 0.2, "linewidth": 0}
        axes.fill_between(epochs, mean - std, mean + std, **band)
