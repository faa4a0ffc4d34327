"""Rows that a batch holds, and the gradient of a table with a penalty."""

import copy

import pytest
import torch
from torch.nn.utils import clip_grad_norm_

from fuxictr.pytorch.losses import add_penalty_gradients
from fuxictr.pytorch.optim.lazy_adam import LazyAdam
from fuxictr.pytorch.optim.sparse_lookup import UniqueRows
from tests.pytorch.lazy_layers import LR, assert_same, loss_of, make_layer


@pytest.mark.parametrize("shape", [(7, 5), (3,), (0,)])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_finder_gives_what_unique_gives(shape, dtype):
    finder = UniqueRows()
    for seed in (0, 0, 1, 2):  # the second time from memory
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randint(0, 40, shape, generator=generator, dtype=dtype)
        groups, inverse = finder.find(rows)
        expected, back = torch.unique(rows, return_inverse=True)
        assert torch.equal(groups.rows, expected.long())
        assert torch.equal(inverse.long(), back)


@pytest.mark.parametrize("penalties", [[(2, 1e-3)], [(1, 1e-4)], [(1, 1e-4), (2, 1e-2)]])
def test_tables_with_a_penalty_keep_the_bits_of_the_dense_gradient(penalties):
    layer = make_layer(16)
    plain = copy.deepcopy(layer)
    lazy = LazyAdam(layer.parameters(), LR, [layer], [(layer.table, *each) for each in penalties])
    dense = torch.optim.Adam(plain.parameters(), lr=LR, fused=True)
    for step in range(1, 30):
        loss_of(layer, step, 1.0).backward()
        loss_of(plain, step, 1.0).backward()
        if step % 5 == 0:  # two lookups, which add up in another order
            continue
        assert layer.table.grad is None
        assert lazy.row_gradients() == []
        add_penalty_gradients([(plain.table, *each) for each in penalties])
        if step % 5 == 1 and step > 1:
            torch.testing.assert_close(layer.table.grad, plain.table.grad)
            layer.table.grad.copy_(plain.table.grad)
        assert torch.equal(layer.table.grad, plain.table.grad)
        for optimizer, model in ((lazy, layer), (dense, plain)):
            clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        assert torch.equal(layer.table, plain.table)
    assert_same(lazy, dense, layer, plain)


def test_a_penalized_table_without_a_lookup_does_no_step():
    layer = make_layer()
    lazy = LazyAdam(layer.parameters(), LR, [layer], [(layer.table, 2, 0.1)])
    before = layer.table.detach().clone()
    lazy.step()
    assert torch.equal(layer.table, before)
    loss_of(layer, 1, 1.0).backward()
    lazy.zero_grad()
    lazy.step()
    assert torch.equal(layer.table, before)
    loss_of(layer, 1, 1.0).backward()
    lazy.step()  # also without a call of row_gradients()
    assert not torch.equal(layer.table, before)


def test_a_step_between_lookup_and_backward_moves_the_penalty_too():
    """The penalty is that of the weights of now, and what else has a gradient counts."""
    layer = make_layer(4, torch.float64)
    plain = copy.deepcopy(layer)
    lazy = LazyAdam(layer.parameters(), LR, [layer], [(layer.table, 2, 0.5)])
    dense = torch.optim.Adam(plain.parameters(), lr=LR)
    for optimizer, model in ((lazy, layer), (dense, plain)):
        kept = loss_of(model, 1, 1.0)
        for step in (2, 3):
            if step == 2:
                loss_of(model, step, 1.0).backward()
            else:
                kept.backward()
                model.table[5:8].sum().backward()
            if optimizer is dense:
                add_penalty_gradients([(model.table, 2, 0.5)])
            optimizer.step()
            optimizer.zero_grad()
    assert_same(lazy, dense, layer, plain)
