"""Trains, evaluates and predicts: the loop, early stopping, and the best weights."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from fuxictr.config import TrainConfig
from fuxictr.metrics import Monitor
from fuxictr.progress import progress_bar
from fuxictr.pytorch.batch import Batch
from fuxictr.pytorch.checkpoint.best_weights import BestWeights
from fuxictr.pytorch.checkpoint.training_state import (
    TrainingState,
    gather_tensors,
    load_random_numbers,
    load_tensors,
    naming_the_state,
    seed_rank,
)
from fuxictr.pytorch.dataloaders import EpochIterator
from fuxictr.pytorch.distributed.ranks import current_ranks
from fuxictr.pytorch.losses import LossMean
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.optim.lazy_adam import flush
from fuxictr.pytorch.precision import matmul_precision
from fuxictr.pytorch.sharding.tables import penalty, shard_tables
from fuxictr.pytorch.training.callback import Callback
from fuxictr.pytorch.training.checks import check_splits
from fuxictr.pytorch.training.distributed_step import DistributedStep
from fuxictr.pytorch.training.early_stopping import EarlyStopping
from fuxictr.pytorch.training.evaluator import Evaluator
from fuxictr.pytorch.training.fit_result import FitResult
from fuxictr.pytorch.training.hooked_step import make_hooked_step
from fuxictr.pytorch.training.spinning import spinning_where_alone
from fuxictr.pytorch.training.step import NotFiniteError as NotFiniteError
from fuxictr.pytorch.training.step import StepStopped, TrainingStep
from fuxictr.pytorch.training.work import adapt_threads

logger = logging.getLogger(__name__)


class Trainer(Evaluator):
    """Fits a model with the semantics of the reference framework.

    Each step minimises the mean binary cross-entropy plus (lambda / 2) ||w||^2, with the global
    gradient norm clipped. An evaluation that does not improve the monitor multiplies the rate by
    0.1 (floor 1e-6). After ``early_stop_patience`` of them in a row training stops. The best
    evaluation's weights are restored at the end.

    Within ``ranks.joined`` each process has its own rows of every batch (the iterators' ``share``),
    and all public methods are collective. The numbers are those of one process but for rounding
    (DistributedStep). The first process writes the files.

    Args:
        checkpoint: file of the best weights; None keeps them in memory only.
        verbose: 0 shows no progress bars.
        note: what is known of the weights, kept beside the checkpoint; None: nothing.
        callbacks: what observes the training.
        is_within: overridden methods of the model that called this, as ``fit``.
    """

    def __init__(
        self,
        model: BaseModel,
        config: TrainConfig,
        device: torch.device | str = "cpu",
        checkpoint: str | Path | None = None,
        verbose: int = 1,
        note: Mapping[str, Any] | None = None,
        callbacks: Sequence[Callback] = (),
        is_within: tuple[str, ...] = (),
    ) -> None:
        ranks = current_ranks()
        shard_tables(model, config, ranks)
        adapt_threads(model, config.batch_size, device)
        model, device = model.to(device), torch.device(device)
        super().__init__(model, config, device, verbose > 0, callbacks, is_within)
        self.checkpoint = Path(checkpoint) if checkpoint else None
        self.monitor = Monitor(config.monitor, config.monitor_mode)
        self.stopping = EarlyStopping(self.monitor.mode, config.early_stop_patience)
        hooked = make_hooked_step(model, config, self.device, self.hooks, ranks.size)
        self._is_hooked = hooked is not None
        self._step = hooked or (
            TrainingStep(model, config, self.device)
            if ranks.size == 1
            else DistributedStep(model, config, self.device, ranks)
        )
        self.optimizer = self._step.optimizer
        if "optimizer" not in self.hooks:
            model.use_optimizer(self.optimizer)
        self._best = BestWeights(model, self.checkpoint, note, ranks)
        self._losses = LossMean(self.device, ranks)
        self._trained: Batch | None = None  # the last one
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

        Without validation batches it trains for all epochs and keeps the last weights. It resumes
        from a ``state`` of an interrupted run of the same model, config and batches, and changes
        the state. On a CPU, weights and metrics are then those of an undisturbed run, bit for bit.

        Raises:
            CheckpointError: the state does not fit.
            ConfigError: as ``check_splits``, or ``compile: true`` without a compiler.
            DataError: as ``check_splits``.
            NotFiniteError: the loss or a gradient became NaN or infinite.
        """
        check_splits(self.columns, self._checkable_metrics(), train, valid, self.ranks)
        first, stop = train.bounds()[0]
        self._step.compile(stop - first)
        self._result, self._num_epoch_batches = FitResult(), 0
        if state is not None:
            with self.ranks.raise_on_any_rank(), naming_the_state():
                self._load_state(state, train)
        else:
            seed_rank(self.config.seed, self.ranks)
        logger.info(
            "%s training: %d rows, %d batches/epoch on %s",
            "Start" if state is None else "Resume",
            train.num_rows,
            len(train),
            self.device,
        )
        try:
            self.model.__dict__.update(
                _steps_per_epoch=len(train),
                _max_gradient_norm=self.config.max_gradient_norm,
                _stop_training=False,
                valid_gen=valid,
            )
            for callback in self.callbacks:
                callback.before_training(len(train))
            with (
                matmul_precision(self.config.matmul_precision),
                spinning_where_alone(self.device),
            ):
                self._train(train, valid)
        finally:
            self.model.__dict__.pop("valid_gen", None)
            for callback in self.callbacks:
                callback.close()
        logger.info("Training finished.")
        self._restore_best(valid)
        if valid is None and self._trained is not None:
            self.look_at(self._trained, "The last batch of the training")
        return self._result

    def train_step(self, batch: Batch) -> torch.Tensor:
        """Does one step; returns the mean cross-entropy as TrainingStep does, on the device.

        On a CPU it raises NotFiniteError for a loss or gradient that is NaN or infinite, and leaves
        the weights as they were.
        """
        try:
            return self._step(batch)
        except StepStopped as stopped:
            loss = stopped.loss
        self.ranks.raise_if_any(None if loss is None else self._not_finite(loss, batch))
        raise AssertionError("some process has the error that all of them end with")

    def state(self) -> TrainingState:
        """Returns all that training needs to resume; its tensors are the ones in use.

        It can be called between steps, before and after the evaluation of a step. With several
        processes only the first one gets tensors, in the form that one process has.
        """
        progress = {
            "result": asdict(self._result),
            "num_epoch_batches": self._num_epoch_batches,
            "loader_epoch": self._loader_epoch,
            "stopping": asdict(self.stopping),
            "losses": self._losses.state(),
            "callbacks": {type(c).__name__: c.state() for c in self.callbacks},
        }
        tensors = gather_tensors(self.model, self.optimizer, self.device, self.ranks)
        best = self._best.state()
        if best is not None:
            tensors["best"] = best
        return TrainingState(progress, tensors if self.ranks.is_first else {})

    def _load_state(self, state: TrainingState, train: EpochIterator) -> None:
        progress, tensors = state.progress, state.tensors
        load_tensors(tensors, self.model, self.optimizer)
        self._best.load_state(tensors.get("best"))
        self._result = FitResult(**progress["result"])
        self.stopping = EarlyStopping(**progress["stopping"])
        self._losses.load_state(progress["losses"])
        for callback in self.callbacks:
            known = progress["callbacks"].get(type(callback).__name__)
            if known is not None:
                callback.load_state(known)
        self._num_epoch_batches = progress["num_epoch_batches"]
        self._loader_epoch = progress["loader_epoch"]
        train.resume_at(self._loader_epoch, self._num_epoch_batches)
        if not load_random_numbers(tensors, self.device, self.ranks):
            seed_rank(self.config.seed + self._result.num_steps, self.ranks)

    def _train(self, train: EpochIterator, valid: EpochIterator | None) -> None:
        result = self._result
        for epoch in range(max(result.num_epochs, 1), self.config.epochs + 1):
            if self._should_stop:  # since the epoch before, or since the state was saved
                break
            if epoch > result.num_epochs:  # else training resumes within the epoch
                result.num_epochs, self._num_epoch_batches = epoch, 0
            self._train_epoch(train, valid, epoch)
            if self._should_stop:
                logger.info("********* Epoch==%d early stop *********", epoch)
            else:
                logger.info("************ Epoch=%d end ************", epoch)
        if not result.history:  # eval_steps is longer than the whole training
            self._evaluate_and_decide(valid, result.num_epochs)

    def _train_epoch(self, train: EpochIterator, valid: EpochIterator | None, epoch: int) -> None:
        """Does the remaining steps of one epoch, up to its end or to early stopping."""
        interval = self.config.eval_steps or len(train)
        result = self._result
        if result.owes_evaluation(interval):
            self._evaluate_and_decide(valid, epoch)
            if self._should_stop:
                return
        self.model.train()
        left = train.bounds()[self._num_epoch_batches :]
        num_rows_done = left[0][0] if left else train.num_rows
        start = time.perf_counter()
        with progress_bar(
            train.num_rows, f"Epoch {epoch}", self.show_bar, initial=num_rows_done
        ) as advance:
            for batch, (first, stop) in zip(train, left, strict=True):
                batch.num_global_rows = stop - first
                self._loader_epoch = train.epoch
                self._show_progress(epoch)
                self._add_loss(self.train_step(batch), batch)
                self._num_epoch_batches += 1
                result.num_steps += 1
                result.num_rows += batch.num_global_rows
                advance(batch.num_global_rows)
                due = [c for c in self.callbacks if c.is_due(result.num_steps)]
                is_evaluated = result.num_steps % interval == 0
                if due or is_evaluated or self._should_stop:
                    result.train_seconds += self._seconds_since(start)
                    for callback in due:
                        callback.after_step(epoch, result.num_steps)
                    if is_evaluated:
                        self._evaluate_and_decide(valid, epoch)
                    if self._should_stop:
                        return
                    self.model.train()
                    start = time.perf_counter()
        result.train_seconds += self._seconds_since(start)

    @property
    def _should_stop(self) -> bool:
        """Whether patience is used up, or the model has said so."""
        return self.stopping.should_stop or bool(self.model.__dict__.get("_stop_training"))

    def _show_progress(self, epoch: int) -> None:
        """Sets what a model may read of the training, under FuxiCTR's names."""
        self.model.__dict__.update(
            _epoch_index=epoch - 1,
            _batch_index=self._num_epoch_batches,
            _total_steps=self._result.num_steps + 1,
        )

    def _add_loss(self, loss: torch.Tensor, batch: Batch) -> None:
        self._trained = batch
        num_steps_ago = self._losses.add(loss)
        error = None
        if num_steps_ago is not None:
            error = self._not_finite(math.nan, batch, num_steps_ago)
        if self._losses.num_kept == 0 and self.device.type == "cuda":
            self.ranks.raise_if_any(error)
        elif error is not None:
            raise error

    def _not_finite(self, loss: float, batch: Batch, num_steps_ago: int = 0) -> NotFiniteError:
        return self._step.explain(loss, batch, self._result.place(num_steps_ago))

    def _seconds_since(self, start: float) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - start

    def _mean_loss(self) -> float:
        """Returns the mean loss of the steps since the last evaluation, penalties included."""
        num_steps_ago = self._losses.collect()
        loss = self._losses.mean()
        if not self._is_hooked:
            loss += penalty(self.model, self.ranks)
        error = None
        if num_steps_ago is not None or not math.isfinite(loss):
            assert self._trained is not None, "an evaluation comes after a step"
            error = self._not_finite(loss, self._trained, 1 + (num_steps_ago or 0))
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
        # A run that was cut off up to here evaluates again when it resumes.
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
            return
        logger.info("Monitor(%s)=%.6f STOP!", mode, value)
        if self.config.reduce_lr_on_plateau:
            rate = self.model.lr_decay()
            if not isinstance(rate, float):
                rate = self.optimizer.param_groups[0]["lr"]
            logger.info("Reduce learning rate on plateau: %.6f", rate)

    def _restore_best(self, valid: EpochIterator | None) -> None:
        result = self._result
        if valid is not None and self.config.save_best_only:
            self._best.restore()
            return
        self._best.keep()
        if result.history:
            result.valid = result.history[-1].get("metrics", {})
