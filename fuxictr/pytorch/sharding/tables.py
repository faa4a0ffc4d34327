"""The embedding tables of a model on several processes: whole on each of them, or in shares."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from fuxictr.config import TrainConfig
from fuxictr.features import FeatureMap
from fuxictr.pytorch.distributed.ranks import Ranks
from fuxictr.pytorch.layers.embeddings import FieldBlocks, RowShare, keeping_shares
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.optim.dense_table import WholeTable
from fuxictr.pytorch.optim.sparse_lookup import RowFinder, TableReader
from fuxictr.pytorch.sharding.replicated import RowExchange, group_by_rows
from fuxictr.pytorch.sharding.row_wise import ShardGroup, ShardReader

logger = logging.getLogger(__name__)

_MEMORY_SHARE = 0.1


class RankTables:
    """Makes the gradients of a model's common tables those of the global batch.

    - in shares (``embedding_sharding``): ShardGroup;
    - whole, with an exchange of the rows of the batch (RowExchange), where a layer has a reader, or
      where it moves less than an all-reduce: B S (D + 1) < 2 N D, for S lookups a row;
    - otherwise they are weights as any other, which DistributedDataParallel sees to.

    Args:
        model: the model, whose tables ``cut_tables`` has cut.
        batch_size: rows B of a global batch.
        ranks: the processes.
    """

    def __init__(self, model: BaseModel, batch_size: int, ranks: Ranks) -> None:
        penalties = list(model.penalized_parameters())
        blocks = trained_blocks(model)
        known = (b.reader.finder for b in blocks if isinstance(b.reader, TableReader))
        finder = next(known, None) or RowFinder()
        self._whole: list[WholeTable] = []
        readers: dict[int, TableReader] = {}
        shared: list[tuple[FieldBlocks, TableReader]] = []
        sharded: list[tuple[FieldBlocks, TableReader]] = []
        for block in blocks:
            table = block.table
            assert table is not None
            reader = block.reader
            if reader is None and (block.share or _is_worth_it(block, batch_size)):
                if id(table) not in readers:
                    own = [(p, factor) for w, p, factor in penalties if w is table and factor > 0]
                    whole = readers[id(table)] = WholeTable(table, finder, own)
                    self._whole.append(whole)
                reader = block.reader = readers[id(table)]
            if isinstance(reader, TableReader):
                (sharded if block.share else shared).append((block, reader))
        self._exchange = RowExchange(_each_once(shared), ranks)
        self._groups = [ShardGroup(tables, ranks) for tables in group_by_rows(_each_once(sharded))]
        places = {
            id(table): (group, index)
            for group in self._groups
            for index, table in enumerate(group.tables)
        }
        for block, reader in sharded:
            block.reader = ShardReader(*places[id(reader)])
        self._apart = [reader.table for _, reader in [*shared, *sharded]]
        self.apart = {id(table) for table in self._apart}
        for tables, words in ((shared, "whole on each"), (sharded, "in shares on all")):
            num_bytes = sum(reader.table.nbytes for _, reader in tables)
            if tables:
                logger.info(
                    "Tables of %.3g GB lie %s of %d processes", num_bytes / 1e9, words, ranks.size
                )

    def collect(self) -> None:
        """Exchanges the gradients of all lookups since the last step.

        Raises:
            RuntimeError: a table has a gradient of its own, which only this rank knows of.
        """
        if any(table.grad is not None for table in self._apart):
            raise RuntimeError(
                "a table that several processes share has a gradient of its own: something other "
                "than a lookup has read it"
            )
        self._exchange.exchange()
        for group in self._groups:
            group.return_gradients()
        for table in self._whole:
            table.write_gradient()

    def forget_gradients(self) -> None:
        """Does to the gradients what ``zero_grad`` does."""
        for group in self._groups:
            group.forget()
        for table in self._whole:
            table.forget_gradients()


def trained_blocks(model: nn.Module) -> list[FieldBlocks]:
    """Returns the layers of a model that have a common table that is trained."""
    layers = (module for module in model.modules() if isinstance(module, FieldBlocks))
    return [b for b in layers if b.table is not None and b.table.requires_grad]


def cut_tables(model: nn.Module, config: TrainConfig, ranks: Ranks) -> None:
    """Leaves of each common table only this rank's rows, where the config wants it so.

    Args:
        model: the model, before its optimiser is made.
        config: see ``wants_shares``.
        ranks: the processes.
    """
    blocks = trained_blocks(model)
    if not blocks or any(block.share for block in blocks):  # it was made so
        return
    num_bytes = sum(block.table.nbytes for block in blocks if block.table is not None)
    is_exchanged = any(_is_worth_it(block, config.batch_size) for block in blocks)
    if not wants_shares(num_bytes, is_exchanged, config, ranks):
        return
    whole = [block.table for block in blocks]
    for block, table in zip(blocks, whole, strict=True):
        first = blocks[next(i for i, known in enumerate(whole) if known is table)]
        if first is block:
            block.keep_share(ranks.rank, ranks.size)
        else:  # layers that have one table
            block.table, block.share = first.table, first.share


@contextmanager
def cutting_tables(
    feature_map: FeatureMap, embedding_dim: int, config: TrainConfig, ranks: Ranks
) -> Iterator[None]:
    """Context in which a model is made with shares of its tables, where they will be cut anyway.

    So no process ever holds whole tables that are meant to lie in shares.

    Args:
        feature_map: the fields.
        embedding_dim: width D of an embedding.
        config: see ``wants_shares``.
        ranks: the processes.
    """
    owners = {feature_map.table_owner(name) for name in feature_map.fields}
    sizes = (feature_map.features[name].get("vocab_size", 0) for name in owners)
    num_bytes = 4 * sum(sizes) * embedding_dim
    if wants_shares(num_bytes, False, config, ranks):
        with keeping_shares(ranks.rank, ranks.size):
            yield
    else:
        yield


def wants_shares(num_bytes: int, is_exchanged: bool, config: TrainConfig, ranks: Ranks) -> bool:
    """Returns whether the tables are to lie in shares; the same on all ranks.

    ``embedding_sharding: auto`` says so where they take more than a tenth of a device's memory, for
    gradient and moments take three times as much; and from three ranks on where rows would be
    exchanged, which then moves more (docs/scaling.md).

    Args:
        num_bytes: what all tables take.
        is_exchanged: whether rows would be exchanged rather than whole tables.
        config: ``embedding_sharding``.
        ranks: the processes.
    """
    if ranks.size == 1 or config.embedding_sharding != "auto":
        return ranks.size > 1 and config.embedding_sharding == "row"
    is_large = num_bytes > _MEMORY_SHARE * _smallest_memory(ranks)
    return is_large or (is_exchanged and ranks.size > 2)


def table_shares(model: nn.Module) -> dict[str, RowShare]:
    """Returns the share of each table that is cut, by the name of the weight."""
    return {
        f"{name}.table" if name else "table": block.share
        for name, block in model.named_modules()
        if isinstance(block, FieldBlocks) and block.share is not None
    }


def shared_parameters(model: nn.Module) -> dict[int, RowShare]:
    """Returns the share of each table that is cut, by the place of the weight among all."""
    shares = table_shares(model)
    names = [name for name, _ in model.named_parameters()]
    return {index: shares[name] for index, name in enumerate(names) if name in shares}


@torch.no_grad()
def penalty(model: BaseModel, ranks: Ranks) -> float:
    """Returns the sum of all penalties, ``regularization_loss``, over the rows of all ranks."""
    cut = {id(block.table) for block in trained_blocks(model) if block.share is not None}
    if not cut:
        return model.regularization_loss().item()
    # Apart, so that all ranks come to the same bits.
    whole = model.regularization_loss(lambda weight: id(weight) not in cut)
    parts = model.regularization_loss(lambda weight: id(weight) in cut).double()
    return whole.item() + ranks.sum(parts).item()


def _each_once(
    tables: list[tuple[FieldBlocks, TableReader]],
) -> list[tuple[FieldBlocks, TableReader]]:
    """Returns a layer of each reader, of which some may serve several layers."""
    return list({id(reader): (block, reader) for block, reader in reversed(tables)}.values())[::-1]


def _is_worth_it(block: FieldBlocks, batch_size: int) -> bool:
    assert block.table is not None
    num_lookups, width = batch_size * len(block.offsets), block.table.shape[1]
    return num_lookups * (width + 1) < 2 * block.table.numel()


def _smallest_memory(ranks: Ranks) -> float:
    """Returns the bytes of the smallest device, of which processes of one machine take shares."""
    if ranks.device.type == "cuda":
        own = float(torch.cuda.mem_get_info(ranks.device)[1])
    else:
        own = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        own /= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(float(text) for text in ranks.gather_texts(repr(own)))
