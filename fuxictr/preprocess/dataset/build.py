"""Encoded datasets on disk: built once, reused by later runs, rebuilt when stale."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fuxictr.config import DatasetConfig
from fuxictr.errors import ConfigError, DataError
from fuxictr.preprocess.dataset.cache import (
    Split,
    find_splits,
    foreign_parts,
    load_key,
    make_key,
    read_key,
    stale_reason,
)
from fuxictr.preprocess.dataset.custom import load_processor
from fuxictr.preprocess.dataset.encoded import hash_files, read_encoded
from fuxictr.preprocess.dataset.encoding import encode_splits
from fuxictr.preprocess.dataset.finished import EncodedDataset, dataset_folder, read_finished
from fuxictr.preprocess.dataset.origins import log_encoded, log_skipped, log_splits
from fuxictr.preprocess.dataset.processor import FeatureProcessor
from fuxictr.preprocess.dataset.published_sizes import compare_with_published
from fuxictr.preprocess.dataset.publishing import (
    changed_file,
    dataset_lock,
    publish,
    staging_folder,
)
from fuxictr.preprocess.sources.frames import check_schemas
from fuxictr.preprocess.sources.splitting import SPLITS

logger = logging.getLogger(__name__)


def prepare_dataset(
    config: DatasetConfig,
    base_dir: str | Path = ".",
    rebuild: bool = False,
    verbose: int = 1,
    processor_class: type[FeatureProcessor] | None = None,
) -> EncodedDataset:
    """Returns the encoded dataset of a config; builds it where it is absent or stale.

    Relative paths of the config resolve against ``base_dir``. ``rebuild`` builds in any case;
    ``verbose`` 0 shows no progress bars. ``processor_class`` has the dataset's own column
    functions; None = the class that key 'processor' names.

    Raises:
        ConfigError: a key does not fit.
        DataError: a raw file, column or cell cannot be used; nothing is written then.
    """
    if config.is_encoded:
        if rebuild:
            raise ConfigError(
                f"dataset '{config.dataset_id}': --rebuild: its rows are encoded already "
                "(rebuild_dataset: false, or no feature_cols), so there is nothing to build"
            )
        encoded = _read_existing(config, Path(base_dir))
        if encoded.encoders_hash:  # of a build from raw rows
            _log_known(dataset_folder(config, Path(base_dir)), config.dataset_id)
        else:
            log_encoded(encoded.paths, next(iter(encoded.feature_map.features)))
        return encoded
    if processor_class is None:
        processor_class = load_processor(config.processor, Path(base_dir))
    return _prepare(processor_class.from_config(config), Path(base_dir), rebuild, verbose)


def find_current(config: DatasetConfig, base_dir: str | Path = ".") -> EncodedDataset | None:
    """Returns the dataset that ``prepare_dataset`` would reuse, or None; raises as it does."""
    if config.is_encoded:
        return _read_existing(config, Path(base_dir))
    folder = dataset_folder(config, Path(base_dir))
    load_key(folder)  # completes a publish that was interrupted
    if find_stale_reason(config, base_dir) is not None:
        return None
    return read_finished(folder, config.dataset_id)


def find_stale_reason(config: DatasetConfig, base_dir: str | Path = ".") -> str | None:
    """Returns why ``prepare_dataset`` would build a dataset, or None where it would reuse it."""
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

    Splits are raw files, folders or globs; None = as in the processor's config. ``kwargs`` are
    ``verbose`` and other keys of a dataset config; keys of other sections are ignored. Returns the
    encoded train, valid and test files (or folders of parts), None for an absent split.

    Raises:
        ConfigError: a key does not fit.
        DataError: a raw file, column or cell cannot be used; nothing is written then.
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
    key = load_key(folder)
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
    load_key(folder)  # completes a publish that was interrupted
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
                log_skipped(f"{split.name}_data", split.given, split.skipped)
            with staging_folder(folder) as staging:
                summary = encode_splits(processor, splits, staging, verbose)
                publish(staging, folder, {**key, **summary})
            assert processor.feature_map is not None
            compare_with_published(config, processor.feature_map, summary["rows"]["train"])
    except OSError as error:
        raise DataError(f"{folder}: the encoded dataset cannot be built ({error})") from error
    return replace(read_finished(folder, config.dataset_id), rebuilt=True)


def _reuse(folder: Path, dataset_id: str) -> EncodedDataset:
    logger.info("Reusing the encoded dataset in %s", folder)
    _log_known(folder, dataset_id)
    return read_finished(folder, dataset_id)


def _log_known(folder: Path, dataset_id: str) -> None:
    known = read_key(folder) or {}
    log_splits(known.get("rows", {}), known.get("origins", {}))
    for text in known.get("warnings", []):
        logger.warning("dataset '%s': %s", dataset_id, text)


def _check_sources(
    processor: FeatureProcessor, splits: Sequence[Split], folder: Path, reason: str
) -> None:
    for split in splits:
        if split.error is not None:
            raise DataError(f"{split.error}; it is needed, as {reason}")
    block_size = processor.config.data_block_size
    written = {folder / (name if block_size else f"{name}.parquet") for name in SPLITS}
    for split in splits:
        for path in split.files:
            if (path.parent if block_size else path) in written:
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
