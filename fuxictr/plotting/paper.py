"""Everything the paper draws for one model: load the recordings of its runs, write the figures.

Files go to ``<root>/figure/final/<dataset_id>/``; the numbers drawn lie beside each figure as csv.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from fuxictr.analysis.records import (
    Records,
    interacting_embeddings,
    interacting_sides,
)
from fuxictr.analysis.redundancy import correlation_matrix
from fuxictr.analysis.spectrum import singular_values
from fuxictr.analysis.summary import RunSummary, analysis_summary
from fuxictr.plotting.correlation import correlation_figure, correlation_numbers
from fuxictr.plotting.naming import (
    check_one_sample,
    figure_stem,
    model_names,
    run_labels,
    sample_caption,
)
from fuxictr.plotting.spectrum import spectrum_figure, spectrum_numbers
from fuxictr.plotting.style import save_figure, save_numbers
from fuxictr.plotting.tables import summary_table


def write_collapse(
    root: str | Path, dataset_id: str, model: str, records: Sequence[Records]
) -> list[Path]:
    """Draws the spectra of all runs into one figure: ``<model>_collapse.{pdf,png,csv}``.

    Returns:
        The paths written.

    Raises:
        CheckpointError: a recording lacks 'gen', or the recordings are of unlike samples.
        DataError: a run's embeddings do not vary, or are not finite.
    """
    check_one_sample(records)
    metas = [run.meta for run in records]
    curves = [
        (label, run.meta.variant, singular_values(interacting_embeddings(run)))
        for label, run in zip(run_labels(metas), records, strict=True)
    ]
    title = f"{model_names(metas)}: embedding spectrum"
    figure = spectrum_figure(curves, title, sample_caption(metas))
    stem = figure_stem(root, dataset_id, f"{model}_collapse")
    numbers = save_numbers(f"{stem}.csv", *spectrum_numbers(curves))
    return [*save_figure(figure, stem), numbers]


def write_correlation(
    root: str | Path, dataset_id: str, model: str, records: Sequence[Records]
) -> list[Path]:
    """Draws a heat map for each run: ``<model>_<variant>_correlation.{pdf,png,csv}``.

    Several runs of one variant are told apart by their expids, ``<expid>_correlation``.

    Returns:
        The paths written.

    Raises:
        CheckpointError: a recording lacks 'left' or 'right'.
        DataError: a side does not vary, is not finite, or does not fit the fields.
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
        stem = figure_stem(root, dataset_id, f"{name}_correlation")
        numbers = save_numbers(f"{stem}.csv", *correlation_numbers(matrix, *layout))
        paths += [*save_figure(figure, stem), numbers]
    return paths


def write_summary(
    root: str | Path, dataset_id: str, model: str, records: Iterable[Records]
) -> tuple[str, Path]:
    """Writes ``<model>_summary.csv``, one row a run; returns the table for the screen and the path.

    Raises:
        CheckpointError: a recording lacks 'gen', 'left' or 'right'.
    """
    summaries = analysis_summary(records)
    return summary_table(summaries), save_summaries(root, dataset_id, model, summaries)


def save_summaries(
    root: str | Path, dataset_id: str, model: str, summaries: Iterable[RunSummary]
) -> Path:
    """Writes ``<model>_summary.csv``, one row a run; returns the path."""
    return save_numbers(
        f"{figure_stem(root, dataset_id, f'{model}_summary')}.csv",
        [field.name for field in fields(RunSummary)],
        (list(asdict(summary).values()) for summary in summaries),
    )
