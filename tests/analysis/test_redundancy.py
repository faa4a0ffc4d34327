from __future__ import annotations

import math

import numpy as np
import pytest

from fuxictr.analysis import moments
from fuxictr.analysis.redundancy import correlation_matrix, mean_absolute_correlation
from fuxictr.errors import DataError


def plain_z_scores(x):
    rows, dims = x.shape
    z = np.zeros((rows, dims))
    for i in range(dims):
        column = [float(value) for value in x[:, i]]
        mean = sum(column) / rows
        std = math.sqrt(sum((value - mean) ** 2 for value in column) / (rows - 1))
        for r in range(rows):
            z[r, i] = (column[r] - mean) / std if std else math.nan
    return z


def plain_correlation(left, right):
    a, b = plain_z_scores(left), plain_z_scores(right)
    rows = len(a)
    matrix = np.zeros((a.shape[1], b.shape[1]))
    for i in range(a.shape[1]):
        for j in range(b.shape[1]):
            r = sum(a[k, i] * b[k, j] for k in range(rows)) / (rows - 1)
            matrix[i, j] = 0.0 if math.isnan(r) else r
    return matrix


@pytest.fixture
def sides():
    rng = np.random.default_rng(2)
    left = rng.normal(2.0, 3.0, size=(43, 5)).astype(np.float32)
    right = (left @ rng.normal(size=(5, 4)) + rng.normal(size=(43, 4))).astype(np.float32)
    left[:, 2] = 0.1
    right[:, 1] = 0.0
    return left, right


@pytest.mark.parametrize("chunk_rows", [1, 7, 1000])
def test_correlation_equals_plain_loops(sides, chunk_rows, monkeypatch):
    monkeypatch.setattr(moments, "CHUNK_ROWS", chunk_rows)
    left, right = sides
    matrix = correlation_matrix(left, right)
    assert matrix.shape == (5, 4)
    np.testing.assert_allclose(matrix, plain_correlation(left, right), rtol=1e-9, atol=1e-12)
    assert not matrix[2].any() and not matrix[:, 1].any()


def test_self_correlation_is_one_and_symmetric(sides):
    left, _ = sides
    for other in (left, left.copy()):
        matrix = correlation_matrix(left, other)
        np.testing.assert_allclose(np.diag(matrix), [1, 1, 0, 1, 1], rtol=1e-14)
        np.testing.assert_allclose(matrix, matrix.T, rtol=1e-12)


def test_sign_and_scale():
    x = np.arange(5.0)[:, None]
    np.testing.assert_allclose(correlation_matrix(x, np.hstack([2 * x + 1, -x])), [[1, -1]])


def test_mean_absolute_correlation_by_hand():
    assert mean_absolute_correlation(np.array([[1.0, -0.5], [0.0, 0.25]])) == 0.4375


def test_errors(sides):
    left, right = sides
    with pytest.raises(DataError, match="43 and 42 rows"):
        correlation_matrix(left, right[:-1])
    with pytest.raises(DataError, match="two rows"):
        correlation_matrix(left[:1], right[:1])
    right[0, 0] = np.nan
    with pytest.raises(DataError, match="NaN"):
        correlation_matrix(left, right)
