"""Figure of the spectrum of each field: which fields collapse."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from fuxictr.analysis.fields import record_spectra, shared_fields
from fuxictr.analysis.records import Records
from fuxictr.analysis.spectrum import normalized
from fuxictr.errors import DataError
from fuxictr.plotting import style
from fuxictr.plotting.naming import model_names, run_labels, sample_caption

COLOUR_MAP = "cividis"  # its lightness rises throughout, so that it also works in grey print
LOWEST = 1e-8  # of the largest; all smaller values have one colour
_LINE, _BAR = 0.115, 0.08  # inches: height of a field and of the colour bar
_MAX_COLUMNS = 4


def field_figure(
    panels: Sequence[tuple[str, np.ndarray]],
    fields: Sequence[str],
    title: str = "",
    caption: str = "",
) -> Figure:
    """Draws one heat map per run, in which each line is the normalised spectrum of one field.

    A panel is the label of a run and its singular values (F, D), falling along each line. Raises
    DataError without a run, or if spectra do not fit the fields or are not finite.
    """
    if not panels:
        raise DataError("no spectra of fields to draw: no runs were given")
    for label, values in panels:
        _check_spectra(label, values, fields)
    num_columns = min(len(panels), _MAX_COLUMNS)
    num_rows = -(-len(panels) // num_columns)
    width = style.COLUMN_WIDTH if num_columns < 3 else style.PAGE_WIDTH
    height = _LINE * max(len(fields), 6)
    with style.figure_style():
        figure = style.new_figure(width, num_rows * (0.5 + height) + 0.6)
        heights = [height] * num_rows + [_BAR]
        grid = figure.add_gridspec(num_rows + 1, num_columns, height_ratios=heights)
        drawn: list[Axes] = []
        for number, (label, values) in enumerate(panels):
            shared = drawn[0] if drawn else None
            place = grid[divmod(number, num_columns)]
            axes = figure.add_subplot(place, sharex=shared, sharey=shared)
            is_lowest = number + num_columns >= len(panels)
            image = _draw_panel(axes, label, values, number % num_columns == 0, is_lowest)
            drawn.append(axes)
        drawn[0].set_yticks(range(len(fields)), style.shorten(fields))
        _add_colour_bar(figure, image, figure.add_subplot(grid[-1, :]))
        style.finish_figure(figure, title, caption)
        figure.draw_without_rendering()  # the panels have their widths
        for axes in drawn:
            style.wrap_text(axes.title, axes.get_window_extent().width / figure.dpi)
    return figure


def write_field_spectra(
    root: str | Path, dataset_id: str, model: str, records: Sequence[Records]
) -> list[Path]:
    """Draws the spectrum of each field's own embedding: ``<model>_fields.{pdf,png,csv}``.

    Raises CheckpointError as ``record_spectra``, DataError for different fields or values that are
    not finite.
    """
    metas = [run.meta for run in records]
    fields = shared_fields(metas)
    panels = [
        (label, record_spectra(run)) for label, run in zip(run_labels(metas), records, strict=True)
    ]
    title = f"{model_names(metas)}: spectrum of each field"
    figure = field_figure(panels, fields, title, sample_caption(metas))
    numbers = field_numbers(panels, fields)
    return style.write_figure(root, dataset_id, f"{model}_fields", figure, numbers)


def field_numbers(panels: Sequence[tuple[str, np.ndarray]], fields: Sequence[str]) -> style.Numbers:
    """Returns what ``field_figure`` draws: the singular values of each field."""
    num_values = max(values.shape[1] for _, values in panels)
    rows = (
        [label, field, *spectrum.tolist()]
        for label, values in panels
        for field, spectrum in zip(fields, values, strict=True)
    )
    return ["run", "field", *(f"singular value {i + 1}" for i in range(num_values))], rows


def _draw_panel(
    axes: Axes, label: str, values: np.ndarray, is_first: bool, is_lowest: bool
) -> AxesImage:
    shares = np.stack([normalized(spectrum) for spectrum in values])
    constant = values.max(axis=1) <= 0
    shares = np.ma.masked_array(np.maximum(shares, LOWEST / 10), mask=False)
    shares[constant] = np.ma.masked
    num_values = values.shape[1]
    axes.set_facecolor(style.GRID)
    image = axes.imshow(
        shares,
        cmap=COLOUR_MAP,
        norm=LogNorm(LOWEST, 1),
        interpolation="none",
        aspect="auto",
        extent=(0.5, num_values + 0.5, len(values) - 0.5, -0.5),
    )
    for row in np.flatnonzero(constant):
        place = {"ha": "center", "va": "center_baseline", "fontsize": style.SMALL}
        axes.text((num_values + 1) / 2, row, "constant", **place)
    axes.set_title(label.partition(",")[0], fontsize=7.5)
    axes.set_xlabel("Index" if is_lowest else "")
    axes.xaxis.set_major_locator(style.integer_ticks(4))
    axes.tick_params(axis="x", labelbottom=is_lowest)
    axes.tick_params(axis="y", length=0, labelsize=style.SMALL, labelleft=is_first)
    axes.spines[:].set_visible(False)
    return image


def _add_colour_bar(figure: Figure, image: AxesImage, axes: Axes) -> None:
    bar = figure.colorbar(image, cax=axes, orientation="horizontal", extend="min")
    bar.set_ticks([10.0**power for power in range(-8, 1, 2)])
    axes.minorticks_off()
    bar.set_label("Singular value / largest of the field")
    bar.outline.set_linewidth(0.5)


def _check_spectra(label: str, values: np.ndarray, fields: Sequence[str]) -> None:
    if values.ndim != 2 or len(values) != len(fields) or not values.size:
        raise DataError(
            f"no spectra of fields to draw for '{label}': an array of shape {values.shape} does "
            f"not fit {len(fields)} fields"
        )
    if not np.isfinite(values).all():
        raise DataError(f"no spectra of fields to draw for '{label}': some values are not finite")
