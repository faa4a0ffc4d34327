"""Adam for models with large embedding tables, with the numbers of the dense Adam."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from fuxictr.config import TrainConfig
from fuxictr.pytorch.layers.embeddings import FieldBlocks
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.optim.dense_table import DenseTable
from fuxictr.pytorch.optim.lazy_table import LazyTable
from fuxictr.pytorch.optim.sparse_lookup import UniqueRows
from fuxictr.pytorch.torch_utils import get_optimizer

# With fewer, the whole table costs no more than finding and moving the rows of a batch.
MIN_WEIGHTS_PER_LOOKUP = 64

Penalty = tuple[nn.Parameter, int, float]


class LazyAdam(torch.optim.Adam):
    """torch.optim.Adam whose cost does not grow with tables that have no penalty.

    A row that is not in the batch has no gradient; what Adam would do to it is made up for when it
    is read next (SkippedSteps). The numbers are those of torch.optim.Adam but for rounding. A
    penalty is a gradient of every row. So a table with one is updated as a whole, to the bits of
    torch.optim.Adam, and only its gradient is made with less work (DenseTable).

    After the backward pass ``row_gradients()`` sets the gradients of tables with a penalty. It
    returns those of the other tables, which have no ``grad``; the norm of all gradients needs both.
    Layers may read weights at any time. Call ``flush()`` before reading or writing the tables
    themselves; ``state_dict`` and ``load_state_dict`` of layers and optimiser do. It rounds a
    little, so two runs have the same bits if they flush at the same steps.

    Args:
        params: all weights, tables included.
        blocks: the layers whose common table is large; other tables are dense weights.
        penalties: (weight, p, lambda) of each penalty of the model. Those of the tables are added
            here, those of other weights are not.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        blocks: Iterable[FieldBlocks],
        penalties: Iterable[Penalty] = (),
    ) -> None:
        super().__init__(params, lr=lr, fused=True)
        self._tables: dict[int, LazyTable | DenseTable] = {}
        unique, penalties = UniqueRows(), list(penalties)
        for block in blocks:
            table = block.table
            if table is None:
                continue
            if id(table) not in self._tables:
                self._tables[id(table)] = self._make_table(table, unique, penalties)
            block.read_rows_with(self._tables[id(table)])
        self.register_step_pre_hook(_set_gradients)
        self.register_step_post_hook(_step_lazy_tables)

    def row_gradients(self) -> list[torch.Tensor]:
        """Returns a matrix (U, D) per table, whose ``grad`` is that of the rows that have one."""
        for table in self._tables.values():
            if isinstance(table, DenseTable):
                table.write_gradient()
        found = [table.row_gradients() for table in self._lazy_tables()]
        return [weights for weights in found if weights is not None]

    def lazy_weights(self) -> list[nn.Parameter]:
        """Returns the tables that are updated lazily, in the order of ``raw_state``."""
        return [table.table for table in self._lazy_tables()]

    def flush(self) -> None:
        """Brings all rows of all tables up to date."""
        for table in self._lazy_tables():
            table.flush()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets all gradients."""
        super().zero_grad(set_to_none)
        for table in self._tables.values():
            table.forget_gradients()

    def state_dict(self) -> dict[str, Any]:
        """Brings all rows up to date and returns the state as torch.optim.Adam has it."""
        self.flush()
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over a state of this or of torch.optim.Adam with equal constants; no weights."""
        for name in ("betas", "eps", "weight_decay", "amsgrad", "maximize"):
            found = [group[name] for group in state_dict["param_groups"]]
            if found != [self.defaults[name]]:
                raise ValueError(
                    f"state of Adam: found {name} {found}, allowed: one group with "
                    f"{self.defaults[name]}"
                )
        super().load_state_dict(state_dict)
        for table in self._lazy_tables():
            table.load_state(self.state.pop(table.table, {}))
            self._show_state(table)

    def raw_state(self) -> dict[str, Any]:
        """Returns the state with each row's step; it does not flush, which would change bits."""
        tables = [table.raw_state() for table in self._lazy_tables()]
        return {"adam": super().state_dict(), "tables": tables}

    def load_raw_state(self, state: dict[str, Any]) -> None:
        """Takes over what ``raw_state`` of an optimiser of the same model returned."""
        super().load_state_dict(state["adam"])
        for table, raw in zip(self._lazy_tables(), state["tables"], strict=True):
            table.load_raw_state(raw)
            self._show_state(table)

    def _make_table(
        self, table: nn.Parameter, unique: UniqueRows, penalties: list[Penalty]
    ) -> LazyTable | DenseTable:
        own = [(p, factor) for weight, p, factor in penalties if weight is table and factor > 0]
        if own:
            return DenseTable(table, unique, own)
        return LazyTable(table, unique, self.defaults["betas"], self.defaults["eps"])

    def _lazy_tables(self) -> list[LazyTable]:
        return [table for table in self._tables.values() if isinstance(table, LazyTable)]

    def _show_state(self, table: LazyTable) -> None:
        if table.num_steps:
            self.state[table.table] = table.state()


def large_blocks(model: BaseModel, optimizer: str, batch_size: int) -> list[FieldBlocks]:
    """Returns the layers whose table is worth giving to LazyAdam; none for most models.

    These are trained tables with over 64 weights per lookup of a batch, for Adam on the CPU: a GPU
    updates whole tables faster than it finds the rows.
    """
    layers = [block for block in model.modules() if isinstance(block, FieldBlocks)]
    return [
        block
        for block in layers
        if optimizer.lower() == "adam"
        and block.table is not None
        and block.table.requires_grad
        and block.num_table_rows * block.table.shape[1]
        > MIN_WEIGHTS_PER_LOOKUP * batch_size * len(block.offsets)
    ]


def make_optimizer(
    model: BaseModel, config: TrainConfig, device: torch.device
) -> torch.optim.Optimizer:
    """Returns the config's optimiser; on a CPU, LazyAdam where the model has a large table.

    Only config and model decide. Compiled code cannot look up only the rows of a batch, so
    ``compile: true`` has no LazyAdam; nor has ``table_updates: dense``. Raises ConfigError for an
    unknown name.
    """
    is_dense = config.table_updates == "dense" or config.compile is True or device.type != "cpu"
    blocks = [] if is_dense else large_blocks(model, config.optimizer, config.batch_size)
    if not blocks:
        return get_optimizer(config.optimizer, model.parameters(), config.learning_rate)
    penalties = model.penalized_parameters()
    return LazyAdam(model.parameters(), config.learning_rate, blocks, penalties)


def row_gradients(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """Returns what has a gradient beside the model's parameters; empty but for LazyAdam."""
    return optimizer.row_gradients() if isinstance(optimizer, LazyAdam) else []


def flush(optimizer: torch.optim.Optimizer) -> None:
    """Brings all weights up to date, if LazyAdam has left some behind."""
    if isinstance(optimizer, LazyAdam):
        optimizer.flush()


def _set_gradients(optimizer: LazyAdam, args: Any, kwargs: Any) -> None:
    optimizer.row_gradients()


def _step_lazy_tables(optimizer: LazyAdam, args: Any, kwargs: Any) -> None:
    (group,) = optimizer.param_groups
    for table in optimizer._lazy_tables():
        if table.step(float(group["lr"])):
            optimizer._show_state(table)
