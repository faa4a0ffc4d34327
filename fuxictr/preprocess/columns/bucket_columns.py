"""Columns that become ids by bucket: of a token's hash, or of a number's quantile."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from fuxictr.config import ColumnConfig
from fuxictr.preprocess.columns.column import Column, fill_number
from fuxictr.preprocess.columns.tally import NUM_EXAMPLES, Tally
from fuxictr.preprocess.columns.values import read_ids, read_values, refuse, to_arrow, to_series
from fuxictr.preprocess.columns.vocabulary import TokenCounter, split_tokens

# Distinct tokens that are kept; with fewer in training the sample is all of them.
_SAMPLE_SIZE = 1024


class BucketColumn(Column):
    """Ids 1..num_buckets as int32, and ``__OOV__`` num_buckets + 1 where missing."""

    def __init__(self, config: ColumnConfig) -> None:
        super().__init__(config)
        self.oov_id = config.num_buckets + 1

    def spec(self) -> dict[str, Any]:
        """Returns the column's entry in the feature map."""
        size = self.oov_id + 1
        return {**super().spec(), "padding_idx": 0, "oov_idx": self.oov_id, "vocab_size": size}


class TokenSample:
    """The tokens with the smallest hashes (uint64, rising) and their counts, for any row order.

    A token whose hash is below the largest one kept is in the sample if training had it.
    """

    def __init__(self) -> None:
        self.hashes = np.zeros(0, np.uint64)
        self.counts = np.zeros(0, np.int64)
        self.examples: list[str] = []

    def add(self, hashes: np.ndarray, counts: np.ndarray) -> None:
        """Counts the distinct tokens of some rows."""
        covered = self.covers(hashes)
        joined = np.concatenate([self.hashes, hashes[covered]])
        seen = np.concatenate([self.counts, counts[covered]])
        self.hashes, place = np.unique(joined, return_inverse=True)
        self.counts = np.zeros(len(self.hashes), np.int64)
        np.add.at(self.counts, place, seen)
        self.hashes, self.counts = self.hashes[:_SAMPLE_SIZE], self.counts[:_SAMPLE_SIZE]

    def covers(self, hashes: np.ndarray) -> np.ndarray:
        """Returns for which tokens the sample tells whether training had them."""
        if len(self.hashes) < _SAMPLE_SIZE:
            return np.ones(len(hashes), bool)
        return np.asarray(hashes <= self.hashes[-1])

    def knows(self, hashes: np.ndarray) -> np.ndarray:
        """Returns which tokens are in the sample."""
        return np.isin(hashes, self.hashes)

    def to_json(self) -> dict[str, Any]:
        """Returns the sample, as ``from_json`` takes it."""
        hashes, counts = self.hashes.tolist(), self.counts.tolist()
        return {"hashes": hashes, "counts": counts, "examples": self.examples}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> TokenSample:
        """Returns the sample that ``to_json`` described."""
        sample = cls()
        sample.hashes = np.array(content["hashes"], np.uint64)
        sample.counts = np.array(content["counts"], np.int64)
        sample.examples = [str(token) for token in content["examples"]]
        return sample


class HashColumn(BucketColumn):
    """The bucket of a token is its 64-bit SipHash (pandas' hash_array) modulo num_buckets.

    It is the same on all machines. A sample of training tokens is kept, to tell which rows have
    them.
    """

    def __init__(self, config: ColumnConfig) -> None:
        super().__init__(config)
        self._sample = TokenSample()

    def observe(self, column: pa.ChunkedArray) -> None:
        """Notes tokens."""
        texts = read_ids(to_series(column), self.dtype).cast(pl.String)
        self._note(texts)
        tokens, index = split_tokens(to_arrow(texts))
        counts = np.bincount(index, minlength=len(tokens))[: len(tokens)]
        self._sample.add(_hashes(tokens), counts)
        examples = [*self._sample.examples, *tokens.head(NUM_EXAMPLES)]
        self._sample.examples = list(dict.fromkeys(examples))[:NUM_EXAMPLES]

    def encode(self, column: pa.ChunkedArray, tally: Tally | None = None) -> pa.Array:
        """Returns the buckets."""
        texts = read_ids(to_series(column), self.dtype).cast(pl.String)
        tokens, index = split_tokens(to_arrow(texts))
        hashes = _hashes(tokens)
        if tally is not None:
            covered, none = self._sample.covers(hashes), np.zeros(len(tokens), bool)
            is_unseen = covered & ~self._sample.knows(hashes)
            knows = self.knows if self.dtype == "str" else None
            tally.add_tokens(tokens, index, is_unseen, none, is_sampled=covered, knows=knows)
        missing_id = np.int32(self.oov_id)
        if self.config.fill_na is not None:
            missing_id = self._buckets(_hashes(pl.Series([self._fill_token()])))[0]
        return pa.array(np.append(self._buckets(hashes), missing_id)[index])

    def knows(self, tokens: pl.Series) -> np.ndarray:
        """Returns which tokens are in the sample."""
        return self._sample.knows(_hashes(tokens))

    def examples(self) -> list[str]:
        """Returns the first tokens of the training split."""
        return self._sample.examples

    def lasting_cells(self, present: int) -> int:
        """Returns about how many cells have a token that occurs more than once."""
        counts = self._sample.counts
        return round(present * float(counts[counts > 1].sum() / max(counts.sum(), 1)))

    def state(self) -> dict[str, Any]:
        """Returns the sample of the tokens."""
        return {"sample": self._sample.to_json()}

    def restore(self, state: dict[str, Any], spec: dict[str, Any]) -> None:
        """Restores the sample of the tokens."""
        self._sample = TokenSample.from_json(state["sample"])

    def _buckets(self, hashes: np.ndarray) -> np.ndarray:
        return (hashes % self.config.num_buckets).astype(np.int32) + 1


def _hashes(tokens: pl.Series) -> np.ndarray:
    import pandas as pd  # half a second, only where buckets are asked for

    return np.asarray(pd.util.hash_array(tokens.to_numpy().astype(object), categorize=False))


class QuantileColumn(BucketColumn):
    """The bucket of a number is 1 + how many of the training split's quantiles it reaches.

    The boundaries are the k / num_buckets quantiles, k = 1 .. num_buckets - 1, exact and linearly
    interpolated as in numpy.quantile. Fitting takes 16 bytes for each distinct number.
    """

    reads_text = False

    def __init__(self, config: ColumnConfig) -> None:
        super().__init__(config)
        self._counter = TokenCounter(pl.Float64)
        self.boundaries = np.zeros(0)
        fill_number(config, "cut at its quantiles")

    def observe(self, column: pa.ChunkedArray) -> None:
        """Counts the numbers."""
        values = self._read(column)
        self._note(values)
        numbers = self._filled(values).cast(pl.Float64).drop_nulls()
        if len(numbers):
            counts = numbers.value_counts(name="count")
            self._counter.add(counts.to_series(0), counts["count"].cast(pl.Int64).to_numpy())

    def finish(self) -> None:
        """Computes the boundaries."""
        super().finish()
        numbers, counts = self._counter.sorted_counts()
        self._counter = TokenCounter(pl.Float64)
        self.boundaries = _quantiles(numbers, counts, self.config.num_buckets)

    def encode(self, column: pa.ChunkedArray, tally: Tally | None = None) -> pa.Array:
        """Returns the buckets."""
        read = self._read(column)
        if tally is not None:
            tally.add_numbers(read.is_null())
        values = self._filled(read).cast(pl.Float64)
        ids = 1 + np.searchsorted(self.boundaries, values.to_numpy(), side="right")
        missing = values.is_null().to_numpy()
        return pa.array(np.where(missing, self.oov_id, ids).astype(np.int32))

    def _filled(self, values: pl.Series) -> pl.Series:
        if self.config.fill_na is None:
            return values
        return values.fill_null(pl.lit(self.config.fill_na).cast(values.dtype, strict=False))

    def _read(self, column: pa.ChunkedArray) -> pl.Series:
        raw = to_series(column)
        values = read_values(raw, self.number_dtype)
        infinite = values.cast(pl.Float64).is_infinite().fill_null(False)
        refuse(infinite, raw, "a finite number")
        return values

    def state(self) -> dict[str, Any]:
        """Returns the boundaries."""
        return {"boundaries": self.boundaries.tolist()}

    def restore(self, state: dict[str, Any], spec: dict[str, Any]) -> None:
        """Restores the boundaries."""
        self.boundaries = np.array(state["boundaries"], dtype=np.float64)


def _quantiles(numbers: np.ndarray, counts: np.ndarray, num_buckets: int) -> np.ndarray:
    """Returns the inner quantiles of rising numbers that occurred ``counts`` times each."""
    ends = np.cumsum(counts)
    if not len(ends):
        return np.zeros(0)
    place = np.arange(1, num_buckets) / num_buckets * (ends[-1] - 1)
    low = np.floor(place).astype(np.int64)
    below = numbers[np.searchsorted(ends, low, side="right")]
    above = numbers[np.searchsorted(ends, np.minimum(low + 1, ends[-1] - 1), side="right")]
    return below + (above - below) * (place - low)
