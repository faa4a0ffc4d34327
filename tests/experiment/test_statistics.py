"""Mean, deviation, lift and the paired t-test, against loops, scipy and arithmetic by hand."""

import math
import random

import pytest
import scipy.stats

from fuxictr.experiment.tables.statistics import mean, paired_t_test, relative_lift, sample_std


def test_a_worked_example():
    # Differences GEN - DIS: 1, 2, 3, 2. Their mean is 8 / 4 = 2; the squared distances from it,
    # 1 + 0 + 1 + 0 = 2, over n - 1 = 3 give the variance 2/3. The standard error is
    # sqrt(2/3 / 4) = sqrt(1/6), so t = 2 * sqrt(6) = 4.898979 with 3 degrees of freedom.
    # For 3 degrees the distribution has the closed form
    # F(t) = 1/2 + (u / (1 + u^2) + arctan(u)) / pi with u = t / sqrt(3) = 2 * sqrt(2):
    # u / (1 + u^2) = 0.314270, arctan(u) = 1.230959, F = 0.991861, p = 2 * (1 - F) = 0.016276.
    dis, gen = [10, 20, 30, 40], [11, 22, 33, 42]
    u = 2 * math.sqrt(2)
    p = 1 - 2 / math.pi * (u / (1 + u**2) + math.atan(u))
    assert p == pytest.approx(0.016276, abs=1e-6)
    assert paired_t_test(dis, gen) == pytest.approx(p, rel=1e-12)
    assert sample_std([1, 2, 3, 2]) == pytest.approx(math.sqrt(2 / 3), rel=1e-15)
    assert (mean(dis), mean(gen), relative_lift(25, 27)) == (25, 27, 8)


@pytest.mark.parametrize("size", [2, 3, 5, 10, 40])
@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_loops_and_with_scipy(size, seed):
    draw = random.Random(100 * size + seed)
    dis = [0.79 + draw.gauss(0, 3e-4) for _ in range(size)]
    gen = [0.79 + draw.gauss(seed * 1e-4, 3e-4) for _ in range(size)]
    total = 0.0
    for a, b in zip(dis, gen, strict=True):
        total += b - a
    center, squares = total / size, 0.0
    for a, b in zip(dis, gen, strict=True):
        squares += (b - a - center) ** 2
    t = center / math.sqrt(squares / (size - 1) / size)
    p = paired_t_test(dis, gen)
    assert p == pytest.approx(2 * scipy.stats.t.sf(abs(t), size - 1), rel=1e-9)
    assert p == pytest.approx(scipy.stats.ttest_rel(gen, dis).pvalue, rel=1e-9)
    assert p == paired_t_test(gen, dis), "two-sided"
    assert sample_std(dis) == pytest.approx(scipy.stats.tstd(dis), rel=1e-12)


def test_a_small_p_keeps_its_digits():
    dis = [0.1 * i for i in range(12)]
    gen = [x + 1 + 1e-4 * (-1) ** i for i, x in enumerate(dis)]
    p = paired_t_test(dis, gen)
    assert 0 < p < 1e-40
    assert p == pytest.approx(scipy.stats.ttest_rel(gen, dis).pvalue, rel=1e-9)


def test_pairs_count_and_not_the_two_sets():
    dis, gen = [0.70, 0.75, 0.80], [0.71, 0.7602, 0.8101]
    assert paired_t_test(dis, gen) < 0.001
    assert paired_t_test(dis, gen[::-1]) > 0.5


def test_where_nothing_is_defined_nothing_is_said():
    assert sample_std([0.7]) is None
    assert sample_std([]) is None
    assert paired_t_test([0.7], [0.8]) is None
    assert paired_t_test([], []) is None
    assert paired_t_test([0.7, 0.8], [0.7, 0.8]) is None
    # Equal but for rounding: 0.8 - 0.7 and 0.9 - 0.8 differ in the last bits.
    assert 0.8 - 0.7 != 0.9 - 0.8
    assert paired_t_test([0.7, 0.8], [0.8, 0.9]) is None
    assert paired_t_test([0.7, 0.8], [0.8, 0.9 + 1e-12]) < 1e-9


def test_two_sets_of_different_length_are_refused():
    with pytest.raises(ValueError, match="shorter|longer"):
        paired_t_test([0.7, 0.8], [0.7])


def test_the_order_of_the_seeds_changes_no_bit():
    draw = random.Random(1)
    pairs = [(draw.random(), draw.random()) for _ in range(20)]
    results = set()
    for _ in range(50):
        draw.shuffle(pairs)
        dis, gen = zip(*pairs, strict=True)
        results.add((mean(dis), sample_std(gen), paired_t_test(dis, gen)))
    assert len(results) == 1
