"""Work on columns in parallel, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import polars as pl
import pyarrow as pa

from fuxictr.cpus import usable_cpus
from fuxictr.errors import DataError
from fuxictr.preprocess.columns.column import Column
from fuxictr.preprocess.columns.values import naming_cell
from fuxictr.preprocess.sources.frames import Frame

Result = TypeVar("Result")

# What the table libraries raise for types that they cannot convert.
_UNREADABLE = (
    *(pa.ArrowException, pl.exceptions.PolarsError, pl.exceptions.PanicException),
    *(UnicodeDecodeError, OverflowError, MemoryError),
)


def each_column(
    frames: Iterable[tuple[Frame, dict[str, pa.ChunkedArray]]],
    columns: Sequence[Column],
    work: Callable[[Column, pa.ChunkedArray], Result],
) -> Iterator[list[Result]]:
    """Yields what ``work`` returns for the columns of each frame, in order.

    Columns run in parallel, while other frames are read and written; none sees two frames at once.
    """

    def on_column(column: Column, cells: pa.ChunkedArray, frame: Frame) -> Result:
        try:
            with naming_cell(frame, column.name):
                return work(column, cells)
        except _UNREADABLE as error:
            text = (str(error).splitlines() or [""])[0]
            raise DataError(
                f"{frame.locate(0)} and after, column '{column.name}': found values of type "
                f"{cells.type} that cannot be read as {column.config.type} ({text})"
            ) from error

    with ThreadPoolExecutor(usable_cpus()) as pool:
        running: list[Future[Result]] = []
        for frame, cells in frames:
            done = [future.result() for future in running]
            running = [pool.submit(on_column, c, cells[c.name], frame) for c in columns]
            if done:
                yield done
        if running:
            yield [future.result() for future in running]
