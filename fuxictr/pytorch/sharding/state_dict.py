"""Weights and optimiser states of all ranks in the form of one process, and back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from fuxictr.pytorch.distributed.ranks import Ranks
from fuxictr.pytorch.layers.embeddings import RowShare
from fuxictr.pytorch.optim.lazy_adam import LazyAdam
from fuxictr.pytorch.sharding.tables import table_shares

_CHUNK_ROWS = 1 << 20  # of a table that is sent to the first rank, or from it

RowsChange = Callable[[torch.Tensor, RowShare], Any]


def gather_full_state_dict(
    weights: dict[str, torch.Tensor], model: nn.Module, ranks: Ranks
) -> dict[str, torch.Tensor]:
    """Returns the weights of this rank's model with the rows of all ranks; {} but on the first."""
    found = copy.copy(weights)  # with torch's _metadata of a state_dict
    for name, share in table_shares(model).items():  # in one order on all ranks
        full = _gather_rows(found[name], share, ranks)
        if full is not None:
            found[name] = full
    return found if ranks.is_first else {}


def local_state_dict(
    weights: Mapping[str, torch.Tensor], model: nn.Module
) -> dict[str, torch.Tensor]:
    """Returns this rank's part of full weights; a table of another length stays as it is."""
    shares = table_shares(model)
    return {
        name: _local_rows(tensor, shares[name]) if name in shares else tensor
        for name, tensor in weights.items()
    }


def load_full_state_dict(full: Mapping[str, torch.Tensor], model: nn.Module, ranks: Ranks) -> None:
    """Loads the first rank's full weights into the models of all ranks; others' are not read."""
    shares = table_shares(model)
    own = {}
    for name, held in model.state_dict().items():
        if name in shares:
            own[name] = _scatter_rows(full.get(name), shares[name], held, ranks)
        else:
            start = full[name].to(held.device) if ranks.is_first else torch.empty_like(held)
            own[name] = ranks.broadcast(start.contiguous())
    model.load_state_dict(own)


def gather_full_optimizer_state(
    state: dict[str, Any], optimizer: torch.optim.Optimizer, model: nn.Module, ranks: Ranks
) -> dict[str, Any]:
    """Returns what ``optimizer_state`` returned, on the first rank with the rows of all ranks."""
    known: dict[int, Any] = {}

    def gather(own: torch.Tensor, share: RowShare) -> Any:
        if len(own) != share.num_own:
            return own
        if id(own) not in known:  # LazyAdam's state has the moments twice
            known[id(own)] = _gather_rows(own, share, ranks)
        return known[id(own)]

    return _with_changed_rows(state, optimizer, model, gather)


def local_optimizer_state(
    state: dict[str, Any], optimizer: torch.optim.Optimizer, model: nn.Module
) -> dict[str, Any]:
    """Returns this rank's part of a full optimiser state."""
    return _with_changed_rows(state, optimizer, model, _local_rows)


def _local_rows(full: torch.Tensor, share: RowShare) -> torch.Tensor:
    # A copy, since a view would keep all rows alive, and fused optimisers take no strides.
    return share.own(full).clone() if len(full) == share.num_rows else full


def _with_changed_rows(
    state: dict[str, Any], optimizer: torch.optim.Optimizer, model: nn.Module, change: RowsChange
) -> dict[str, Any]:
    """Returns an optimiser state with everything changed that has one row per row of a share."""
    shares = table_shares(model)
    if not shares:
        return state
    parameters = list(model.named_parameters())

    def changed(entry: Mapping[str, Any], share: RowShare | None) -> Mapping[str, Any]:
        if share is None:
            return entry
        return {
            name: change(value, share) if isinstance(value, torch.Tensor) and value.ndim else value
            for name, value in entry.items()
        }

    is_lazy = isinstance(optimizer, LazyAdam)
    plain = state["adam"] if is_lazy else state
    entries = {
        index: changed(entry, shares.get(parameters[index][0]))
        for index, entry in plain["state"].items()
    }
    plain = {**plain, "state": entries}
    if not isinstance(optimizer, LazyAdam):
        return plain
    by_table = {id(weight): shares.get(name) for name, weight in parameters}
    lazy = zip(optimizer.lazy_weights(), state["tables"], strict=True)
    return {"adam": plain, "tables": [changed(raw, by_table[id(weight)]) for weight, raw in lazy]}


def _gather_rows(own: torch.Tensor, share: RowShare, ranks: Ranks) -> torch.Tensor | None:
    """Returns a full table (N, ...) on the CPU of the first rank; None on the others."""
    full = torch.empty(share.num_rows, *own.shape[1:], dtype=own.dtype) if ranks.is_first else None
    for start in range(0, share.num_rows_of(0), _CHUNK_ROWS):
        part = own.detach()[start : start + _CHUNK_ROWS].cpu()
        for rank, rows in enumerate(ranks.gather_to_first(part)):
            assert full is not None
            full[rank :: share.world_size][start : start + len(rows)] = rows
    return full


def _scatter_rows(
    full: torch.Tensor | None, share: RowShare, held: torch.Tensor, ranks: Ranks
) -> torch.Tensor:
    """Returns this rank's rows of the first rank's full table (N, ...), on the CPU."""
    own = torch.empty_like(held, device="cpu")
    for start in range(0, share.num_rows_of(0), _CHUNK_ROWS):
        parts = []
        if full is not None:
            shares = (full[rank :: share.world_size] for rank in range(share.world_size))
            parts = [rows[start : start + _CHUNK_ROWS] for rows in shares]
        ranks.scatter_from_first(parts, own[start : start + _CHUNK_ROWS])
    return own
