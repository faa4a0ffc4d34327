"""The numbers computed from one recording."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from fuxictr.analysis.records import Records, interacting_embeddings, interacting_sides
from fuxictr.analysis.redundancy import correlation_matrix, mean_absolute_correlation
from fuxictr.analysis.spectrum import (
    condition_number,
    dimensions_holding,
    effective_dimensions,
    information_abundance,
    rank_bound,
    rankme,
    singular_values,
)
from fuxictr.analysis.uniformity import uniformity


@dataclass(frozen=True)
class RunSummary:
    """Collapse and redundancy of one run; ``seed`` is the sample's, ``train_seed`` the run's.

    Of ``num_dimensions`` singular values, ``effective_dimensions`` lie above 1e-6 of the largest,
    at most ``rank_bound`` can, and ``dimensions_of_98_percent`` hold 98 % of the sum.
    """

    model: str
    variant: str
    expid: str
    rankme: float
    information_abundance: float
    effective_dimensions: int
    num_dimensions: int
    rank_bound: int
    mean_absolute_correlation: float
    num_rows: int
    split: str
    seed: int
    train_seed: int | None = None
    condition_number: float = field(kw_only=True)
    dimensions_of_98_percent: int = field(kw_only=True)
    uniformity: float = field(kw_only=True)


def analysis_summary(records: Iterable[Records]) -> list[RunSummary]:
    """Returns each recording's summary; CheckpointError if it lacks 'gen', 'left' or 'right'."""
    return [_summarize(run) for run in records]


def _summarize(records: Records) -> RunSummary:
    meta = records.meta
    embeddings = interacting_embeddings(records)
    values = singular_values(embeddings)
    return RunSummary(
        model=meta.model,
        variant=meta.variant,
        expid=meta.expid,
        rankme=rankme(values),
        information_abundance=information_abundance(values),
        effective_dimensions=effective_dimensions(values),
        num_dimensions=values.size,
        rank_bound=rank_bound(embeddings, meta.embedding_dim),
        mean_absolute_correlation=mean_absolute_correlation(
            correlation_matrix(*interacting_sides(records))
        ),
        num_rows=meta.num_rows,
        split=meta.split,
        seed=meta.seed,
        train_seed=meta.train_seed,
        condition_number=condition_number(values),
        dimensions_of_98_percent=dimensions_holding(values),
        uniformity=uniformity(embeddings),
    )
