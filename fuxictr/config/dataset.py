"""The keys of a dataset and of its columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from fuxictr.config.section import Section, check_values, key
from fuxictr.errors import ConfigError, did_you_mean

# Keys of FuxiCTR that this version lacks: using one is an error, not a silent loss.
UNSUPPORTED_COLUMN_KEYS = (
    "share_embedding",
    "emb_output_dim",
    "feature_encoder",
    "splitter",
    "max_len",
    "padding",
    "remap",
    "vocab_size",
    "pretrained_emb",
    "pretrain_dim",
    "pretrain_usage",
    "freeze_emb",
    "category_processor",
    "num_buckets",
)


@dataclass(frozen=True, kw_only=True)
class ColumnConfig(Section):
    """One entry of feature_cols or label_col."""

    name: str = field(metadata={"doc": "the column's name", "bounds": {}})
    active: bool = key(True, "false leaves the column out")
    dtype: Literal["str", "int", "float"] = key(
        "str", "how the raw value is read, before preprocess"
    )
    type: Literal["categorical", "numeric", "meta"] = key("categorical", "how it is encoded")
    source: str = key("", "a free tag, such as user or item")
    fill_na: str | int | float | None = key(
        None, "value of a missing cell; null = 0 (numeric), or no value of its own: __OOV__"
    )
    preprocess: str | None = key(None, "name of a column function applied to the raw value")
    normalizer: Literal["StandardScaler", "MinMaxScaler"] | None = key(
        None, "scaling of a numeric column, fitted on the training split"
    )
    min_categr_count: int | None = key(
        None, "the column's own threshold; null = the dataset's", ge=1
    )
    embedding_dim: int | None = key(None, "its own width; null = the model's embedding_dim", ge=1)


@dataclass(frozen=True, kw_only=True)
class DatasetConfig(Section):
    """One block of dataset_config.yaml."""

    dataset_id: str = field(metadata={"doc": "name of the block", "bounds": {}})
    data_root: str = key("../../data/", "folder under which the encoded dataset is written")
    data_format: Literal["csv", "parquet"] = key("csv", "form of the raw files")
    train_data: str | None = key(None, "raw training file, folder or glob")
    valid_data: str | None = key(None, "raw validation file, folder or glob")
    test_data: str | None = key(None, "raw test file, folder or glob")
    min_categr_count: int = key(1, "values seen less often in training become __OOV__", ge=1)
    feature_cols: list[dict] = key([], "the feature columns")
    label_col: dict | list[dict] = key({}, "the label column")
    rebuild_dataset: bool = key(True, "build from the raw files when the cache is absent or stale")

    def columns(self) -> list[ColumnConfig]:
        """Returns the active feature columns, one entry a name.

        Raises:
            ConfigError: unknown keys, wrong values, a repeated name, no column at all; lists all.
        """
        problems: list[str] = []
        columns = [c for entry in self.feature_cols for c in _expand_column(entry, problems)]
        names = [c.name for c in columns]
        repeated = sorted({n for n in names if names.count(n) > 1})
        problems += [f"feature_cols: column '{name}' is listed twice" for name in repeated]
        if not columns and not problems:
            problems.append("feature_cols: no active column")
        if problems:
            raise ConfigError(f"dataset '{self.dataset_id}': " + "; ".join(problems))
        return columns

    def label(self) -> ColumnConfig:
        """Returns the label column.

        Raises:
            ConfigError: label_col is missing or wrong.
        """
        entries = self.label_col if isinstance(self.label_col, list) else [self.label_col]
        problems: list[str] = []
        columns = [c for entry in entries for c in _expand_column(entry, problems)]
        if problems or len(columns) != 1:
            text = "; ".join(problems) or f"found {len(columns)} columns"
            raise ConfigError(
                f"dataset '{self.dataset_id}': key 'label_col': {text}; "
                "allowed: one column, as {name: click, dtype: float}"
            )
        return columns[0]


def _expand_column(entry: dict[str, Any], problems: list[str]) -> list[ColumnConfig]:
    names = entry.get("name")
    names = names if isinstance(names, list) else [names]
    if not names or not all(isinstance(n, str) and n for n in names):
        problems.append(
            f"feature_cols: key 'name': found {entry.get('name')!r}, allowed: str or list"
        )
        return []
    where = f"column '{names[0]}'"
    for unknown in sorted(set(entry) - set(ColumnConfig.keys())):
        if entry[unknown] is None:
            continue
        if unknown in UNSUPPORTED_COLUMN_KEYS:
            problems.append(f"{where}: key '{unknown}' of FuxiCTR is not supported by this version")
        else:
            hint = did_you_mean(unknown, ColumnConfig.keys())
            problems.append(f"{where}: unknown key '{unknown}'{hint}")
    found: list[str] = []
    checked = check_values(ColumnConfig, {**entry, "name": names[0]}, found)
    problems += [f"{where}: {text}" for text in found]
    if found or not checked.get("active", True):
        return []
    return [ColumnConfig(**{**checked, "name": name}) for name in names]
