"""Names of figures and runs, and what captions say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from fuxictr.analysis.records import RecordMeta

_VARIANTS = {"dis": "DIS, raw embeddings", "gen": "GEN, generated embeddings"}


def figure_stem(root: str | Path, dataset_id: str, name: str) -> Path:
    """Returns ``<root>/figure/final/<dataset_id>/<name>``, a path without suffix."""
    return Path(root) / "figure" / "final" / dataset_id / name


def run_labels(metas: Sequence[RecordMeta]) -> list[str]:
    """Returns the variant of each run, with its expid where a variant has several runs."""
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
    """Returns data, sample and training seeds, each once; names the runs whose seed is unknown."""
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
    """Returns ``seed 7``, ``seeds 7, 9`` or, for three or more in a row, ``seeds 7 to 11``."""
    numbers = sorted(set(seeds))
    if len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"seeds {numbers[0]} to {numbers[-1]}"
    return f"seed{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def signed(value: float) -> str:
    """Returns a number with its sign and two decimals, with a typographic minus."""
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")
