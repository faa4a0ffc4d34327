"""Statistics over seeds: mean, sample deviation, relative lift, paired t-test."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

from scipy.special import stdtr


def mean(values: Sequence[float]) -> float:
    """Returns the arithmetic mean, with the same bits whatever the order of the values."""
    return math.fsum(values) / len(values)


def sample_std(values: Sequence[float]) -> float | None:
    """Returns the standard deviation with n - 1 in the denominator, None for a single value."""
    if len(values) < 2:
        return None
    center = mean(values)
    return math.sqrt(math.fsum((v - center) ** 2 for v in values) / (len(values) - 1))


def relative_lift(dis: float, gen: float) -> float:
    """Returns ``100 * (gen - dis) / dis``, in percent."""
    return 100 * (gen - dis) / dis


def paired_t_test(dis: Sequence[float], gen: Sequence[float]) -> float | None:
    """Returns the two-sided p of the paired t-test that the mean difference is 0.

    ``t = mean(d) / (std(d) / sqrt(n))`` of the differences d, with n - 1 degrees of freedom. Both
    have one value per seed, in the same order; else a ValueError. p is None for fewer than two
    pairs, or differences that are equal up to rounding.
    """
    differences = [b - a for a, b in zip(dis, gen, strict=True)]
    deviation = sample_std(differences)
    rounding = 4 * sys.float_info.epsilon * max(map(abs, [*dis, *gen]), default=0.0)
    if deviation is None or deviation <= rounding:
        return None
    t = mean(differences) / (deviation / math.sqrt(len(differences)))
    return 2 * float(stdtr(len(differences) - 1, -abs(t)))
