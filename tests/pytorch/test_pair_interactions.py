"""Pair interactions against loops over the pairs, values and gradients."""

import pytest
import torch

from fuxictr.pytorch.layers import MatrixPairSum, pair_products, pair_sum
from fuxictr.pytorch.layers.interactions import pair_interactions
from fuxictr.pytorch.layers.interactions.pair_interactions import _triangle


def random_sides(batch=3, num_fields=5, width=4, num=2):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(
            batch, num_fields, width, dtype=torch.float64, generator=generator
        ).requires_grad_()
        for _ in range(num)
    ]


def pairs(num_fields):
    return [(i, j) for j in range(num_fields) for i in range(j)]


def check(found, expected, leaves):
    torch.testing.assert_close(found, expected)
    grad = torch.randn(found.shape, dtype=found.dtype, generator=torch.Generator().manual_seed(1))
    for one, other in zip(
        torch.autograd.grad(found, leaves, grad),
        torch.autograd.grad(expected, leaves, grad),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("num_fields", [1, 2, 5])
def test_pair_sum_equals_a_loop_over_the_pairs(num_fields):
    left, right = random_sides(num_fields=num_fields)
    zero = (left * right).sum(dim=1) * 0
    expected = sum((left[:, i] * right[:, j] for i, j in pairs(num_fields)), zero)
    check(pair_sum(left, right), expected, [left, right])


@pytest.mark.parametrize("num_fields", [1, 2, 5])
def test_pair_sum_of_one_side_with_itself(num_fields):
    (side,) = random_sides(num_fields=num_fields, num=1)
    zero = side.sum(dim=1) * 0
    expected = sum((side[:, i] * side[:, j] for i, j in pairs(num_fields)), zero)
    check(pair_sum(side, side), expected, [side])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, about its own tracing
def test_pair_sum_compiled_for_a_gpu_is_the_same_and_one_graph(monkeypatch):
    left, right = random_sides()
    expected = pair_sum(left, right)
    is_split = torch._dynamo.explain(pair_sum)(left, right).graph_break_count > 0
    torch._dynamo.reset()
    monkeypatch.setattr(pair_interactions, "_is_compiled_for_gpu", lambda tensor: True)
    check(pair_sum(left, right), expected, [left, right])
    assert torch._dynamo.explain(pair_sum)(left, right).graph_break_count == 0
    torch._dynamo.reset()
    assert is_split, "without that, it would be split, and this were not needed"


def test_a_gpu_multiplies_with_all_matrices_at_once(monkeypatch):
    left, right = random_sides()
    layer = MatrixPairSum(5, 4).double()
    leaves = [left, right, layer.weight]
    expected = layer(left, right)
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    monkeypatch.setattr(pair_interactions, "_TriangularMap", None)
    found = layer(left, right)
    check(found, expected, leaves)


def test_pair_sum_of_two_precisions_is_in_the_higher_one():
    left, right = (side.detach() for side in random_sides())
    found = pair_sum(left.bfloat16(), right.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, pair_sum(left.bfloat16().float(), right.float()))


@pytest.mark.parametrize("num_fields", [1, 2, 5])
def test_pair_products_are_the_inner_products_in_order(num_fields):
    left, right = random_sides(num_fields=num_fields)
    ordered = [(i, j) for i in range(num_fields) for j in range(i + 1, num_fields)]
    found = pair_products(left, right)
    assert found.shape == (3, len(ordered))
    zero = (left * right).sum() * 0
    products = [(left[:, i] * right[:, j]).sum(dim=1) for i, j in ordered]
    expected = torch.stack(products, dim=1) if products else zero.expand(3, 0)
    check(found, expected + zero, [left, right])


@pytest.mark.parametrize("num_fields", [2, 3, 7, 13])
def test_matrix_pair_sum_equals_a_loop_over_the_pairs(num_fields):
    left, right = random_sides(num_fields=num_fields)
    layer = MatrixPairSum(num_fields, 4).double()
    lower, upper = layer.pairs.tolist()
    expected = sum(
        left[:, i] @ layer.weight[pair] * right[:, j]
        for pair, (i, j) in enumerate(zip(lower, upper, strict=True))
    )
    assert all(i < j for i, j in zip(lower, upper, strict=True))
    check(layer(left, right), expected, [left, right, layer.weight])


@pytest.mark.parametrize("size", [1, 5, 6, 7, 24, 384])
def test_the_strips_hold_every_column_once_down_to_the_diagonal(size):
    strips = _triangle(size)
    columns = [c for strip, _ in strips for c in range(size)[strip]]
    assert columns == list(range(size))
    for strip, rows in strips:
        assert range(size)[rows] == range(range(size)[strip][-1] + 1)
