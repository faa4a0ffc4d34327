"""FeatureProcessor: fitted to the training split, it encodes the rows of any split."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from fuxictr.config import DatasetConfig
from fuxictr.config.tasks import with_label_types
from fuxictr.errors import ConfigError, DataError, as_names
from fuxictr.features import FeatureMap
from fuxictr.files import atomic_path
from fuxictr.preprocess.columns import pretrained
from fuxictr.preprocess.columns.column import Column, make_label
from fuxictr.preprocess.columns.make_columns import (
    make_column,
    note_spellings,
    share_vocabularies,
    sharing_groups,
)
from fuxictr.preprocess.columns.parallel import each_column
from fuxictr.preprocess.columns.tally import Tally
from fuxictr.preprocess.columns.token_columns import TokenColumn
from fuxictr.preprocess.dataset.encoder_files import restore_encoders, save_encoders
from fuxictr.preprocess.functions.expressions import Expressions
from fuxictr.preprocess.sources.files import format_of_config, search_files
from fuxictr.preprocess.sources.frames import Frame, estimate_rows, read_frames, table_frames
from fuxictr.preprocess.sources.raw_types import RawTypes
from fuxictr.progress import progress_bar

Source = str | Path | Sequence[Path] | pl.DataFrame | Iterator[Frame]


class FeatureProcessor:
    """Turns raw rows into ids and numbers; takes the keys of a dataset config.

    A subclass may add methods ``(self, col_name) -> pl.Expr`` that columns name as their
    ``preprocess``. They come before those of fuxictr.datasets.column_functions. Keys of other
    config sections are ignored, so that FuxiCTR's ``FeatureProcessor(**params)`` works.
    ``feature_map`` is None before fitting. Paths of pretrained embeddings resolve against
    ``base_dir``.

    Raises:
        ConfigError: a key does not fit.
    """

    def __init__(
        self,
        feature_cols: Sequence[Mapping[str, Any]] = (),
        label_col: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        dataset_id: str | None = None,
        data_root: str | Path = "../data/",
        min_categr_count: int = 1,
        **kwargs: Any,
    ) -> None:
        self.base_dir = Path.cwd()
        self.configure(
            {
                **kwargs,
                **({} if dataset_id is None else {"dataset_id": dataset_id}),
                "feature_cols": _with_named_types(list(feature_cols)),
                "label_col": with_label_types(
                    _with_named_types(label_col or {}), kwargs.get("task")
                ),
                "data_root": str(data_root),
                "min_categr_count": min_categr_count,
            }
        )

    def configure(self, params: Mapping[str, Any]) -> None:
        """Sets the config and forgets what was fitted; ConfigError where a key does not fit."""
        self.config = DatasetConfig.from_params(dict(params), "FeatureProcessor")
        labels, min_count = self.config.labels(), self.config.min_categr_count
        self.columns = [make_column(c, min_count) for c in self.config.columns()]
        names = {column.name for column in self.columns}
        for label in labels:
            if label.name in names:
                raise ConfigError(f"column '{label.name}': found as label and as feature; drop one")
        self.all_columns: list[Column] = [*self.columns, *map(make_label, labels)]
        sharing_groups(self.columns)
        configs = [column.config for column in self.all_columns]
        self.expressions = Expressions(self.config, configs, _own_methods(self))
        self.feature_map: FeatureMap | None = None
        self._given: dict[str, tuple[pl.Series, int]] = {}
        self._types = RawTypes(self.text_columns())
        self.source_format = format_of_config(self.config, self.raw_columns())

    @classmethod
    def from_config(cls, config: DatasetConfig) -> FeatureProcessor:
        """Returns the processor of a dataset config."""
        return cls(**asdict(config))

    def fit(self, source: Source, verbose: int = 0) -> FeatureProcessor:
        """Learns vocabularies and normalizers in one pass over the training split.

        ``source`` is a table, or files of the config's data_format (a file, folder, glob or list).
        ``verbose`` 0 shows no progress bar.

        Raises:
            DataError: a file, column or cell cannot be used.
        """
        self.configure(asdict(self.config))
        with_vectors = self._with_pretrained()
        for column in with_vectors:  # before the long pass; vectors may be large and are not kept
            tokens, vectors = self._read_pretrained(column)
            self._given[column.name] = (tokens, vectors.shape[1])
        frames = self.frames(source, "Fit", verbose)
        columns = self.all_columns
        cells = self._cells(frames, columns)
        for _ in each_column(cells, columns, lambda column, values: column.observe(values)):
            pass
        self._match_pretrained(with_vectors)
        for each in columns:
            try:
                each.finish()
            except DataError as error:
                raise DataError(f"{_shown(source)}{error}") from None
        for column in with_vectors:  # their tokens have an id even where no row has them
            column.add_tokens(self._given[column.name][0])
        share_vocabularies(self.columns)
        note_spellings(self.columns)
        self.feature_map = self._make_feature_map()
        return self

    def transform(self, source: Source, verbose: int = 0) -> pl.DataFrame:
        """Returns the encoded rows of a split: features, then labels; raises as fit."""
        tables = self.encode(source, "Encode", verbose)
        return pl.DataFrame(pl.from_arrow(pa.concat_tables(tables)))

    def encode(
        self,
        source: Source,
        description: str,
        verbose: int = 0,
        fields: Sequence[str] | None = None,
        tallies: Mapping[str, Tally] | None = None,
    ) -> Iterator[pa.Table]:
        """Yields the encoded rows of a split in order, up to FRAME_ROWS at a time; raises as fit.

        ``fields`` None = all columns and labels; ``tallies`` count the cells of their columns.
        """
        if self.feature_map is None:
            raise DataError(f"dataset '{self.config.dataset_id}': fit the processor first")
        columns = self._chosen(fields)
        frames = self.frames(source, description, verbose, fields)
        cells = self._cells(frames, columns)
        tallies = tallies or {}

        def encode(column: Column, values: pa.ChunkedArray) -> pa.Array:
            return column.encode(values, tallies.get(column.name))

        for arrays in each_column(cells, columns, encode):
            yield pa.table(arrays, names=[column.name for column in columns])

    def frames(
        self,
        source: Source,
        description: str,
        verbose: int = 0,
        fields: Sequence[str] | None = None,
    ) -> Iterator[Frame]:
        """Yields the raw columns of a source by frames, under a progress bar."""
        names, source_format = self.raw_columns(fields), self.source_format
        if isinstance(source, pl.DataFrame):
            table = source.to_arrow(compat_level=pl.CompatLevel.oldest())
            frames = table_frames(table, names)
            total = table.num_rows
        elif isinstance(source, Iterator):
            yield from source
            return
        else:
            files = source
            if isinstance(files, (str, Path)):
                files = search_files(str(files), "source", Path.cwd(), source_format.name).files
            frames = read_frames(files, source_format, names)
            total = estimate_rows(files, source_format, names[0])
        with progress_bar(total, description, verbose > 0) as advance:
            for frame in frames:
                yield frame
                advance(frame.table.num_rows)

    def raw_columns(self, fields: Sequence[str] | None = None) -> list[str]:
        """Returns the raw columns that are read to encode ``fields``; None = all."""
        columns = self._chosen(fields)
        names = [c.name for c in columns if not c.config.preprocess]
        inputs = self.expressions.inputs([column.name for column in columns])
        return list(dict.fromkeys([*names, *inputs]))

    def text_columns(self) -> list[str]:
        """Returns the raw columns whose values are read as text, whatever their type."""
        names = [
            column.name
            for column in self.columns
            if column.dtype == "str" and column.reads_text and not column.config.preprocess
        ]
        inputs = self.expressions.inputs([column.name for column in self.all_columns])
        return [*names, *(n for n in inputs if self.expressions.raw_entry(n)[0] == "str")]

    def save(self, folder: Path) -> None:
        """Writes the feature map, vocabularies, other learned values and pretrained vectors."""
        if self.feature_map is None:
            raise DataError(f"dataset '{self.config.dataset_id}': fit the processor first")
        save_encoders(folder, self.feature_map, self.columns, self._types)
        self.expressions.save_sample(folder)
        for column in self._with_pretrained():
            keys, vectors = self._read_pretrained(column)
            known = column.vocabulary
            placed = pretrained.place_by_id(known.tokens, known.ids, keys, vectors, known.size)
            with atomic_path(folder / pretrained.file_name(column.name)) as path:
                np.save(path, placed)

    def load(self, folder: Path) -> FeatureProcessor:
        """Reads what save wrote; DataError where it does not fit, or a function changed."""
        changed = self.expressions.changed_value(folder)
        if changed is not None:
            raise DataError(f"{folder}: {changed}; train the expid again")
        dataset_id = self.config.dataset_id
        self.feature_map = restore_encoders(folder, dataset_id, self.columns, self._types)
        return self

    def pretrained_path(self, column: Column) -> Path:
        """Returns the file of a column's pretrained vectors."""
        given = Path(str(column.config.pretrained_emb)).expanduser()
        return (self.base_dir / given).resolve()

    def _with_pretrained(self) -> list[TokenColumn]:
        return [
            column
            for column in self.columns
            if isinstance(column, TokenColumn)
            and column.config.pretrained_emb
            and not column.config.share_embedding
        ]

    def _read_pretrained(self, column: TokenColumn) -> tuple[pl.Series, np.ndarray]:
        """Returns the tokens that have pretrained vectors, and the vectors."""
        path = self.pretrained_path(column)
        keys, vectors = pretrained.read_pretrained(path, column.name, column.config.pretrain_dim)
        return pretrained.tokens_of(column, keys, path), vectors

    def _match_pretrained(self, with_vectors: Sequence[TokenColumn]) -> None:
        # Before tokens too rare for an id are forgotten.
        groups = sharing_groups(self.columns)
        for column in with_vectors:
            seen = [c.seen_tokens() for c in groups.get(column.name, [column])]
            keys, path = self._given[column.name][0], self.pretrained_path(column)
            note = pretrained.check_matches(column, keys, pl.concat(seen), path)
            column.notes += [] if note is None else [note]

    def _make_feature_map(self) -> FeatureMap:
        feature_map = FeatureMap(self.config.dataset_id)
        feature_map.features = {column.name: column.spec() for column in self.columns}
        for column in self._with_pretrained():
            feature_map.features[column.name] |= {
                "pretrained_emb": pretrained.file_name(column.name),
                "pretrain_dim": self._given[column.name][1],
                "pretrain_usage": column.config.pretrain_usage,
                "freeze_emb": column.config.freeze_emb,
            }
        feature_map.labels = [column.name for column in self.all_columns[len(self.columns) :]]
        return feature_map

    def _chosen(self, fields: Sequence[str] | None) -> list[Column]:
        names = None if fields is None else as_names(fields, "fields")
        return [c for c in self.all_columns if names is None or c.name in names]

    def _cells(
        self, frames: Iterable[Frame], columns: Sequence[Column]
    ) -> Iterator[tuple[Frame, dict[str, pa.ChunkedArray]]]:
        """Yields each frame with the cells of the columns, also of those that preprocess makes."""
        for frame in frames:
            self._types.check(frame)
            made = self.expressions.apply(frame, [column.name for column in columns])
            plain = [c.name for c in columns if c.name not in made]
            yield frame, {**made, **{name: frame.table.column(name) for name in plain}}


def _shown(source: Source) -> str:
    # The files of a source, to begin a message.
    files = [source] if isinstance(source, (str, Path)) else source
    if not isinstance(files, (list, tuple)):
        return ""
    return f"{files[0]}{f' and {len(files) - 1} more' if len(files) > 1 else ''}: "


def _own_methods(processor: FeatureProcessor) -> dict[str, Any]:
    # Methods that a user's subclass adds; fit or transform are no column functions.
    kind = type(processor)
    added = [name for name in set(dir(kind)) - set(dir(FeatureProcessor)) if name[0] != "_"]
    return {n: getattr(processor, n) for n in added if inspect.isfunction(getattr(kind, n))}


def _with_named_types(value: Any) -> Any:
    """Returns columns with the names of the Python types that a program may give as ``dtype``."""
    if isinstance(value, Mapping):
        return {key: _with_named_types(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_named_types(item) for item in value]
    return value.__name__ if value in (str, int, float, list) else value
