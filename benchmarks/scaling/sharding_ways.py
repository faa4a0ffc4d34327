"""The ways that sharding_options.py measures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from fuxictr.pytorch.distributed.ranks import Ranks
from fuxictr.pytorch.layers.embeddings.lookup import look_up, look_up_groups
from fuxictr.pytorch.optim.sparse_lookup import TableReader, UniqueRows
from fuxictr.pytorch.sharding.replicated import RowExchange
from fuxictr.pytorch.sharding.row_wise import ShardGroup, ShardReader


class DTensorWay:
    """nn.Embedding whose rows torch's tensor parallelism shards into one block per rank.

    The ids of all ranks go to all; each looks up those of its run, and the sums of these, mostly
    zeros, go back (reduce-scatter). The gradient goes the other way; torch 2.13 makes it whole, (N,
    D), on every rank, whose part of it is cut out here.
    """

    def __init__(self, table: torch.Tensor, ranks: Ranks) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.tensor import Shard
        from torch.distributed.tensor.parallel import RowwiseParallel, parallelize_module

        self.layer = nn.Embedding(*table.shape, _weight=table.clone())
        mesh = init_device_mesh("cpu", (ranks.size,))
        plan = RowwiseParallel(input_layouts=Shard(0), output_layouts=Shard(0))
        parallelize_module(self.layer, mesh, plan)
        self.first = -(-len(table) // ranks.size) * ranks.rank

    def look_up(self, rows: torch.Tensor) -> torch.Tensor:
        """See Way."""
        self.layer.weight.grad = None
        return self.layer(rows)

    def gradient(self) -> tuple[torch.Tensor, torch.Tensor]:
        """See Way; all rows of the rank's run."""
        weight = self.layer.weight
        found = weight.grad.redistribute(placements=weight.placements).to_local()
        return torch.arange(self.first, self.first + len(found)), found


class TorchrecWay:
    """torchrec's EmbeddingCollection: a block of rows per rank, ids out and vectors back.

    Its kernel for the CPU that keeps gradients (dense) sums where there is nothing to sum, so the
    fused one is taken, which does a step of SGD at once.

    Args:
        table: weights (N, D).
        ranks: the processes.
        is_distinct: give it the distinct rows of the batch only. Its own use_index_dedup has no
            kernel for the CPU.
    """

    def __init__(self, table: torch.Tensor, ranks: Ranks, is_distinct: bool = False) -> None:
        import torchrec
        from fbgemm_gpu.split_embedding_configs import EmbOptimType
        from torchrec.distributed.embedding import EmbeddingCollectionSharder
        from torchrec.distributed.sharding_plan import construct_module_sharding_plan, row_wise
        from torchrec.distributed.types import ShardingEnv

        self.size, self.finder = ranks.size, UniqueRows() if is_distinct else None
        config = torchrec.EmbeddingConfig(
            num_embeddings=len(table),
            embedding_dim=table.shape[1],
            name="table",
            feature_names=["rows"],
        )
        plain = torchrec.EmbeddingCollection(tables=[config], device=torch.device("cpu"))
        plain.load_state_dict({"embeddings.table.weight": table})
        fused = {"optimizer": EmbOptimType.EXACT_SGD, "learning_rate": 1.0}
        sharder = EmbeddingCollectionSharder(fused_params=fused)
        plan = construct_module_sharding_plan(
            plain,
            {"table": row_wise(compute_kernel="fused")},
            sharder,
            local_size=self.size,
            world_size=self.size,
            device_type="cpu",
        )
        env = ShardingEnv.from_process_group(dist.group.WORLD)
        self.layer = sharder.shard(plain, plan, env, torch.device("cpu"))
        self.first = -(-len(table) // self.size) * ranks.rank
        self.before: torch.Tensor | None = table[self.first :]
        self.make_ids = torchrec.KeyedJaggedTensor.from_lengths_sync

    def look_up(self, rows: torch.Tensor) -> torch.Tensor:
        """See Way."""
        if self.finder is None:
            return self._read(rows.reshape(-1).long()).view(*rows.shape, -1)
        groups, inverse = self.finder.find(rows)
        return look_up_groups(self._read(groups.rows), inverse, groups)

    def _read(self, values: torch.Tensor) -> torch.Tensor:
        ids = self.make_ids(["rows"], values, torch.ones(len(values), dtype=torch.int32))
        return self.layer(ids)["rows"].values()

    def gradient(self) -> tuple[torch.Tensor, torch.Tensor]:
        """See Way; the first time all rows of the rank's run, by how they moved, then none.

        torchrec divides gradients by the number of ranks.
        """
        if self.before is None:
            return torch.empty(0), torch.empty(0)
        (after,) = (p.detach() for p in self.layer.parameters())
        moved = self.before[: len(after)] - after
        self.before = None
        return torch.arange(self.first, self.first + len(after)), moved * self.size


def _make_distinct(table: torch.Tensor, ranks: Ranks) -> TorchrecWay:
    return TorchrecWay(table, ranks, is_distinct=True)


class RowsWay:
    """This project's tables in shares (ShardGroup)."""

    def __init__(self, table: torch.Tensor, ranks: Ranks) -> None:
        own = nn.Parameter(table[ranks.rank :: ranks.size].contiguous())
        self.own, self.ranks = TableReader(own, UniqueRows()), ranks
        self.group = ShardGroup([self.own], ranks)
        self.layer = ShardReader(self.group, 0)

    def look_up(self, rows: torch.Tensor) -> torch.Tensor:
        """See Way."""
        self.group.forget()
        return self.layer.look_up(rows)

    def gradient(self) -> tuple[torch.Tensor, torch.Tensor]:
        """See Way; the rows that some rank asked this one for."""
        self.group.send_gradients()
        rows, means = self.own.take_gradients()
        return rows * self.ranks.size + self.ranks.rank, means * self.ranks.size


class TouchedWay:
    """This project's exchange of the rows of the batch (RowExchange)."""

    def __init__(self, table: torch.Tensor, ranks: Ranks) -> None:
        self.reader, self.ranks = TableReader(nn.Parameter(table), UniqueRows()), ranks
        layer: Any = SimpleNamespace(row_key=())
        self.exchange = RowExchange([(layer, self.reader)], ranks)

    def look_up(self, rows: torch.Tensor) -> torch.Tensor:
        """See Way."""
        return self.reader.look_up(rows)

    def gradient(self) -> tuple[torch.Tensor, torch.Tensor]:
        """See Way; the rows that some rank read, on all ranks."""
        self.exchange.exchange()
        rows, means = self.reader.take_gradients()
        return rows, means * self.ranks.size


class DenseWay:
    """The whole table on every rank, and an all-reduce of its whole gradient."""

    def __init__(self, table: torch.Tensor, ranks: Ranks) -> None:
        self.table = nn.Parameter(table)

    def look_up(self, rows: torch.Tensor) -> torch.Tensor:
        """See Way."""
        self.table.grad = None
        return look_up(self.table, rows)

    def gradient(self) -> tuple[torch.Tensor, torch.Tensor]:
        """See Way; all rows, on all ranks."""
        assert self.table.grad is not None
        dist.all_reduce(self.table.grad)
        return torch.arange(len(self.table)), self.table.grad


MAKERS: dict[str, Any] = {
    "dtensor": DTensorWay,
    "torchrec": TorchrecWay,
    "torchrec_distinct": _make_distinct,
    "rows": RowsWay,
    "touched": TouchedWay,
    "dense": DenseWay,
}
