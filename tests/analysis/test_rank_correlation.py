from __future__ import annotations

import numpy as np
import pytest

from fuxictr.analysis.rank_correlation import spearman


def plain_spearman(x, y):
    """Pearson correlation of the ranks, a tie's rank counted by comparing every pair."""

    def ranks(values):
        return [sum(v < a for v in values) + (sum(v == a for v in values) + 1) / 2 for a in values]

    return np.corrcoef(ranks(x), ranks(y))[0, 1]


@pytest.mark.parametrize("num_values", [3, 5, 1000])
@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_the_plain_formula(seed, num_values):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(num_values, size=(2, 40)).tolist()
    assert spearman(x, y) == pytest.approx(plain_spearman(x, y), abs=1e-12)


def test_agrees_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 30))
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


def test_only_the_order_counts():
    assert spearman([1, 2, 3, 4], [1, 10, 100, 1000]) == 1
    assert spearman([1, 2, 3, 4], [9, 4, 1, 0]) == -1


def test_it_is_not_always_defined():
    assert spearman([1, 2], [1, 2]) is None
    assert spearman([], []) is None
    assert spearman([1, 1, 1], [1, 2, 3]) is None
    with pytest.raises(ValueError, match="3 and 2"):
        spearman([1, 2, 3], [1, 2])
