"""Columns that become ids by vocabulary: single tokens and sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from fuxictr.config import ColumnConfig
from fuxictr.config.dataset import MAX_LEN
from fuxictr.errors import DataError
from fuxictr.features import fuxictr_pooling
from fuxictr.preprocess.columns.column import DEFAULT_SPLITTER, Column, list_array
from fuxictr.preprocess.columns.spellings import find_twins
from fuxictr.preprocess.columns.tally import NUM_EXAMPLES, Tally
from fuxictr.preprocess.columns.values import (
    WrongCell,
    read_ids,
    refuse,
    split_lists,
    to_arrow,
    to_series,
)
from fuxictr.preprocess.columns.vocabulary import OOV, PAD, TokenCounter, Vocabulary, split_tokens
from fuxictr.preprocess.sources.arrow_types import is_text

# Largest own ids without vocab_size: a table of so many rows fits in memory.
_MAX_OWN_ID = 1 << 26


class TokenColumn(Column):
    """Base of the columns with a vocabulary; missing, rare and unseen tokens are ``__OOV__``.

    A token is the text of a value (dtype str), or its number in one form (int: ``7``, float:
    ``7.0``). The token that equals ``fill_na`` means missing and gets no id, as in FuxiCTR. With
    ``remap: false`` a token is its own id. A token needs ``min_count`` training cells.
    ``most_frequent`` is a token and its count, or None.
    """

    def __init__(self, config: ColumnConfig, min_count: int) -> None:
        super().__init__(config)
        self.min_count = config.min_categr_count or min_count
        self.most_frequent: tuple[str, int] | None = None
        self._num_lasting = 0
        self._counter = TokenCounter()
        self._counted = self._counter.counted(1, ())
        self.vocabulary = Vocabulary(pl.Series([], dtype=pl.String))

    @property
    def oov_id(self) -> int:
        """The id of ``__OOV__``."""
        return self.vocabulary.oov_id

    @property
    def dtype(self) -> str:
        """How a value is read."""
        return super().dtype if self.config.remap else "int"

    def finish(self) -> None:
        """Makes the vocabulary."""
        super().finish()
        excluded = {"", self._fill_token()}
        self._counted = self._counter.counted(self.min_count, excluded)
        self.most_frequent = self._counter.most_frequent(excluded)
        self._num_lasting = self._counter.num_seen(self.min_count + 1, excluded)
        self._counter = TokenCounter()
        self.vocabulary = self._with_ids(self._counted["token"].rechunk())

    def note_spellings(self, others: Sequence[TokenColumn] = ()) -> None:
        """Notes tokens of one value in a vocabulary that ``others`` use too; forgets counts."""
        counted = pl.concat([column._counted for column in (self, *others)])
        for column in (self, *others):
            column._counted = counted.clear()
        if self.dtype != "str":
            return
        if others:
            counted = counted.group_by("token").agg(pl.col("count").sum())
        twins = find_twins(counted)
        if twins is not None:
            self.notes.append(
                f"column '{self.name}': the training split has {twins[0]!r} and {twins[1]!r} "
                "(dtype: str): a value written in two ways is two tokens; write them alike, or set "
                "dtype: int where they are whole numbers"
            )

    def knows(self, tokens: pl.Series) -> np.ndarray:
        """Returns which tokens have an id."""
        return np.asarray(self.vocabulary.encode(tokens) != self.oov_id)

    def examples(self) -> list[str]:
        """Returns the first tokens of the vocabulary."""
        tokens: list[str] = self.vocabulary.tokens.head(NUM_EXAMPLES).to_list()
        return tokens

    def lasting_cells(self, present: int) -> int:
        """Returns how many cells have a token that would have an id without them too."""
        return self._num_lasting

    def seen_tokens(self) -> pl.Series:
        """Returns the tokens observed before ``finish``, frequent or not."""
        return self._counter.vocabulary(1, {"", self._fill_token()}).tokens

    def add_tokens(self, tokens: pl.Series) -> None:
        """Gives new tokens the ids behind those of the vocabulary."""
        excluded = ["", self._fill_token(), PAD, OOV]
        new = tokens.filter(tokens.is_not_null() & ~tokens.is_in(excluded))
        self.vocabulary = self.vocabulary.extended(self._with_ids(new))

    def spec(self) -> dict[str, Any]:
        """Returns the column's entry in the feature map."""
        size, oov = self.vocabulary.size, self.vocabulary.oov_id
        spec = {**super().spec(), "padding_idx": 0, "oov_idx": oov, "vocab_size": size}
        if self.config.share_embedding is not None:
            spec["share_embedding"] = self.config.share_embedding
        return spec

    def texts(self, values: pl.Series) -> pl.Series:
        """Returns values as tokens, None where missing; WrongCell where one does not fit."""
        if values.dtype == pl.Boolean and self.dtype == "int":
            # True would become 1.
            is_other = not self.vocabulary.tokens.is_in(["0", "1"]).all()
            refuse(values.is_not_null() & is_other, values, "an integer, as in training")
        read = read_ids(values, self.dtype)
        if not self.config.remap:
            bound = self.config.vocab_size or _MAX_OWN_ID
            allowed = f"an id 0..{bound - 1} (remap: false; vocab_size sets another bound)"
            refuse(((read < 0) | (read >= bound)).fill_null(False), read, allowed)
        return read.cast(pl.String)

    def _with_ids(self, tokens: pl.Series) -> Vocabulary:
        if self.config.remap:
            return Vocabulary(tokens)
        return Vocabulary(tokens, tokens.cast(pl.Int32).to_numpy(), self.config.vocab_size)

    def _count(self, tokens: pl.Series, index: np.ndarray) -> None:
        """Counts the tokens of rows; an index past the last token is a missing value."""
        counts = np.bincount(index, minlength=len(tokens))[: len(tokens)]
        self._counter.add(tokens, counts)
        if not self.has_values:
            self.has_values = bool((tokens != "").any())

    def _ids(
        self,
        tokens: pl.Series,
        index: np.ndarray,
        missing_id: int,
        tally: Tally | None,
        lengths: np.ndarray | None = None,
    ) -> np.ndarray:
        """Returns the ids of cells by the ``index`` of their token (past the end = missing)."""
        ids = self.vocabulary.encode(tokens)
        if tally is not None:
            is_missing = tokens.is_in(["", self._fill_token()]).to_numpy()
            knows = self.knows if self.dtype == "str" else None
            has_no_id = ids == self.oov_id
            tally.add_tokens(tokens, index, has_no_id, is_missing, lengths, knows=knows)
        return np.append(ids, np.int32(missing_id))[index]


class CategoricalColumn(TokenColumn):
    """Ids as int32."""

    def observe(self, column: pa.ChunkedArray) -> None:
        """Counts the tokens."""
        self._count(*self._split(column))

    def encode(self, column: pa.ChunkedArray, tally: Tally | None = None) -> pa.Array:
        """Returns the ids."""
        return pa.array(self._ids(*self._split(column), self.oov_id, tally))

    def _split(self, column: pa.ChunkedArray) -> tuple[pl.Series, np.ndarray]:
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if not (self.dtype == "str" and is_text(kind)):
            return split_tokens(to_arrow(self.texts(to_series(column))))
        return split_tokens(column)


class SequenceColumn(TokenColumn):
    """Sequences of tokens as lists of max_len int32 ids.

    A text is split at ``splitter``; a list is taken as it is. A missing element is ``__PAD__`` in
    its place, so that parallel sequences stay aligned. Sequences are filled and cut at the end that
    ``padding`` names. Without max_len, the longest training sequence gives it.
    """

    def __init__(self, config: ColumnConfig, min_count: int) -> None:
        super().__init__(config, min_count)
        self.max_len = config.max_len
        self._longest = 0
        self._is_split = config.splitter is not None
        self._example: str | None = None

    def observe(self, column: pa.ChunkedArray) -> None:
        """Counts the tokens and looks at the lengths."""
        tokens, index, lengths = self._split(column)
        self._count(tokens, index)
        longest = int(lengths.max(initial=0))
        self._longest = max(self._longest, longest)
        self._is_split = self._is_split or longest > 1 or not is_text(column.type)
        if self._example is None and len(tokens):
            self._example = tokens[0]

    def finish(self) -> None:
        """Makes the vocabulary and fixes the length."""
        super().finish()
        if not self._is_split and self._example is not None:
            raise DataError(
                f"column '{self.name}': no cell of the training split holds the default splitter "
                f"'{DEFAULT_SPLITTER}', found {self._example!r}; set key 'splitter' (to "
                f"'{DEFAULT_SPLITTER}' where all sequences have one element)"
            )
        self.max_len = self.config.max_len or max(self._longest, 1)
        if self.max_len > MAX_LEN:
            raise DataError(
                f"column '{self.name}': the longest sequence of the training split has "
                f"{self._longest} elements; set max_len, at most {MAX_LEN}"
            )

    def encode(self, column: pa.ChunkedArray, tally: Tally | None = None) -> pa.Array:
        """Returns the lists of ids."""
        tokens, index, lengths = self._split(column)
        ids = self._ids(tokens, index, 0, tally, lengths)  # missing: __PAD__
        return list_array(self._padded(ids, lengths))

    def spec(self) -> dict[str, Any]:
        """Returns the column's entry in the feature map."""
        return {
            **super().spec(),
            "feature_encoder": fuxictr_pooling(self.config.feature_encoder),
            "max_len": self.max_len,
            "padding": self.config.padding,
        }

    def restore(self, state: dict[str, Any], spec: dict[str, Any]) -> None:
        """Restores the length."""
        self.max_len = int(spec["max_len"])

    def _split(self, column: pa.ChunkedArray) -> tuple[pl.Series, np.ndarray, np.ndarray]:
        """Returns distinct tokens, the elements' index (past the end = missing), and lengths."""
        flat, lengths = split_lists(column, self.config.splitter or DEFAULT_SPLITTER)
        try:
            texts = self.texts(flat)
        except WrongCell as error:
            row = int(np.searchsorted(np.cumsum(lengths), error.row, side="right"))
            raise WrongCell(row, error.value, error.allowed) from None
        return *split_tokens(to_arrow(texts)), lengths

    def _padded(self, ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        rows = np.repeat(np.arange(len(lengths)), lengths)
        place = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        if self.config.padding == "pre":
            place += self.max_len - lengths[rows]
        kept = (place >= 0) & (place < self.max_len)
        padded = np.zeros((len(lengths), self.max_len), dtype=np.int32)
        padded[rows[kept], place[kept]] = ids[kept]
        return padded
