"""Raw cells as typed values; an error names a cell that does not fit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from fuxictr.errors import DataError
from fuxictr.preprocess.columns.whole_numbers import allowed_integer, merged_floats, read_integers
from fuxictr.preprocess.sources.arrow_types import is_list, is_text
from fuxictr.preprocess.sources.csv_rows import shown
from fuxictr.preprocess.sources.frames import Frame

_LABELS = (
    "0 or 1; or true and false, or yes and no, in all rows; other numbers need task: regression, "
    "or type: numeric in label_col"
)
_NUMBER = "a number, or an empty cell (dtype: float)"
# Labels as people write them, in any case.
_LABEL_WORDS = ({"true": 1.0, "false": 0.0}, {"yes": 1.0, "no": 0.0})


class WrongCell(ValueError):
    """A cell that does not fit: its row in the frame, its value, and what is allowed."""

    def __init__(self, row: int, value: object, allowed: str) -> None:
        super().__init__(row, value, allowed)
        self.row, self.value, self.allowed = row, value, allowed


def refuse(wrong: np.ndarray | pl.Series, cells: pl.Series, allowed: str) -> None:
    """Raises WrongCell for the first of ``cells`` (as found) where ``wrong`` (rows,) is true."""
    if wrong.any():
        row = int(np.asarray(wrong).argmax())
        raise WrongCell(row, cells[row], allowed)


@contextlib.contextmanager
def naming_cell(frame: Frame, column: str) -> Iterator[None]:
    """Turns a WrongCell of a frame into a DataError that names file, row and column."""
    try:
        yield
    except WrongCell as error:
        found = "an empty cell" if error.value in (None, "") else shown(repr(error.value))
        raise DataError(
            f"{frame.locate(error.row)}, column '{column}': found {found}, allowed: {error.allowed}"
        ) from None


def to_series(column: pa.ChunkedArray) -> pl.Series:
    """Returns an Arrow column as a polars series."""
    return pl.Series(values=pl.from_arrow(column))


def to_arrow(series: pl.Series) -> pa.Array:
    """Returns a polars series as an Arrow array, in types that older readers know."""
    return series.to_arrow(compat_level=pl.CompatLevel.oldest())


def read_values(raw: pl.Series, dtype: str) -> pl.Series:
    """Returns cells (rows,) as texts (dtype str), integers or Float64; else WrongCell.

    Missing cells become None: an empty text, NaN and, for a number, the text ``nan``. Integers are
    Int64, or what ``read_integers`` says where one is larger.
    """
    if raw.dtype.is_nested() or raw.dtype == pl.Binary:
        raise WrongCell(0, f"a value of type {raw.dtype}", "one text or number a cell")
    if raw.dtype.is_temporal() and dtype != "str":
        allowed = _NUMBER if dtype == "float" else allowed_integer(None)
        raise WrongCell(0, f"a value of type {raw.dtype}", allowed)
    if raw.dtype.is_float():
        raw = _without_signed_zero(raw.fill_nan(None))
    if dtype == "str":
        kind = raw.dtype
        if isinstance(kind, pl.Datetime):
            return _time_texts(raw, kind.time_unit)
        texts = raw.cast(pl.String)
        return texts.set(texts == "", None)
    if raw.dtype in (pl.Categorical, pl.Enum):
        raw = raw.cast(pl.String)
    if raw.dtype == pl.String:
        raw = raw.str.strip_chars()
    if dtype == "int":
        values, wrong = read_integers(raw)
        if wrong.any():
            refuse(wrong, raw, allowed_integer(raw.filter(wrong)[0]))
        return values
    values = raw.cast(pl.Float64, strict=False)
    wrong = values.is_null() & raw.is_not_null()
    if raw.dtype == pl.String:
        wrong &= raw != ""
        if wrong.any():
            wrong &= raw.str.to_lowercase() != "nan"
    refuse(wrong, raw, _NUMBER)
    return values.fill_nan(None)


def read_ids(raw: pl.Series, dtype: str) -> pl.Series:
    """Returns read_values' answer; WrongCell too for a float that stands for several integers."""
    values = read_values(raw, dtype)
    floats = raw if raw.dtype.is_float() else values
    if floats.dtype.is_float():
        merged, allowed = merged_floats(floats)
        refuse(merged, raw, allowed)
    return _without_signed_zero(values) if values.dtype.is_float() else values


def split_lists(column: pa.ChunkedArray, splitter: str) -> tuple[pl.Series, np.ndarray]:
    """Returns the elements of all rows (texts are split, lists are not), and rows' lengths."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # no chunk, or too much text for one
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], column.type)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if not is_list(array.type) and not is_text(array.type):  # one element a cell
        return to_series(pa.chunked_array([array.drop_null()])), array.is_valid().to_numpy(
            False
        ) * 1
    if not is_list(array.type):
        texts = array.cast(pa.large_string())
        texts = pc.if_else(pc.equal(texts, ""), None, texts)
        array = pc.split_pattern(texts, pattern=splitter)
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    return to_series(pa.chunked_array([pc.list_flatten(array)])), lengths


def fill_numbers(read: pl.Series, raw: pl.Series, fill: float) -> np.ndarray:
    """Returns the numbers as float64 (rows,), filled; WrongCell where float32 cannot hold one."""
    values = read.cast(pl.Float64).fill_null(fill).to_numpy()
    refuse(exceeds_float32(values), raw, "a finite number that float32 can hold")
    return values


def exceeds_float32(values: np.ndarray) -> np.ndarray:
    """Returns which values are NaN or not finite in float32."""
    return ~(np.abs(values) <= float(np.finfo(np.float32).max))


def label_words(raw: pl.Series) -> dict[str, float]:
    """Returns the label words that the first cell belongs to; none = numbers."""
    if len(raw) and (raw[0] is None or not str(raw[0]).strip()):
        raise WrongCell(0, None, _LABELS)
    first = str(raw[0]).strip().lower() if len(raw) else ""
    return next((words for words in _LABEL_WORDS if first in words), {})


def read_labels(raw: pl.Series, words: Mapping[str, float]) -> np.ndarray:
    """Returns labels as float32 (rows,); WrongCell where one is missing, or no label.

    ``words`` are labels in lower case -> 0 or 1; none = they are numbers or truth values.
    """
    if words:
        texts = raw.cast(pl.String).str.strip_chars().str.to_lowercase()
        labels = texts.replace_strict(words, default=None, return_dtype=pl.Float64)
        refuse(labels.is_null(), raw, f"{' or '.join(words)}, as in the first row")
        return labels.to_numpy().astype(np.float32)
    try:
        values = read_values(raw, "float").fill_null(-1).to_numpy()
    except WrongCell as error:
        raise WrongCell(error.row, error.value, _LABELS) from None
    refuse((values != 0) & (values != 1), raw, _LABELS)
    return values.astype(np.float32)


def _without_signed_zero(values: pl.Series) -> pl.Series:
    return values.set(values == 0, 0.0)  # polars leaves out "+ 0.0"


def _time_texts(raw: pl.Series, unit: str) -> pl.Series:
    # A time has the same text in ns (pandas) and us (polars); nanoseconds appear only where set.
    texts = raw.dt.cast_time_unit("us").cast(pl.String)
    if unit != "ns":
        return texts
    has_nanoseconds = (raw.dt.timestamp("ns") % 1000 != 0).fill_null(False)
    return raw.cast(pl.String).zip_with(has_nanoseconds, texts)
