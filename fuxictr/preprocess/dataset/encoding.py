"""Encodes the splits of a dataset into a folder and counts their cells."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fuxictr.array_files import span
from fuxictr.errors import DataError
from fuxictr.preprocess.columns.tally import Counts, Tally
from fuxictr.preprocess.columns.unseen import all_rare, lost_columns, oov_table
from fuxictr.preprocess.dataset.cache import Split
from fuxictr.preprocess.dataset.custom import load_processor
from fuxictr.preprocess.dataset.encoder_files import FEATURE_VOCAB, hash_encoders
from fuxictr.preprocess.dataset.origins import files_in_both, log_splits, origins_of
from fuxictr.preprocess.dataset.processor import FeatureProcessor
from fuxictr.preprocess.dataset.writing import SplitWriter
from fuxictr.preprocess.sources.frames import count_rows
from fuxictr.preprocess.sources.splitting import SPLITS, next_codes, rows_of, split_codes

logger = logging.getLogger(__name__)


def encode_splits(
    processor: FeatureProcessor, splits: Sequence[Split], folder: Path, verbose: int
) -> dict[str, Any]:
    """Fits the processor, writes encoders and rows; returns what the cache key says of it."""
    config, start = processor.config, time.perf_counter()
    codes, file_rows = _fit(processor, splits[0].files, verbose)
    processor.save(folder)
    _try_functions(processor, folder)
    digest = hashlib.sha256((folder / FEATURE_VOCAB).read_bytes())
    rows, cells = {}, {}
    for split in splits:
        own_codes = codes if split.name == "train" else None
        found = _encode_split(processor, split, own_codes, folder, verbose)
        for name, (writer, counts) in found.items():
            rows[name], cells[name] = writer.num_rows, counts
            digest.update(writer.digest.digest())
            if not writer.num_rows:
                raise DataError(f"dataset '{config.dataset_id}': the {name} split has no rows")
    seconds = time.perf_counter() - start
    logger.info(
        "Built dataset '%s' in %.1f s, %s rows/s: %s",
        config.dataset_id,
        seconds,
        f"{sum(rows.values()) / seconds:,.0f}",
        ", ".join(f"{name} {count:,} rows" for name, count in rows.items()),
    )
    warnings = _judge(processor, cells)
    warnings[:0] = files_in_both({split.name: split.files for split in splits})
    for text in warnings:
        logger.warning("dataset '%s': %s", config.dataset_id, text)
    origins = origins_of(splits, codes, file_rows)
    log_splits(rows, origins)
    return {
        "rows": rows,
        "origins": origins,
        "data_hash": digest.hexdigest()[:16],
        "encoders_hash": hash_encoders(folder),
        "cells": {
            split: {name: asdict(counts) for name, counts in found.items()}
            for split, found in cells.items()
        },
        "warnings": warnings,
    }


def _fit(
    processor: FeatureProcessor, files: Sequence[Path], verbose: int
) -> tuple[np.ndarray | None, list[int]]:
    """Fits the processor; returns split codes (None = not divided) and each file's rows."""
    config = processor.config
    if not (config.valid_size or config.test_size):
        processor.fit(files, verbose)
        return None, []
    file_rows = count_rows(files, processor.source_format, processor.raw_columns()[0])
    if not sum(file_rows):
        raise DataError(f"dataset '{config.dataset_id}': train_data: {span(files)}: no rows")
    codes = split_codes(config, sum(file_rows))
    processor.fit(rows_of(processor.frames(files, "Fit", verbose), codes, "train"))
    return codes, file_rows


def _try_functions(processor: FeatureProcessor, folder: Path) -> None:
    """Checks that functions from a reloaded file give the same values for the rows they saw."""
    config = processor.config
    if config.processor is None:
        return
    fresh = load_processor(config.processor, processor.base_dir).from_config(config)
    changed = fresh.expressions.changed_value(folder)
    if changed is not None and type(fresh).__qualname__ == type(processor).__qualname__:
        raise DataError(
            f"{changed}; allowed: what depends on its own row alone, and gives the same in each "
            "process (docs/data.md)"
        )


def _encode_split(
    processor: FeatureProcessor,
    split: Split,
    codes: np.ndarray | None,
    folder: Path,
    verbose: int,
) -> dict[str, tuple[SplitWriter, dict[str, Counts]]]:
    """Writes a split in one pass, or all that it is divided into; returns writers and counts."""
    names = [split.name] if codes is None else [SPLITS[code] for code in np.unique(codes)]
    tallies = {
        column.name: Tally([split.name] if codes is None else SPLITS, codes)
        for column in processor.columns
        if column.config.type != "meta"
    }
    tables = processor.encode(split.files, f"Encode {split.name}", verbose, tallies=tallies)
    block_size, start = processor.config.data_block_size, 0
    with contextlib.ExitStack() as stack:
        writers = {
            name: stack.enter_context(SplitWriter(folder, name, block_size)) for name in names
        }
        for table in tables:
            if codes is None:
                writers[split.name].write(table)
                continue
            of_rows = next_codes(codes, start, table.num_rows)
            start += table.num_rows
            for name, writer in writers.items():
                writer.write(table.filter(pa.array(of_rows == SPLITS.index(name))))
    return {
        name: (writer, {column: tally.counts[name] for column, tally in tallies.items()})
        for name, writer in writers.items()
    }


def _judge(processor: FeatureProcessor, cells: Mapping[str, dict[str, Counts]]) -> list[str]:
    """Logs how many cells have no id; returns warnings on columns that say little."""
    columns, trained = processor.columns, cells["train"]
    for column in columns:
        if column.name in trained:
            counts = trained[column.name]
            counts.lasting = column.lasting_cells(counts.cells - counts.missing)
    table = oov_table(columns, cells)
    if table:
        logger.info("%s", table)
    warnings = [note for column in columns for note in column.notes]
    warnings += all_rare(columns, trained)
    for name, found in cells.items():
        text = lost_columns(columns, trained, found)
        if text is not None:
            warnings.append(f"{name} split: {text}")
    return warnings
