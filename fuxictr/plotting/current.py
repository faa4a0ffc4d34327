"""Whether recordings are of the weights that the results tell of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fuxictr.analysis.records import Records
from fuxictr.errors import CheckpointError


def check_current(root: str | Path, records: Sequence[Records]) -> None:
    """Checks that each recording is of what the newest run of some seed of its expid left.

    Nothing can be said of expids without results, nor of results that do not name the weights.

    Args:
        root: folder that holds figure/, and results/results.jsonl where there are results.
        records: the recordings.

    Raises:
        CheckpointError: one is of other weights; says what to run.
    """
    path, rows = _finished_rows(root)
    for meta in (run.meta for run in records):
        names = (meta.expid, meta.dataset_id)
        own = [row for row in rows if (row.get("expid"), row.get("dataset_id")) == names]
        left = {r["seed"]: r["checkpoint_sha256"] for r in own if r.get("checkpoint_sha256")}
        if left and meta.checkpoint_sha256 not in left.values():
            command = record_commands(root, meta.dataset_id).get(meta.expid) or (
                f"python analyze.py --model {meta.model} --expid {meta.expid} --gpu -1"
            )
            raise CheckpointError(
                f"{meta.expid}: its recorded embeddings are of other weights than its runs in "
                f"{path} left; to record them again run: {command}"
            )


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


def _finished_rows(root: str | Path) -> tuple[Path, list[dict[str, Any]]]:
    from fuxictr.experiment.results import is_finished, read_results

    path = Path(root) / "results" / "results.jsonl"
    return path, [row for row in read_results(path, missing_ok=True) if is_finished(row)]


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
