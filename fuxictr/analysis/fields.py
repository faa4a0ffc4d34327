"""The spectrum of each field's embedding, and the numbers computed from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fuxictr.analysis.records import RecordMeta, Records, interacting_embeddings
from fuxictr.analysis.spectrum import (
    effective_dimensions,
    field_spectra,
    information_abundance,
    rankme,
)
from fuxictr.errors import CheckpointError, DataError


@dataclass(frozen=True)
class FieldSummary:
    """Collapse of one field's embedding; ``cardinality`` 0 = a numeric field, or unknown.

    ``effective_dimensions`` of the D singular values lie above 1e-6 of the largest.
    """

    field: str
    cardinality: int
    rankme: float
    information_abundance: float
    effective_dimensions: int


def shared_fields(metas: Sequence[RecordMeta]) -> tuple[str, ...]:
    """Returns the fields of all recordings; DataError if there are none, or they differ."""
    if not metas:
        raise DataError("no fields to compare: no runs were given")
    first = metas[0]
    for meta in metas:
        if meta.fields != first.fields:
            raise DataError(
                f"the fields of {meta.expid} ({', '.join(meta.fields)}) are not those of "
                f"{first.expid} ({', '.join(first.fields)})"
            )
    return first.fields


def record_spectra(records: Records) -> np.ndarray:
    """Returns the singular values of each field's embedding, layers stacked along rows, (F, D).

    Raises CheckpointError if the recording lacks 'gen', or its width is not F * D.
    """
    meta = records.meta
    embeddings = interacting_embeddings(records)
    shape = (len(embeddings), len(meta.fields), meta.embedding_dim)
    if embeddings.size != np.prod(shape):
        raise CheckpointError(
            f"{meta.expid}: embeddings of width {embeddings.shape[1]} do not fit "
            f"{len(meta.fields)} fields of {meta.embedding_dim} dimensions"
        )
    return field_spectra(embeddings.reshape(shape))


def field_summary(records: Records) -> list[FieldSummary]:
    """Returns the summary of each field, in order; raises as ``record_spectra``."""
    meta = records.meta
    cardinalities = meta.cardinalities or (0,) * len(meta.fields)
    spectra = record_spectra(records)
    return [
        FieldSummary(
            field,
            count,
            rankme(values),
            information_abundance(values),
            effective_dimensions(values),
        )
        for field, count, values in zip(meta.fields, cardinalities, spectra, strict=True)
    ]
