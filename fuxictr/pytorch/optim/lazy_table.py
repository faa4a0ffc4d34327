"""A table of which a step of Adam reads and writes only the rows that a batch holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim.adam import adam

from fuxictr.pytorch.optim.catch_up import SkippedSteps
from fuxictr.pytorch.optim.sparse_lookup import RowBlock, TableReader, UniqueRows

_ROWS_AT_ONCE = 16_384  # of a flush, so that they stay in the processor's cache
_PLAIN_ADAM = {"fused": True, "amsgrad": False, "maximize": False, "weight_decay": 0.0}


class _Moments(NamedTuple):
    exp_avg: torch.Tensor  # (U, D)
    exp_avg_sq: torch.Tensor  # (U, D)
    step: int  # at which they, and the weights, are up to date


class LazyTable(TableReader):
    """A table and its state of Adam, where most rows are some steps behind.

    A lookup reads the rows of its batch and brings them up to date (SkippedSteps); ``step`` updates
    them and writes them back. The numbers are those of Adam on the whole table but for rounding, at
    a cost that does not grow with the table. Rows read without gradients are not written back. The
    table gets gradients through lookups only.
    """

    def __init__(
        self, table: nn.Parameter, unique: UniqueRows, betas: tuple[float, float], eps: float
    ) -> None:
        super().__init__(table, unique)
        self._constants = (betas, eps)
        self._exp_avg = torch.zeros_like(table, requires_grad=False)
        self._exp_avg_sq = torch.zeros_like(table, requires_grad=False)
        self._step = torch.zeros((), dtype=torch.float32, device=table.device)
        self._last = torch.zeros(len(table), dtype=torch.int32, device=table.device)
        self._start(0)

    @property
    def num_steps(self) -> int:
        """Number of steps done."""
        return self._skipped.step

    @property
    def is_behind(self) -> bool:  # type: ignore[override]
        """Whether some rows are not up to date."""
        return self.num_steps > self._flushed

    @torch.no_grad()
    def step(self, lr: float) -> bool:
        """Does a step of Adam; returns False, and does nothing, where there is no gradient."""
        if self.table.grad is not None:
            raise RuntimeError(
                "a table that is updated lazily has a gradient of its own: something other than a "
                "lookup has read it"
            )
        weights = self.row_gradients()
        if weights is None:
            return False
        block = self._blocks.pop()
        (beta1, beta2), eps = self._constants
        tensors = [weights], [weights.grad], [block.state.exp_avg], [block.state.exp_avg_sq]
        constants = {"beta1": beta1, "beta2": beta2, "eps": eps, "lr": lr}
        adam(*tensors, [], [self._step], **_PLAIN_ADAM, **constants)
        self._skipped.advance(lr)
        self._write(block)
        return True

    @torch.inference_mode(False)
    @torch.no_grad()
    def flush(self) -> None:
        """Brings all rows up to date."""
        if not self.is_behind:
            return
        # Rows without a step have zero moments: nothing moves them.
        behind = ((self._last > 0) & (self._last < self.num_steps)).nonzero().view(-1)
        for numbers in behind.split(_ROWS_AT_ONCE):
            self._write(self._read(numbers))
        self._start(self.num_steps)

    def state(self) -> dict[str, torch.Tensor]:
        """Returns the state under torch.optim.Adam's names; valid for rows that are up to date."""
        return {"step": self._step, "exp_avg": self._exp_avg, "exp_avg_sq": self._exp_avg_sq}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes over a state of torch.optim.Adam; an empty one is that before the first step."""
        self.flush()  # the weights; the moments are replaced
        self.forget_gradients()
        for name, held in self.state().items():
            held.copy_(state[name]) if state else held.zero_()
        self._start(int(self._step.item()))
        self._last.fill_(self.num_steps)

    def raw_state(self) -> dict[str, Any]:
        """Returns the state with each row's step, without the weights; it does not flush."""
        behind = {"last": self._last, "flushed": self._flushed, "skipped": self._skipped.state()}
        return {**self.state(), **behind}

    @torch.no_grad()
    def load_raw_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what ``raw_state`` returned; the table holds the weights of that moment."""
        self.forget_gradients()
        for name, held in {**self.state(), "last": self._last}.items():
            held.copy_(state[name])
        self._start(int(state["flushed"]))
        self._skipped.load_state(state["skipped"])

    def _start(self, step: int) -> None:
        """Counts from a step at which all rows are up to date."""
        self._flushed = step
        self._skipped = SkippedSteps(step, *self._constants, like=self.table.detach())

    @torch.no_grad()
    def _read(self, numbers: torch.Tensor) -> RowBlock:
        weights = self.table.index_select(0, numbers)
        exp_avg = self._exp_avg.index_select(0, numbers)
        exp_avg_sq = self._exp_avg_sq.index_select(0, numbers)
        last = self._last.index_select(0, numbers)
        self._skipped.catch_up(weights, exp_avg, exp_avg_sq, last)
        return RowBlock(numbers, weights, _Moments(exp_avg, exp_avg_sq, self.num_steps))

    def _is_fresh(self, block: RowBlock) -> bool:
        return block.state.step == self.num_steps

    def _write(self, block: RowBlock) -> None:
        numbers, weights, moments = block
        self.table.index_copy_(0, numbers, weights)
        self._exp_avg.index_copy_(0, numbers, moments.exp_avg)
        self._exp_avg_sq.index_copy_(0, numbers, moments.exp_avg_sq)
        self._last.index_fill_(0, numbers, self.num_steps)
