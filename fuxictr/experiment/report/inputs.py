"""What figures are drawn from: recordings and results that belong together."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from fuxictr.analysis.records import RecordMeta, Records, load_records, records_path
from fuxictr.datasets import registry
from fuxictr.errors import CheckpointError, ConfigError
from fuxictr.experiment.results.config_record import analyze_command
from fuxictr.experiment.results.identity import PresentKey, outdated, present_key, runs_of
from fuxictr.experiment.results.record import RunRecord
from fuxictr.experiment.results.store import read_results
from fuxictr.experiment.tables.comparisons import ArmResult, ablation_results
from fuxictr.experiment.tables.published import published_arms
from fuxictr.experiment.zoo.ablations import find_arms
from fuxictr.experiment.zoo.models import find_folder, load_experiment

logger = logging.getLogger(__name__)


def load_runs(
    root: str | Path, dataset_id: str, expids: Sequence[str], model: str
) -> list[Records]:
    """Opens the recordings of several runs on one dataset.

    Raises:
        CheckpointError: a run was not recorded, its file is damaged, or it was trained since.
    """
    commands = record_commands(root, dataset_id)
    records = [
        load_records(records_path(root, dataset_id, expid), model, commands.get(expid))
        for expid in expids
    ]
    check_current(root, records)
    return records


def load_activation_runs(
    root: str | Path, backbone: str, dataset: str
) -> tuple[list[Records], list[str]]:
    """Opens the recordings of DIS, each activation and the full GEN; returns them and their labels.

    Raises:
        CheckpointError: a run was not recorded or was trained since; names expid and command.
        ConfigError: the backbone has no such ablation on the dataset.
    """
    dataset_id = registry.dataset_id_of(dataset)
    arms = find_arms(backbone, dataset, "activation")
    paths = {arm.expid: records_path(root, dataset_id, arm.expid) for arm in arms}
    missing = [expid for expid, path in paths.items() if not path.is_file()]
    if missing:
        raise CheckpointError(
            f"no recorded embeddings of {', '.join(missing)} under {Path(root) / 'figure'}; to "
            f"record them run: bash 3.analyze.sh --ablation activation --dataset "
            f"{registry.alias_of(dataset)}"
        )
    records = [load_records(path, backbone) for path in paths.values()]
    check_current(root, records)
    return records, [arm.label for arm in arms]


def load_ablation(
    results: str | Path,
    backbone: str,
    dataset: str,
    group: str,
    seeds: Sequence[int] | None = None,
) -> tuple[list[ArmResult], dict[str, float]]:
    """Returns an ablation's results for ``draw_ablation``, and expid -> published test AUC.

    They are over the ``seeds``; None = all that any arm has. A DataError says that there are no
    results, a ConfigError that the backbone has no such ablation on the dataset.
    """
    arms = find_arms(backbone, dataset, group)
    dataset_id = registry.dataset_id_of(dataset)
    published = published_arms(dataset, backbone, arms)
    return ablation_results(read_results(results), arms, dataset_id, seeds), published


def check_current(root: str | Path, records: Sequence[Records]) -> None:
    """Checks that each recording is of the weights that the newest run of some seed left.

    Only runs of the expid's present config count; those of its present data and code come first,
    and a recording of other data or code is named in a warning. Expids without results are not
    checked, nor are results that do not name their weights. ``root`` holds figure/ and results/.

    Raises:
        CheckpointError: a recording is of other weights; says what to run.
    """
    path, rows = _finished_rows(root)
    for meta in (run.meta for run in records):
        names = (meta.expid, meta.dataset_id)
        own = [row for row in rows if (row.expid, row.dataset_id) == names]
        key = _present_key(meta) if own else None
        if key is not None and key.config_hash != meta.config_hash:
            raise CheckpointError(
                f"{meta.expid}: its recorded embeddings are of another config than it has now "
                f"(config_hash {meta.config_hash}, now {key.config_hash}); {_again(root, meta)}"
            )
        runs = {row.seed: row for row in own} if key is None else runs_of(own, key)
        left = {r.checkpoint_sha256: r for r in runs.values() if r.checkpoint_sha256}
        if left and meta.checkpoint_sha256 not in left:
            raise CheckpointError(
                f"{meta.expid}: its recorded embeddings are of other weights than its runs in "
                f"{path} left; {_again(root, meta)}"
            )
        if left and key is not None:
            for what in outdated(left[meta.checkpoint_sha256], key):
                logger.warning("%s: its recorded embeddings are of other %s", meta.expid, what)


def _present_key(meta: RecordMeta) -> PresentKey | None:
    """Returns the key that a run of the expid would have now, None where it is not known."""
    if meta.config_hash is None:  # of an older version
        return None
    try:
        zoo = find_folder(meta.model)
        folder = zoo / "config" if meta.folder is None else meta.folder
        config, model_class = load_experiment(meta.expid, zoo, folder)
    except ConfigError:
        return None
    return present_key(config, model_class)


def _again(root: str | Path, meta: RecordMeta) -> str:
    command = record_commands(root, meta.dataset_id).get(meta.expid) or (
        f"python analyze.py --model {meta.model} --expid {meta.expid} --gpu -1"
    )
    return f"to record them again run: {command}"


def record_commands(root: str | Path, dataset_id: str) -> dict[str, str]:
    """Returns expid -> the command that records its newest run, where its config is known."""
    _, rows = _finished_rows(root)
    known = [row for row in rows if row.dataset_id == dataset_id and row.config is not None]
    return {row.expid: analyze_command(row) for row in known}


def _finished_rows(root: str | Path) -> tuple[Path, list[RunRecord]]:
    path = Path(root) / "results" / "results.jsonl"
    return path, [row for row in read_results(path, missing_ok=True) if row.is_finished]
