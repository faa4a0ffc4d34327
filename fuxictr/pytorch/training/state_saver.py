"""Saves the state of a training run while it runs, so that it can go on after anything."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuxictr.errors import CheckpointError
from fuxictr.files import atomic_path, remove_leftovers, write_atomically
from fuxictr.pytorch.checkpoint.training_state import TrainingState
from fuxictr.pytorch.checkpoint.weights import note_path
from fuxictr.pytorch.distributed.ranks import StopFlags
from fuxictr.pytorch.training.callback import Callback
from fuxictr.pytorch.training.trainer import Trainer

logger = logging.getLogger(__name__)


class StateFiles:
    """The state of a training run beside its checkpoint, and the best weights that belong to it.

    A checkpoint holds the best weights so far, and may be newer than the state, or another run's.
    So the state keeps the ones that it knows of under a name of their own, a second link to the
    same bytes as long as the checkpoint is not replaced, and with them what is known of them.

    Args:
        stem: path of the run's files without their suffix.
        checkpoint: the best weights.
    """

    def __init__(self, stem: Path, checkpoint: Path) -> None:
        self.path = stem.with_name(f"{stem.name}.state")
        self.checkpoint = checkpoint
        self._prefix = f".{stem.name}.best_of_step_"

    def save(self, state: TrainingState, best_step: int | None) -> None:
        """Writes a state.

        Args:
            state: the state.
            best_step: step of the best weights, which the checkpoint holds; None = none yet.
        """
        if best_step is not None and not self._best(best_step).exists():
            best = self._best(best_step)
            self._copy_note(self.checkpoint, best)
            self._link(self.checkpoint, best)
        state.progress["best_step"] = best_step
        state.save(self.path)
        self._forget_others(best_step)

    def load(self, mapped: bool = False) -> TrainingState | None:
        """Returns the state that was saved; None = none.

        Args:
            mapped: see ``read_tensors``.

        Raises:
            CheckpointError: it is damaged.
        """
        remove_leftovers(self.path)
        return TrainingState.load(self.path, mapped) if self.path.is_file() else None

    def restore_best(self, state: TrainingState) -> None:
        """Makes the best weights that belong to a state the checkpoint.

        Raises:
            CheckpointError: they are gone.
        """
        best_step = state.progress.get("best_step")
        if best_step is None:
            return
        best = self._best(best_step)
        if not best.is_file():
            raise CheckpointError(
                f"{best}: the best weights that belong to {self.path.name} are gone; train without "
                "--resume"
            )
        if not (self.checkpoint.exists() and best.samefile(self.checkpoint)):
            note_path(self.checkpoint).unlink(missing_ok=True)
            self._link(best, self.checkpoint)
            self._copy_note(best, self.checkpoint)

    def remove(self) -> None:
        """Removes all of it; the checkpoint stays."""
        self.path.unlink(missing_ok=True)
        remove_leftovers(self.path)
        self._forget_others(None)

    def _link(self, source: Path, target: Path) -> None:
        """Gives a file a second name, at once; copies it where the file system has no links."""
        second = self.path.with_name(f"{self._prefix}link")
        second.unlink(missing_ok=True)
        try:
            os.link(source, second)
        except OSError:
            with atomic_path(target) as temporary:
                shutil.copyfile(source, temporary)
            return
        os.replace(second, target)

    def _copy_note(self, source: Path, target: Path) -> None:
        with contextlib.suppress(FileNotFoundError):  # nothing is known of the weights
            write_atomically(note_path(target), note_path(source).read_text(encoding="utf-8"))

    def _best(self, step: int) -> Path:
        return self.path.with_name(f"{self._prefix}{step}")

    def _forget_others(self, step: int | None) -> None:
        kept = () if step is None else (self._best(step), note_path(self._best(step)))
        for path in self.path.parent.iterdir():
            if path.name.startswith(self._prefix) and path not in kept:
                path.unlink(missing_ok=True)


class StateSaver(Callback):
    """Saves the state after each evaluation, every so often between them, and when asked to stop.

    On several processes all follow the request of any one, one step later (StopFlags).

    Args:
        trainer: whose state it is; this is to be the last of its callbacks.
        files: where it goes.
        identify: returns what is trained, for the state.
        save_steps: steps between two states; null = none between evaluations.
        save_minutes: minutes between two states, likewise.
        is_stopping: returns whether the run is to stop; asked after every step and every batch of
            an evaluation. The state is saved and ``stop`` is called.
        stop: raises what ends the run.
    """

    def __init__(
        self,
        trainer: Trainer,
        files: StateFiles,
        identify: Callable[[], dict[str, Any]],
        save_steps: int | None = None,
        save_minutes: float | None = None,
        is_stopping: Callable[[], bool] = lambda: False,
        stop: Callable[[], None] = lambda: None,
    ) -> None:
        self.trainer, self.files, self.identify = trainer, files, identify
        self.save_steps, self.save_minutes = save_steps, save_minutes
        self.is_stopping, self.stop = is_stopping, stop
        self._best_step: int | None = None
        self._last = time.monotonic()
        self._is_training = False
        self._flags = StopFlags(trainer.ranks)
        self._must_stop = False

    def before_training(self, steps_per_epoch: int) -> None:
        """Starts the clock."""
        self._last = time.monotonic()
        self._is_training = True

    def is_due(self, step: int) -> bool:
        """Returns whether it is time for a state, or to stop."""
        self._must_stop, is_late = self._flags.reduce(self.is_stopping(), self._is_late())
        return self._must_stop or is_late or bool(self.save_steps and step % self.save_steps == 0)

    def after_step(self, epoch: int, step: int) -> None:
        """Saves the state; ends the run where that is asked for."""
        self._save()
        self._stop_if_asked()

    def after_batch(self) -> None:
        """Ends the run in the middle of an evaluation where that is asked for."""
        self._must_stop, _ = self._flags.reduce(self.is_stopping(), False)
        if self._must_stop:
            if self._is_training:
                self._save()
            self.stop()

    def after_evaluation(self, entry: dict[str, Any]) -> None:
        """Saves the state with what was decided; ends the run where that is asked for."""
        if self.trainer.stopping.num_stalled == 0 and "metrics" in entry:
            self._best_step = entry["step"]
        self._must_stop = self._flags.reduce(self.is_stopping(), False)[0]
        self._save()
        self._stop_if_asked()

    def state(self) -> dict[str, Any]:
        """Returns at which step the best weights were found."""
        return {"best_step": self._best_step}

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes over what ``state`` returned."""
        self._best_step = state["best_step"]

    def close(self) -> None:
        """Saves no more: what comes now is not training."""
        self._is_training = False

    def _save(self) -> None:
        state = self.trainer.state()
        state.identity = self.identify()
        self.trainer.ranks.from_rank_zero(lambda: self.files.save(state, self._best_step))
        self._last = time.monotonic()
        logger.debug("Saved the state to %s", self.files.path)

    def _is_late(self) -> bool:
        minutes = self.save_minutes
        is_late = minutes is not None and time.monotonic() - self._last >= 60 * minutes
        return is_late and self.trainer.ranks.is_first  # whose clock counts

    def _stop_if_asked(self) -> None:
        if self._must_stop:
            self.stop()
