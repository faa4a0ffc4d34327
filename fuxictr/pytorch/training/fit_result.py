"""The result of a training run, which also counts its progress."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class FitResult:
    """What a training run gave.

    Attributes:
        valid: metrics of the weights that the model holds now.
        num_epochs: epochs begun.
        train_seconds: time in training steps, without evaluation.
        num_rows: rows trained on in all epochs.
        history: per evaluation: epoch, step, rows, train_loss, learning_rate, metrics.
    """

    valid: dict[str, float] = field(default_factory=dict)
    num_epochs: int = 0
    train_seconds: float = 0.0
    num_rows: int = 0
    num_steps: int = 0
    history: list[dict] = field(default_factory=list)

    @property
    def rows_per_second(self) -> float:
        """Training throughput."""
        return self.num_rows / self.train_seconds if self.train_seconds > 0 else 0.0

    def place(self, num_steps_ago: int = 0) -> str:
        """Returns what messages call the present step, or the one ``num_steps_ago`` before."""
        return f"epoch {max(self.num_epochs, 1)}, step {self.num_steps + 1 - num_steps_ago}"

    def owes_evaluation(self, interval: int) -> bool:
        """Returns whether the last step is due for an evaluation that has not been done."""
        is_due = self.num_steps > 0 and self.num_steps % interval == 0
        return is_due and (not self.history or self.history[-1]["step"] < self.num_steps)
