"""Figures over the time of training: loss and validation AUC, and the collapse curve."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fuxictr.analysis.sample import Sample
from fuxictr.errors import DataError
from fuxictr.plotting.naming import figure_stem, seeds_text
from fuxictr.plotting.style import (
    COLUMN_WIDTH,
    GRID,
    figure_style,
    finish_figure,
    integer_ticks,
    line_style,
    new_figure,
    save_figure,
    save_numbers,
)

Row = Any  # a RunRecord


@dataclass(frozen=True)
class Curve:
    """One run's numbers over training.

    Attributes:
        label: what the runs of one expid are called.
        variant: ``dis`` or ``gen``.
        seed: the run's seed.
        epochs: passes over the training rows, where the numbers were taken.
        numbers: name -> one number at each of them.
    """

    label: str
    variant: str
    seed: int
    epochs: np.ndarray
    numbers: Mapping[str, np.ndarray]


def curves_figure(
    curves: Sequence[Curve], names: Sequence[str], title: str = "", caption: str = ""
) -> Figure:
    """Draws one panel a name: thin lines are seeds, a thick line their mean, a band +- one std.

    Mean and band (sample standard deviation) end where the first seed ends, so that they are always
    over all seeds.

    Args:
        curves: the runs; those of one label are seeds of one expid.
        names: which numbers, from top to bottom.
        title: heading.
        caption: data and seeds.

    Raises:
        DataError: there is nothing finite to draw.
    """
    names = [n for n in names if any(np.isfinite(curve.numbers[n]).any() for curve in curves)]
    if not names:
        raise DataError("no curves to draw: no runs were given, or none has a finite number")
    styles = _styles(curves)
    with figure_style():
        figure = new_figure(COLUMN_WIDTH, 0.4 + 1.7 * len(names))
        grid = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
        for axes, name in zip(grid, names, strict=True):
            for label, style in styles.items():
                _draw_runs(axes, [c for c in curves if c.label == label], name, style)
            axes.set_ylabel(name)
            axes.grid(axis="y", color=GRID, linewidth=0.6)
            axes.set_axisbelow(True)
        grid[-1].set_xlabel("Epoch (passes over the training rows)")
        grid[-1].xaxis.set_major_locator(integer_ticks())
        figure.align_ylabels(grid)
        handles = [Line2D([], [], label=label, **style) for label, style in styles.items()]
        finish_figure(figure, title, caption, handles)
    return figure


def write_training_curves(
    root: str | Path, dataset_id: str, model: str, rows: Sequence[Row]
) -> list[Path]:
    """Draws validation AUC and training loss over epochs: ``<model>_training.{pdf,png,csv}``.

    Args:
        root: folder that holds figure/.
        dataset_id: the dataset.
        model: the backbone.
        rows: finished rows of results, of any seeds and expids.

    Returns:
        The paths written; [] where no row has a history.
    """
    curves = [
        _curve(
            row,
            row["history"],
            {
                "Validation AUC": [(e.get("metrics") or {}).get("AUC") for e in row["history"]],
                "Training loss": [entry.get("train_loss") for entry in row["history"]],
            },
        )
        for row in rows
        if row.get("history")
    ]
    stem = figure_stem(root, dataset_id, f"{model}_training")
    sample = _sample(rows, lambda num_rows: f"{num_rows:,} rows of the valid split")
    return _write(curves, stem, f"{model}: training", dataset_id + sample)


def write_collapse_curve(
    root: str | Path, dataset_id: str, model: str, rows: Sequence[Row]
) -> list[Path]:
    """Draws RankMe and information abundance over training, from the rows' collapse curves.

    Files are ``<model>_collapse_curve.{pdf,png,csv}``; the csv also holds the number of effective
    dimensions.

    Args:
        root: folder that holds figure/.
        dataset_id: the dataset.
        model: the backbone.
        rows: finished rows of results, of any seeds and expids.

    Returns:
        The paths written; [] where no row has a collapse curve.
    """
    names = {
        "RankMe": "rankme",
        "Information abundance": "information_abundance",
        "Effective dimensions": "effective_dimensions",
    }
    curves = [
        _curve(
            row,
            row["collapse"],
            {name: [entry.get(key) for entry in row["collapse"]] for name, key in names.items()},
        )
        for row in rows
        if row.get("collapse")
    ]
    stem = figure_stem(root, dataset_id, f"{model}_collapse_curve")
    sampled = Sample()

    def describe(num_rows: int) -> str:
        count = f"{min(num_rows, sampled.num_rows):,}"
        return f"{count} rows of the valid split (sample seed {sampled.seed})"

    data = dataset_id + _sample(rows, describe)
    drawn = ["RankMe", "Information abundance"]
    return _write(curves, stem, f"{model}: collapse over training", data, drawn)


def curve_numbers(curves: Sequence[Curve]) -> tuple[list[str], Iterator[list[object]]]:
    """Returns header and rows of the curves, one row a run and time."""
    names = list(curves[0].numbers)
    rows: Iterator[list[object]] = (
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


def _write(
    curves: Sequence[Curve],
    stem: Path,
    title: str,
    data: str,
    names: Sequence[str] | None = None,
) -> list[Path]:
    if not curves:
        return []
    seeds = {curve.seed for curve in curves}
    band = "; thin: single seeds, band: mean ± sample std" if len(seeds) > 1 else ""
    caption = f"{data}; trained with {seeds_text(seeds)}{band}"
    figure = curves_figure(curves, names or list(curves[0].numbers), title, caption)
    return [*save_figure(figure, stem), save_numbers(f"{stem}.csv", *curve_numbers(curves))]


def _sample(rows: Sequence[Row], describe: Callable[[int], str]) -> str:
    """Returns what was validated on, after a comma; empty where the rows do not say it."""
    sizes = {row["rows"]["valid"] for row in rows if (row.get("rows") or {}).get("valid")}
    return "".join(f", {describe(size)}" for size in sorted(sizes))


def _curve(row: Row, entries: Sequence[Row], numbers: Mapping[str, list]) -> Curve:
    return Curve(
        label=f"{row['variant'].upper()} ({row['expid']})",
        variant=row["variant"],
        seed=row["seed"],
        epochs=np.array(_epochs(row, entries), dtype=np.float64),
        numbers={name: np.array(values, dtype=np.float64) for name, values in numbers.items()},
    )


def _epochs(row: Row, entries: Sequence[Row]) -> list[float]:
    """Returns how often the training rows had been gone through at each entry of a run.

    Entries of one epoch differ in their rows, or in their steps, of which the run's last evaluation
    says how many rows they are.
    """
    num_rows = (row.get("rows") or {}).get("train")
    last = (row.get("history") or [{}])[-1]
    if num_rows and all("rows" in entry for entry in entries):
        return [entry["rows"] / num_rows for entry in entries]
    if num_rows and last.get("step") and all("step" in entry for entry in entries):
        return [entry["step"] * last["rows"] / last["step"] / num_rows for entry in entries]
    return [entry["epoch"] for entry in entries]


def _styles(curves: Sequence[Curve]) -> dict[str, dict[str, object]]:
    """Returns label -> colour, line style and marker."""
    seen: Counter[str] = Counter()
    styles: dict[str, dict[str, object]] = {}
    for curve in curves:
        if curve.label not in styles:
            styles[curve.label] = line_style(curve.variant, seen[curve.variant])
            seen[curve.variant] += 1
    return styles


def _draw_runs(axes: Axes, runs: Sequence[Curve], name: str, style: Mapping[str, object]) -> None:
    if len(runs) > 1:
        for run in runs:
            axes.plot(run.epochs, run.numbers[name], **{**style, "marker": ""}, linewidth=0.4)
    num_shared = min(len(run.epochs) for run in runs)
    stacked = np.stack([run.numbers[name][:num_shared] for run in runs])
    epochs, mean = runs[0].epochs[:num_shared], stacked.mean(axis=0)
    is_short = num_shared < 3
    axes.plot(epochs, mean, **{**style, "marker": "o" if is_short else style["marker"]})
    if len(runs) > 1:
        std = stacked.std(axis=0, ddof=1)
        band = {"color": style["color"], "alpha": 0.2, "linewidth": 0}
        axes.fill_between(epochs, mean - std, mean + std, **band)
