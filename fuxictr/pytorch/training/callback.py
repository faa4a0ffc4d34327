"""What observes a training run."""

from __future__ import annotations

from typing import Any


class Callback:
    """Observes a training run; a method does nothing unless overridden.

    It must not change the weights, the optimiser or the random number generators.
    """

    def before_training(self, steps_per_epoch: int) -> None:
        """Called once before the first step, also when a run resumes."""

    def is_due(self, step: int) -> bool:
        """Returns whether to call ``after_step``; called after every step, so it must be cheap."""
        return False

    def after_step(self, epoch: int, step: int) -> None:
        """Called after each step that is due; its time is no training time."""

    def after_batch(self) -> None:
        """Called after each batch of an evaluation or prediction; it must be cheap."""

    def after_evaluation(self, entry: dict[str, Any]) -> None:
        """Called with each new entry of the history."""

    def state(self) -> dict[str, Any]:
        """Returns what it needs when the run resumes, as JSON holds it."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes over what ``state`` returned; called before ``before_training``."""

    def close(self) -> None:
        """Called once at the end, also where training failed."""
