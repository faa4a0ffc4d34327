"""FeatureProcessor: fitted on the training split, it encodes rows of any split."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
import pyarrow as pa

from fuxictr.config import DatasetConfig
from fuxictr.errors import ConfigError, DataError
from fuxictr.features import FeatureMap
from fuxictr.files import atomic_path, write_atomically
from fuxictr.preprocess.columns import (
    CategoricalColumn,
    Column,
    LabelColumn,
    NumericColumn,
    make_column,
)
from fuxictr.preprocess.expressions import Expressions
from fuxictr.preprocess.normalizers import normalizer_from_json
from fuxictr.preprocess.sources import (
    Frame,
    estimate_rows,
    find_files,
    read_frames,
    table_frames,
)
from fuxictr.preprocess.values import naming_cell
from fuxictr.preprocess.vocabulary import Vocabulary
from fuxictr.progress import progress_bar

FEATURE_MAP, FEATURE_VOCAB, NORMALIZERS = (
    "feature_map.json",
    "feature_vocab.json",
    "normalizers.json",
)
Source = str | Path | Sequence[Path] | pl.DataFrame
_Result = TypeVar("_Result")


class FeatureProcessor:
    """Turns raw rows into ids and numbers.

    A subclass may define methods ``(self, col_name) -> pl.Expr`` that columns name as their
    ``preprocess``; otherwise the functions of fuxictr.datasets.column_functions are meant.

    Args:
        feature_cols: entries of the feature columns.
        label_col: entry of the label column.
        dataset_id: name of the dataset.
        data_root: folder under which its encoded files lie.
        min_categr_count: values seen less often become ``__OOV__``.
        **kwargs: the other keys of a dataset config; keys of other sections are ignored, so that
            FuxiCTR's ``FeatureProcessor(**params)`` works.

    Attributes:
        config: the checked dataset config.
        feature_map: the fitted feature map, or None.

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
        params = {
            **kwargs,
            "feature_cols": list(feature_cols),
            "label_col": label_col or {},
            "data_root": str(data_root),
            "min_categr_count": min_categr_count,
        }
        if dataset_id is not None:
            params["dataset_id"] = dataset_id
        self.configure(params)

    def configure(self, params: Mapping[str, Any]) -> None:
        """Starts anew with the dataset config in ``params``, unfitted.

        Raises:
            ConfigError: a key does not fit.
        """
        self.config = DatasetConfig.from_params(dict(params), "FeatureProcessor")
        label, min_count = self.config.label(), self.config.min_categr_count
        self.columns = [make_column(c, min_count) for c in self.config.columns()]
        if label.name in [column.name for column in self.columns]:
            raise ConfigError(f"column '{label.name}': found as label and as feature; drop one")
        self.all_columns: list[Column] = [*self.columns, LabelColumn(label)]
        configs = [column.config for column in self.all_columns]
        self.expressions = Expressions(self.config, configs, _own_methods(self))
        self.feature_map: FeatureMap | None = None

    @classmethod
    def from_config(cls, config: DatasetConfig) -> FeatureProcessor:
        """Returns the processor of a dataset config."""
        return cls(**asdict(config))

    def fit(self, source: Source, verbose: int = 0) -> FeatureProcessor:
        """Learns vocabularies and normalizers in one pass over the training split.

        Args:
            source: files of the config's data_format (a file, folder or glob, or a list of files),
                or a table.
            verbose: 0 shows no progress bar.

        Raises:
            DataError: a file, column or cell that cannot be used; names it.
        """
        self.configure(asdict(self.config))
        frames = self._frames(source, "Fit", verbose)
        for _ in self._each_column(frames, lambda column, cells: column.observe(cells)):
            pass
        for column in self.columns:
            column.finish()
        self.feature_map = self._make_feature_map()
        return self

    def transform(self, source: Source, verbose: int = 0) -> pl.DataFrame:
        """Returns all encoded rows of a split: features in order, then the label.

        Raises:
            DataError: as fit does, or the processor is not fitted.
        """
        tables = list(self.encode(source, "Encode", verbose))
        return pl.DataFrame(pl.from_arrow(pa.concat_tables(tables)))

    def encode(self, source: Source, description: str, verbose: int = 0) -> Iterator[pa.Table]:
        """Yields the encoded rows of a split by frames of up to FRAME_ROWS rows, in order.

        Raises:
            DataError: as fit does, or the processor is not fitted.
        """
        if self.feature_map is None:
            raise DataError(f"dataset '{self.config.dataset_id}': fit the processor first")
        names = [column.name for column in self.all_columns]
        frames = self._frames(source, description, verbose)
        for arrays in self._each_column(frames, lambda column, cells: column.encode(cells)):
            yield pa.table(arrays, names=names)

    def raw_columns(self) -> list[str]:
        """Returns the names of the raw columns that are read."""
        names = [c.name for c in self.all_columns if not c.config.preprocess]
        return list(dict.fromkeys([*names, *self.expressions.inputs]))

    def save(self, folder: Path) -> None:
        """Writes feature_map.json, feature_vocab.json and normalizers.json.

        Raises:
            DataError: the processor is not fitted.
        """
        if self.feature_map is None:
            raise DataError(f"dataset '{self.config.dataset_id}': fit the processor first")
        self.feature_map.save(folder / FEATURE_MAP)
        # Column by column: the texts of all columns need not be in memory at once.
        with atomic_path(folder / FEATURE_VOCAB) as path, open(path, "w", encoding="utf-8") as file:
            file.write("{")
            for index, column in enumerate(self._categorical()):
                tokens = json.dumps(column.vocabulary.to_dict(), ensure_ascii=False)
                file.write(f"{',' if index else ''}\n{json.dumps(column.name)}: {tokens}")
            file.write("\n}\n")
        scalers = {c.name: c.normalizer.to_json() for c in self._numeric() if c.normalizer}
        write_atomically(folder / NORMALIZERS, json.dumps(scalers, indent=2) + "\n")

    def load(self, folder: Path) -> FeatureProcessor:
        """Reads what save wrote.

        Raises:
            DataError: a file is absent or does not fit the config.
        """
        vocabularies = _read_json(folder / FEATURE_VOCAB)
        scalers = _read_json(folder / NORMALIZERS)
        try:
            for column in self._categorical():
                column.vocabulary = Vocabulary.from_dict(vocabularies[column.name])
            for numeric in self._numeric():
                if numeric.normalizer is not None:
                    numeric.normalizer = normalizer_from_json(scalers[numeric.name])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{folder}: saved encoders do not fit the config ({error})") from error
        self.feature_map = self._make_feature_map(folder)
        return self

    def _categorical(self) -> list[CategoricalColumn]:
        return [c for c in self.columns if isinstance(c, CategoricalColumn)]

    def _numeric(self) -> list[NumericColumn]:
        return [c for c in self.columns if isinstance(c, NumericColumn)]

    def _make_feature_map(self, folder: Path | None = None) -> FeatureMap:
        feature_map = FeatureMap(self.config.dataset_id, folder)
        feature_map.features = {column.name: column.spec() for column in self.columns}
        feature_map.labels = [self.all_columns[-1].name]
        return feature_map

    def _frames(self, source: Source, description: str, verbose: int) -> Iterator[Frame]:
        names, data_format = self.raw_columns(), self.config.data_format
        if isinstance(source, pl.DataFrame):
            table = source.to_arrow(compat_level=pl.CompatLevel.oldest())
            frames: Iterable[Frame] = table_frames(table, names)
            total = table.num_rows
        else:
            if isinstance(source, (str, Path)):
                source = find_files(str(source), "source", Path.cwd(), data_format)
            frames = read_frames(source, data_format, names)
            total = estimate_rows(source, data_format)
        with progress_bar(total, description, verbose > 0) as advance:
            for frame in frames:
                yield frame
                advance(frame.table.num_rows)

    def _each_column(
        self, frames: Iterable[Frame], work: Callable[[Column, pa.ChunkedArray], _Result]
    ) -> Iterator[list[_Result]]:
        """Yields what ``work`` returns for the columns of each frame, frame by frame in order.

        Columns are worked on at once; meanwhile the next frame is read and, by who takes the
        results, the last one written. A column never sees two frames at once.
        """

        def on_column(column: Column, cells: pa.ChunkedArray, frame: Frame) -> _Result:
            with naming_cell(frame, column.name):
                return work(column, cells)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            running: list[Future[_Result]] = []
            for frame in frames:
                cells = self._cells(frame)
                done = [future.result() for future in running]
                running = [
                    pool.submit(on_column, c, cells[c.name], frame) for c in self.all_columns
                ]
                if done:
                    yield done
            if running:
                yield [future.result() for future in running]

    def _cells(self, frame: Frame) -> dict[str, pa.ChunkedArray]:
        made = self.expressions.apply(frame)
        plain = [c.name for c in self.all_columns if c.name not in made]
        return {**made, **{name: frame.table.column(name) for name in plain}}


def _own_methods(processor: FeatureProcessor) -> dict[str, Any]:
    # What a user's subclass adds; fit or transform are no column functions.
    kind = type(processor)
    added = [name for name in set(dir(kind)) - set(dir(FeatureProcessor)) if name[0] != "_"]
    return {n: getattr(processor, n) for n in added if inspect.isfunction(getattr(kind, n))}


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; build the dataset first") from None
    except ValueError as error:
        raise DataError(f"{path}: not readable as JSON ({error}); delete it to rebuild") from error
