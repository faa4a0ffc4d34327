"""Saves the state of a training run while it runs, so that it can resume after any interruption."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from fuxictr.pytorch.checkpoint.state_files import StateFiles
from fuxictr.pytorch.distributed.ranks import StopFlags
from fuxictr.pytorch.training.callback import Callback
from fuxictr.pytorch.training.trainer import Trainer

logger = logging.getLogger(__name__)


class StateSaver(Callback):
    """Saves the state after each evaluation, at intervals between them, and before a stop.

    On several processes all do what one of them asks for, one step later (StopFlags).

    Args:
        trainer: whose state it is; this must be the last of its callbacks.
        identify: returns what is trained, for the state.
        save_steps: steps between two states; None: none between evaluations.
        save_minutes: minutes between two states; None: none between evaluations.
        is_stopping: whether the run must stop; called after every step and evaluation batch.
        stop: called once the state is saved; raises what ends the run.
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
        """Returns whether a state is due, or the run must stop."""
        self._must_stop, is_late = self._flags.reduce(self.is_stopping(), self._is_late())
        return self._must_stop or is_late or bool(self.save_steps and step % self.save_steps == 0)

    def after_step(self, epoch: int, step: int) -> None:
        """Saves the state; ends the run where it must stop."""
        self._save()
        if self._must_stop:
            self.stop()

    def after_batch(self) -> None:
        """Ends the run in the middle of an evaluation where it must stop."""
        self._must_stop, _ = self._flags.reduce(self.is_stopping(), False)
        if self._must_stop:
            if self._is_training:
                self._save()
            self.stop()

    def after_evaluation(self, entry: dict[str, Any]) -> None:
        """Saves the state with what was decided; ends the run where it must stop."""
        if self.trainer.stopping.num_stalled == 0 and "metrics" in entry:
            self._best_step = entry["step"]
        self._must_stop, _ = self._flags.reduce(self.is_stopping(), False)
        self.after_step(entry["epoch"], entry["step"])

    def state(self) -> dict[str, Any]:
        """Returns at which step the best weights were found."""
        return {"best_step": self._best_step}

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes over what ``state`` returned."""
        self._best_step = state["best_step"]

    def close(self) -> None:
        """Saves no more: the training is over."""
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
