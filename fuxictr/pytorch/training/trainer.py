"""Trains, evaluates and predicts: the loop, early stopping, and the best weights."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fuxictr.config import TrainConfig
from fuxictr.errors import CheckpointError, ConfigError
from fuxictr.metrics import Monitor
from fuxictr.progress import progress_bar
from fuxictr.pytorch.batch import Batch
from fuxictr.pytorch.checkpoint.best_weights import BestWeights
from fuxictr.pytorch.checkpoint.training_state import (
    TrainingState,
    gather_random_states,
    load_optimizer_state,
    load_random_state,
    load_raw_weights,
    optimizer_state,
    random_state,
    raw_weights,
)
from fuxictr.pytorch.dataloaders import EpochIterator
from fuxictr.pytorch.distributed.ranks import current_ranks
from fuxictr.pytorch.losses import LossMean
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.optim.lazy_adam import flush
from fuxictr.pytorch.precision import matmul_precision
from fuxictr.pytorch.sharding.state_dict import (
    own_optimizer_state,
    own_weights,
    whole_optimizer_state,
    whole_weights,
)
from fuxictr.pytorch.sharding.tables import cut_tables, penalty
from fuxictr.pytorch.training.callback import Callback
from fuxictr.pytorch.training.checks import check_splits
from fuxictr.pytorch.training.compiled import Step
from fuxictr.pytorch.training.distributed_step import RankedStep
from fuxictr.pytorch.training.early_stopping import EarlyStopping
from fuxictr.pytorch.training.evaluator import Evaluator
from fuxictr.pytorch.training.step import NotFiniteError as NotFiniteError
from fuxictr.pytorch.training.step import TrainingStep

logger = logging.getLogger(__name__)

# Does a step on this process's rows of a batch that has so many on all of them.
RowsStep = Callable[[Batch, int], torch.Tensor]


@dataclass
class FitResult:
    """What a training run gave.

    Attributes:
        valid: metrics of the weights that the model holds now.
        num_epochs: epochs begun.
        train_seconds: time in training steps, evaluation left out.
        num_rows: rows trained on, all epochs together.
        num_steps: steps done, all epochs together.
        history: one entry an evaluation: epoch, step, rows, train_loss, learning_rate, metrics.
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


class Trainer:
    """Fits a model with the semantics of the reference framework.

    Each step minimises the mean binary cross-entropy plus (lambda / 2) ||w||^2, with the global
    gradient norm clipped. After each evaluation that does not improve the monitor the rate is
    multiplied by 0.1 (floor 1e-6); after ``early_stop_patience`` of them in a row training stops.
    The best evaluation's weights are restored at the end.

    Within ``ranks.joined`` on several processes each has its own rows of every batch (the
    iterators' ``share``) and the numbers are those of one process but for rounding (RankedStep).
    All public methods are collective then. Files are written by the first rank.

    Args:
        model: the model; it is moved to ``device``.
        config: how to train.
        device: where to train.
        checkpoint: file of the best weights; null keeps them in memory only.
        verbose: 0 shows no progress bars.
        note: what is known of the weights, kept beside the checkpoint; None = nothing.
        callbacks: what looks at the training.
    """

    decay_factor = 0.1
    min_learning_rate = 1e-6

    def __init__(
        self,
        model: BaseModel,
        config: TrainConfig,
        device: torch.device | str = "cpu",
        checkpoint: str | Path | None = None,
        verbose: int = 1,
        note: Mapping[str, Any] | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.ranks = current_ranks()
        cut_tables(model, config, self.ranks)
        self.model = model.to(device)
        self.callbacks = list(callbacks)
        self.config = config
        self.device = torch.device(device)
        self.checkpoint = Path(checkpoint) if checkpoint else None
        self.show_bar = verbose > 0 and self.ranks.is_first
        self.monitor = Monitor(config.monitor, config.monitor_mode)
        self.stopping = EarlyStopping(self.monitor.mode, config.early_stop_patience)
        self._step = self._training_step()
        self._evaluator = Evaluator(
            model, config, self.device, self.ranks, self.show_bar, self.callbacks
        )
        self.optimizer = self._step.optimizer
        self._best = BestWeights(model, self.checkpoint, note, self.ranks)
        self._losses = LossMean(self.device)
        self._batch: Batch | None = None  # of the last step
        self._result = FitResult()
        self._num_epoch_batches = 0  # done in the present epoch
        self._loader_epoch = 0

    def fit(
        self,
        train: EpochIterator,
        valid: EpochIterator | None,
        state: TrainingState | None = None,
    ) -> FitResult:
        """Trains until early stopping or the last epoch, and restores the best weights.

        Args:
            train: training batches.
            valid: validation batches; null trains for all epochs and keeps the last weights.
            state: of an earlier run, to go on from: the same model, config and batches. On a CPU
                weights and metrics are those of an undisturbed run, bit for bit. It is used up:
                what goes on changes it.

        Raises:
            CheckpointError: the state does not fit.
            ConfigError: as ``check_splits``, or ``compile: true`` without a compiler.
            DataError: as ``check_splits``.
            NotFiniteError: the loss or a gradient became NaN or infinite.
        """
        self._check_share(train)
        check_splits(self.model, self.config.metrics, train, valid, self.ranks)
        step = self._step_of(train)
        self._result, self._num_epoch_batches = FitResult(), 0
        if state is not None:
            with self.ranks.raise_on_any_rank(), _naming_the_state():
                self._load_state(state, train)
        else:
            self._part_random_numbers()
        logger.info(
            "%s training: %d rows, %d batches/epoch on %s",
            "Start" if state is None else "Resume",
            train.num_rows,
            len(train),
            self.device,
        )
        try:
            for callback in self.callbacks:
                callback.before_training(len(train))
            with matmul_precision(self.config.matmul_precision):
                self._train(train, valid, step)
        finally:
            for callback in self.callbacks:
                callback.close()
        logger.info("Training finished.")
        self._restore_best(valid)
        if valid is None and self._batch is not None:
            self._evaluator.look_at(self._batch, "The last batch of the training")
        return self._result

    def state(self) -> TrainingState:
        """Returns all that decides how the training goes on; its tensors are the ones in use.

        It may be asked for between two steps, after a step before its evaluation, and after that.
        On several processes the first one has all of it, in the form that one process has, and the
        others have no tensors.
        """
        losses = self._losses.state(self.ranks)
        progress = {
            "result": asdict(self._result),
            "num_epoch_batches": self._num_epoch_batches,
            "loader_epoch": self._loader_epoch,
            "stopping": asdict(self.stopping),
            "losses": losses,
            "callbacks": {type(c).__name__: c.state() for c in self.callbacks},
        }
        model, ranks = self.model, self.ranks
        optimizer = optimizer_state(self.optimizer)
        tensors: dict[str, Any] = {
            "weights": whole_weights(raw_weights(model), model, ranks),
            "optimizer": whole_optimizer_state(optimizer, self.optimizer, model, ranks),
            "random": random_state(self.device),
        }
        if ranks.size > 1:
            tensors["random_of_ranks"] = gather_random_states(tensors["random"], ranks)
        best = self._best.state()
        if best is not None:
            tensors["best"] = best
        return TrainingState(progress, tensors if ranks.is_first else {})

    def _load_state(self, state: TrainingState, train: EpochIterator) -> None:
        progress, tensors = state.progress, state.tensors
        load_raw_weights(self.model, own_weights(tensors["weights"], self.model))
        optimizer = own_optimizer_state(tensors["optimizer"], self.optimizer, self.model)
        load_optimizer_state(self.optimizer, optimizer)
        self._best.load_state(tensors.get("best"))
        self._result = FitResult(**progress["result"])
        self.stopping = EarlyStopping(**progress["stopping"])
        self._losses.load_state(progress["losses"], self.ranks)
        for callback in self.callbacks:
            known = progress["callbacks"].get(type(callback).__name__)
            if known is not None:
                callback.load_state(known)
        self._num_epoch_batches = progress["num_epoch_batches"]
        self._loader_epoch = progress["loader_epoch"]
        train.resume_at(self._loader_epoch, self._num_epoch_batches)
        of_ranks = tensors.get("random_of_ranks", [])
        if self.ranks.is_first:
            load_random_state(tensors["random"], self.device)
        elif len(of_ranks) == self.ranks.size:
            load_random_state(of_ranks[self.ranks.rank], self.device)
        else:
            self._part_random_numbers(self._result.num_steps)

    def evaluate(
        self, batches: EpochIterator, description: str = "Evaluate", skip_undefined: bool = False
    ) -> dict[str, float]:
        """Returns the config's metrics over all rows, on all ranks, and logs them.

        Args:
            batches: the rows.
            description: what messages call them.
            skip_undefined: leave a metric out, with a warning, that is not defined for these labels
                or groups.

        Raises:
            ConfigError: a metric needs groups and the batches have no group ids.
            DataError: a metric is not defined for these labels or groups.
        """
        return self._evaluator.evaluate(batches, description, skip_undefined)

    def predict(self, batches: EpochIterator, description: str = "Predict") -> np.ndarray:
        """Returns the click probability of every row, float32 (rows,), in the rows' order.

        On several processes the first one has all rows, the others none.
        """
        return self._evaluator.predict(batches, description)

    def train_step(self, batch: Batch) -> torch.Tensor:
        """Does one step and returns the batch's mean cross-entropy, still on the device.

        Raises:
            NotFiniteError: on a CPU, where the loss or a gradient is NaN or infinite; the weights
                are as they were.
        """
        return self._step(batch)

    def _training_step(self) -> TrainingStep:
        if self.ranks.size == 1:
            return TrainingStep(self.model, self.config, self.device, self._where)
        return RankedStep(self.model, self.config, self.device, self._where, self.ranks)

    def _step_of(self, train: EpochIterator) -> RowsStep:
        """Returns what does a step on this process's rows of a batch of so many rows."""
        if self.ranks.size > 1:
            return self._step
        step = self._make_step(train)
        return lambda batch, num_rows: step(batch)

    def _make_step(self, train: EpochIterator) -> Step:
        first, stop = train.bounds()[0]
        return self._step.prepare(self.train_step, stop - first)

    def _check_share(self, train: EpochIterator) -> None:
        place, found = (self.ranks.rank, self.ranks.size), train.share
        is_split_otherwise = train.is_split_by_batch and self.ranks.size > 1
        if (found.rank, found.num_ranks) != place or is_split_otherwise:
            raise ConfigError(
                f"training batches: found those of rank {found.rank} of {found.num_ranks}, this is "
                f"rank {place[0]} of {place[1]}; give the loader share=Share(rank, num_ranks), and "
                "let training rows not be split by batch"
            )

    def _part_random_numbers(self, num_steps: int = 0) -> None:
        """Lets each rank draw its own dropout; the first one draws what one process would."""
        if not self.ranks.is_first:
            torch.manual_seed(self.config.seed + 1_000_003 * self.ranks.rank + num_steps)

    def _where(self, num_steps_ago: int = 0) -> str:
        """Returns the place of the present step, or of an earlier one, in the training."""
        result = self._result
        return f"epoch {max(result.num_epochs, 1)}, step {result.num_steps + 1 - num_steps_ago}"

    def _train(
        self,
        train: EpochIterator,
        valid: EpochIterator | None,
        step: RowsStep,
    ) -> None:
        result = self._result
        for epoch in range(max(result.num_epochs, 1), self.config.epochs + 1):
            if self.stopping.should_stop:  # so it had been decided when the state was saved
                break
            if epoch > result.num_epochs:  # else it goes on in the middle
                result.num_epochs, self._num_epoch_batches = epoch, 0
            for _ in self._train_epoch(train, epoch, step):
                self._evaluate_and_decide(valid, epoch)
                if self.stopping.should_stop:
                    break
            if self.stopping.should_stop:
                logger.info("********* Epoch==%d early stop *********", epoch)
                break
            logger.info("************ Epoch=%d end ************", epoch)
        if not result.history:  # eval_steps is longer than the whole training
            self._evaluate_and_decide(valid, result.num_epochs)

    def _train_epoch(self, train: EpochIterator, epoch: int, step: RowsStep) -> Iterator[None]:
        """Does the steps of one epoch that are left; yields where an evaluation is due."""
        interval = self.config.eval_steps or len(train)
        result = self._result
        if self._owes_evaluation(interval):
            yield
        self.model.train()
        left = train.bounds()[self._num_epoch_batches :]
        num_rows_done = left[0][0] if left else train.num_rows
        start = time.perf_counter()
        with progress_bar(
            train.num_rows, f"Epoch {epoch}", self.show_bar, initial=num_rows_done
        ) as advance:
            for batch, (first, stop) in zip(train, left, strict=True):
                num_rows = stop - first
                self._loader_epoch = train.epoch
                self._add_loss(step(batch, num_rows), batch)
                self._num_epoch_batches += 1
                result.num_steps += 1
                result.num_rows += num_rows
                advance(num_rows)
                due = [c for c in self.callbacks if c.is_due(result.num_steps)]
                is_evaluated = result.num_steps % interval == 0
                if due or is_evaluated:
                    result.train_seconds += self._seconds_since(start)
                    for callback in due:
                        callback.after_step(epoch, result.num_steps)
                    if is_evaluated:
                        yield
                    self.model.train()
                    start = time.perf_counter()
        result.train_seconds += self._seconds_since(start)

    def _owes_evaluation(self, interval: int) -> bool:
        """Returns whether the state that was loaded is of after a step, before its evaluation."""
        num_steps, history = self._result.num_steps, self._result.history
        is_due = num_steps > 0 and num_steps % interval == 0
        return is_due and (not history or history[-1]["step"] < num_steps)

    def _add_loss(self, loss: torch.Tensor, batch: Batch) -> None:
        self._batch = batch
        num_steps_ago = self._losses.add(loss)
        error = None
        if num_steps_ago is not None:
            error = self._step.not_finite(math.nan, batch, self._where(num_steps_ago))
        if self._losses.num_kept == 0 and self.device.type == "cuda":
            self.ranks.raise_if_any(error)  # on a CPU a step checks before the weights change
        elif error is not None:
            raise error

    def _seconds_since(self, start: float) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - start

    def _mean_loss(self) -> float:
        """Returns the mean loss of the steps since the last evaluation, penalties included."""
        num_steps_ago = self._losses.collect()
        loss = self._losses.mean(self.ranks) + penalty(self.model, self.ranks)
        error = None
        if num_steps_ago is not None or not math.isfinite(loss):
            assert self._batch is not None, "an evaluation comes after a step"
            where = self._where(1 + (num_steps_ago or 0))
            error = self._step.not_finite(loss, self._batch, where)
        self.ranks.raise_if_any(error)
        return loss

    def _evaluate_and_decide(self, valid: EpochIterator | None, epoch: int) -> None:
        result = self._result
        flush(self.optimizer)
        train_loss = self._mean_loss()
        logger.info("Train loss: %.6f", train_loss)
        entry: dict[str, Any] = {
            "epoch": epoch,
            "step": result.num_steps,
            "rows": result.num_rows,
            "train_loss": train_loss,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
        }
        if valid is not None:
            entry["metrics"] = self.evaluate(valid, "Validate")
        # Up to here the run could have been cut off: it would evaluate again when it goes on.
        self._losses.reset()
        result.history.append(entry)
        if valid is not None:
            self._decide(entry["metrics"])
        for callback in self.callbacks:
            callback.after_evaluation(entry)

    def _decide(self, metrics: dict[str, float]) -> None:
        """Keeps the weights if the monitor improved, otherwise lowers the rate."""
        value = self.monitor.get_value(metrics)
        mode = self.monitor.mode
        if self.stopping.improved(value):
            logger.info("Save best model: monitor(%s)=%.6f", mode, value)
            self._result.valid = metrics
            self._best.keep()
        else:
            logger.info("Monitor(%s)=%.6f STOP!", mode, value)
            if self.config.reduce_lr_on_plateau:
                self._lower_learning_rate()

    def _lower_learning_rate(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = max(group["lr"] * self.decay_factor, self.min_learning_rate)
        logger.info("Reduce learning rate on plateau: %.6f", self.optimizer.param_groups[0]["lr"])

    def _restore_best(self, valid: EpochIterator | None) -> None:
        result = self._result
        if valid is not None and self.config.save_best_only:
            self._best.restore()
            return
        self._best.keep()
        if result.history:
            result.valid = result.history[-1].get("metrics", {})


@contextmanager
def _naming_the_state() -> Iterator[None]:
    """Turns what a state raises that does not hold what it should into a CheckpointError."""
    try:
        yield
    except CheckpointError:
        raise
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"the state of the training run does not fit the model or the config ({error!r}); "
            "train without --resume"
        ) from error
