"""What may look at a training run from outside."""

from __future__ import annotations

from typing import Any


class Callback:
    """What may look at a training run from outside; every method does nothing unless overridden.

    It must leave the weights, the optimiser and the random number generators as they are.
    """

    def before_training(self, steps_per_epoch: int) -> None:
        """Called once, before the first step, also of a run that goes on."""

    def is_due(self, step: int) -> bool:
        """Returns whether ``after_step`` is wanted; asked after every step, so it must be cheap."""
        return False

    def after_step(self, epoch: int, step: int) -> None:
        """Called after each step that is due; the clock of the training time stands still."""

    def after_batch(self) -> None:
        """Called after each batch of an evaluation or prediction; it must be cheap."""

    def after_evaluation(self, entry: dict[str, Any]) -> None:
        """Called with each new entry of the history."""

    def state(self) -> dict[str, Any]:
        """Returns what it needs to know when the run goes on, of plain values as JSON has them."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes over what ``state`` returned; called before ``before_training``."""

    def close(self) -> None:
        """Called once at the end, also of a training that failed."""
