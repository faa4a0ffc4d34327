"""What a column learns from the training split, and how its cells are encoded."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from fuxictr.config import ColumnConfig
from fuxictr.errors import ConfigError, DataError
from fuxictr.preprocess.columns.normalizers import (
    NORMALIZERS,
    Normalizer,
    normalizer_from_json,
    precision_note,
)
from fuxictr.preprocess.columns.tally import Tally
from fuxictr.preprocess.columns.values import (
    WrongCell,
    exceeds_float32,
    fill_numbers,
    label_words,
    read_ids,
    read_labels,
    read_values,
    refuse,
    split_lists,
    to_arrow,
    to_series,
)

DEFAULT_SPLITTER = "^"
# Frames whose values are compared with their float32 form.
_MOST_COMPARED = 20
_SCALED = "scaled as fitted to the training split"


class Column:
    """A column that is kept as it is; base of those that are encoded.

    ``has_values`` is True once a cell had a value. ``notes`` are sentences for the end of a build.
    """

    # Whether cells become texts, in which 7 and 7.0 differ, or numbers.
    reads_text = True

    def __init__(self, config: ColumnConfig) -> None:
        self.name = config.name
        self.config = config
        self.has_values = False
        self.notes: list[str] = []
        self._is_unsigned = False

    @property
    def dtype(self) -> str:
        """How a cell is read; the config's dtype is that of the raw value, before preprocess."""
        return "str" if self.config.preprocess else self.config.dtype

    @property
    def number_dtype(self) -> str:
        """How a cell of a column of numbers is read."""
        return "int" if self.dtype == "int" else "float"

    def observe(self, column: pa.ChunkedArray) -> None:
        """Learns from one frame's raw training cells; WrongCell where one does not fit."""
        values = read_ids(to_series(column), self.dtype)
        self._note(values)
        self._is_unsigned = self._is_unsigned or values.dtype == pl.UInt64

    def finish(self) -> None:
        """Ends learning; DataError where there was nothing to learn from."""
        is_feature = self.config.type != "meta"
        if is_feature and not self.has_values and self.config.fill_na is None:
            raise DataError(
                f"column '{self.name}': all cells of the training split are missing; set fill_na "
                "to encode it all the same, or active: false to leave it out"
            )

    def encode(self, column: pa.ChunkedArray, tally: Tally | None = None) -> pa.Array:
        """Returns one frame's encoded cells and counts them; WrongCell where one does not fit."""
        raw = to_series(column)
        values = read_ids(raw, self.dtype)
        if self.config.fill_na is not None:
            values = values.fill_null(pl.lit(self.config.fill_na).cast(values.dtype))
        array = to_arrow(self._in_one_type(values, raw) if self.dtype == "int" else values)
        return array.cast(pa.string()) if self.dtype == "str" else array

    def knows(self, tokens: pl.Series) -> np.ndarray:
        """Returns which tokens training had, as far as the column can tell."""
        return np.zeros(len(tokens), bool)

    def examples(self) -> list[str]:
        """Returns some tokens of the training split."""
        return []

    def lasting_cells(self, present: int) -> int:
        """Returns how many of the ``present`` training cells would be known without them too."""
        return present

    def spec(self) -> dict[str, Any]:
        """Returns the column's entry in the feature map."""
        spec: dict[str, Any] = {"type": self.config.type, "source": self.config.source}
        for key in ("embedding_dim", "emb_output_dim"):
            if getattr(self.config, key) is not None:
                spec[key] = getattr(self.config, key)
        return spec

    def state(self) -> dict[str, Any]:
        """Returns what was learnt, as JSON, except for the spec and the vocabulary."""
        return {"is_unsigned": True} if self._is_unsigned else {}

    def restore(self, state: dict[str, Any], spec: dict[str, Any]) -> None:
        """Restores what ``state`` and ``spec`` returned for the fitted column."""
        self._is_unsigned = bool(state.get("is_unsigned", False))

    def _fill_token(self) -> str:
        """Returns fill_na as a token; empty where it is unset."""
        if self.config.fill_na is None:
            return ""
        text = str(self.config.fill_na)
        try:
            return read_values(pl.Series([text]), self.dtype).cast(pl.String)[0] or ""
        except WrongCell:
            return text

    def _in_one_type(self, values: pl.Series, raw: pl.Series) -> pl.Series:
        """Returns integers in the type that training needs, the same for all frames."""
        kind = pl.UInt64 if self._is_unsigned else pl.Int64
        found = values.cast(kind, strict=False)
        allowed = "0 .. 2^64-1" if self._is_unsigned else "-2^63 .. 2^63-1"
        wrong = found.is_null() & values.is_not_null()
        refuse(wrong, raw, f"an integer {allowed}, as in the training split; set dtype: str")
        return found

    def _note(self, values: pl.Series) -> None:
        self.has_values = self.has_values or values.null_count() < len(values)


class LabelColumn(Column):
    """The label, 0 or 1, as float32; written in one way, that of the first training row."""

    def __init__(self, config: ColumnConfig) -> None:
        super().__init__(config)
        self._words: dict[str, float] | None = None

    def observe(self, column: pa.ChunkedArray) -> None:
        """Checks the labels."""
        self.encode(column)
        self.has_values = True

    def encode(self, column: pa.ChunkedArray, tally: Tally | None = None) -> pa.Array:
        """Returns the labels."""
        raw = to_series(column)
        if self._words is None:
            self._words = label_words(raw)
        return pa.array(read_labels(raw, self._words))


class NumericLabelColumn(Column):
    """The label of a regression, a number in every row, as float32."""

    reads_text = False

    def observe(self, column: pa.ChunkedArray) -> None:
        """Checks the labels."""
        self.encode(column)
        self.has_values = True

    def encode(self, column: pa.ChunkedArray, tally: Tally | None = None) -> pa.Array:
        """Returns the labels; WrongCell where one is missing or no number that float32 holds."""
        raw = to_series(column)
        values = read_values(raw, "float")
        refuse(values.is_null(), raw, "a number, as the label of a regression")
        return pa.array(fill_numbers(values, raw, 0.0).astype(np.float32))


def make_label(config: ColumnConfig) -> Column:
    """Returns the column of a label: numbers where its type is numeric, else 0 and 1."""
    return (NumericLabelColumn if config.type == "numeric" else LabelColumn)(config)


class NumericColumn(Column):
    """Numbers as float32, ``fill_na`` (0) where missing, then scaled by the normalizer."""

    reads_text = False

    def __init__(self, config: ColumnConfig) -> None:
        super().__init__(config)
        self._fill = fill_number(config, "numeric")
        name = config.normalizer
        self.normalizer: Normalizer | None = NORMALIZERS[name]() if name else None
        self._num_compared = 0

    def observe(self, column: pa.ChunkedArray) -> None:
        """Fits the normalizer to the filled values."""
        raw = to_series(column)
        read = read_values(raw, self.number_dtype)
        self._note(read)
        values = fill_numbers(read, raw, self._fill)
        if self.normalizer is not None:
            self.normalizer.observe(values)

    def finish(self) -> None:
        """Ends fitting the normalizer."""
        super().finish()
        if self.normalizer is not None:
            self.normalizer.finish()

    def encode(self, column: pa.ChunkedArray, tally: Tally | None = None) -> pa.Array:
        """Returns the numbers."""
        raw = to_series(column)
        read = read_values(raw, self.number_dtype)
        values = fill_numbers(read, raw, self._fill)
        if tally is not None:
            tally.add_numbers(read.is_null())
        scaled = values
        if self.normalizer is not None:
            scaled = self.normalizer.apply(values)
            refuse(exceeds_float32(scaled), raw, f"a number that float32 can hold once {_SCALED}")
        if tally is not None and "train" in tally.counts and self._num_compared < _MOST_COMPARED:
            self._num_compared += 1
            note = precision_note(self.name, raw, values, self.normalizer)
            if note is not None and not self.notes:
                self.notes.append(note)
        return pa.array(scaled.astype(np.float32))

    def state(self) -> dict[str, Any]:
        """Returns the normalizer's parameters."""
        return self.normalizer.to_json() if self.normalizer else {}

    def restore(self, state: dict[str, Any], spec: dict[str, Any]) -> None:
        """Restores the normalizer's parameters."""
        if self.normalizer is not None:
            self.normalizer = normalizer_from_json(state)


class VectorColumn(Column):
    """Lists of float32, all as wide as the first one, zeros where missing; texts are split."""

    reads_text = False

    def __init__(self, config: ColumnConfig) -> None:
        super().__init__(config)
        self.width = 0

    def observe(self, column: pa.ChunkedArray) -> None:
        """Takes the width from the first vector and checks the others."""
        self.encode(column)

    def finish(self) -> None:
        """Checks that a vector gave the width."""
        super().finish()
        if not self.width:
            raise DataError(f"column '{self.name}': no vector in the training split gives a width")

    def encode(self, column: pa.ChunkedArray, tally: Tally | None = None) -> pa.Array:
        """Returns the vectors."""
        splitter = self.config.splitter or DEFAULT_SPLITTER
        flat, lengths = split_lists(column, splitter)
        present = lengths > 0
        if not self.width and present.any():
            self.width = int(lengths[present][0])
            self.has_values = True
        wrong = present & (lengths != self.width)
        if wrong.any():
            row = int(wrong.argmax())
            found = f"a vector of {lengths[row]} numbers"
            raise WrongCell(row, found, f"{self.width} numbers, as in the rows before")
        try:
            numbers = fill_numbers(read_values(flat, "float"), flat, 0.0)
        except WrongCell as error:
            row = int(np.flatnonzero(present)[error.row // self.width])
            raise WrongCell(row, error.value, error.allowed) from None
        if tally is not None:
            tally.add_numbers(pl.Series(~present))
        vectors = np.zeros((len(lengths), self.width), dtype=np.float32)
        vectors[present] = numbers.reshape(-1, self.width) if self.width else 0
        return list_array(vectors)

    def spec(self) -> dict[str, Any]:
        """Returns the column's entry in the feature map."""
        return {**super().spec(), "pretrain_dim": self.width}

    def restore(self, state: dict[str, Any], spec: dict[str, Any]) -> None:
        """Restores the width."""
        self.width = int(spec["pretrain_dim"])


def list_array(rows: np.ndarray) -> pa.ListArray:
    """Returns a matrix (rows, width) as lists of equal length."""
    offsets = np.arange(0, rows.size + 1, rows.shape[1] or 1, dtype=np.int32)
    if not rows.shape[1]:
        offsets = np.zeros(len(rows) + 1, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows.reshape(-1)))


def fill_number(config: ColumnConfig, kind: str) -> float:
    """Returns fill_na of a column of numbers, 0 where it is unset."""
    try:
        value = float(config.fill_na if config.fill_na is not None else 0)
        if exceeds_float32(np.asarray(value)):
            raise ValueError
        return value
    except ValueError:
        raise ConfigError(
            f"column '{config.name}': key 'fill_na': found {config.fill_na!r}, allowed: "
            f"a number, as the column is {kind}"
        ) from None
