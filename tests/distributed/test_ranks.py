"""What the processes of a job tell one another, and that a process alone tells nothing."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from fuxictr.errors import DataError
from fuxictr.pytorch.distributed.ranks import Ranks, StopFlags, joined, launched_ranks
from fuxictr.pytorch.layers.embeddings.row_share import RowShare
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


def test_ranks_of_one_process_by_default():
    assert Ranks().size == 1
