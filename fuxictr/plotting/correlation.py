"""Heat map of the correlations between two interacting sides, field by field."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fuxictr.analysis.records import Records, interacting_sides
from fuxictr.analysis.redundancy import correlation_matrix
from fuxictr.errors import DataError
from fuxictr.plotting import style
from fuxictr.plotting.naming import sample_caption

COLOUR_MAP = "RdBu_r"  # diverging, white at zero, red and blue told apart by colour-blind readers
BORDER = "#9A9A9A"


def correlation_figure(
    matrix: np.ndarray,
    fields: Sequence[str],
    embedding_dim: int,
    title: str = "",
    caption: str = "",
) -> Figure:
    """Draws a correlation matrix, on the fixed scale -1 to 1, with the borders of its fields.

    The matrix is (F * D, F * D), with the left side in its rows and the right side in its columns.
    Raises DataError if it is all zero, not finite, or of another shape.
    """
    _check_matrix(matrix, fields, embedding_dim)
    with style.figure_style():
        figure = style.new_figure(style.PAGE_WIDTH, style.PAGE_WIDTH * 0.94)
        axes = figure.add_subplot()
        size = len(matrix)
        image = axes.imshow(
            matrix,
            cmap=COLOUR_MAP,
            vmin=-1,
            vmax=1,
            interpolation="none",
            extent=(0, size, size, 0),
            aspect="auto",  # a fixed one shrinks the axes after the texts were given their room
        )
        borders = np.arange(1, len(fields)) * embedding_dim
        axes.hlines(borders, 0, size, colors=BORDER, linewidth=0.3)
        axes.vlines(borders, 0, size, colors=BORDER, linewidth=0.3)
        _name_fields(axes, fields, embedding_dim)
        axes.spines[:].set_visible(True)
        axes.set(xlabel="Right side of the interaction", ylabel="Left side of the interaction")
        colour_bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02, aspect=30)
        colour_bar.set_label("Pearson correlation")
        colour_bar.outline.set_linewidth(0.5)
        style.finish_figure(figure, title, caption)
    return figure


def correlation_numbers(
    matrix: np.ndarray, fields: Sequence[str], embedding_dim: int
) -> style.Numbers:
    """Returns the matrix, its rows and columns labelled ``<field>.<dimension>``."""
    labels = [f"{field}.{dimension}" for field in fields for dimension in range(embedding_dim)]
    rows = ([label, *row.tolist()] for label, row in zip(labels, matrix, strict=True))
    return ["left/right", *labels], rows


def write_correlation(
    root: str | Path, dataset_id: str, model: str, records: Sequence[Records]
) -> list[Path]:
    """Draws a heat map for each run: ``<model>_<variant>_correlation.{pdf,png,csv}``.

    Where a variant has several runs, the files are named ``<expid>_correlation``. Raises
    CheckpointError without 'left' or 'right', DataError for a side that cannot be correlated.
    """
    paths: list[Path] = []
    num_runs = Counter(run.meta.variant for run in records)
    for run in records:
        meta = run.meta
        matrix = correlation_matrix(*interacting_sides(run))
        title = f"{meta.model} {meta.variant.upper()}: correlation of the interacting sides"
        layout = (meta.fields, meta.embedding_dim)
        figure = correlation_figure(matrix, *layout, title, sample_caption([meta]))
        name = meta.expid if num_runs[meta.variant] > 1 else f"{model}_{meta.variant}"
        numbers = correlation_numbers(matrix, *layout)
        paths += style.write_figure(root, dataset_id, f"{name}_correlation", figure, numbers)
    return paths


def _name_fields(axes: Axes, fields: Sequence[str], embedding_dim: int) -> None:
    """Writes each field's name at the middle of its rows and columns; every n-th if very many."""
    # A line of text must fit into a field; names and colour bar leave 5.2 inches.
    points = 72 * 5.2 / len(fields)
    size = float(np.clip(0.7 * points, style.SMALL, 8))
    step = math.ceil(1.2 * size / points)
    centres = (np.arange(len(fields)) + 0.5)[::step] * embedding_dim
    names = style.shorten(fields)[::step]
    axes.set_xticks(centres, names, rotation=90, fontsize=size)
    axes.set_yticks(centres, names, fontsize=size)
    axes.tick_params(length=0, pad=2)


def _check_matrix(matrix: np.ndarray, fields: Sequence[str], embedding_dim: int) -> None:
    size = len(fields) * embedding_dim
    if not size or matrix.shape != (size, size):
        raise DataError(
            f"a correlation matrix of shape {matrix.shape} does not fit {len(fields)} fields of "
            f"{embedding_dim} dimensions; ({size}, {size}) is needed"
        )
    if not np.isfinite(matrix).all():
        raise DataError("no correlations to draw: the matrix holds values that are not finite")
    if not matrix.any():
        raise DataError(
            "no correlations to draw: all are zero, because one side does not vary over the sample"
        )
