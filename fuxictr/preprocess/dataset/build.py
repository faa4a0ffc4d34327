"""Encoded datasets on disk: built once, reused by every later run, rebuilt when they are stale."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fuxictr.array_files import span
from fuxictr.config import DatasetConfig
from fuxictr.errors import ConfigError, DataError
from fuxictr.preprocess.columns.tally import Counts, Tally
from fuxictr.preprocess.columns.unseen import all_rare, lost_columns, oov_table
from fuxictr.preprocess.dataset.cache import (
    Split,
    find_splits,
    foreign_parts,
    make_key,
    read_key,
    stale_reason,
)
from fuxictr.preprocess.dataset.custom import load_processor
from fuxictr.preprocess.dataset.encoded import hash_files, read_encoded
from fuxictr.preprocess.dataset.encoder_files import FEATURE_VOCAB, hash_encoders
from fuxictr.preprocess.dataset.finished import EncodedDataset, dataset_folder, read_finished
from fuxictr.preprocess.dataset.origins import (
    files_in_both,
    origins_of,
    say_encoded,
    say_passed_over,
    say_splits,
)
from fuxictr.preprocess.dataset.processor import FeatureProcessor
from fuxictr.preprocess.dataset.published_sizes import compare_with_published
from fuxictr.preprocess.dataset.publishing import (
    changed_file,
    dataset_lock,
    publish,
    staging_folder,
)
from fuxictr.preprocess.dataset.writing import SplitWriter
from fuxictr.preprocess.sources.frames import check_schemas, count_rows
from fuxictr.preprocess.sources.splitting import SPLITS, next_codes, rows_of, split_codes

logger = logging.getLogger(__name__)


def prepare_dataset(
    config: DatasetConfig,
    base_dir: str | Path = ".",
    rebuild: bool = False,
    verbose: int = 1,
    processor_class: type[FeatureProcessor] | None = None,
) -> EncodedDataset:
    """Returns the encoded dataset of a config; builds it where it is absent or stale.

    Args:
        config: the dataset config.
        base_dir: folder that its relative paths resolve against.
        rebuild: build in any case.
        verbose: 0 shows no progress bars.
        processor_class: a subclass with the dataset's own column functions; null = the one that
            key 'processor' names.

    Raises:
        ConfigError: a key does not fit.
        DataError: a raw file, column or cell that cannot be used; nothing is written then.
    """
    if config.is_encoded:
        if rebuild:
            raise ConfigError(
                f"dataset '{config.dataset_id}': --rebuild: its rows are encoded already "
                "(rebuild_dataset: false, or no feature_cols), so there is nothing to build"
            )
        encoded = _read_existing(config, Path(base_dir))
        if encoded.encoders_hash:  # of a build from raw rows
            _say_known(dataset_folder(config, Path(base_dir)), config.dataset_id)
        else:
            say_encoded(encoded.paths, next(iter(encoded.feature_map.features)))
        return encoded
    if processor_class is None:
        processor_class = load_processor(config.processor, Path(base_dir))
    return _prepare(processor_class.from_config(config), Path(base_dir), rebuild, verbose)


def find_current(config: DatasetConfig, base_dir: str | Path = ".") -> EncodedDataset | None:
    """Returns the encoded dataset where ``prepare_dataset`` would reuse it, otherwise None.

    Raises:
        ConfigError: a key does not fit.
        DataError: rows that are encoded already and cannot be used.
    """
    if config.is_encoded:
        return _read_existing(config, Path(base_dir))
    is_current = find_stale_reason(config, base_dir) is None
    folder = dataset_folder(config, Path(base_dir))
    return read_finished(folder, config.dataset_id) if is_current else None


def find_stale_reason(config: DatasetConfig, base_dir: str | Path = ".") -> str | None:
    """Returns why ``prepare_dataset`` would build a dataset; None where it would reuse it.

    Raises:
        ConfigError: a key does not fit.
    """
    if config.is_encoded:
        return None
    processor = load_processor(config.processor, Path(base_dir)).from_config(config)
    processor.base_dir = Path(base_dir)
    key = make_key(processor, find_splits(processor, Path(base_dir)))
    return stale_reason(dataset_folder(config, Path(base_dir)), key, processor)


def build_dataset(
    feature_encoder: FeatureProcessor,
    train_data: str | None = None,
    valid_data: str | None = None,
    test_data: str | None = None,
    **kwargs: Any,
) -> tuple[str | None, str | None, str | None]:
    """Builds or reuses an encoded dataset, called as in FuxiCTR; fits ``feature_encoder``.

    Args:
        feature_encoder: the processor.
        train_data: raw file, folder or glob; null = what the processor's config has.
        valid_data: likewise.
        test_data: likewise.
        **kwargs: other keys of a dataset config, which change the processor's; ``verbose``; the
            keys of other sections are ignored, so that ``**params`` works.

    Returns:
        The encoded train, valid and test files (or folders of parts), None where there is no
        such split.

    Raises:
        ConfigError: a key does not fit.
        DataError: a raw file, column or cell that cannot be used; nothing is written then.
    """
    given = {"train_data": train_data, "valid_data": valid_data, "test_data": test_data}
    given = {key: value for key, value in given.items() if value is not None}
    feature_encoder.configure({**asdict(feature_encoder.config), **kwargs, **given})
    config = feature_encoder.config
    if config.is_encoded:
        encoded = _read_existing(config, Path.cwd())
    else:
        encoded = _prepare(feature_encoder, Path.cwd(), False, int(kwargs.get("verbose", 1)))
        if not encoded.rebuilt:
            feature_encoder.load(dataset_folder(config, Path.cwd()))
    paths = {name: str(path) for name, path in encoded.paths.items()}
    return paths.get("train"), paths.get("valid"), paths.get("test")


def _read_existing(config: DatasetConfig, base_dir: Path) -> EncodedDataset:
    folder = dataset_folder(config, base_dir)
    key = read_key(folder)
    sources = (key or {}).get("sources", {})
    given = {split: getattr(config, f"{split}_data") for split in SPLITS}
    # Where the splits name the raw files of a build, or nothing, that build is meant.
    is_meant = all(
        name is None or name == sources.get(split, {}).get("given") for split, name in given.items()
    )
    if key and sources and is_meant:
        found = read_finished(folder, config.dataset_id)
        if config.source_hash == "sample" and changed_file(folder, key) is None:
            return found
        return replace(found, data_hash=hash_files(config, found.feature_map, found.paths))
    return EncodedDataset(*read_encoded(config, base_dir, folder), False)


def _prepare(
    processor: FeatureProcessor, base_dir: Path, rebuild: bool, verbose: int
) -> EncodedDataset:
    config = processor.config
    processor.base_dir = base_dir
    folder = dataset_folder(config, base_dir)
    config.check_splits()
    if config.train_data is None:
        raise ConfigError(f"dataset '{config.dataset_id}': key 'train_data': found null")
    splits = find_splits(processor, base_dir)
    key = make_key(processor, splits)
    reason = "a rebuild was asked for" if rebuild else stale_reason(folder, key, processor)
    if reason is None:
        return _reuse(folder, config.dataset_id)
    _check_sources(processor, splits, folder, reason)
    try:
        with dataset_lock(folder):
            # Another process may have built it while this one waited.
            if not rebuild and stale_reason(folder, key, processor) is None:
                return _reuse(folder, config.dataset_id)
            logger.info("Building dataset '%s' in %s: %s", config.dataset_id, folder, reason)
            for split in splits:
                say_passed_over(f"{split.name}_data", split.given, split.passed_over)
            with staging_folder(folder) as staging:
                summary = _encode_splits(processor, splits, staging, verbose)
                publish(staging, folder, {**key, **summary})
            assert processor.feature_map is not None
            compare_with_published(config, processor.feature_map, summary["rows"]["train"])
    except OSError as error:
        raise DataError(f"{folder}: the encoded dataset cannot be built ({error})") from error
    return replace(read_finished(folder, config.dataset_id), rebuilt=True)


def _reuse(folder: Path, dataset_id: str) -> EncodedDataset:
    logger.info("Reusing the encoded dataset in %s", folder)
    _say_known(folder, dataset_id)
    return read_finished(folder, dataset_id)


def _say_known(folder: Path, dataset_id: str) -> None:
    known = read_key(folder) or {}
    say_splits(known.get("rows", {}), known.get("origins", {}))
    _warn(dataset_id, known.get("warnings", []))


def _warn(dataset_id: str, warnings: Sequence[str]) -> None:
    for text in warnings:
        logger.warning("dataset '%s': %s", dataset_id, text)


def _check_sources(
    processor: FeatureProcessor, splits: Sequence[Split], folder: Path, reason: str
) -> None:
    for split in splits:
        if split.error is not None:
            raise DataError(f"{split.error}; it is needed, as {reason}")
    block_size = processor.config.data_block_size
    for split in splits:
        for path in split.files:
            written = path.parent if block_size else path
            names = SPLITS if block_size else [f"{name}.parquet" for name in SPLITS]
            if written in {folder / name for name in names}:
                raise ConfigError(
                    f"key '{split.name}_data': {path} is where the encoded dataset would be "
                    "written; choose another data_root or dataset_id"
                )
    foreign = foreign_parts(folder, SPLITS if block_size else ())
    if foreign:
        raise DataError(
            f"{foreign[0]}: was not written by a build of this dataset and would be read with it; "
            "move it away, or choose another data_root or dataset_id"
        )
    files = [path for split in splits for path in split.files]
    check_schemas(files, processor.config.data_format, processor.text_columns())


def _encode_splits(
    processor: FeatureProcessor, splits: Sequence[Split], folder: Path, verbose: int
) -> dict[str, Any]:
    config, start = processor.config, time.perf_counter()
    codes, file_rows = None, []
    if config.valid_size or config.test_size:
        files = splits[0].files
        file_rows = count_rows(files, processor.source_format, processor.raw_columns()[0])
        if not sum(file_rows):
            raise DataError(f"dataset '{config.dataset_id}': train_data: {span(files)}: no rows")
        codes = split_codes(config, sum(file_rows))
        frames = processor.frames(files, "Fit", verbose)
        processor.fit(rows_of(frames, codes, "train"))
    else:
        processor.fit(splits[0].files, verbose)
    processor.save(folder)
    _try_functions(processor, folder)
    encoders_hash = hash_encoders(folder)
    digest = hashlib.sha256((folder / FEATURE_VOCAB).read_bytes())
    rows, cells = {}, {}
    for split in splits:
        is_divided = codes is not None and split.name == "train"
        for name, (writer, counts) in _encode(
            processor, split, codes if is_divided else None, folder, verbose
        ).items():
            rows[name], cells[name] = writer.num_rows, counts
            digest.update(writer.digest.digest())
    empty = [name for name, count in rows.items() if not count]
    if empty:
        raise DataError(f"dataset '{config.dataset_id}': the {empty[0]} split has no rows")
    seconds = time.perf_counter() - start
    logger.info(
        "Built dataset '%s' in %.1f s, %s rows/s: %s",
        config.dataset_id,
        seconds,
        f"{sum(rows.values()) / seconds:,.0f}",
        ", ".join(f"{name} {count:,} rows" for name, count in rows.items()),
    )
    hashes = {"data_hash": digest.hexdigest()[:16], "encoders_hash": encoders_hash}
    notes = files_in_both({split.name: split.files for split in splits})
    judged = _judge(processor, cells, notes)
    origins = origins_of(splits, codes, file_rows)
    say_splits(rows, origins)
    return {"rows": rows, "origins": origins, **hashes, **judged}


def _try_functions(processor: FeatureProcessor, folder: Path) -> None:
    """Checks that functions from a file that is loaded anew make the same of the rows they met."""
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


def _judge(
    processor: FeatureProcessor, cells: Mapping[str, dict[str, Counts]], notes: Sequence[str]
) -> dict[str, Any]:
    """Says how many cells have no id, and warns, also by ``notes``; returns counts and warnings."""
    columns, trained = processor.columns, cells["train"]
    for column in columns:
        if column.name in trained:
            counts = trained[column.name]
            counts.lasting = column.lasting_cells(counts.cells - counts.missing)
    table = oov_table(columns, cells)
    if table:
        logger.info("%s", table)
    warnings = [*notes, *(note for column in columns for note in column.notes)]
    warnings += all_rare(columns, trained)
    for name, found in cells.items():
        text = lost_columns(columns, trained, found)
        if text is not None:
            warnings.append(f"{name} split: {text}")
    _warn(processor.config.dataset_id, warnings)
    counted = {
        split: {name: asdict(counts) for name, counts in found.items()}
        for split, found in cells.items()
    }
    return {"cells": counted, "warnings": warnings}


def _encode(
    processor: FeatureProcessor,
    split: Split,
    codes: np.ndarray | None,
    folder: Path,
    verbose: int,
) -> dict[str, tuple[SplitWriter, dict[str, Counts]]]:
    """Writes a split in one pass over its files; with codes, all splits that it is divided into.

    Returns:
        Split -> what wrote it, and what its cells are, by column.
    """
    names = [split.name] if codes is None else [SPLITS[code] for code in np.unique(codes)]
    tallies = {
        column.name: Tally([split.name] if codes is None else SPLITS, codes)
        for column in processor.columns
        if column.config.type != "meta"
    }
    tables = processor.encode(split.files, f"Encode {split.name}", verbose, tallies=tallies)
    with contextlib.ExitStack() as stack:
        writers = {
            name: stack.enter_context(SplitWriter(folder, name, processor.config.data_block_size))
            for name in names
        }
        start = 0
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
