"""Scores new raw rows with a trained model and the encoders that it was trained with."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from fuxictr.errors import ConfigError, DataError, as_names
from fuxictr.experiment.results.checkpoint_config import as_trained, load_trained
from fuxictr.experiment.zoo.models import find_folder, load_experiment
from fuxictr.files import atomic_path
from fuxictr.preprocess import load_encoders
from fuxictr.preprocess.columns.tally import Tally
from fuxictr.preprocess.columns.unseen import lost_columns
from fuxictr.preprocess.sources.csv_files import is_blank
from fuxictr.preprocess.sources.files import SourceFormat, format_of, search_files
from fuxictr.preprocess.sources.frames import (
    Frame,
    NoRowsError,
    check_schemas,
    column_names,
    empty_table,
    estimate_rows,
    read_frames,
    table_frames,
)
from fuxictr.progress import progress_bar
from fuxictr.pytorch.checkpoint.weights import load_weights
from fuxictr.pytorch.dataloaders import BatchIterator, from_arrays
from fuxictr.pytorch.precision import autocast, matmul_precision
from fuxictr.pytorch.torch_utils import get_device

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


def score(
    rows: pl.DataFrame | pd.DataFrame,
    model: str | None = None,
    expid: str | None = None,
    config_dir: str | Path | None = None,
    gpu: int | str = "auto",
    keep: Sequence[str] | None = None,
    checkpoint: str | Path | None = None,
) -> pl.DataFrame | pd.DataFrame:
    """Scores the raw rows of a polars or pandas table with a trained expid or a checkpoint alone.

    The columns are those of the raw training data; labels are not needed. ``checkpoint``, the file
    of the weights, is given instead of model, expid and config_dir. ``keep`` names columns to carry
    along, one or several; None = all that are no features. ``gpu`` and ``config_dir`` are as --gpu
    and --config.

    Returns:
        A table of the same kind and order: the kept columns and ``y_pred``, the click probability,
        or the number of a regression. A model of several labels gives ``<label>_pred`` for each.

    Raises:
        FuxiCTRError: the expid is not trained, or the rows do not fit its columns.
    """
    return Scorer(model, expid, config_dir, checkpoint, gpu=gpu).score(rows, keep)


@dataclass(frozen=True)
class ScoredFiles:
    """The files that were scored, in order, their rows, and what was found beside them."""

    num_rows: int
    files: list[Path]
    skipped: list[Path]


class Scorer:
    """A trained expid, or a checkpoint with its own config, with its fitted encoders.

    Unseen values are ``__OOV__``, missing ones ``fill_na``, as in training. All keys that decide
    the scores are those of the training, even if the config has changed since. ``checkpoint`` is
    given instead of model, expid and config_dir; ``overrides`` are as --set.

    Raises:
        ConfigError: both a checkpoint and an expid are given, or neither.
        DataError: the dataset is not encoded, or its config changed since.
        CheckpointError: the expid is not trained, was trained on other encoded data, or with other
            values of keys than ``overrides`` ask for.
    """

    def __init__(
        self,
        model: str | None = None,
        expid: str | None = None,
        config_dir: str | Path | None = None,
        checkpoint: str | Path | None = None,
        overrides: Sequence[str] = (),
        gpu: int | str = "auto",
        batch_size: int = 10_000,
    ) -> None:
        from fuxictr.experiment.run.run import build_model, select_features

        if checkpoint is not None and model is None and expid is None:
            path = Path(checkpoint).expanduser().resolve()
            config, kind = load_trained(path, overrides)
        elif checkpoint is None and model is not None and expid is not None:
            config, kind = load_experiment(expid, find_folder(model), config_dir, list(overrides))
            path = config.checkpoint_path
        else:
            given = {"model": model, "expid": expid, "checkpoint": checkpoint}
            found = ", ".join(name for name, value in given.items() if value is not None)
            raise ConfigError(f"found {found or 'none'}; allowed: model and expid, or checkpoint")
        if batch_size < 1:
            raise ConfigError(f"--batch-size {batch_size}: allowed: >= 1")
        self.batch_size, self.device = batch_size, get_device(gpu)
        self.processor, encoded = load_encoders(config.dataset, config.data_dir)
        self.config = config if checkpoint is not None else as_trained(config, kind, path)
        self._trained = encoded.trained
        self.feature_map = select_features(self.config, encoded)
        self.model = build_model(self.config, kind, self.feature_map)
        load_weights(self.model, path, encoded.encoders_hash)
        self.model.to(self.device).eval()
        self.score_names = [task.prediction for task in self.model.tasks]

    def score(
        self, rows: pl.DataFrame | pd.DataFrame, keep: Sequence[str] | None = None
    ) -> pl.DataFrame | pd.DataFrame:
        """Returns the kept columns and the scores of a table's rows, see function ``score``."""
        table = _to_table(rows)
        read, kept = self._choose_columns(table.column_names, keep, "the given table")
        try:
            scored = pa.concat_tables(self._score_frames(table_frames(table, read), kept))
        except NoRowsError:
            scored = self._no_scores(table.select(kept))
        result = pl.DataFrame(pl.from_arrow(scored))
        if isinstance(rows, pl.DataFrame):
            return result
        return result.to_pandas().set_index(rows.index)

    def score_files(self, data: str, out: Path, keep: Sequence[str] | None = None) -> ScoredFiles:
        """Scores the rows of files in bounded memory; ``out``, .csv or .parquet, appears whole.

        ``data`` is a file, a folder or a glob: csv as the dataset config describes it, or parquet,
        npz or h5 by its ending. ``keep`` is as for ``score``.
        """
        if out.suffix not in _WRITERS:
            allowed = " or ".join(_WRITERS)
            raise ConfigError(f"--out {out}: allowed: a file that ends in {allowed}")
        if out.is_dir() or (out.parent.exists() and not out.parent.is_dir()):
            raise ConfigError(f"--out {out}: found a folder, or a file where its folder would be")
        source_format = format_of(data, self.processor.source_format)
        found = search_files(data, "--data", Path.cwd(), source_format.name)
        files = found.files
        check_schemas(files, source_format.name, self.processor.text_columns())
        if out.resolve() in files:
            raise ConfigError(f"--out {out}: is also the data to score; choose another file")
        first = next((path for path in files if not is_blank(path)), files[0])
        read, kept = self._choose_columns(column_names(first, source_format), keep, str(first))
        total, num_rows = estimate_rows(files, source_format, read[0]), 0
        tables = self._score_all(files, source_format, read, kept)
        with (
            atomic_path(out) as path,
            progress_bar(total, "Score", self.config.run.verbose > 0) as advance,
        ):
            first_table = next(tables)
            schema = first_table.schema
            with _WRITERS[out.suffix](path, schema) as write:
                for table in itertools.chain([first_table], tables):
                    try:
                        write(table.cast(schema))
                    except pa.ArrowException as error:
                        raise DataError(
                            f"{data}: a column that is carried along has one type in one file and "
                            f"another in the next ({error}); keep others (--keep)"
                        ) from error
                    num_rows += table.num_rows
                    advance(table.num_rows)
        return ScoredFiles(num_rows, files, found.skipped)

    def _score_all(
        self,
        files: Sequence[Path],
        source_format: SourceFormat,
        read: Sequence[str],
        kept: Sequence[str],
    ) -> Iterator[pa.Table]:
        """Yields at least one table, one without rows if the files have none."""
        try:
            yield from self._score_frames(read_frames(files, source_format, read), kept)
        except NoRowsError:
            yield self._no_scores(empty_table(files[0], source_format, kept))

    def _choose_columns(
        self, found: Sequence[str], keep: Sequence[str] | None, where: str
    ) -> tuple[list[str], list[str]]:
        """Returns which raw columns are read, and which of them are carried along."""
        features = self.processor.raw_columns(list(self.feature_map.fields))
        kept = [name for name in found if name not in features]
        kept = kept if keep is None else list(dict.fromkeys(as_names(keep, "keep")))
        group = self.config.train.group_id
        if keep is None and group is not None and group in found and group not in kept:
            kept.insert(0, group)
        taken = next((name for name in self.score_names if name in kept), None)
        if taken is not None:
            raise ConfigError(
                f"{where}: column '{taken}' would be carried along beside the scores of that name; "
                "rename it, or name the columns to keep (--keep)"
            )
        return list(dict.fromkeys([*features, *kept])), kept

    def _score_frames(self, frames: Iterator[Frame], kept: Sequence[str]) -> Iterator[pa.Table]:
        waiting: deque[Frame] = deque()

        def noted() -> Iterator[Frame]:
            for frame in frames:
                waiting.append(frame)
                yield frame

        fields = list(self.feature_map.fields)
        tallies = {name: Tally(["rows"]) for name in fields}
        encode = self.processor.encode
        for encoded in encode(noted(), "Score", fields=fields, tallies=tallies):
            frame = waiting.popleft()
            scores = self._predictions(encoded)
            bad = np.flatnonzero(~np.isfinite(scores).all(axis=1))
            if bad.size:
                raise DataError(f"{frame.locate(int(bad[0]))}: the model's score is not finite")
            yield self._with_scores(frame.table.select(kept), scores)
        found = {name: tally.counts["rows"] for name, tally in tallies.items()}
        text = lost_columns(self.processor.columns, self._trained, found, is_scoring=True)
        if text is not None:
            logger.warning("rows to score: %s", text)

    def _with_scores(self, table: pa.Table, scores: np.ndarray) -> pa.Table:
        for name, column in zip(self.score_names, scores.T, strict=True):
            table = table.append_column(name, pa.array(np.ascontiguousarray(column)))
        return table

    def _no_scores(self, kept: pa.Table) -> pa.Table:
        nothing = np.empty((0, len(self.score_names)), np.float32)
        return self._with_scores(kept.slice(0, 0), nothing)

    def _predictions(self, encoded: pa.Table) -> np.ndarray:
        """Returns the scores of encoded rows, float32 (rows, labels)."""
        import torch

        columns = {name: _to_numpy(encoded.column(name)) for name in self.feature_map.fields}
        data = from_arrays(columns, self.feature_map, labels=False)
        train = self.config.train
        with (
            torch.inference_mode(),
            matmul_precision(train.matmul_precision),
            autocast(train.amp, self.device),
        ):
            outputs = map(self.model, BatchIterator(data, self.batch_size, device=self.device))
            scores = [
                torch.stack([found[name].reshape(-1) for name in self.score_names], dim=1)
                for found in outputs
            ]
            return torch.cat(scores).float().cpu().numpy()


def _to_table(rows: Any) -> pa.Table:
    try:
        frame = rows if isinstance(rows, pl.DataFrame) else pl.from_pandas(_with_integers(rows))
        return frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    except (
        OverflowError,
        TypeError,
        ValueError,
        pa.ArrowException,
        pl.exceptions.PolarsError,
    ) as error:
        text = (str(error).splitlines() or [""])[0]
        raise DataError(
            f"the given table: found {type(rows).__name__} that cannot be read ({text}); allowed: "
            "a polars or pandas DataFrame whose columns hold texts or numbers"
        ) from error


def _with_integers(rows: Any) -> Any:
    """Returns a pandas table with columns of Python integers beyond int64 as Arrow's uint64."""
    import pandas as pd

    if not isinstance(rows, pd.DataFrame) or not rows.columns.is_unique:
        return rows
    large = {}
    for name in [name for name, dtype in rows.dtypes.items() if dtype.kind == "O"]:
        if pd.api.types.infer_dtype(rows[name], skipna=True) != "integer":
            continue
        if rows[name].max() >= 1 << 63:
            cells = pa.array(rows[name], pa.uint64(), from_pandas=True)
            large[name] = pd.Series(pd.arrays.ArrowExtensionArray(cells), rows.index)
    return rows.assign(**large) if large else rows


def _to_numpy(column: pa.ChunkedArray) -> np.ndarray:
    if pa.types.is_list(column.type):
        rows = pa.concat_arrays(column.chunks)
        return rows.flatten().to_numpy().reshape(len(rows), -1)
    return column.to_numpy()


@contextlib.contextmanager
def _csv_writer(path: Path, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    """Context that gives a function to append tables to a csv, quoted only where it must be."""
    for field in schema:
        if pa.types.is_nested(field.type):
            raise ConfigError(
                f"--out: column '{field.name}' holds {field.type}, which no csv can; write "
                "parquet, or name the columns to keep (--keep)"
            )
    has_header = False
    with open(path, "wb") as file:

        def write(table: pa.Table) -> None:
            nonlocal has_header
            frame = pl.DataFrame(pl.from_arrow(table))
            frame.write_csv(file, include_header=not has_header)
            has_header = True

        yield write


@contextlib.contextmanager
def _parquet_writer(path: Path, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    with pq.ParquetWriter(path, schema) as writer:
        yield writer.write_table


_WRITERS = {".csv": _csv_writer, ".parquet": _parquet_writer}
