"""The columns of a dataset config, and those that share one vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

from fuxictr.config import ColumnConfig
from fuxictr.errors import ConfigError, did_you_mean
from fuxictr.preprocess.columns.bucket_columns import HashColumn, QuantileColumn
from fuxictr.preprocess.columns.column import Column, NumericColumn, VectorColumn
from fuxictr.preprocess.columns.token_columns import CategoricalColumn, SequenceColumn, TokenColumn

_OTHER_KINDS: dict[str, type[Column]] = {
    "numeric": NumericColumn,
    "embedding": VectorColumn,
    "hash_bucket": HashColumn,
    "quantile_bucket": QuantileColumn,
}


def make_column(config: ColumnConfig, min_count: int) -> Column:
    """Returns the column of a config entry; ``min_count`` is the dataset's min_categr_count."""
    kind: str = config.type
    if kind == "categorical" and config.category_processor in ("hash_bucket", "quantile_bucket"):
        kind = config.category_processor
    if kind == "categorical":
        return CategoricalColumn(config, min_count)
    if kind == "sequence":
        return SequenceColumn(config, min_count)
    return _OTHER_KINDS.get(kind, Column)(config)


def sharing_groups(columns: Sequence[Column]) -> dict[str, list[TokenColumn]]:
    """Returns owner -> columns of its vocabulary, owner first; ConfigError where one is wrong."""
    tokens = {column.name: column for column in columns if isinstance(column, TokenColumn)}
    groups: dict[str, list[TokenColumn]] = {}
    for column in columns:
        if column.config.share_embedding is None:
            continue
        owner = _owner(column, tokens)
        if column.config.pretrained_emb not in (None, owner.config.pretrained_emb):
            raise ConfigError(
                f"column '{column.name}': keys 'share_embedding' and 'pretrained_emb': it uses the "
                f"table of '{owner.name}'; give the vectors there"
            )
        if column.config.remap != owner.config.remap:
            raise ConfigError(
                f"column '{column.name}': key 'remap': found {str(column.config.remap).lower()}, "
                f"allowed: as '{owner.name}' has it, whose vocabulary it shares"
            )
        groups.setdefault(owner.name, [owner]).append(tokens[column.name])
    return groups


def share_vocabularies(columns: Sequence[Column]) -> None:
    """Gives each group one vocabulary: the owner's tokens, then the others' new ones."""
    for owner, *others in sharing_groups(columns).values():
        vocabulary = owner.vocabulary
        for column in others:
            vocabulary = vocabulary.extended(column.vocabulary)
        for column in (owner, *others):
            column.vocabulary = vocabulary


def note_spellings(columns: Sequence[Column]) -> None:
    """Notes values that training writes in two ways, once for each vocabulary."""
    groups = sharing_groups(columns)
    shared = {column.name for _, *others in groups.values() for column in others}
    for column in columns:
        if isinstance(column, TokenColumn) and column.name not in shared:
            column.note_spellings(groups.get(column.name, [column])[1:])


def _owner(column: Column, tokens: dict[str, TokenColumn]) -> TokenColumn:
    seen = [column.name]
    while True:
        current = tokens.get(seen[-1])
        if current is None:
            raise ConfigError(
                f"column '{seen[-2] if len(seen) > 1 else column.name}': key 'share_embedding': "
                f"found '{column.config.share_embedding}', allowed: a categorical or sequence "
                f"column with a vocabulary{did_you_mean(seen[-1], tokens)}"
            )
        target = current.config.share_embedding
        if target is None:
            return current
        if target in seen:
            raise ConfigError(
                f"column '{column.name}': key 'share_embedding' goes round in a circle: "
                f"{' -> '.join([*seen, target])}"
            )
        seen.append(target)
