"""What a column of each type learns from the training split and how its cells are encoded."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from fuxictr.config import ColumnConfig
from fuxictr.errors import ConfigError
from fuxictr.preprocess.normalizers import NORMALIZERS, Normalizer
from fuxictr.preprocess.values import (
    WrongCell,
    read_labels,
    read_numbers,
    read_values,
    to_arrow,
    to_series,
)
from fuxictr.preprocess.vocabulary import TokenCounter, Vocabulary, split_tokens


class Column:
    """A column that is carried along as it is; base of those that are encoded.

    Args:
        config: the column's entry in the dataset config.
    """

    def __init__(self, config: ColumnConfig) -> None:
        self.name = config.name
        self.config = config

    def observe(self, column: pa.ChunkedArray) -> None:
        """Learns from one frame's raw cells of the training split.

        Raises:
            WrongCell: a cell does not fit the column.
        """
        read_values(to_series(column), self.config.dtype)

    def finish(self) -> None:
        """Ends learning."""

    def encode(self, column: pa.ChunkedArray) -> pa.Array:
        """Returns one frame's encoded cells.

        Raises:
            WrongCell: a cell does not fit the column.
        """
        values = read_values(to_series(column), self.config.dtype)
        if self.config.fill_na is not None:
            values = values.fill_null(pl.lit(self.config.fill_na).cast(values.dtype))
        array = to_arrow(values)
        return array.cast(pa.string()) if self.config.dtype == "str" else array

    def spec(self) -> dict[str, Any]:
        """Returns the column's entry in the feature map."""
        spec: dict[str, Any] = {"type": self.config.type, "source": self.config.source}
        if self.config.embedding_dim is not None:
            spec["embedding_dim"] = self.config.embedding_dim
        return spec


class LabelColumn(Column):
    """The label, 0 or 1, as float32."""

    def observe(self, column: pa.ChunkedArray) -> None:
        """Checks the labels."""
        self.encode(column)

    def encode(self, column: pa.ChunkedArray) -> pa.Array:
        """Returns the labels."""
        return pa.array(read_labels(to_series(column)))


class NumericColumn(Column):
    """Numbers as float32, ``fill_na`` (0) where missing, then scaled where asked for."""

    def __init__(self, config: ColumnConfig) -> None:
        super().__init__(config)
        try:
            self._fill = float(config.fill_na if config.fill_na is not None else 0)
        except ValueError:
            raise ConfigError(
                f"column '{config.name}': key 'fill_na': found {config.fill_na!r}, allowed: "
                "a number, as the column is numeric"
            ) from None
        self._dtype = "float" if config.preprocess else config.dtype
        if self._dtype == "str":
            self._dtype = "float"
        name = config.normalizer
        self.normalizer: Normalizer | None = NORMALIZERS[name]() if name else None

    def observe(self, column: pa.ChunkedArray) -> None:
        """Fits the normalizer to the filled values."""
        values = read_numbers(to_series(column), self._dtype, self._fill)
        if self.normalizer is not None:
            self.normalizer.observe(values)

    def finish(self) -> None:
        """Ends fitting the normalizer."""
        if self.normalizer is not None:
            self.normalizer.finish()

    def encode(self, column: pa.ChunkedArray) -> pa.Array:
        """Returns the numbers."""
        values = read_numbers(to_series(column), self._dtype, self._fill)
        if self.normalizer is not None:
            values = self.normalizer.apply(values)
        return pa.array(values.astype(np.float32))


class CategoricalColumn(Column):
    """Ids as int32; missing, rare and unseen values are ``__OOV__``.

    The token of a cell is its text (dtype str), or its number written in one way (int: ``7``,
    float: ``7.0``). The token that equals ``fill_na`` stands for missing and gets no id of its own,
    as in FuxiCTR.

    Args:
        config: the column's entry in the dataset config.
        min_count: the dataset's min_categr_count.
    """

    def __init__(self, config: ColumnConfig, min_count: int) -> None:
        super().__init__(config)
        # The dtype of a preprocessed column is that of the raw value, not of the result.
        self._dtype = "str" if config.preprocess else config.dtype
        self._min_count = config.min_categr_count or min_count
        self._counter = TokenCounter()
        self.vocabulary = Vocabulary(pl.Series([], dtype=pl.String))

    def observe(self, column: pa.ChunkedArray) -> None:
        """Counts the tokens."""
        tokens, index = self._split(column)
        counts = np.bincount(index, minlength=len(tokens))[: len(tokens)]
        self._counter.add(tokens, counts)

    def finish(self) -> None:
        """Makes the vocabulary."""
        excluded = {"", self._fill_token()}
        self.vocabulary = self._counter.vocabulary(self._min_count, excluded)
        self._counter = TokenCounter()

    def encode(self, column: pa.ChunkedArray) -> pa.Array:
        """Returns the ids."""
        tokens, index = self._split(column)
        ids = np.append(self.vocabulary.encode(tokens), np.int32(self.vocabulary.oov_id))
        return pa.array(ids[index])

    def spec(self) -> dict[str, Any]:
        """Returns the column's entry in the feature map."""
        size, oov = self.vocabulary.size, self.vocabulary.oov_id
        return {**super().spec(), "padding_idx": 0, "oov_idx": oov, "vocab_size": size}

    def _split(self, column: pa.ChunkedArray) -> tuple[pl.Series, np.ndarray]:
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        if not (self._dtype == "str" and is_text):
            values = read_values(to_series(column), self._dtype)
            return split_tokens(to_arrow(values.cast(pl.String)))
        return split_tokens(column)

    def _fill_token(self) -> str:
        if self.config.fill_na is None:
            return ""
        text = str(self.config.fill_na)
        try:
            return read_values(pl.Series([text]), self._dtype).cast(pl.String)[0] or ""
        except WrongCell:
            return text


def make_column(config: ColumnConfig, min_count: int) -> Column:
    """Returns the column of a config entry."""
    if config.type == "categorical":
        return CategoricalColumn(config, min_count)
    return NumericColumn(config) if config.type == "numeric" else Column(config)
