"""Figure of the spectra that the encoder's activations lead to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fuxictr.analysis.records import Records, interacting_embeddings, load_records, records_path
from fuxictr.analysis.spectrum import singular_values
from fuxictr.datasets import registry
from fuxictr.errors import CheckpointError
from fuxictr.plotting.current import check_current, check_one_sample
from fuxictr.plotting.naming import figure_stem, model_names, sample_caption
from fuxictr.plotting.spectrum import spectrum_figure, spectrum_numbers
from fuxictr.plotting.style import save_figure, save_numbers


def load_activation_runs(root: str | Path, backbone: str, dataset: str) -> list[Records]:
    """Opens the recordings of DIS, of each activation and of the full GEN.

    Args:
        root: folder that holds figure/.
        backbone: e.g. DCNv2.
        dataset: as --dataset.

    Raises:
        CheckpointError: a run was not recorded or was trained since; names expid and command.
        ConfigError: the backbone has no such ablation on the dataset.
    """
    from fuxictr.experiment.ablation import find_arms

    dataset_id = registry.dataset_id_of(dataset)
    paths = {
        arm.expid: records_path(root, dataset_id, arm.expid)
        for arm in find_arms(backbone, dataset, "activation")
    }
    missing = [expid for expid, path in paths.items() if not path.is_file()]
    if missing:
        raise CheckpointError(
            f"no recorded embeddings of {', '.join(missing)} under {Path(root) / 'figure'}; to "
            f"record them run: bash 3.analyze.sh --ablation activation --dataset "
            f"{registry.alias_of(dataset)}"
        )
    records = [load_records(path, backbone) for path in paths.values()]
    check_current(root, records)
    return records


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
    from fuxictr.experiment.ablation import LABELS

    names = LABELS["activation"]
    _, mark, word = expid.rpartition("_activation_")
    return names.get(word, word) if mark else {"dis": "DIS", "gen": names["full"]}[variant]
