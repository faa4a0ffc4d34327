"""How figures call runs, where they lie, and what their captions say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from fuxictr.analysis.records import RecordMeta, Records
from fuxictr.errors import CheckpointError

_VARIANTS = {"dis": "DIS, raw embeddings", "gen": "GEN, generated embeddings"}


def figure_stem(root: str | Path, dataset_id: str, name: str) -> Path:
    """Returns ``<root>/figure/final/<dataset_id>/<name>``; a suffix makes it a file."""
    return Path(root) / "figure" / "final" / dataset_id / name


def run_labels(metas: Sequence[RecordMeta]) -> list[str]:
    """Returns what the variants are, with the expid where a variant has several runs."""
    num_runs = Counter(meta.variant for meta in metas)
    return [
        f"{meta.variant.upper()} ({meta.expid})"
        if num_runs[meta.variant] > 1
        else _VARIANTS[meta.variant]
        for meta in metas
    ]


def model_names(metas: Iterable[RecordMeta]) -> str:
    """Returns the models' names, each once."""
    return ", ".join(dict.fromkeys(meta.model for meta in metas))


def sample_caption(metas: Sequence[RecordMeta]) -> str:
    """Returns data, sample and seeds of recordings; those with one sample share a sentence.

    A seed stands for the runs that it is known of, and others are named.
    """
    samples = dict.fromkeys(
        f"{meta.dataset_id}, {meta.num_rows:,} rows of the {meta.split} split (sample seed "
        f"{meta.seed}), {meta.sample_mode} mode"
        for meta in metas
    )
    seeds = {meta.expid: meta.train_seed for meta in metas}
    known = {expid: seed for expid, seed in seeds.items() if seed is not None}
    unknown = [expid for expid in seeds if expid not in known]
    trained = f"; trained with {seeds_text(known.values())}" if known else ""
    if known and unknown:
        trained += f" ({', '.join(known)}; the seed of {', '.join(unknown)} is not known)"
    return "; ".join(samples) + trained


def seeds_text(seeds: Iterable[int]) -> str:
    """Returns ``seed 7``, ``seeds 7, 9`` or, of three and more in a row, ``seeds 7 to 11``."""
    numbers = sorted(set(seeds))
    if len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"seeds {numbers[0]} to {numbers[-1]}"
    return f"seed{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def signed(value: float) -> str:
    """Returns a number in two decimals with its sign, a minus that is as wide as a plus."""
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


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
