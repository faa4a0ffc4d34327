"""Encoded datasets on disk: built once, reused by every later run, rebuilt when they are stale."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fuxictr.config import DatasetConfig
from fuxictr.errors import ConfigError, DataError
from fuxictr.features import FeatureMap
from fuxictr.preprocess.cache import (
    Split,
    dataset_lock,
    find_splits,
    make_key,
    publish,
    read_key,
    staging_folder,
    stale_reason,
)
from fuxictr.preprocess.processor import FEATURE_MAP, FEATURE_VOCAB, FeatureProcessor

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EncodedDataset:
    """An encoded dataset.

    Attributes:
        feature_map: its fields.
        paths: split -> parquet file.
        data_hash: 16 hex digits over the encoded rows and the vocabularies; equal data has an
            equal hash on every machine.
        rebuilt: False where an earlier build was reused.
    """

    feature_map: FeatureMap
    paths: dict[str, Path]
    data_hash: str
    rebuilt: bool


def prepare_dataset(
    config: DatasetConfig,
    base_dir: str | Path = ".",
    rebuild: bool = False,
    verbose: int = 1,
    processor_class: type[FeatureProcessor] = FeatureProcessor,
) -> EncodedDataset:
    """Returns the encoded dataset of a config; builds it where it is absent or stale.

    Args:
        config: the dataset config.
        base_dir: folder that its relative paths resolve against.
        rebuild: build in any case.
        verbose: 0 shows no progress bars.
        processor_class: a subclass with the dataset's own column functions.

    Raises:
        ConfigError: a key does not fit.
        DataError: a raw file, column or cell that cannot be used; nothing is written then.
    """
    processor = processor_class.from_config(config)
    return _prepare(processor, Path(base_dir), rebuild, verbose)


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
        The encoded train, valid and test files, None where there is no such split.

    Raises:
        ConfigError: a key does not fit.
        DataError: a raw file, column or cell that cannot be used; nothing is written then.
    """
    given = {"train_data": train_data, "valid_data": valid_data, "test_data": test_data}
    given = {key: value for key, value in given.items() if value is not None}
    feature_encoder.configure({**asdict(feature_encoder.config), **kwargs, **given})
    encoded = _prepare(feature_encoder, Path.cwd(), False, int(kwargs.get("verbose", 1)))
    feature_encoder.load(encoded.paths["train"].parent)
    paths = {name: str(path) for name, path in encoded.paths.items()}
    return paths.get("train"), paths.get("valid"), paths.get("test")


def _prepare(
    processor: FeatureProcessor, base_dir: Path, rebuild: bool, verbose: int
) -> EncodedDataset:
    config = processor.config
    folder = (base_dir / Path(config.data_root).expanduser() / config.dataset_id).resolve()
    if not config.rebuild_dataset:
        return _read_finished(folder, config.dataset_id)
    if config.train_data is None:
        raise ConfigError(f"dataset '{config.dataset_id}': key 'train_data': found null")
    splits = find_splits(processor, base_dir)
    key = make_key(processor, splits)
    reason = "a rebuild was asked for" if rebuild else stale_reason(folder, key)
    if reason is None:
        return _reuse(folder, config.dataset_id)
    _check_sources(splits, folder, reason)
    try:
        with dataset_lock(folder):
            # Another process may have built it while this one waited.
            if not rebuild and stale_reason(folder, key) is None:
                return _reuse(folder, config.dataset_id)
            logger.info("Building dataset '%s' in %s: %s", config.dataset_id, folder, reason)
            with staging_folder(folder) as staging:
                summary = _encode_splits(processor, splits, staging, verbose)
                publish(staging, folder, {**key, **summary})
    except OSError as error:
        raise DataError(f"{folder}: cannot write the encoded dataset ({error})") from error
    return replace(_read_finished(folder, config.dataset_id), rebuilt=True)


def _reuse(folder: Path, dataset_id: str) -> EncodedDataset:
    logger.info("Reusing the encoded dataset in %s", folder)
    return _read_finished(folder, dataset_id)


def _read_finished(folder: Path, dataset_id: str) -> EncodedDataset:
    key = read_key(folder)
    if key is None:
        raise DataError(
            f"{folder}: no finished encoded dataset; key 'rebuild_dataset': found false, set true"
        )
    paths = {name: folder / f"{name}.parquet" for name in key["rows"]}
    feature_map = FeatureMap.load(folder / FEATURE_MAP, dataset_id)
    return EncodedDataset(feature_map, paths, key["data_hash"], rebuilt=False)


def _check_sources(splits: Sequence[Split], folder: Path, reason: str) -> None:
    for split in splits:
        if split.error is not None:
            raise DataError(f"{split.error}; it is needed, as {reason}")
    outputs = {folder / f"{split.name}.parquet" for split in splits}
    for split in splits:
        for path in split.files:
            if path in outputs:
                raise ConfigError(
                    f"key '{split.name}_data': {path} is where the encoded dataset would be "
                    "written; choose another data_root or dataset_id"
                )


def _encode_splits(
    processor: FeatureProcessor, splits: Sequence[Split], folder: Path, verbose: int
) -> dict[str, Any]:
    start = time.perf_counter()
    processor.fit(splits[0].files, verbose)
    processor.save(folder)
    digest = hashlib.sha256((folder / FEATURE_VOCAB).read_bytes())
    rows = {}
    for split in splits:
        digest.update(split.name.encode())
        tables = processor.encode(split.files, f"Encode {split.name}", verbose)
        rows[split.name] = _write(tables, folder / f"{split.name}.parquet", digest)
    seconds = time.perf_counter() - start
    logger.info(
        "Built dataset '%s' in %.1f s, %s rows/s: %s",
        processor.config.dataset_id,
        seconds,
        f"{sum(rows.values()) / seconds:,.0f}",
        ", ".join(f"{name} {count:,} rows" for name, count in rows.items()),
    )
    return {"rows": rows, "data_hash": digest.hexdigest()[:16]}


def _write(tables: Iterator[pa.Table], path: Path, digest: Any) -> int:
    """Writes one row group a table, adds the rows to the digest and returns their number."""
    num_rows = 0
    with contextlib.ExitStack() as stack:
        writer = None
        for table in tables:
            if writer is None:
                digest.update(repr(table.column_names).encode())
                writer = stack.enter_context(
                    pq.ParquetWriter(path, table.schema, compression="lz4")
                )
            writer.write_table(table, row_group_size=table.num_rows)
            for column in table.columns:
                digest.update(_bytes(column))
            num_rows += table.num_rows
    return num_rows


def _bytes(column: pa.ChunkedArray) -> bytes:
    if column.type in (pa.int32(), pa.float32()):
        return column.to_numpy().tobytes()
    return repr(column.to_pylist()).encode()
