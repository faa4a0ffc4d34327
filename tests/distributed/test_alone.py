"""One process calls nothing collective, and what is made for several leaves it as it is."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn

from fuxictr.pytorch.distributed import ranks as ranks_module
from fuxictr.pytorch.distributed.ranks import Ranks
from fuxictr.pytorch.distributed.sync_batch_norm import RankBatchNorm, share_batch_norm
from tests.distributed.jobs import JOBS

# What of torch.distributed asks or tells other processes begins so.
COLLECTIVE = ("all_", "barrier", "broadcast", "gather", "init_process", "irecv", "isend")
COLLECTIVE += ("monitored", "new_", "recv", "reduce", "scatter", "send")
ALONE = (
    "valid-large-row",
    "l1_l2-medium-row",
    "batch_norm-row",
    "random_targets-none",
    "tiny-small-none",
)


@pytest.fixture
def without_collectives(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("one process has called something of torch.distributed")

    functions = [name for name in dir(dist) if name.startswith(COLLECTIVE)]
    assert {"all_reduce", "all_to_all_single", "new_group"} <= set(functions)
    for name in functions:
        monkeypatch.setattr(dist, name, refuse)
    monkeypatch.setattr(ranks_module, "_all_gather", refuse)
    monkeypatch.setattr(nn.parallel.DistributedDataParallel, "__init__", refuse)


@pytest.mark.parametrize("name", [*ALONE, "evaluate-medium-97-row", "draw", "normalize"])
def test_one_process_calls_nothing_collective(name, without_collectives, tmp_path):
    assert JOBS[name](tmp_path)


def test_several_processes_would_be_seen(without_collectives):
    with pytest.raises(AssertionError, match="one process has called"):
        Ranks(0, 2).sum(torch.ones(1))


def make_model() -> nn.Sequential:
    inner = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, eps=0.1, momentum=0.3), nn.ReLU())
    return nn.Sequential(inner, nn.BatchNorm2d(2, affine=False), nn.BatchNorm1d(4, momentum=None))


def test_batch_norm_of_one_process_is_left_alone():
    model = make_model()
    modules = list(model.modules())
    share_batch_norm(model, Ranks())
    assert all(one is two for one, two in zip(model.modules(), modules, strict=True))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_batch_norm_is_replaced_with_its_weights(device):
    model = make_model().eval()
    before, parameters = model.state_dict(keep_vars=True), list(model.parameters())
    kind = RankBatchNorm if device == "cpu" else nn.SyncBatchNorm
    for _ in range(2):
        share_batch_norm(model, Ranks(0, 2, device=device))
        after = model.state_dict(keep_vars=True)
        assert list(after) == list(before)
        assert all(after[name] is value for name, value in before.items())
        assert all(one is two for one, two in zip(model.parameters(), parameters, strict=True))
        found = [module for module in model.modules() if isinstance(module, kind)]
        assert len(found) == 3
    assert [(norm.eps, norm.momentum) for norm in found] == [(0.1, 0.3), (1e-5, 0.1), (1e-5, None)]
    assert not any(norm.training for norm in found)


def test_the_norm_of_several_processes_is_torchs_own_in_one():
    """A model that was trained by several may go on alone, or be copied."""
    torch.manual_seed(0)
    plain = make_model()[0]
    shared = copy.deepcopy(plain)
    share_batch_norm(shared, Ranks(0, 2))
    shared = copy.deepcopy(shared)
    assert isinstance(shared[1], RankBatchNorm)
    for is_training in (True, True, False):
        values = torch.randn(7, 3)
        found = [model.train(is_training)(values) for model in (shared, plain)]
        assert torch.equal(*found)
    for name, value in plain.state_dict().items():
        assert torch.equal(shared.state_dict()[name], value)
