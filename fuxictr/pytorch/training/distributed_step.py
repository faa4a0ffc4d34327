"""One training step on several processes, each with its own rows of the batch."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fuxictr.config import TrainConfig
from fuxictr.errors import ConfigError
from fuxictr.pytorch.batch import Batch
from fuxictr.pytorch.debug.forward_walk import unchanged
from fuxictr.pytorch.distributed.ranks import Ranks
from fuxictr.pytorch.distributed.sync_batch_norm import share_batch_norm
from fuxictr.pytorch.layers.generation import GEN
from fuxictr.pytorch.losses import add_penalty_gradients, cross_entropy
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.optim.lazy_adam import touched
from fuxictr.pytorch.precision import autocast
from fuxictr.pytorch.sharding.tables import RankTables, table_shares
from fuxictr.pytorch.training.compiled import Step
from fuxictr.pytorch.training.step import TrainingStep

# Buffers are the same on all ranks. The first name is that of torch 2.13 and later.
_NAMES = inspect.signature(DistributedDataParallel).parameters
_SYNC = "forward_sync_buffers" if "forward_sync_buffers" in _NAMES else "broadcast_buffers"
_NO_BUFFERS: dict[str, Any] = {_SYNC: False}


class RankedStep(TrainingStep):
    """Does the step of TrainingStep on P processes, to the same numbers but for rounding.

    Rank r has a part B_r of the rows of the batch B. Its loss is l_r = sum_{B_r} / |B|, and it
    derives P l_r, since DistributedDataParallel takes the mean over ranks:
    grad = (1 / P) sum_r P grad l_r. RankTables does the same for embedding tables. Penalties are
    added afterwards, on all ranks alike, and the norm that is clipped is that of all gradients,
    wherever they lie.

    Args:
        model: the model, on the device, its tables cut.
        config: how to train.
        device: where.
        where: returns the place of the present step in the training, for messages.
        ranks: the processes, two or more.

    Raises:
        ConfigError: ``compile: true``.
    """

    def __init__(
        self,
        model: BaseModel,
        config: TrainConfig,
        device: torch.device,
        where: Callable[[], str],
        ranks: Ranks,
    ) -> None:
        if config.compile is True:
            raise ConfigError(
                f"key 'compile': found true, allowed with {ranks.size} processes: false, auto "
                "(which then compiles nothing)"
            )
        share_batch_norm(model, ranks)
        super().__init__(model, config, device, where)
        self.ranks = ranks
        self._tables = RankTables(model, config.batch_size, ranks)
        shares = table_shares(model)
        self._cut = [w for name, w in model.named_parameters() if name in shares]
        self._whole = [w for name, w in model.named_parameters() if name not in shares]
        for tensor in [*self._whole, *model.buffers()]:
            ranks.broadcast(tensor.data)
        trained = (w for w in self._parameters if w.requires_grad)
        self._dense = [w for w in trained if id(w) not in self._tables.apart]
        self._forward: nn.Module | None = None  # a first batch shows which weights it leaves unused
        # The gradient of a table apart has its penalties already, or gets them from LazyAdam.
        self._penalties = [p for p in self._penalties if id(p[0]) not in self._tables.apart]
        self._may_call = not (shares or _is_collective(model))

    def __call__(self, batch: Batch, num_rows: int | None = None) -> torch.Tensor:
        """Does one step and returns l_r, still on the device.

        Args:
            batch: this rank's rows of the batch, which may be none.
            num_rows: rows of the whole batch.

        Raises:
            NotFiniteError: on a CPU, where the loss or a gradient is NaN or infinite on some rank;
                the weights are as they were.
        """
        assert num_rows is not None, "a rank knows its part of a batch only"
        loss = self._derive(batch, num_rows)
        norm = self._clip()
        if self._is_watched and not math.isfinite(norm.item()):
            self._check_all_gradients(batch, num_rows)
        self.optimizer.step()
        return loss

    def prepare(self, step: Step, num_rows: int) -> Step:
        """Returns the step as it is: a CUDA graph would need batches of one size."""
        return step

    def _derive(self, batch: Batch, num_rows: int) -> torch.Tensor:
        """Sets the gradients of the whole batch; returns the loss of its part."""
        self._forget_gradients()
        if self._forward is None:
            self._forward = self._parallel(self._has_unused(batch, num_rows))
        loss = self._part_of_loss(self._forward, batch, num_rows)
        (loss * self.ranks.size).backward()
        self._tables.collect()
        add_penalty_gradients(self._penalties)
        return loss.detach()

    def _part_of_loss(self, forward: nn.Module, batch: Batch, num_rows: int) -> torch.Tensor:
        with autocast(self.config.amp, self.device):
            outputs = forward(batch)
        return cross_entropy(outputs, self.model.get_labels(batch), num_rows)

    def _forget_gradients(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self._tables.forget_gradients()

    def _clip(self) -> torch.Tensor:
        """Clips the norm of all gradients, also of rows that lie elsewhere; returns it."""
        by_rows = touched(self.optimizer)  # of tables that are all cut, or all whole
        limit = self.config.max_gradient_norm
        if not self._cut:
            return nn.utils.clip_grad_norm_([*self._whole, *by_rows], limit)
        whole = [w.grad for w in self._whole if w.grad is not None]
        cut = [w.grad for w in [*self._cut, *by_rows] if w.grad is not None]
        square = self.ranks.sum(_square_norm(cut, self.device)) + _square_norm(whole, self.device)
        norm = square.sqrt().squeeze(0)
        scale = (limit / (norm + 1e-6)).clamp(max=1.0).float()
        torch._foreach_mul_([*whole, *cut], scale)
        return norm

    def _check_all_gradients(self, batch: Batch, num_rows: int) -> None:
        """Raises, on all ranks, where a gradient is not finite on some rank."""
        weights = [*self._parameters, *touched(self.optimizer)]
        is_bad = any(not bool(w.grad.isfinite().all()) for w in weights if w.grad is not None)
        if not self._count(is_bad):
            return  # the norm is too large for its type, which clips the gradients to 0
        loss = self._derive(batch, num_rows).item()
        is_culprit = not math.isfinite(loss)
        num_culprits = self._count(is_culprit)
        speaks = is_culprit or not num_culprits
        self.ranks.raise_if_any(self.not_finite(loss, batch, self.where()) if speaks else None)

    def _count(self, is_one: bool) -> int:
        return int(self.ranks.sum(torch.tensor([int(is_one)])).item())

    def _has_unused(self, batch: Batch, num_rows: int) -> bool:
        """Returns whether some dense weight gets no gradient on some rank; changes nothing."""
        with unchanged(self.model), torch.enable_grad():
            self._part_of_loss(self.model, batch, num_rows).backward()
        unused = [w for w in self._dense if w.grad is None]
        self._forget_gradients()
        return self._count(bool(unused)) > 0

    def _parallel(self, has_unused: bool) -> nn.Module:
        """Returns the model with the gradients of its dense weights averaged over the ranks."""
        if not self._dense:
            return self.model
        apart = [w for w in self._parameters if id(w) in self._tables.apart]
        for weight in apart:
            weight.requires_grad_(False)  # so that they are left alone
        try:
            return DistributedDataParallel(
                self.model, find_unused_parameters=has_unused, init_sync=False, **_NO_BUFFERS
            )
        finally:
            for weight in apart:
                weight.requires_grad_(True)


def _is_collective(model: nn.Module) -> bool:
    """Returns whether a forward pass needs all ranks, beside rows of tables that lie elsewhere."""
    norms = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    targets = (m.config.target for m in model.modules() if isinstance(m, GEN))
    return norms or any(target != "all" for target in targets)


def _square_norm(gradients: list[torch.Tensor], device: torch.device) -> torch.Tensor:
    """Returns the sum of the squares, float64 (1,)."""
    norms = [gradient.norm().double().view(1) for gradient in gradients]
    total = torch.zeros(1, dtype=torch.float64, device=device)
    return total if not norms else torch.cat(norms).square().sum(dim=0, keepdim=True)
