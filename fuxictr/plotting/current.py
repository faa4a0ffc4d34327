"""Whether recordings are of the weights that the results tell of."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fuxictr.analysis.records import RecordMeta, Records
from fuxictr.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from fuxictr.experiment.identity import PresentKey
    from fuxictr.experiment.run_record import RunRecord

logger = logging.getLogger(__name__)


def check_current(root: str | Path, records: Sequence[Records]) -> None:
    """Checks that each recording is of what the newest run of some seed of its expid left.

    A run counts if it is of the expid's config as it is now, and of its data and code where there
    is one; a recording of other data or code is named in a warning. Nothing can be said of expids
    without results, nor of results that do not name the weights.

    Args:
        root: folder that holds figure/, and results/results.jsonl where there are results.
        records: the recordings.

    Raises:
        CheckpointError: one is of other weights; says what to run.
    """
    from fuxictr.experiment.identity import outdated, runs_of

    path, rows = _finished_rows(root)
    for meta in (run.meta for run in records):
        names = (meta.expid, meta.dataset_id)
        own = [row for row in rows if (row.get("expid"), row.get("dataset_id")) == names]
        key = _present_key(meta) if own else None
        if key is not None and key.config_hash != meta.config_hash:
            raise CheckpointError(
                f"{meta.expid}: its recorded embeddings are of another config than it has now "
                f"(config_hash {meta.config_hash}, now {key.config_hash}); {_again(root, meta)}"
            )
        runs = {row["seed"]: row for row in own} if key is None else runs_of(own, key)
        left = {row["checkpoint_sha256"]: row for row in runs.values() if _names_weights(row)}
        if left and meta.checkpoint_sha256 not in left:
            raise CheckpointError(
                f"{meta.expid}: its recorded embeddings are of other weights than its runs in "
                f"{path} left; {_again(root, meta)}"
            )
        if left and key is not None:
            for what in outdated(left[meta.checkpoint_sha256], key):
                logger.warning("%s: its recorded embeddings are of other %s", meta.expid, what)


def _present_key(meta: RecordMeta) -> PresentKey | None:
    """Returns what a run of a recording's expid would be now, None where that is not known."""
    from fuxictr.experiment.identity import present_key
    from fuxictr.experiment.zoo import find_folder, load_experiment

    if meta.config_hash is None:  # of an older version
        return None
    try:
        zoo = find_folder(meta.model)
        folder = zoo / "config" if meta.folder is None else meta.folder
        config, model_class = load_experiment(meta.expid, zoo, folder)
    except ConfigError:
        return None
    return present_key(config, model_class)


def _names_weights(row: RunRecord) -> bool:
    return bool(row.get("checkpoint_sha256"))


def _again(root: str | Path, meta: RecordMeta) -> str:
    command = record_commands(root, meta.dataset_id).get(meta.expid) or (
        f"python analyze.py --model {meta.model} --expid {meta.expid} --gpu -1"
    )
    return f"to record them again run: {command}"


def record_commands(root: str | Path, dataset_id: str) -> dict[str, str]:
    """Returns expid -> the command that records its newest run, where its row says its config.

    Args:
        root: as ``check_current`` takes it.
        dataset_id: the dataset of the runs.
    """
    from fuxictr.experiment.recorded_config import analyze_command

    _, rows = _finished_rows(root)
    known = [row for row in rows if row.get("dataset_id") == dataset_id and row.get("config")]
    return {row["expid"]: analyze_command(row) for row in known}


def _finished_rows(root: str | Path) -> tuple[Path, list[RunRecord]]:
    from fuxictr.experiment.results import read_results

    path = Path(root) / "results" / "results.jsonl"
    return path, [row for row in read_results(path, missing_ok=True) if row.is_finished]


def check_one_sample(records: Sequence[Records]) -> None:
    """Checks that all recordings are of one sample of rows.

    Raises:
        CheckpointError: they are of several; names the expids of each.
    """
    samples: dict[tuple[int, int], list[str]] = {}
    for meta in (run.meta for run in records):
        samples.setdefault((meta.num_rows, meta.seed), []).append(meta.expid)
    if len(samples) > 1:
        found = "; ".join(
            f"{rows:,} rows, sample seed {seed}: {', '.join(expids)}"
            for (rows, seed), expids in samples.items()
        )
        raise CheckpointError(
            f"recorded embeddings of unlike samples cannot be compared ({found}); record them with "
            "one --rows and one --sample-seed, see bash 3.analyze.sh --help"
        )
