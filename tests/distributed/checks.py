"""What results of several processes are compared by."""

from __future__ import annotations

import numpy as np
import pytest

from tests.distributed.launcher import Arrays, LaunchError


def of_ranks(found: list[Arrays] | LaunchError) -> list[Arrays]:
    """Returns what each rank gave; where the launch failed, the test fails with what it said."""
    if isinstance(found, LaunchError):
        pytest.fail(str(found), pytrace=False)
    return found


def check_evaluation(expected: Arrays, found: list[Arrays] | LaunchError) -> None:
    """Checks that metrics are those of one process, on all ranks, and scores the same bits."""
    first, *others = of_ranks(found)
    metrics = [key for key in expected if key.startswith("metric")]
    assert len(metrics) == 6
    for key in metrics:
        assert abs(first[key] - expected[key]) <= 1e-9
        assert all(other[key] == first[key] for other in others)
    assert np.array_equal(first["y_pred"], expected["y_pred"])
    assert all(len(other["y_pred"]) == 0 for other in others)
