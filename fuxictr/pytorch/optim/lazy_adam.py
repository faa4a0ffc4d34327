"""Adam for models with large embedding tables, with the numbers of the dense Adam."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from fuxictr.config import TrainConfig
from fuxictr.pytorch.layers.embeddings import FieldBlocks
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.optim.dense_table import WholeTable
from fuxictr.pytorch.optim.lazy_table import LazyTable
from fuxictr.pytorch.optim.sparse_lookup import RowFinder
from fuxictr.pytorch.torch_utils import get_optimizer

# With fewer, the whole table costs no more than finding and moving the rows of a batch.
MIN_WEIGHTS_PER_LOOKUP = 64

Penalty = tuple[nn.Parameter, int, float]


class LazyAdam(torch.optim.Adam):
    """torch.optim.Adam whose cost does not grow with tables that have no penalty.

    A row that a batch does not hold has no gradient there, and what Adam does to it is made up for
    when it is read next (SkippedSteps): the numbers are those of torch.optim.Adam but for rounding.
    A penalty is a gradient of every row; such a table is updated whole, to the same bits as ever,
    and only its gradient is made with less work (WholeTable).

    After the backward pass ``touched()`` sets the gradients of the latter and returns those of the
    former, which have no ``grad``; both belong to the norm of all gradients. Weights may be read
    through the layers at any time. Before the tables themselves are read or written, ``flush()`` is
    due; ``state_dict`` and ``load_state_dict`` of layers and optimiser see to it. It rounds a
    little, so two runs have the same bits if they flush at the same steps.

    Args:
        params: all weights, tables included.
        lr: learning rate; it may change between steps.
        blocks: the layers whose common table is large; others' are updated as ever.
        penalties: weight, p and lambda of each penalty, as a model lists them. Those of the tables
            are part of what this does, those of other weights are not.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        blocks: Iterable[FieldBlocks],
        penalties: Iterable[Penalty] = (),
    ) -> None:
        super().__init__(params, lr=lr, fused=True)
        self._blocks: list[FieldBlocks] = []
        self._tables: dict[int, LazyTable | WholeTable] = {}
        finder, penalties = RowFinder(), list(penalties)
        for block in blocks:
            if block.table is not None:
                self._attach(block, block.table, finder, penalties)
        self.register_step_pre_hook(_set_gradients)
        self.register_step_post_hook(_step_lazy_tables)

    def touched(self) -> list[torch.Tensor]:
        """Returns a matrix a table, (U, D), whose ``grad`` is that of the rows that have one."""
        for whole in self._whole_tables():
            whole.write_gradient()
        found = [table.touched() for table in self._lazy_tables()]
        return [weights for weights in found if weights is not None]

    def lazy_weights(self) -> list[nn.Parameter]:
        """Returns the tables that are not updated whole, in the order of ``raw_state``."""
        return [table.table for table in self._lazy_tables()]

    def flush(self) -> None:
        """Brings all rows of all tables up to date."""
        for table in self._lazy_tables():
            table.flush()

    def detach(self) -> None:
        """Gives the tables back to their layers; from then on this is torch.optim.Adam."""
        self.flush()
        for block in self._blocks:
            block.reader = None
        self._blocks.clear()
        self._tables.clear()

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
        """Takes over a state of this or of torch.optim.Adam; weights are loaded separately.

        Raises:
            ValueError: the state is of an Adam with other constants.
        """
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
            if table.num_steps:
                self.state[table.table] = table.state()

    def raw_state(self) -> dict[str, Any]:
        """Returns the state as it is, with how far behind each row of each table is.

        Unlike ``state_dict`` it brings nothing up to date, so that it may be taken at any time
        without a change of bits.
        """
        tables = [table.raw_state() for table in self._lazy_tables()]
        return {"adam": super().state_dict(), "tables": tables}

    def load_raw_state(self, state: dict[str, Any]) -> None:
        """Takes over what ``raw_state`` of an optimiser of the same model returned."""
        super().load_state_dict(state["adam"])
        for table, raw in zip(self._lazy_tables(), state["tables"], strict=True):
            table.load_raw_state(raw)
            if table.num_steps:
                self.state[table.table] = table.state()

    def _attach(
        self, block: FieldBlocks, rows: nn.Parameter, finder: RowFinder, penalties: list[Penalty]
    ) -> None:
        own = [(p, factor) for weight, p, factor in penalties if weight is rows and factor > 0]
        if id(rows) not in self._tables:
            constants = self.defaults["betas"], self.defaults["eps"]
            self._tables[id(rows)] = (
                WholeTable(rows, finder, own) if own else LazyTable(rows, finder, *constants)
            )
        self._blocks.append(block)
        block.reader = self._tables[id(rows)]

    def _lazy_tables(self) -> list[LazyTable]:
        return [table for table in self._tables.values() if isinstance(table, LazyTable)]

    def _whole_tables(self) -> list[WholeTable]:
        return [table for table in self._tables.values() if isinstance(table, WholeTable)]


def large_blocks(model: BaseModel, optimizer: str, batch_size: int) -> list[FieldBlocks]:
    """Returns the layers whose table is worth giving to LazyAdam; none for most models.

    The optimiser is Adam, and the table is trained and has more than 64 weights for each lookup of
    a batch. That is for the CPU: a GPU updates whole tables in less time than it takes to find the
    rows.

    Args:
        model: the model.
        optimizer: its name.
        batch_size: rows of a batch.
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

    Config and model decide, never the time that something takes. Compiled code cannot look up the
    rows that a batch holds, so ``compile: true`` has no LazyAdam, and ``table_updates: dense``
    wants none.

    Raises:
        ConfigError: the name of the optimiser is unknown.
    """
    is_dense = config.table_updates == "dense" or config.compile is True or device.type != "cpu"
    blocks = [] if is_dense else large_blocks(model, config.optimizer, config.batch_size)
    if not blocks:
        return get_optimizer(config.optimizer, model.parameters(), config.learning_rate)
    penalties = model.penalized_parameters()
    return LazyAdam(model.parameters(), config.learning_rate, blocks, penalties)


def touched(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """Returns what has a gradient beside the model's parameters; empty but for LazyAdam."""
    return optimizer.touched() if isinstance(optimizer, LazyAdam) else []


def flush(optimizer: torch.optim.Optimizer) -> None:
    """Brings all weights up to date, which LazyAdam's may need."""
    if isinstance(optimizer, LazyAdam):
        optimizer.flush()


def _set_gradients(optimizer: LazyAdam, args: Any, kwargs: Any) -> None:
    optimizer.touched()


def _step_lazy_tables(optimizer: LazyAdam, args: Any, kwargs: Any) -> None:
    (group,) = optimizer.param_groups
    for table in optimizer._lazy_tables():
        if table.step(float(group["lr"])):
            optimizer.state[table.table] = table.state()
