"""Compares the vocabulary sizes of a build with those published for its dataset."""

from __future__ import annotations

import logging

from fuxictr.config import DatasetConfig
from fuxictr.datasets import registry
from fuxictr.features import FeatureMap

logger = logging.getLogger(__name__)

# Builds whose training rows differ by a larger share are of a sample, or of other data.
MAX_DIFFERENCE = 0.01


def compare_with_published(
    config: DatasetConfig, feature_map: FeatureMap, num_train_rows: int
) -> None:
    """Logs in one line whether all vocabularies have the published sizes, or which differ.

    Logs nothing for other datasets, samples, and builds with another ``min_categr_count``.
    """
    if not registry.is_known(config.dataset_id):
        return
    known = registry.resolve(config.dataset_id)
    sizes = known.vocab_sizes
    if not sizes or config.min_categr_count != known.min_categr_count:
        return
    num_published = known.rows[0]
    if abs(num_train_rows - num_published) > MAX_DIFFERENCE * num_published:
        return
    found = {name: spec.get("vocab_size") for name, spec in feature_map.features.items()}
    unlike = [
        f"{name} {_describe(found.get(name))} (published: {size:,})"
        for name, size in sizes.items()
        if found.get(name) != size
    ]
    rows = f"{num_train_rows:,} training rows (published: {num_published:,})"
    if unlike:
        logger.warning(
            "Dataset '%s': %d of the %d vocabularies published of %s differ in size, so that its "
            "numbers may not compare with published ones: %s; %s",
            *(config.dataset_id, len(unlike), len(sizes), known.name, ", ".join(unlike), rows),
        )
    else:
        logger.info(
            "Dataset '%s': all %d vocabularies have the sizes published of %s; %s",
            *(config.dataset_id, len(sizes), known.name, rows),
        )


def _describe(size: int | None) -> str:
    return "is missing" if size is None else f"has {size:,} ids"
