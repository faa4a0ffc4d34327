from __future__ import annotations

import math

import numpy as np
import pytest

from fuxictr.analysis import moments
from fuxictr.analysis.spectrum import (
    covariance,
    effective_dimensions,
    field_spectra,
    information_abundance,
    log_spectrum,
    normalized,
    rank_bound,
    rankme,
    singular_values,
)
from fuxictr.errors import DataError


def plain_covariance(x):
    rows, dims = x.shape
    means = [sum(float(x[r, i]) for r in range(rows)) / rows for i in range(dims)]
    return np.array(
        [
            [
                sum((float(x[r, i]) - means[i]) * (float(x[r, j]) - means[j]) for r in range(rows))
                / rows
                for j in range(dims)
            ]
            for i in range(dims)
        ]
    )


@pytest.fixture
def embeddings():
    rng = np.random.default_rng(1)
    return (3.0 + rng.normal(size=(57, 6)) @ rng.normal(size=(6, 6))).astype(np.float32)


@pytest.mark.parametrize("chunk_rows", [1, 10, 57, 1000])
def test_covariance_equals_plain_loops_for_every_chunk_size(embeddings, chunk_rows, monkeypatch):
    monkeypatch.setattr(moments, "CHUNK_ROWS", chunk_rows)
    np.testing.assert_allclose(
        covariance(embeddings), plain_covariance(embeddings), rtol=1e-10, atol=1e-12
    )


def test_singular_values_are_the_eigenvalues_of_the_plain_covariance(embeddings):
    expected = np.sort(np.linalg.eigvals(plain_covariance(embeddings)).real)[::-1]
    values = singular_values(embeddings)
    np.testing.assert_allclose(values, expected, rtol=1e-9)
    np.testing.assert_allclose(
        log_spectrum(values), [math.log(e / expected[0]) for e in expected], rtol=1e-7, atol=1e-12
    )


def test_singular_values_resolve_ten_orders_of_magnitude():
    rng = np.random.default_rng(0)
    columns = rng.normal(size=(4000, 4))
    columns, _ = np.linalg.qr(columns - columns.mean(axis=0))
    scale = np.array([1.0, 1e-1, 1e-3, 1e-5])
    values = singular_values(columns * scale)
    np.testing.assert_allclose(normalized(values), scale**2, rtol=1e-5)


def test_offset_does_not_matter(embeddings):
    shifted = embeddings.astype(np.float64) + 1e4
    np.testing.assert_allclose(
        singular_values(shifted), singular_values(embeddings.astype(np.float64)), rtol=1e-6
    )


def test_numbers_by_hand():
    flat = np.array([2.0, 2.0, 2.0, 2.0])
    assert rankme(flat) == pytest.approx(4.0, rel=1e-5)
    assert information_abundance(flat) == 4.0
    assert effective_dimensions(flat) == 4

    steep = np.array([3.0, 1.0, 0.0])
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert rankme(steep) == pytest.approx(math.exp(entropy), rel=1e-5)
    assert information_abundance(steep) == pytest.approx(4 / 3)
    assert effective_dimensions(steep) == 2
    assert effective_dimensions(np.array([10.0, 1.1e-5, 0.9e-5])) == 2
    assert effective_dimensions(np.array([10.0, 1.1, 0.9]), threshold=0.1) == 2
    np.testing.assert_array_equal(log_spectrum(steep), [0.0, math.log(1 / 3), -math.inf])


def test_rankme_adds_its_epsilon_after_dividing():
    values = [5.0, 2.0, 1e-9]
    p = [v / sum(values) + 1e-7 for v in values]
    expected = math.exp(-sum(q * math.log(q) for q in p))
    assert rankme(np.array(values)) == pytest.approx(expected, rel=1e-12)


def test_constant_embeddings_have_no_dimensions():
    constant = np.full((20_001, 3), 0.1, dtype=np.float32)
    values = singular_values(constant)
    np.testing.assert_array_equal(values, 0.0)
    np.testing.assert_array_equal(log_spectrum(values), -math.inf)
    assert rankme(values) == information_abundance(values) == effective_dimensions(values) == 0


def test_field_spectra_are_those_of_the_fields_alone(embeddings):
    by_field = embeddings.reshape(57, 3, 2)
    spectra = field_spectra(by_field)
    assert spectra.shape == (3, 2)
    for field in range(3):
        expected = np.linalg.eigvals(plain_covariance(by_field[:, field])).real
        np.testing.assert_allclose(spectra[field], np.sort(expected)[::-1], rtol=1e-9)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_an_error(embeddings, value):
    embeddings[3, 4] = value
    with pytest.raises(DataError, match=r"NaN or infinite values in 1 of 6 .*first: 4"):
        singular_values(embeddings)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (4,), (2, 3, 4)])
def test_embeddings_must_be_a_matrix_with_content(shape):
    with pytest.raises(DataError, match="a matrix"):
        singular_values(np.zeros(shape))


def test_rank_bound_is_what_the_values_allow():
    rng = np.random.default_rng(0)
    width = 4
    tables = [rng.normal(size=(count, width)) for count in (1, 2, 3, 5, 3000)]
    ids = [rng.integers(0, len(table), 5000) for table in tables]
    for table, column in zip(tables, ids, strict=True):
        column[: len(table)] = np.arange(len(table))  # every value is there
    number = rng.normal(size=(5000, 1)) * rng.normal(size=(1, width))
    raw = np.stack([*(t[i] for t, i in zip(tables, ids, strict=True)), number], axis=1)
    flat = raw.reshape(5000, -1).astype(np.float32)
    assert rank_bound(flat, width) == 0 + 1 + 2 + 4 + 4 + 1
    centred = flat.astype(np.float64) - flat.astype(np.float64).mean(axis=0)
    assert np.linalg.matrix_rank(centred, tol=1e-3) == rank_bound(flat, width)
    mixed = np.maximum(flat @ rng.normal(size=(24, 24)).astype(np.float32), 0)
    assert rank_bound(mixed, width) == 24
    with pytest.raises(DataError, match="24 dimensions are no fields of width 5"):
        rank_bound(flat, 5)
