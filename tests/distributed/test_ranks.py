"""What the processes of a job tell one another, and that a process alone tells nothing."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode

from fuxictr.config import TrainConfig
from fuxictr.errors import ConfigError, DataError
from fuxictr.features import FeatureMap
from fuxictr.pytorch.distributed.ranks import Ranks, StopFlags, joined, launched_ranks
from fuxictr.pytorch.layers import FeatureEmbedding
from fuxictr.pytorch.layers.embeddings.row_share import DeferredTable, RowShare
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.sharding.tables import defers_tables, shard_tables
from tests.distributed.launcher import launch


@pytest.mark.parametrize("num_ranks", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_collectives(tmp_path, num_ranks):
    launch([str(tmp_path)], num_ranks, tmp_path, 120, module="tests.distributed.ranks_worker")
    assert len(list(tmp_path.glob("ok.*"))) == num_ranks


def test_a_process_alone_tells_nothing(monkeypatch):
    for name in ("all_reduce", "broadcast", "send", "recv", "init_process_group", "new_group"):
        monkeypatch.setattr(dist, name, None)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert launched_ranks() == (0, 1, 0)
    with joined("cpu") as ranks:
        assert (ranks.rank, ranks.size, ranks.is_first) == (0, 1, True)
        rows = torch.ones(2, 3)
        assert ranks.sum(rows) is rows and ranks.broadcast(rows) is rows
        assert ranks.gather_rows(rows)[0] is rows and ranks.gather_texts("a") == ["a"]
        ranks.barrier()
        assert StopFlags(ranks).reduce(True, False) == [True, False]
        with pytest.raises(DataError), ranks.raise_on_any_rank():
            raise DataError("as ever")
        value = object()
        assert ranks.from_rank_zero(lambda: value) is value


@pytest.mark.parametrize("num_rows", [1, 2, 3, 17, 100, 65_536, 65_537, 65_552, 65_553, 131_080])
@pytest.mark.parametrize("width", [1, 3, 16])
def test_a_share_is_drawn_as_the_whole_table_is(num_rows, width):
    torch.manual_seed(0)
    whole = torch.empty(num_rows, width).normal_(std=1e-4)
    next_number = torch.rand(1)
    for num_ranks in (2, 5):
        for rank in range(num_ranks):
            share = RowShare(rank, num_ranks, num_rows)
            own = torch.full((share.num_own, width), torch.nan)
            torch.manual_seed(0)
            share.draw_normal(own, 1e-4)
            assert torch.equal(own, share.own(whole))
            assert torch.equal(torch.rand(1), next_number)


@pytest.mark.parametrize("rank", [None, 0, 1])
def test_a_deferred_table_is_drawn_as_any_other(rank):
    feature_map, deferred_map = table_map(), table_map()
    deferred_map.defer_tables = True
    torch.manual_seed(0)
    full, next_number = FeatureEmbedding(feature_map, 4), torch.rand(1)
    torch.manual_seed(0)
    layer = FeatureEmbedding(deferred_map, 4)
    assert torch.equal(torch.rand(1), next_number)
    table = layer.table
    assert table.is_meta and table.shape == full.table.shape
    share = None if rank is None else RowShare(rank, 2, len(table))
    layer.place_table(share)
    expected = full.table if share is None else share.own(full.table)
    assert layer.table is table and type(table) is torch.nn.Parameter and table.requires_grad
    assert torch.equal(table, expected) and layer.num_table_rows == len(full.table)


class LargestTensor(TorchDispatchMode):
    """Notes the bytes of the largest tensor that is made in memory."""

    num_bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor) and not found.is_meta:
            self.num_bytes = max(self.num_bytes, found.untyped_storage().nbytes())
        return found


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_no_process_holds_more_of_a_table_than_its_rows(num_ranks):
    feature_map = table_map(400_003)
    feature_map.defer_tables = True
    with LargestTensor() as largest:
        layer = FeatureEmbedding(feature_map, 4)
        shard_tables(layer, TrainConfig(embedding_sharding="row"), Ranks(1, num_ranks))
    assert layer.share is not None and largest.num_bytes == layer.table.nbytes
    assert layer.table.nbytes == 16 * (400_008 // num_ranks)


def test_the_first_layer_of_several_draws_their_table():
    feature_map = table_map()
    feature_map.defer_tables = True
    torch.manual_seed(0)
    layers = torch.nn.ModuleList(FeatureEmbedding(feature_map, 4) for _ in range(2))
    torch.manual_seed(0)
    expected = FeatureEmbedding(table_map(), 4).table
    layers[1].table = layers[0].table
    ranks = Ranks(1, 2)
    shard_tables(layers, TrainConfig(embedding_sharding="row"), ranks)
    assert layers[0].table is layers[1].table and layers[0].share == layers[1].share
    assert torch.equal(layers[0].table, expected[1::2])
    assert BaseModel.count_parameters(layers) == expected.numel(), "of all ranks, once"
    shard_tables(layers, TrainConfig(embedding_sharding="row"), ranks)  # once is enough
    assert torch.equal(layers[0].table, expected[1::2])


def test_a_deferred_table_may_not_be_written_before_it_is_drawn():
    feature_map = table_map()
    feature_map.defer_tables = True
    layer = FeatureEmbedding(feature_map, 4)
    assert isinstance(layer.table, DeferredTable)
    layer.reset_parameters()  # draws it anew
    torch.nn.init.normal_(layer.table)
    with pytest.raises(ConfigError, match="set embedding_sharding: none"):
        layer.place_table(None)
    with pytest.raises(ConfigError, match="set embedding_sharding: none"):
        layer.table.data.zero_()  # counts as no write: it is refused at once
    with pytest.raises(ConfigError, match="set embedding_sharding: none"):
        layer.table.data = torch.zeros(1)


@pytest.mark.parametrize(
    ("sharding", "num_ids", "num_ranks", "expected"),
    [("auto", 100, 2, False), ("auto", 2**30, 2, True), ("row", 100, 2, True)]
    + [("none", 2**30, 2, False), ("row", 100, 1, False)],
)
def test_only_tables_that_will_be_sharded_are_deferred(
    sharding, num_ids, num_ranks, expected, monkeypatch
):
    monkeypatch.setattr("os.sysconf", lambda name: 2**20)
    config = TrainConfig(embedding_sharding=sharding)
    assert defers_tables(table_map(num_ids), 2**10, config, Ranks(0, num_ranks)) is expected


def table_map(num_ids: int = 70_001) -> FeatureMap:
    feature_map = FeatureMap("d")
    for name, size in (("a", num_ids), ("b", 5)):
        feature_map.features[name] = {"type": "categorical", "vocab_size": size}
    return feature_map


def test_ranks_of_one_process_by_default():
    assert Ranks().size == 1
