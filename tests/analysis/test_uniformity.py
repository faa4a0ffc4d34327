from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from fuxictr.analysis import uniformity as module
from fuxictr.analysis.spectrum import condition_number, describe_condition, dimensions_holding
from fuxictr.analysis.uniformity import uniformity
from fuxictr.errors import DataError


def plain_uniformity(rows) -> float:
    """The formula as it stands: loops over pairs, float64."""
    directions = []
    for row in rows:
        length = math.sqrt(math.fsum(float(x) ** 2 for x in row))
        if length > 0:
            directions.append([float(x) / length for x in row])
    terms = [
        math.exp(-2 * math.fsum((a - b) ** 2 for a, b in zip(x, y, strict=True)))
        for x, y in itertools.combinations(directions, 2)
    ]
    return math.log(math.fsum(terms) / len(terms))


@pytest.fixture
def rows():
    rng = np.random.default_rng(3)
    return (0.5 + rng.normal(size=(41, 5)) * 7).astype(np.float32)


@pytest.mark.parametrize("chunk_rows", [1, 10, 41, 100])
def test_uniformity_equals_the_plain_formula(rows, chunk_rows, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK_ROWS", chunk_rows)
    assert uniformity(rows) == pytest.approx(plain_uniformity(rows), rel=1e-12)


def test_uniformity_is_of_directions_alone(rows):
    lengths = np.random.default_rng(4).uniform(0.1, 9, (len(rows), 1))
    scaled = rows.astype(np.float64) * lengths
    assert uniformity(scaled) == pytest.approx(uniformity(rows), rel=1e-6)
    with_zeros = np.concatenate([rows, np.zeros_like(rows)])
    assert uniformity(with_zeros) == pytest.approx(uniformity(rows), rel=1e-12)


def test_uniformity_by_hand():
    # Two opposite directions are at the squared distance 4.
    assert uniformity(np.array([[1.0, 0.0], [-3.0, 0.0]])) == pytest.approx(-8)
    assert uniformity(np.array([[1.0, 0.0], [0.0, 2.0]])) == pytest.approx(-4)
    assert uniformity(np.full((30, 3), 0.1)) == pytest.approx(0, abs=1e-12)
    assert uniformity(np.zeros((5, 3))) == uniformity(np.ones((1, 3))) == 0.0


def test_uniformity_of_many_rows_takes_evenly_spaced_ones(rows):
    assert uniformity(rows, max_rows=41) == uniformity(rows)
    places = [place * 41 // 10 for place in range(10)]
    assert uniformity(rows, max_rows=10) == uniformity(rows[places])
    layers = np.concatenate([rows, rows + 50])  # layers are stacked: all of them count
    assert uniformity(layers, max_rows=8) == uniformity(layers[[p * 82 // 8 for p in range(8)]])


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_values_that_are_not_finite_are_an_error(rows, broken):
    rows[1, 2] = broken
    with pytest.raises(DataError, match="NaN or infinite"):
        uniformity(rows)


def plain_dimensions(values, share) -> int:
    values = sorted(values, reverse=True)
    return next(
        k
        for k in range(1, len(values) + 1)
        if math.fsum(values[:k]) >= share * math.fsum(values) * (1 - 1e-12)
    )


def test_dimensions_that_hold_a_share_equal_plain_sums():
    rng = np.random.default_rng(5)
    for size in (1, 2, 7, 60):
        values = np.sort(rng.exponential(size=size) ** 3)[::-1]
        for share in (0.5, 0.9, 0.98, 1.0):
            assert dimensions_holding(values, share) == plain_dimensions(values.tolist(), share)


def test_dimensions_by_hand():
    assert dimensions_holding(np.array([98.0, 1.0, 1.0])) == 1
    assert dimensions_holding(np.array([97.9, 1.1, 1.0])) == 2
    assert dimensions_holding(np.full(50, 0.1)) == 49
    assert dimensions_holding(np.array([1.0, 0.0, 0.0])) == 1
    assert dimensions_holding(np.zeros(4)) == 0


def test_condition_number_is_that_of_the_covariance():
    rng = np.random.default_rng(6)
    x = rng.normal(size=(200, 5)) @ rng.normal(size=(5, 5))
    covariance = np.cov(x.T, bias=True)
    values = np.linalg.svd(covariance, compute_uv=False)
    assert condition_number(values) == pytest.approx(np.linalg.cond(covariance), rel=1e-9)
    assert condition_number(np.array([3.0, 3.0])) == 1
    assert condition_number(np.array([3.0, 0.0])) == condition_number(np.zeros(2)) == math.inf
    shown = [describe_condition(value) for value in (1.0, 123456.0, 1e14, 2e14, math.inf)]
    assert shown == ["1.0e+00", "1.2e+05", "1.0e+14", "> 1e14", "> 1e14"]
