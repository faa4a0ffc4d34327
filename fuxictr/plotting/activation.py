"""Figure of the spectra that the encoder's activations lead to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fuxictr.analysis.records import Records, interacting_embeddings
from fuxictr.analysis.spectrum import singular_values
from fuxictr.plotting.naming import check_one_sample, figure_stem, model_names, sample_caption
from fuxictr.plotting.spectrum import spectrum_figure, spectrum_numbers
from fuxictr.plotting.style import save_figure, save_numbers


def write_activation_spectra(
    root: str | Path, dataset_id: str, model: str, records: Sequence[Records]
) -> list[Path]:
    """Draws the spectra of the activations' runs: ``<model>_activation.{pdf,png,csv}``.

    Returns:
        The paths written.

    Raises:
        CheckpointError: a recording lacks 'gen', or they are not of one sample.
        DataError: a run's embeddings do not vary, or are not finite.
    """
    check_one_sample(records)
    metas = [run.meta for run in records]
    curves = [
        (_label(meta.expid, meta.variant), meta.variant, singular_values(embeddings))
        for meta, embeddings in zip(metas, map(interacting_embeddings, records), strict=True)
    ]
    title = f"{model_names(metas)}: spectrum by activation"
    figure = spectrum_figure(curves, title, sample_caption(metas))
    stem = figure_stem(root, dataset_id, f"{model}_activation")
    return [*save_figure(figure, stem), save_numbers(f"{stem}.csv", *spectrum_numbers(curves))]


def _label(expid: str, variant: str) -> str:
    """Returns the activation's name; the full GEN's expid does not end in one."""
    from fuxictr.experiment.zoo.ablations import LABELS

    names = LABELS["activation"]
    _, mark, word = expid.rpartition("_activation_")
    return names.get(word, word) if mark else {"dis": "DIS", "gen": names["full"]}[variant]
