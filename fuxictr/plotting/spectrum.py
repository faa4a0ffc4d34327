"""Figures of singular value spectra: whose embeddings collapse, and by how much."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fuxictr.analysis.records import Records, interacting_embeddings, interacting_layers
from fuxictr.analysis.spectrum import EFFECTIVE_THRESHOLD, log_spectrum, singular_values
from fuxictr.errors import CheckpointError, DataError
from fuxictr.plotting import style
from fuxictr.plotting.naming import model_names, run_labels, sample_caption

Curve = tuple[str, str, np.ndarray]  # label, variant ``dis`` or ``gen``, singular values, falling


def spectrum_figure(curves: Sequence[Curve], title: str = "", caption: str = "") -> Figure:
    """Draws ln(singular value / largest) against the index of the singular value.

    Raises DataError without a curve, or for one without a positive, finite singular value.
    """
    if not curves:
        raise DataError("no spectrum to draw: no runs were given")
    for label, _, values in curves:
        _check_values(label, np.asarray(values))
    looks = style.line_styles(variant for _, variant, _ in curves)
    with style.figure_style():
        figure = style.new_figure(style.COLUMN_WIDTH, 2.5)
        axes = figure.add_subplot()
        for number, ((label, _, values), look) in enumerate(zip(curves, looks, strict=True)):
            stride = max(1, len(values) // 8)  # the curves have their markers at different places
            axes.plot(
                np.arange(1, len(values) + 1),
                log_spectrum(values),
                label=label,
                markevery=(number * stride // len(curves), stride),
                linewidth=1.6 if len(curves) < 4 else 1.1,
                **look,
            )
        threshold = {"color": style.GREY, "linewidth": 0.8, "linestyle": (0, (1, 2))}
        label = r"$10^{-6}$ of the largest"
        axes.axhline(math.log(EFFECTIVE_THRESHOLD), label=label, **threshold)
        axes.set(xlabel="Index of the singular value", xlim=(0, None))
        axes.xaxis.set_major_locator(style.integer_ticks())
        axes.set_ylabel("ln (singular value / largest)")
        style.draw_grid(axes)
        style.finish_figure(figure, title, caption, axes.lines)
    return figure


def spectrum_numbers(curves: Sequence[Curve]) -> style.Numbers:
    """Returns singular values and logarithms of the curves; shorter ones end in empty cells."""
    header = ["rank"]
    columns: list[list[float]] = []
    for label, _, values in curves:
        header += [f"{label} singular value", f"{label} log"]
        columns += [np.asarray(values, np.float64).tolist(), log_spectrum(values).tolist()]
    rows = itertools.zip_longest(*columns, fillvalue="")
    return header, ([number, *cells] for number, cells in enumerate(rows, start=1))


def write_collapse(
    root: str | Path, dataset_id: str, model: str, records: Sequence[Records]
) -> list[Path]:
    """Draws the spectra of all runs into one figure: ``<model>_collapse.{pdf,png,csv}``.

    Raises CheckpointError without 'gen' or for different samples, DataError for embeddings that do
    not vary or are not finite.
    """
    curves = _run_curves(run_labels([run.meta for run in records]), records)
    return _write(root, dataset_id, f"{model}_collapse", curves, records, "embedding spectrum")


def write_activation_spectra(
    root: str | Path,
    dataset_id: str,
    model: str,
    records: Sequence[Records],
    labels: Sequence[str],
) -> list[Path]:
    """Draws the spectra of an encoder's activations: ``<model>_activation.{pdf,png,csv}``."""
    curves, what = _run_curves(labels, records), "spectrum by activation"
    return _write(root, dataset_id, f"{model}_activation", curves, records, what)


def write_layer_spectra(
    root: str | Path, dataset_id: str, model: str, records: Sequence[Records]
) -> list[Path]:
    """Draws the spectrum of each layer's embeddings: ``<model>_layers.{pdf,png,csv}``.

    Layers with the same embeddings, as those of DIS, share a curve. Returns [] where no run has
    several layers. Raises as ``write_collapse``.
    """
    labels = run_labels([run.meta for run in records])
    layers = [list(interacting_layers(run.arrays, run.meta.expid).values()) for run in records]
    if all(len(own) == 1 for own in layers):
        return []
    curves = [
        curve
        for label, run, own in zip(labels, records, layers, strict=True)
        for curve in _layer_curves(label.partition(",")[0], run.meta.variant, own)
    ]
    return _write(root, dataset_id, f"{model}_layers", curves, records, "spectrum of each layer")


def _run_curves(labels: Sequence[str], records: Sequence[Records]) -> list[Curve]:
    """Returns the curve of each run; checks that all are of one sample of rows."""
    samples: dict[str, list[str]] = {}
    for meta in (run.meta for run in records):
        sample = f"{meta.num_rows:,} rows, sample seed {meta.seed}"
        samples.setdefault(sample, []).append(meta.expid)
    if len(samples) > 1:
        found = "; ".join(f"{sample}: {', '.join(expids)}" for sample, expids in samples.items())
        raise CheckpointError(
            f"recorded embeddings of different samples cannot be compared ({found}); record them "
            "with one --rows and one --sample-seed, see bash 3.analyze.sh --help"
        )
    return [
        (label, run.meta.variant, singular_values(interacting_embeddings(run)))
        for label, run in zip(labels, records, strict=True)
    ]


def _write(
    root: str | Path,
    dataset_id: str,
    name: str,
    curves: Sequence[Curve],
    records: Sequence[Records],
    what: str,
) -> list[Path]:
    metas = [run.meta for run in records]
    figure = spectrum_figure(curves, f"{model_names(metas)}: {what}", sample_caption(metas))
    return style.write_figure(root, dataset_id, name, figure, spectrum_numbers(curves))


def _layer_curves(label: str, variant: str, layers: Sequence[np.ndarray]) -> list[Curve]:
    """Returns one curve for each group of consecutive equal layers."""
    starts = [
        number
        for number, layer in enumerate(layers)
        if not number or not np.array_equal(layer, layers[number - 1])
    ]
    curves = []
    for start, stop in zip(starts, [*starts[1:], len(layers)], strict=True):
        name = f"layer {start + 1}" if stop - start == 1 else f"layers {start + 1} to {stop}, equal"
        curves.append((f"{label}, {name}", variant, singular_values(layers[start])))
    return curves


def _check_values(label: str, values: np.ndarray) -> None:
    if values.ndim != 1 or not values.size or not np.isfinite(values).all() or values.max() <= 0:
        raise DataError(
            f"no spectrum to draw for '{label}': of {values.size} singular values none is positive "
            f"or some are not finite; its embeddings do not vary over the sample, or diverged"
        )
