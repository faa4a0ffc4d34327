"""Lookups in a table, and their gradients, against torch's own."""

import pytest
import torch
import torch.nn.functional as F

from fuxictr.pytorch.layers.embeddings.lookup import group_rows, look_up, sum_by_row


def gradients(function, table, rows, grad):
    leaf = table.clone().requires_grad_()
    out = function(leaf, rows)
    out.backward(grad)
    return out.detach(), leaf.grad


@pytest.mark.parametrize("width", [1, 2, 16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows_dtype", [torch.int32, torch.int64])
def test_values_and_gradients_equal_those_of_f_embedding_to_the_bit(width, dtype, rows_dtype):
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(50, width, dtype=dtype, generator=generator)
    rows = torch.randint(0, 40, (300, 7), generator=generator).to(rows_dtype)
    rows[:, 0] = 3  # one row read by every batch row
    grad = torch.randn(300, 7, width, dtype=dtype, generator=generator)
    found = gradients(look_up, table, rows, grad)
    expected = gradients(lambda t, r: F.embedding(r, t), table, rows, grad)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    assert not found[1][40:].any()


def test_the_gradient_is_the_sum_of_a_loop():
    rows = torch.tensor([[2, 0], [2, 2]])
    grad = torch.arange(12.0).reshape(2, 2, 3)
    _, found = gradients(look_up, torch.zeros(4, 3), rows, grad)
    expected = torch.zeros(4, 3)
    for b in range(2):
        for f in range(2):
            expected[rows[b, f]] += grad[b, f]
    assert torch.equal(found, expected)


def test_a_gradient_that_is_not_contiguous():
    rows = torch.randint(0, 9, (20, 3), generator=torch.Generator().manual_seed(1))
    grad = torch.randn(4, 3, 20).permute(2, 1, 0)
    found = gradients(look_up, torch.zeros(9, 4), rows, grad)[1]
    expected = gradients(lambda t, r: F.embedding(r, t), torch.zeros(9, 4), rows, grad)[1]
    torch.testing.assert_close(found, expected)


def test_gradients_do_not_depend_on_the_number_of_threads():
    generator = torch.Generator().manual_seed(2)
    rows = torch.randint(0, 500, (4000, 24), generator=generator)
    grad = torch.randn(4000, 24, 16, generator=generator)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(gradients(look_up, torch.zeros(500, 16), rows, grad)[1])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*found)


def test_without_a_gradient_nothing_is_kept():
    table = torch.randn(5, 2, requires_grad=True)
    rows = torch.tensor([[1, 4]])
    with torch.no_grad():
        assert not look_up(table, rows).requires_grad
    assert not look_up(table.detach(), rows).requires_grad
    assert torch.equal(look_up(table, rows), table[rows])


def test_groups_hold_every_position_once_in_order():
    rows = torch.tensor([[5, 1, 5], [1, 5, 0]])
    groups = group_rows(rows)
    assert groups.rows.tolist() == [0, 1, 5]
    assert groups.positions.tolist() == [5, 1, 3, 0, 2, 4]
    assert groups.starts.tolist() == [0, 1, 3]
    values = torch.arange(6.0).unsqueeze(1)
    assert sum_by_row(groups, values).flatten().tolist() == [5.0, 4.0, 6.0]
