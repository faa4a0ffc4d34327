"""Training steps of models that override a part of them, as classes written for FuxiCTR may."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from fuxictr.config import TrainConfig
from fuxictr.errors import ConfigError, DataError
from fuxictr.pytorch.batch import Batch
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.models.hooks import changes
from fuxictr.pytorch.precision import autocast
from fuxictr.pytorch.training.step import StepStopped, TrainingStep

logger = logging.getLogger(__name__)


class HookedLoss(TrainingStep):
    """Does the step of a model that has its own loss, penalty or optimiser.

    loss = model.compute_loss(model(batch), model.get_labels(batch)), penalties included. Gradients
    go through autograd alone, so each step updates whole tables.
    """

    def __init__(
        self, model: BaseModel, config: TrainConfig, device: torch.device, hooks: Sequence[str]
    ) -> None:
        super().__init__(model, replace(config, table_updates="dense"), device)
        self._penalties = []  # compute_loss adds them
        if "optimizer" in hooks:
            self.optimizer = model.optimizer

    def compile(self, num_rows: int) -> None:
        """Compiles nothing."""

    def _plain_loss(self, batch: Batch) -> torch.Tensor:
        with autocast(self.config.amp, self.device):
            outputs = self.model(batch)
        return self._checked(
            self.model.compute_loss(outputs, self.model.get_labels(batch)), "compute_loss"
        )

    def _checked(self, loss: Any, name: str) -> torch.Tensor:
        """Returns the loss, if it is one number in a tensor."""
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            kind = f"shape {tuple(loss.shape)}" if hasattr(loss, "shape") else type(loss).__name__
            raise DataError(
                f"{type(self.model).__name__}.{name} returned {kind}; allowed: a tensor of one "
                "number, the mean loss of the batch"
            )
        return loss.reshape(())


class HookedStep(HookedLoss):
    """Calls ``model.train_step(batch)``, which does the whole step with ``model.optimizer``."""

    def __call__(self, batch: Batch) -> torch.Tensor:
        """Does one step; returns the loss that the model returned."""
        loss = self._checked(self.model.train_step(batch), "train_step").detach()
        if self._is_watched and not math.isfinite(loss.item()):
            raise StepStopped(loss.item())
        return loss


def make_hooked_step(
    model: BaseModel, config: TrainConfig, device: torch.device, hooks: list[str], num_ranks: int
) -> TrainingStep | None:
    """Returns the step of a model whose hooks change the step, None for all other models.

    A message says once what such a step does without.

    Raises:
        ConfigError: several processes, ``compile: true``, or mixed precision with a train_step.
    """
    own = changes(hooks, "loss", "step")
    if not own:
        return None
    who = f"{type(model).__name__} has its own {', '.join(own)}"
    if num_ranks > 1:
        raise ConfigError(
            f"{who}: its loss on a part of a batch is not that of the batch; found {num_ranks} "
            "processes, allowed: 1"
        )
    if config.compile is True:
        raise ConfigError(f"key 'compile': found true; {who}; allowed: false")
    if "train_step" in own and config.amp != "none":
        raise ConfigError(f"key 'amp': found {config.amp}; {who}; allowed: none")
    logger.warning(
        "%s: it is called in plain steps, which are slower: each updates whole tables, and nothing "
        "is compiled",
        who,
    )
    kind = HookedStep if "train_step" in own else HookedLoss
    return kind(model, config, device, own)
