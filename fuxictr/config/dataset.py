"""The keys of a dataset and of its columns."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from fuxictr.config.coercion import WrongValue
from fuxictr.config.column_keys import idle_column_keys, idle_label_keys
from fuxictr.config.section import (
    Section,
    check_name,
    check_path,
    check_values,
    key,
    listed,
    unknown_key,
)
from fuxictr.errors import ConfigError, did_you_mean
from fuxictr.features import POOLINGS, allowed_encoders, is_encoder, parse_pooling

# The longest sequence, so that 32 bits can index the lists of a frame of rows.
MAX_LEN = 10_000
# Other names of keys: the plain word for one, and an older name.
_ALIASES = {"pooling": "feature_encoder", "encoder": "feature_encoder", "na_value": "fill_na"}


def _check_encoder(value: Any) -> Any:
    """Returns a feature_encoder that can be used; a pooling in this project's word."""
    try:
        return parse_pooling(value, "")
    except ConfigError:
        if is_encoder(value):
            return value
    raise WrongValue(f"allowed: {allowed_encoders()}{did_you_mean(str(value), POOLINGS)}")


def _check_one_character(text: str | None) -> str | None:
    text = _unescape(text)
    if text is None or (len(text) == 1 and text.isascii() and text not in "\0\r\n"):
        return text
    raise WrongValue("allowed: one character, as ',', '\\t' or '\\x01'")


def _check_splitter(text: str | None) -> str | None:
    text = _unescape(text)
    if text == "" or text == "\0":
        raise WrongValue("allowed: a text, as '^' or '\\x02', or null")
    return text


def _unescape(text: str | None) -> str | None:
    r"""Returns the character of ``\t``, ``\x01``, ``\u0001`` or ``\001``; another text as it is."""
    if text == r"\t":
        return "\t"
    match = re.fullmatch(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|([0-7]{3}))", text or "")
    if match is None:
        return text
    return chr(int(match[3], 8) if match[3] else int(match[1] or match[2], 16))


def _check_header(header: bool | list[str]) -> bool | list[str]:
    if isinstance(header, bool):
        return header
    repeated = [name for name, count in Counter(header).items() if count > 1]
    if repeated or not header or not all(name and "\0" not in name for name in header):
        found = f"; '{repeated[0]}' is there twice" if repeated else ""
        raise WrongValue(f"allowed: true, false, or the names of the file's columns{found}")
    return header


def _check_split_size(size: float) -> float:
    if size >= 1 and size != int(size):
        raise WrongValue("allowed: a share below 1, or a whole number of rows")
    return size


@dataclass(frozen=True, kw_only=True)
class ColumnConfig(Section):
    """One entry of feature_cols or label_col."""

    name: str = field(metadata={"doc": "the column's name", "bounds": {}})
    active: bool = key(True, "false leaves the column out")
    dtype: Literal["str", "int", "float"] = key("str", "type of the raw value, before preprocess")
    type: Literal["categorical", "numeric", "sequence", "embedding", "meta"] = key(
        "categorical", "how it is encoded"
    )
    source: str = key("", "a free tag, such as user or item")
    fill_na: str | int | float | None = key(
        None, "for missing cells; null = 0 (numeric) or __OOV__"
    )
    preprocess: str | None = key(None, "name of a column function applied to the raw value")
    normalizer: Literal["StandardScaler", "MinMaxScaler"] | None = key(
        None, "scaling of a numeric column, fitted on the training split"
    )
    min_categr_count: int | None = key(None, "its own threshold; null = the dataset's", ge=1)
    embedding_dim: int | None = key(None, "its own width; null = the model's embedding_dim", ge=1)
    emb_output_dim: int | None = key(None, "width after a linear map; null = no map", ge=1)
    remap: bool = key(True, "false: the cells are ids already (categorical), or kept (meta)")
    vocab_size: int | None = key(
        None,
        "number of ids of a column that holds ids already (remap or rebuild_dataset false)",
        ge=1,
        lt=2**31 - 2,
    )
    share_embedding: str | None = key(None, "column whose vocabulary and table this one uses")
    category_processor: Literal["quantile_bucket", "hash_bucket"] | None = key(
        None, "ids by bucket instead of by vocabulary: of a number's quantile, or of a token's hash"
    )
    num_buckets: int = key(10, "number of its buckets", ge=1, le=2**30)
    splitter: str | None = key(None, "text between elements; null = ^", _check_splitter)
    max_len: int = key(0, "most elements kept; 0 = the longest in training", ge=0, le=MAX_LEN)
    padding: Literal["pre", "post"] = key(
        "post", "end of a sequence that is filled with __PAD__, and cut where it is too long"
    )
    feature_encoder: str | list[str] | None = key(
        "average",
        "pooling: average, sum or null; or FuxiCTR's encoders, as layers.KMaxPooling(k, dim), "
        "nn.Linear(in, out, bias), or a list",
        _check_encoder,
    )
    pretrained_emb: str | None = key(
        None, "npz, h5 or parquet with columns key and value: one vector per token", check_path
    )
    pretrain_dim: int | None = key(None, "width of these vectors; null = as in the file", ge=1)
    pretrain_usage: Literal["init", "sum", "concat"] = key(
        "init", "the vector is the embedding, or is added, or joined, to a learned one"
    )
    freeze_emb: bool = key(True, "whether the pretrained vectors stay as they are")


@dataclass(frozen=True, kw_only=True)
class DatasetConfig(Section):
    """One block of dataset_config.yaml."""

    dataset_id: str = field(
        metadata={"doc": "name of the block", "bounds": {}, "check": check_name}
    )
    data_root: str = key("../../data/", "folder of the encoded datasets", check_path)
    data_format: Literal["csv", "parquet", "npz", "h5"] = key("csv", "form of the raw files")
    separator: str = key(",", "character between the cells of a csv", check=_check_one_character)
    quote_char: str | None = key('"', "character around cells; null = none", _check_one_character)
    header: bool | list[str] = key(
        True,
        "whether the first line of a csv names its columns; false: they are the label and "
        "feature_cols, in this order; a list: these",
        _check_header,
    )
    train_data: str | None = key(None, "raw training file, folder or glob", check_path)
    valid_data: str | None = key(None, "raw validation file, folder or glob", check_path)
    test_data: str | None = key(None, "raw test file, folder or glob", check_path)
    valid_size: float = key(0, "share or rows of train_data for valid", _check_split_size, ge=0)
    test_size: float = key(0, "share or rows of train_data for test", _check_split_size, ge=0)
    split_type: Literal["sequential", "random"] = key(
        "sequential", "which rows these are: the last ones (test after valid), or drawn ones"
    )
    split_seed: int = key(2019, "seed of a random split", ge=0)
    min_categr_count: int = key(1, "values seen less often in training become __OOV__", ge=1)
    feature_cols: list[dict] = key([], "the feature columns")
    label_col: dict | list[dict] = key(
        {}, "the label column, or a list of several; type: numeric where its values are numbers"
    )
    processor: str | None = key(
        None, "file.py or file.py:Class of a FeatureProcessor with column functions", check_path
    )
    rebuild_dataset: bool = key(True, "build from the raw files when the cache is absent or stale")
    data_block_size: int = key(0, "rows per encoded file; 0 = one per split", ge=0, lt=2**62)
    source_hash: Literal["sample", "full"] = key(
        "sample", "how raw files are compared: size, time and a sample, or every byte as well"
    )

    @property
    def is_encoded(self) -> bool:
        """Whether the rows are already ids, so that ``feature_cols`` may be missing.

        So with ``rebuild_dataset: false``, and in a format other than csv without columns.
        """
        return not self.rebuild_dataset or (self.data_format != "csv" and not self.feature_cols)

    def columns(self) -> list[ColumnConfig]:
        """Returns the active feature columns, one per name; a ConfigError lists all problems."""
        problems: list[str] = []
        idle = partial(idle_column_keys, is_encoded=self.is_encoded)
        columns = [c for entry in self.feature_cols for c in _expand_column(entry, problems, idle)]
        repeated = sorted(n for n, count in Counter(c.name for c in columns).items() if count > 1)
        problems += [f"feature_cols: column '{name}' is listed twice" for name in repeated]
        problems += _idle_beside_shared(columns)
        if not columns and not problems:
            problems.append("feature_cols: no active column")
        if problems:
            raise ConfigError(f"dataset '{self.dataset_id}': {listed(problems)}")
        return columns

    def labels(self) -> list[ColumnConfig]:
        """Returns the label columns; ConfigError if label_col is missing or wrong."""
        entries = self.label_col if isinstance(self.label_col, list) else [self.label_col]
        problems: list[str] = []
        columns = [c for e in entries for c in _expand_column(e, problems, idle_label_keys)]
        repeated = sorted(n for n, count in Counter(c.name for c in columns).items() if count > 1)
        problems += [f"column '{name}' is listed twice" for name in repeated]
        if problems or not columns:
            text = listed(problems) or "found no column"
            raise ConfigError(
                f"dataset '{self.dataset_id}': key 'label_col': {text}; "
                "allowed: a column, as {name: click, dtype: float}, or a list of them"
            )
        return columns

    def check_splits(self) -> None:
        """Raises ConfigError if a split is given both as data and as a share of train_data."""
        for split in ("valid", "test"):
            if getattr(self, f"{split}_size") and getattr(self, f"{split}_data") is not None:
                raise ConfigError(
                    f"dataset '{self.dataset_id}': keys '{split}_data' and '{split}_size': both "
                    "are set; give the split as data, or as a share of train_data"
                )


def _idle_beside_shared(columns: list[ColumnConfig]) -> list[str]:
    """Returns the problems of keys about vectors in columns that use another column's table."""
    by_name = {column.name: column for column in columns}
    found = []
    for column in columns:
        owner = by_name.get(column.share_embedding or "")
        if owner is None or owner.share_embedding is not None:
            continue
        for name in ("pretrain_dim", "pretrain_usage", "freeze_emb"):
            value, others = getattr(column, name), getattr(owner, name)
            if value is False and not owner.pretrained_emb:
                continue  # there are no vectors to freeze
            if value not in (getattr(ColumnConfig, name), others):
                found.append(
                    f"column '{column.name}': key '{name}': found {value!r}, but it uses the table "
                    f"of '{owner.name}', which has {others!r}; change it there"
                )
    return found


def _expand_column(
    entry: dict[str, Any], problems: list[str], idle: Callable[[dict[str, Any]], list[str]]
) -> list[ColumnConfig]:
    """Returns one column per name of an entry; ``idle`` finds the keys without an effect."""
    for other, name in _ALIASES.items():
        if other in entry:
            if entry.get(name, entry[other]) != entry[other]:
                problems.append(f"column '{entry.get('name')}': keys '{name}' and '{other}' differ")
            entry = {name: entry[other], **entry}
            del entry[other]
    names = entry.get("name")
    names = names if isinstance(names, list) else [names]
    if not names or not all(isinstance(n, str) and n for n in names):
        problems.append(
            f"feature_cols: key 'name': found {entry.get('name')!r:.200}, allowed: str or list"
        )
        return []
    where = f"column '{names[0]}'"
    for unknown in sorted(set(entry) - set(ColumnConfig.keys()), key=str):
        if entry[unknown] in (None, ""):
            continue
        problems.append(f"{where}: {unknown_key(unknown, ColumnConfig.keys(), problems)}")
    found: list[str] = []
    checked = check_values(ColumnConfig, {**entry, "name": names[0]}, found)
    problems += [f"{where}: {text}" for text in found]
    if found or not checked.get("active", True):
        return []
    problems += [f"{where}: {text}" for text in idle(checked)]
    return [ColumnConfig(**{**checked, "name": name}) for name in names]
