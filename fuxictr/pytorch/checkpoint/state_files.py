"""The files of a training run's state, beside its checkpoint."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from fuxictr.errors import CheckpointError
from fuxictr.files import atomic_path, remove_leftovers, write_atomically
from fuxictr.pytorch.checkpoint.training_state import TrainingState
from fuxictr.pytorch.checkpoint.weights import note_path


class StateFiles:
    """The state of a training run beside its checkpoint, and the best weights that belong to it.

    The checkpoint holds the best weights so far, but may be newer than the state, or another run's.
    So the best weights of the state and their note have a second name: a link to the same bytes
    until the checkpoint is replaced. ``stem`` is the path of the run's files without suffix.
    """

    def __init__(self, stem: Path, checkpoint: Path) -> None:
        self.path = stem.with_name(f"{stem.name}.state")
        self.checkpoint = checkpoint
        self._prefix = f".{stem.name}.best_of_step_"

    def save(self, state: TrainingState, best_step: int | None) -> None:
        """Writes a state; ``best_step`` is the step of the checkpoint's weights, None: none yet."""
        if best_step is not None and not (best := self._best_path(best_step)).exists():
            self._copy_note(self.checkpoint, best)
            self._link(self.checkpoint, best)
        state.progress["best_step"] = best_step
        state.save(self.path)
        self._forget_others(best_step)

    def load(self, mapped: bool = False) -> TrainingState | None:
        """Returns the saved state, None if there is none; CheckpointError if it is damaged."""
        remove_leftovers(self.path)
        return TrainingState.load(self.path, mapped) if self.path.is_file() else None

    def restore_best(self, state: TrainingState) -> None:
        """Makes a state's best weights the checkpoint again; CheckpointError if they are gone."""
        best_step = state.progress.get("best_step")
        if best_step is None:
            return
        best = self._best_path(best_step)
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
        """Removes everything but the checkpoint."""
        self.path.unlink(missing_ok=True)
        remove_leftovers(self.path)
        self._forget_others(None)

    def _link(self, source: Path, target: Path) -> None:
        """Gives a file a second name atomically; copies it where the file system has no links."""
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

    def _best_path(self, step: int) -> Path:
        return self.path.with_name(f"{self._prefix}{step}")

    def _forget_others(self, step: int | None) -> None:
        kept = () if step is None else (self._best_path(step), note_path(self._best_path(step)))
        for path in self.path.parent.iterdir():
            if path.name.startswith(self._prefix) and path not in kept:
                path.unlink(missing_ok=True)
