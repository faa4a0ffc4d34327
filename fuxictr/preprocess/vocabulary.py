"""Tokens counted, and tokens turned into ids."""

from __future__ import annotations

import itertools
from collections.abc import Collection

import numpy as np
import polars as pl
import pyarrow as pa

from fuxictr.preprocess.values import to_series

PAD, OOV = "__PAD__", "__OOV__"
# Counts of so many tokens are kept unmerged: merging is what costs.
_MERGE_ROWS = 500_000


class Vocabulary:
    """Ids of a categorical column: ``__PAD__`` 0, its tokens 1..n, ``__OOV__`` n + 1.

    Tokens are looked up by binary search over their hashes and then compared, which is exact, costs
    nothing a batch, and takes about 28 bytes a token.

    Args:
        tokens: the tokens in the order of their ids, each one once.
    """

    def __init__(self, tokens: pl.Series) -> None:
        self.tokens = tokens
        self.oov_id = len(tokens) + 1
        # Two tokens with one hash are all but impossible; another seed parts them.
        for seed in itertools.count():
            self._seed = seed
            hashes = self._hash(tokens)
            order = np.argsort(hashes)
            self._hashes, self._order = hashes[order], order.astype(np.int32)
            if not (self._hashes[1:] == self._hashes[:-1]).any():
                break

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
        return np.where(known, rank + 1, self.oov_id).astype(np.int32)

    def to_dict(self) -> dict[str, int]:
        """Returns {token: id} in the order of the ids, as feature_vocab.json holds it."""
        tokens = zip(self.tokens.to_list(), range(1, self.oov_id), strict=True)
        return {PAD: 0, **dict(tokens), OOV: self.oov_id}

    @classmethod
    def from_dict(cls, ids: dict[str, int]) -> Vocabulary:
        """Returns the vocabulary of {token: id}.

        Raises:
            ValueError: the ids are not 0..n+1 with ``__PAD__`` first and ``__OOV__`` last.
        """
        tokens = sorted(ids, key=ids.__getitem__)
        if len(tokens) < 2 or tokens[0] != PAD or tokens[-1] != OOV:
            raise ValueError(f"allowed: {PAD} as the first id and {OOV} as the last one")
        if [ids[token] for token in tokens] != list(range(len(tokens))):
            raise ValueError("allowed: ids 0, 1, 2, ... without a gap")
        return cls(pl.Series(tokens[1:-1], dtype=pl.String))

    def _hash(self, tokens: pl.Series) -> np.ndarray:
        return tokens.hash(seed=self._seed).to_numpy()


class TokenCounter:
    """Counts tokens over batches; what comes out depends on the rows alone."""

    def __init__(self) -> None:
        self._counts = pl.DataFrame(schema={"token": pl.String, "count": pl.Int64})
        self._pending: list[pl.DataFrame] = []
        self._num_pending = 0

    def add(self, tokens: pl.Series, counts: np.ndarray) -> None:
        """Adds how often each token occurred."""
        self._pending.append(pl.DataFrame({"token": tokens, "count": counts}))
        self._num_pending += len(tokens)
        # Waiting for as many new tokens as there are known ones keeps the cost linear.
        if self._num_pending > max(_MERGE_ROWS, len(self._counts)):
            self._merge()

    def vocabulary(self, min_count: int, excluded: Collection[str]) -> Vocabulary:
        """Returns the tokens seen at least ``min_count`` times: most frequent first, then by text.

        Args:
            min_count: rarer tokens become ``__OOV__``.
            excluded: tokens that become ``__OOV__`` however frequent they are.
        """
        self._merge()
        kept = self._counts.filter(
            (pl.col("count") >= min_count) & ~pl.col("token").is_in([*excluded, PAD, OOV])
        )
        ordered = kept.sort(["count", "token"], descending=[True, False])
        return Vocabulary(ordered["token"].rechunk())

    def _merge(self) -> None:
        counts = pl.concat([self._counts, *self._pending])
        self._counts = counts.group_by("token").agg(pl.col("count").sum())
        self._pending, self._num_pending = [], 0


def split_tokens(column: pa.ChunkedArray | pa.Array) -> tuple[pl.Series, np.ndarray]:
    """Returns the distinct texts of a column and, for every row, the index of its text.

    A missing cell has the index past the last text.
    """
    if isinstance(column, pa.Array):
        column = pa.chunked_array([column])
    is_encoded = pa.types.is_dictionary(column.type)
    column = column.unify_dictionaries() if is_encoded else column.dictionary_encode()
    column = column.combine_chunks()
    array = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    tokens = to_series(array.dictionary).cast(pl.String)
    return tokens, array.indices.fill_null(len(tokens)).to_numpy()
