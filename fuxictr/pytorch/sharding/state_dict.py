"""Weights and optimiser states in the form that one process has, and back to each rank's part."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from fuxictr.pytorch.distributed.ranks import Ranks
from fuxictr.pytorch.layers.embeddings import RowShare
from fuxictr.pytorch.optim.lazy_adam import LazyAdam
from fuxictr.pytorch.sharding.tables import shared_parameters, table_shares

_ROWS_AT_ONCE = 1 << 20  # of a table that goes to the first rank, or comes from it


def whole_weights(
    weights: dict[str, torch.Tensor], model: nn.Module, ranks: Ranks
) -> dict[str, torch.Tensor]:
    """Returns weights by name with the rows of all ranks, on the first one; {} on the others.

    Args:
        weights: of this rank's model.
        model: the model.
        ranks: the processes.
    """
    shares = table_shares(model)
    found = copy.copy(weights)  # also what torch notes beside a state_dict
    for name, share in shares.items():  # in one order on all ranks
        whole = _join_shares(found[name], share, ranks)
        if whole is not None:
            found[name] = whole
    return found if ranks.is_first else {}


def own_weights(weights: Mapping[str, torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor]:
    """Returns what this rank has of whole weights by name; a table of another length stays."""
    shares = table_shares(model)
    return {
        name: _cut(shares[name])(tensor) if name in shares else tensor
        for name, tensor in weights.items()
    }


def spread_weights(whole: Mapping[str, torch.Tensor], model: nn.Module, ranks: Ranks) -> None:
    """Loads the first rank's whole weights into the models of all ranks.

    Args:
        whole: on the first rank, by name; of others nothing is read.
        model: the model.
        ranks: the processes.
    """
    shares = table_shares(model)
    own = {}
    for name, held in model.state_dict().items():
        share = shares.get(name)
        if share is not None:
            own[name] = _split_shares(whole.get(name), share, held, ranks)
        else:
            start = whole[name].to(held.device) if ranks.is_first else torch.empty_like(held)
            own[name] = ranks.broadcast(start.contiguous())
    model.load_state_dict(own)


def whole_optimizer_state(
    state: dict[str, Any], optimizer: torch.optim.Optimizer, model: nn.Module, ranks: Ranks
) -> dict[str, Any]:
    """Returns a state of this rank's optimiser with the rows of all ranks, on the first one.

    Args:
        state: what ``optimizer_state`` returned.
        optimizer: the optimiser.
        model: the model.
        ranks: the processes.
    """
    known: dict[int, Any] = {}

    def join(share: RowShare) -> Callable[[torch.Tensor], Any]:
        def change(own: torch.Tensor) -> Any:
            if len(own) != share.num_own:
                return own
            if id(own) not in known:  # LazyAdam's state has the moments twice
                known[id(own)] = _join_shares(own, share, ranks)
            return known[id(own)]

        return change

    return _changed(state, optimizer, model, join)


def own_optimizer_state(
    state: dict[str, Any], optimizer: torch.optim.Optimizer, model: nn.Module
) -> dict[str, Any]:
    """Returns what this rank has of a whole optimiser state."""
    return _changed(state, optimizer, model, _cut)


def _cut(share: RowShare) -> Callable[[torch.Tensor], torch.Tensor]:
    # A copy, for a view would keep the whole alive, and fused optimisers take no strides.
    return lambda whole: share.own(whole).clone() if len(whole) == share.num_rows else whole


def _changed(
    state: dict[str, Any],
    optimizer: torch.optim.Optimizer,
    model: nn.Module,
    change_of: Callable[[RowShare], Callable[[torch.Tensor], Any]],
) -> dict[str, Any]:
    """Returns a state in which what belongs to the rows of a table that is cut is changed."""
    shares = shared_parameters(model)
    if not shares:
        return state
    plain = state["adam"] if isinstance(optimizer, LazyAdam) else state
    entries = {
        index: _with_rows(entry, change_of(shares[index])) if index in shares else entry
        for index, entry in plain["state"].items()
    }
    plain = {**plain, "state": entries}
    if not isinstance(optimizer, LazyAdam):
        return plain
    by_table = {id(w): shares[i] for i, w in enumerate(model.parameters()) if i in shares}
    lazy = zip(optimizer.lazy_weights(), state["tables"], strict=True)
    tables = [_with_rows(raw, change_of(by_table[id(weight)])) for weight, raw in lazy]
    return {"adam": plain, "tables": tables}


def _with_rows(entry: Mapping[str, Any], change: Callable[[torch.Tensor], Any]) -> dict[str, Any]:
    return {
        name: change(value) if isinstance(value, torch.Tensor) and value.ndim else value
        for name, value in entry.items()
    }


def _join_shares(own: torch.Tensor, share: RowShare, ranks: Ranks) -> torch.Tensor | None:
    """Returns the whole of a table (N, ...), on the CPU of the first rank; null on the others.

    Args:
        own: the rows of this rank.
        share: which they are.
        ranks: the processes.
    """
    whole = torch.empty(share.num_rows, *own.shape[1:], dtype=own.dtype) if ranks.is_first else None
    for start in range(0, share.num_rows_of(0), _ROWS_AT_ONCE):
        part = own.detach()[start : start + _ROWS_AT_ONCE].cpu()
        for rank, rows in enumerate(ranks.gather_to_first(part)):
            assert whole is not None
            whole[rank :: share.num_ranks][start : start + len(rows)] = rows
    return whole


def _split_shares(
    whole: torch.Tensor | None, share: RowShare, held: torch.Tensor, ranks: Ranks
) -> torch.Tensor:
    """Returns this rank's rows of a table that the first one has whole, on the CPU.

    Args:
        whole: the table (N, ...), on the first rank.
        share: which rows.
        held: of the shape and type of the result.
        ranks: the processes.
    """
    own = torch.empty_like(held, device="cpu")
    for start in range(0, share.num_rows_of(0), _ROWS_AT_ONCE):
        parts = []
        if whole is not None:
            shares = (whole[rank :: share.num_ranks] for rank in range(share.num_ranks))
            parts = [rows[start : start + _ROWS_AT_ONCE] for rows in shares]
        ranks.scatter_from_first(parts, own[start : start + _ROWS_AT_ONCE])
    return own
