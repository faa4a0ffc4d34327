"""The embedding tables of a model on several processes: full on each, or sharded by rows."""

from __future__ import annotations

import logging
import os

import torch
from torch import nn

from fuxictr.config import TrainConfig
from fuxictr.features import FeatureMap
from fuxictr.pytorch.distributed.ranks import Ranks
from fuxictr.pytorch.layers.embeddings import FieldBlocks, RowShare
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.optim.dense_table import DenseTable
from fuxictr.pytorch.optim.sparse_lookup import TableReader, UniqueRows
from fuxictr.pytorch.sharding.replicated import RowExchange, group_by_rows
from fuxictr.pytorch.sharding.row_wise import ShardGroup, ShardReader

logger = logging.getLogger(__name__)

_MEMORY_SHARE = 0.1

_ReadTable = tuple[FieldBlocks, TableReader]


class RankTables:
    """Makes the gradients of a model's common tables those of the global batch.

    - sharded by rows (``embedding_sharding``): ShardGroup;
    - full on every rank, with an exchange of the rows of the batch (RowExchange), where a layer has
      a reader, or where that moves less than an all-reduce: B S (D + 1) < 2 N D, for S lookups per
      row of the batch;
    - otherwise they are weights like any other, reduced by DistributedDataParallel.

    Args:
        model: the model, after ``shard_tables`` and after its optimiser was made.
        batch_size: rows B of a global batch.
    """

    def __init__(self, model: BaseModel, batch_size: int, ranks: Ranks) -> None:
        self._dense = _read_dense_tables(model, batch_size)
        tables = [(b, b.reader) for b in trained_blocks(model) if isinstance(b.reader, TableReader)]
        full = [item for item in tables if item[0].share is None]
        sharded = [item for item in tables if item[0].share is not None]
        self._exchange = RowExchange(_distinct_tables(full), ranks)
        self._groups = [ShardGroup(g, ranks) for g in group_by_rows(_distinct_tables(sharded))]
        shard_readers = {
            id(table): ShardReader(group, index)
            for group in self._groups
            for index, table in enumerate(group.tables)
        }
        for block, reader in sharded:
            block.read_rows_with(shard_readers[id(reader)])
        self._tables = [reader.table for _, reader in tables]
        self.apart = {id(table) for table in self._tables}  # from the weights that DDP reduces
        for found, words in ((full, "full on each"), (sharded, "sharded over all")):
            num_bytes = sum(reader.table.nbytes for _, reader in found)
            if found:
                logger.info(
                    "Tables of %.3g GB are %s of %d processes", num_bytes / 1e9, words, ranks.size
                )

    def collect(self) -> None:
        """Exchanges the gradients of all lookups since the last step; tables may have no other."""
        if any(table.grad is not None for table in self._tables):
            raise RuntimeError(
                "a table that several processes share has a gradient of its own: something other "
                "than a lookup has read it"
            )
        self._exchange.exchange()
        for group in self._groups:
            group.send_gradients()
        for table in self._dense:
            table.write_gradient()

    def forget_gradients(self) -> None:
        """Does to the gradients what ``zero_grad`` does."""
        for group in self._groups:
            group.forget()
        for table in self._dense:
            table.forget_gradients()


def trained_blocks(model: nn.Module) -> list[FieldBlocks]:
    """Returns the layers of a model that have a common table that is trained."""
    layers = (module for module in model.modules() if isinstance(module, FieldBlocks))
    return [b for b in layers if b.table is not None and b.table.requires_grad]


def defers_tables(
    feature_map: FeatureMap, embedding_dim: int, config: TrainConfig, ranks: Ranks
) -> bool:
    """Returns whether a model is to be built with deferred tables.

    It is where its tables are sharded by key ``row``, or are too large for ``auto`` to keep. Others
    are drawn at once, so that a model can read and initialise them. Ranks need not decide alike.
    """
    if not _may_shard(config, ranks):
        return False
    if config.embedding_sharding == "row":
        return True
    owners = {feature_map.table_owner(name) for name in feature_map.fields}
    num_rows = sum(feature_map.features[name].get("vocab_size", 0) for name in owners)
    return 4 * num_rows * embedding_dim > _MEMORY_SHARE * _own_memory(ranks)


def _may_shard(config: TrainConfig, ranks: Ranks) -> bool:
    return ranks.size > 1 and config.embedding_sharding != "none"


def shard_tables(model: nn.Module, config: TrainConfig, ranks: Ranks) -> None:
    """Decides whether the trained tables are sharded by rows, and gives this rank its rows.

    ``embedding_sharding: auto`` shards them if they take more than a tenth of a device's memory,
    since gradients and moments take three times as much. From three ranks on it also shards them if
    rows of the batch would be exchanged, which then moves more (docs/scaling.md). All ranks decide
    alike. It is called before the optimiser is made, and draws deferred tables.

    Raises:
        ConfigError: the model has written into a deferred table.
    """
    layers = [module for module in model.modules() if isinstance(module, FieldBlocks)]
    if any(layer.share is not None for layer in layers):  # by an earlier call
        return
    trained = trained_blocks(model)
    shares = {}
    if trained and _is_sharded(trained, config, ranks):
        shares = {id(b.table): RowShare(ranks.rank, ranks.size, b.num_table_rows) for b in trained}
    for layer in layers:
        if layer.table is not None:
            layer.place_table(shares.get(id(layer.table)))


def table_shares(model: nn.Module) -> dict[str, RowShare]:
    """Returns the share of each table that is sharded, by the name of the weight."""
    return {
        f"{name}.table" if name else "table": block.share
        for name, block in model.named_modules()
        if isinstance(block, FieldBlocks) and block.share is not None
    }


@torch.no_grad()
def penalty(model: BaseModel, ranks: Ranks) -> float:
    """Returns the sum of all penalties, ``regularization_loss``, over the rows of all ranks."""
    sharded = {id(block.table) for block in trained_blocks(model) if block.share is not None}
    if not sharded:
        return model.regularization_loss().item()
    # The full weights apart, so that all ranks get the same bits.
    full = model.regularization_loss(lambda weight: id(weight) not in sharded)
    parts = model.regularization_loss(lambda weight: id(weight) in sharded).double()
    return full.item() + ranks.sum(parts).item()


def _read_dense_tables(model: BaseModel, batch_size: int) -> list[DenseTable]:
    """Gives a reader to layers that need one and have none from the optimiser; returns these."""
    blocks = trained_blocks(model)
    known = (b.reader.unique for b in blocks if isinstance(b.reader, TableReader))
    unique = next(known, None) or UniqueRows()
    penalties = list(model.penalized_parameters())
    readers: dict[int, DenseTable] = {}
    for block in blocks:
        table = block.table
        assert table is not None
        is_exchanged = block.share is not None or _moves_less_by_rows(block, batch_size)
        if block.reader is not None or not is_exchanged:
            continue
        if id(table) not in readers:
            own = [(p, factor) for w, p, factor in penalties if w is table and factor > 0]
            readers[id(table)] = DenseTable(table, unique, own)
        block.read_rows_with(readers[id(table)])
    return list(readers.values())


def _distinct_tables(tables: list[_ReadTable]) -> list[_ReadTable]:
    """Returns one layer of each reader, the first, since several layers may have one table."""
    return list({id(reader): (block, reader) for block, reader in reversed(tables)}.values())[::-1]


def _is_sharded(blocks: list[FieldBlocks], config: TrainConfig, ranks: Ranks) -> bool:
    if not _may_shard(config, ranks):
        return False
    if config.embedding_sharding == "row":
        return True
    num_bytes = sum(block.table.nbytes for block in blocks if block.table is not None)
    if num_bytes > _MEMORY_SHARE * _smallest_memory(ranks):
        return True
    return ranks.size > 2 and any(_moves_less_by_rows(b, config.batch_size) for b in blocks)


def _moves_less_by_rows(block: FieldBlocks, batch_size: int) -> bool:
    """Returns whether the rows of a batch, and their gradients, are less than the whole table."""
    assert block.table is not None
    num_lookups, width = batch_size * len(block.offsets), block.table.shape[1]
    return num_lookups * (width + 1) < 2 * block.table.numel()


def _smallest_memory(ranks: Ranks) -> float:
    """Returns the bytes of the smallest device; all ranks call it."""
    return min(float(text) for text in ranks.gather_texts(repr(_own_memory(ranks))))


def _own_memory(ranks: Ranks) -> float:
    """Returns the bytes of this rank's device; processes of one machine share its memory."""
    if ranks.device.type == "cuda":
        return float(torch.cuda.mem_get_info(ranks.device)[1])
    own = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return own / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
