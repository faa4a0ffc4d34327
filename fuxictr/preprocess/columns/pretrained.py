"""Pretrained embeddings: files of key -> vector, put in the order of a column's ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import polars as pl
import pyarrow as pa

from fuxictr.array_files import SUFFIXES, brief, open_arrays, read_whole
from fuxictr.array_files.parquet import open_parquet
from fuxictr.errors import ConfigError, DataError
from fuxictr.preprocess.columns.token_columns import TokenColumn
from fuxictr.preprocess.columns.values import WrongCell, split_lists, to_series
from fuxictr.preprocess.sources.arrow_types import check_table, is_list

KEY, VALUE = "key", "value"
# Least share of the keys, or of the tokens, that should match.
_FEW = 0.1
_LIBRARY_ERRORS = (pa.ArrowException, pl.exceptions.PolarsError)


def read_pretrained(path: Path, column: str, width: int | None) -> tuple[pl.Series, np.ndarray]:
    """Returns the keys (n,) and float32 vectors (n, width) of a file; DataError where it is wrong.

    ``column`` is named in errors; ``width`` None = as in the file.
    """
    where = f"{path} (pretrained_emb of column '{column}')"
    keys, vectors = _read(path, where)
    if vectors.ndim != 2 or keys.shape != vectors.shape[:1] or not len(keys):
        raise DataError(
            f"{where}: found '{KEY}' of shape {keys.shape} and '{VALUE}' of shape {vectors.shape}, "
            "allowed: (n,) and (n, width)"
        )
    if width is not None and vectors.shape[1] != width:
        raise DataError(
            f"{where}: found vectors of width {vectors.shape[1]}, allowed: pretrain_dim, {width}"
        )
    if vectors.dtype.kind not in "iuf" or not vectors.shape[1]:
        raise DataError(f"{where}: found vectors of {vectors.dtype}, allowed: numbers")
    with np.errstate(over="ignore"):  # beyond float32 is not finite
        vectors = vectors.astype(np.float32)
    wrong = ~np.isfinite(vectors).all(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(f"{where}: row {row + 1}, key {keys[row]}: found a value not finite")
    series = keys if isinstance(keys, pl.Series) else pl.Series(keys)
    if series.is_duplicated().any():
        raise DataError(f"{where}: key {series.filter(series.is_duplicated())[0]!r} is given twice")
    return series, vectors


def file_name(column: str) -> str:
    """Returns the file name of a column's vectors in the encoded dataset."""
    return f"pretrained_{quote(column, safe='')}.npy"


def tokens_of(column: TokenColumn, keys: pl.Series, path: Path) -> pl.Series:
    """Returns the keys as tokens of a column; DataError where one does not fit."""
    where = f"{path} (pretrained_emb of column '{column.name}')"
    try:
        tokens = column.texts(keys)
    except WrongCell as error:
        raise DataError(f"{where}: key {error.value!r}: allowed: {error.allowed}") from None
    repeated = keys.filter(tokens.is_duplicated() & tokens.is_not_null())
    if len(repeated):
        raise DataError(
            f"{where}: keys {repeated[0]!r} and {repeated[1]!r} are one token of the column"
        )
    return tokens


def check_matches(column: TokenColumn, keys: pl.Series, seen: pl.Series, path: Path) -> str | None:
    """Returns a warning where few keys are ``seen``, or None; DataError where none is."""
    keys, seen = keys.drop_nulls(), seen.unique(maintain_order=True)
    matching = keys.is_in(seen.implode()).sum()
    if matching >= _FEW * min(len(keys), len(seen)):
        return None
    text = (
        f"{path} (pretrained_emb of column '{column.name}'): {matching:,} of its {len(keys):,} "
        f"keys are among the {len(seen):,} tokens of the training split; {_both(keys, seen)}"
    )
    if not matching:
        raise DataError(f"{text}; write the keys as the cells are")
    return text


def place_by_id(
    tokens: pl.Series, ids: np.ndarray, keys: pl.Series, vectors: np.ndarray, size: int
) -> np.ndarray:
    """Returns vectors (size, width) by id, NaN where none; ValueError where no key is a token."""
    rows = pl.DataFrame({"token": keys, "row": np.arange(len(keys))})
    found = pl.DataFrame({"token": tokens, "id": ids}).join(rows, on="token")
    if found.is_empty() and len(keys):
        raise ValueError(f"no key is a token; {_both(keys, tokens)}")
    placed = np.full((size, vectors.shape[1]), np.nan, dtype=np.float32)
    placed[found["id"].to_numpy()] = vectors[found["row"].to_numpy()]
    return placed


def _both(keys: pl.Series, tokens: pl.Series) -> str:
    shown = [
        " and ".join(repr(text[:60]) for text in texts.drop_nulls().head(2))
        for texts in (keys, tokens)
    ]
    return f"keys look like {shown[0]}, tokens like {shown[1]}"


def _read(path: Path, where: str) -> tuple[Any, np.ndarray]:
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"{where}: allowed: an npz, h5 or parquet file")
    if not path.is_file():
        raise DataError(f"{where}: no such file")
    try:
        return (_read_parquet if path.suffix == ".parquet" else _read_arrays)(path)
    except DataError:
        raise
    except KeyError as error:
        raise DataError(f"{where}: has no '{KEY}' and '{VALUE}' ({error})") from error
    except (OSError, TypeError, ValueError, *_LIBRARY_ERRORS) as error:
        raise DataError(f"{where}: not readable ({brief(error)})") from error


def _read_arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with open_arrays(path) as (names, find):
        if not {KEY, VALUE} <= set(names):
            raise KeyError(", ".join(names))
        keys, vectors = (read_whole(path, name, find(name)) for name in (KEY, VALUE))
        if keys.dtype.kind == "O":  # texts of variable width, as h5py gives them
            keys = np.array([key.decode() for key in keys], dtype=str)
        return keys, vectors


def _read_parquet(path: Path) -> tuple[pl.Series, np.ndarray]:
    with open_parquet(path) as file:
        names = file.schema_arrow.names
        if not {KEY, VALUE} <= set(names):
            raise KeyError(", ".join(names))
        table = file.read([KEY, VALUE])
    check_table(table, str(path))
    if not is_list(table[VALUE].type):
        raise ValueError(f"'{VALUE}' holds {table[VALUE].type}, expected lists")
    flat, lengths = split_lists(table[VALUE], "")
    if (lengths != lengths[:1]).any():
        row = int((lengths != lengths[0]).argmax())
        raise ValueError(f"row {row + 1}: {lengths[row]} numbers, expected {lengths[0]}")
    width = int(lengths[0]) if len(lengths) else 0
    return to_series(table[KEY]), flat.cast(pl.Float32).to_numpy().reshape(-1, width or 1)[
        :, :width
    ]
