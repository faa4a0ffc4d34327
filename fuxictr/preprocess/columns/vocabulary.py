"""Counting tokens, and turning them into ids."""

from __future__ import annotations

import itertools
from collections.abc import Collection

import numpy as np
import polars as pl
import pyarrow as pa

from fuxictr.preprocess.columns.values import to_series

PAD, OOV = "__PAD__", "__OOV__"
# Counts of so many tokens are kept unmerged, since merging is slow.
_MERGE_ROWS = 500_000


class Vocabulary:
    """Ids of a categorical column: ``__PAD__`` 0, its tokens 1..n, ``__OOV__`` n + 1.

    A binary search over hashes, then a comparison, is exact and takes about 28 bytes per token.
    ``tokens`` are distinct and in id order. ``ids`` (n,) are given where a column holds ids
    already. ``oov_id`` None = one past the last id.
    """

    def __init__(
        self, tokens: pl.Series, ids: np.ndarray | None = None, oov_id: int | None = None
    ) -> None:
        self.tokens = tokens
        self.keeps_ids = ids is not None
        self.ids = np.arange(1, len(tokens) + 1, dtype=np.int32) if ids is None else ids
        self.oov_id = int(self.ids.max(initial=0)) + 1 if oov_id is None else oov_id
        # In the rare case of two tokens with one hash, another seed separates them.
        for seed in itertools.count():
            self._seed = seed
            hashes = self._hash(tokens)
            order = np.argsort(hashes)
            self._hashes, self._order = hashes[order], order.astype(np.int32)
            if not (self._hashes[1:] == self._hashes[:-1]).any():
                break
            assert tokens.n_unique() == len(tokens), "a vocabulary holds each token once"

    @property
    def size(self) -> int:
        """Number of ids, padding and OOV included."""
        return self.oov_id + 1

    def encode(self, tokens: pl.Series) -> np.ndarray:
        """Returns the ids (rows,) int32 of tokens; an unknown one is ``__OOV__``."""
        if not len(self.tokens) or not len(tokens):
            return np.full(len(tokens), self.oov_id, dtype=np.int32)
        place = np.searchsorted(self._hashes, self._hash(tokens))
        rank = self._order[np.minimum(place, len(self._hashes) - 1)]
        known = (self.tokens.gather(rank) == tokens).fill_null(False).to_numpy()
        return np.where(known, self.ids[rank], self.oov_id).astype(np.int32)

    def to_dict(self) -> dict[str, int]:
        """Returns {token: id} in id order, as in feature_vocab.json."""
        tokens = zip(self.tokens.to_list(), self.ids.tolist(), strict=True)
        return {PAD: 0, **dict(tokens), OOV: self.oov_id}

    @classmethod
    def from_dict(cls, ids: dict[str, int], keeps_ids: bool = False) -> Vocabulary:
        """Returns the vocabulary of {token: id}; ValueError where ids are wrong.

        Ids may have gaps where the column ``keeps_ids``.
        """
        ordered = sorted(ids, key=ids.__getitem__)
        tokens = [token for token in ordered if token not in (PAD, OOV)]
        oov = ids.get(OOV, -1)
        if ids.get(PAD) != 0 or oov <= max((ids[t] for t in tokens), default=0):
            raise ValueError(f"allowed: {PAD} as the first id and {OOV} as the last one")
        series = pl.Series(tokens, dtype=pl.String)
        if keeps_ids:
            return cls(series, np.array([ids[t] for t in tokens], dtype=np.int32), oov)
        if [ids[token] for token in ordered] != list(range(len(ordered))):
            raise ValueError("allowed: ids 0, 1, 2, ... without a gap")
        return cls(series)

    def extended(self, other: Vocabulary) -> Vocabulary:
        """Returns the vocabulary with the other's new tokens behind its own."""
        is_new = ~other.tokens.is_in(self.tokens.implode())
        tokens = pl.concat([self.tokens, other.tokens.filter(is_new)]).rechunk()
        if not self.keeps_ids:
            return Vocabulary(tokens)
        ids = np.concatenate([self.ids, other.ids[is_new.to_numpy()]])
        return Vocabulary(tokens, ids, max(self.oov_id, other.oov_id))

    def _hash(self, tokens: pl.Series) -> np.ndarray:
        return tokens.hash(seed=self._seed).to_numpy()


class TokenCounter:
    """Counts tokens, or numbers, over batches; batch sizes do not matter."""

    def __init__(self, dtype: type[pl.DataType] = pl.String) -> None:
        self._counts = pl.DataFrame(schema={"token": dtype, "count": pl.Int64})
        self._pending: list[pl.DataFrame] = []
        self._num_pending = 0

    def add(self, tokens: pl.Series, counts: np.ndarray) -> None:
        """Adds how often each token occurred."""
        self._pending.append(pl.DataFrame({"token": tokens, "count": counts}))
        self._num_pending += len(tokens)
        # Merging once there are as many new tokens as known ones keeps the cost linear.
        if self._num_pending > max(_MERGE_ROWS, len(self._counts)):
            self._merge()

    def counted(self, min_count: int, excluded: Collection[str]) -> pl.DataFrame:
        """Returns ``token`` and ``count`` of the tokens of ``vocabulary``, in its order."""
        kept = self._kept(excluded, min_count)
        return kept.sort(["count", "token"], descending=[True, False])

    def vocabulary(self, min_count: int, excluded: Collection[str]) -> Vocabulary:
        """Returns tokens seen ``min_count`` times or more: most frequent first, then by text."""
        return Vocabulary(self.counted(min_count, excluded)["token"].rechunk())

    def most_frequent(self, excluded: Collection[str]) -> tuple[str, int] | None:
        """Returns the most frequent token (the first by text among equals) and its count."""
        kept = self._kept(excluded)
        if kept.is_empty():
            return None
        best = kept.filter(pl.col("count") == pl.col("count").max()).sort("token").row(0)
        return str(best[0]), int(best[1])

    def num_seen(self, min_count: int, excluded: Collection[str]) -> int:
        """Returns the summed counts of the tokens seen ``min_count`` times or more."""
        return int(self._kept(excluded, min_count)["count"].sum())

    def sorted_counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the distinct numbers in rising order and how often each occurred."""
        self._merge()
        ordered = self._counts.sort("token")
        return ordered["token"].to_numpy(), ordered["count"].to_numpy()

    def _kept(self, excluded: Collection[str], min_count: int = 1) -> pl.DataFrame:
        self._merge()
        return self._counts.filter(
            (pl.col("count") >= min_count) & ~pl.col("token").is_in([*excluded, PAD, OOV])
        )

    def _merge(self) -> None:
        counts = pl.concat([self._counts, *self._pending])
        self._counts = counts.group_by("token").agg(pl.col("count").sum())
        self._pending, self._num_pending = [], 0


def split_tokens(column: pa.ChunkedArray | pa.Array) -> tuple[pl.Series, np.ndarray]:
    """Returns the distinct texts, and each row's index among them (past the end = missing)."""
    if isinstance(column, pa.Array):
        column = pa.chunked_array([column])
    is_encoded = pa.types.is_dictionary(column.type)
    column = column.unify_dictionaries() if is_encoded else column.dictionary_encode()
    column = column.combine_chunks()
    array = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    tokens = to_series(array.dictionary).cast(pl.String)
    return tokens, array.indices.fill_null(len(tokens)).to_numpy()
