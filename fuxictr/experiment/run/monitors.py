"""Callbacks that watch a training: the spectrum of its embeddings over time, and TensorBoard."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fuxictr.analysis.records import stack_generated
from fuxictr.analysis.sampling import draw_shared_sample, record_sample
from fuxictr.analysis.spectrum import (
    EFFECTIVE_THRESHOLD,
    effective_dimensions,
    information_abundance,
    rankme,
    singular_values,
)
from fuxictr.config import ExperimentConfig
from fuxictr.config.sections import parse_interval
from fuxictr.errors import CheckpointError, ConfigError
from fuxictr.files import write_atomically
from fuxictr.pytorch.batch import Batch
from fuxictr.pytorch.dataloaders import EpochIterator
from fuxictr.pytorch.distributed.ranks import current_ranks
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.training.trainer import Callback

logger = logging.getLogger(__name__)

Point = dict[str, Any]


class CollapseMonitor(Callback):
    """Takes the spectrum of the interacting embeddings before training and every N steps or epochs.

    It is always of the same validation rows, in eval mode, as ``3.analyze.sh`` takes it of a
    finished model. All spectra are written after each point, so that a killed run keeps them. Every
    rank does the forward pass of the whole sample, because it may need rows of the others' tables.
    Rank 0 evaluates the result.

    Args:
        every: (N, "epochs") or (N, "steps").
        path: the file: one JSON line per point, with its singular values, the largest first.
        on_point: called with each new point.
        paused: returns the context in which a point is taken.

    Attributes:
        points: epoch, step, rankme, information_abundance, effective_dimensions, num_dimensions.
    """

    def __init__(
        self,
        model: BaseModel,
        sample: Batch,
        every: tuple[int, str],
        path: Path,
        expid: str,
        on_point: Callable[[Point], None] | None = None,
        paused: Callable[[], AbstractContextManager] = nullcontext,
    ) -> None:
        self.model = model
        self.sample = sample
        self.every = every
        self.path = path
        self.expid = expid
        self.on_point = on_point
        self.paused = paused
        self.points: list[Point] = []
        self._ranks = current_ranks()
        self._num_steps = 0
        self._lines: list[str] = []

    def before_training(self, steps_per_epoch: int) -> None:
        """Takes the first point; ConfigError where the model records no interacting embeddings."""
        number, unit = self.every
        self._num_steps = number * (steps_per_epoch if unit == "epochs" else 1)
        if self.points:  # of a resumed run
            return
        try:
            self.after_step(0, 0)
        except CheckpointError as error:
            raise ConfigError(
                f"key 'analyze_every': the spectrum is of what a model records as 'gen' "
                f"({error}); see the record contract in README.md, or set null"
            ) from error

    def is_due(self, step: int) -> bool:
        """Returns whether N steps or epochs are over."""
        return step % self._num_steps == 0

    def after_step(self, epoch: int, step: int) -> None:
        """Takes a point."""
        with self.paused():
            self._take_point(epoch, step)  # whose arrays are freed before the pause ends

    def _take_point(self, epoch: int, step: int) -> None:
        with self._ranks.raise_on_any_rank():
            arrays = record_sample(self.model, self.sample, self.model.device, names=("gen",))
        self._ranks.from_rank_zero(lambda: self._add_point(epoch, step, arrays))

    def _add_point(self, epoch: int, step: int, arrays: dict[str, np.ndarray]) -> None:
        values = singular_values(stack_generated(arrays, self.expid))
        point: Point = {
            "epoch": epoch,
            "step": step,
            "rankme": rankme(values),
            "information_abundance": information_abundance(values),
            "effective_dimensions": effective_dimensions(values),
            "num_dimensions": values.size,
        }
        self.points.append(point)
        self._lines.append(json.dumps({**point, "singular_values": values.tolist()}) + "\n")
        write_atomically(self.path, "".join(self._lines))
        logger.info(
            "[Collapse] epoch %d step %d: RankMe %.2f - information abundance %.2f - "
            "dimensions > %g: %d of %d",
            *(point[key] for key in ("epoch", "step", "rankme", "information_abundance")),
            EFFECTIVE_THRESHOLD,
            *(point[key] for key in ("effective_dimensions", "num_dimensions")),
        )
        if self.on_point is not None:
            self.on_point(point)

    def state(self) -> dict[str, Any]:
        """Returns the points and their spectra."""
        return {"points": self.points, "lines": self._lines}

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes over what ``state`` of rank 0 returned."""
        self.points[:], self._lines = state["points"], state["lines"]
        if self._ranks.is_first:
            write_atomically(self.path, "".join(self._lines))


class TensorBoardWriter(Callback):
    """Writes training loss, learning rate, validation metrics and collapse by step, as scalars.

    Event files of earlier runs in ``folder`` are hidden. Raises ConfigError without tensorboard.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                f"key 'tensorboard': found true, but tensorboard cannot be imported ({error}); "
                "run: pip install tensorboard, or set false"
            ) from error
        self._open = partial(SummaryWriter, str(folder))
        self.writer: Any = None
        self._last_step = -1

    def before_training(self, steps_per_epoch: int) -> None:
        """Starts the file; later steps in earlier files are hidden."""
        self.writer = self._open(purge_step=self._last_step + 1)

    def after_evaluation(self, entry: dict[str, Any]) -> None:
        """Writes an entry of the history."""
        scalars = {f"train/{key}": entry[key] for key in ("train_loss", "learning_rate")}
        scalars |= {f"valid/{name}": value for name, value in entry.get("metrics", {}).items()}
        self._write(scalars, entry["step"])

    def add_collapse(self, point: Point) -> None:
        """Writes a point of a CollapseMonitor."""
        names = ("rankme", "information_abundance", "effective_dimensions")
        self._write({f"collapse/{name}": point[name] for name in names}, point["step"])

    def state(self) -> dict[str, Any]:
        """Returns the last step that was written."""
        return {"last_step": self._last_step}

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes over what ``state`` returned."""
        self._last_step = state["last_step"]

    def close(self) -> None:
        """Ends the file."""
        if self.writer is not None:
            self.writer.close()

    def _write(self, scalars: dict[str, float], step: int) -> None:
        self._last_step = step
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()


def make_callbacks(
    config: ExperimentConfig,
    model: BaseModel,
    valid: EpochIterator | None,
    paused: Callable[[], AbstractContextManager] = nullcontext,
) -> list[Callback]:
    """Returns the callbacks of a config: none unless it sets analyze_every or tensorboard.

    ``valid`` are the validation rows, of several processes a part each; ``paused`` returns the
    context in which a point is taken, as PeakMemory.paused.

    Raises:
        ConfigError: there are no validation rows to analyse, or tensorboard is not installed.
        DataError: validation rows on disk that cannot be read.
    """
    ranks = current_ranks()
    writer = None
    with ranks.raise_on_any_rank():
        every = parse_interval(config.run.analyze_every)
        if every is not None and valid is None:
            raise ConfigError(
                f"key 'analyze_every': found {config.run.analyze_every!r}, but dataset "
                f"'{config.dataset.dataset_id}' has no validation split to analyse; set null"
            )
        if config.run.tensorboard and ranks.is_first:
            stem = config.output_stem
            writer = TensorBoardWriter(stem.parent / "tensorboard" / stem.name)
    callbacks: list[Callback] = [] if writer is None else [writer]
    if every is not None and valid is not None:
        sample = draw_shared_sample(valid, ranks)
        on_point = None if writer is None else writer.add_collapse
        path = config.output_stem.with_name(config.output_stem.name + ".collapse.jsonl")
        callbacks.append(
            CollapseMonitor(model, sample, every, path, config.expid, on_point, paused)
        )
    return callbacks


def collapse_points(callbacks: Sequence[Callback]) -> list[Point]:
    """Returns the points of the CollapseMonitor among the callbacks; [] where there is none."""
    return [point for c in callbacks if isinstance(c, CollapseMonitor) for point in c.points]
