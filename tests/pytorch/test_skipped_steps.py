"""The closed form of skipped steps against plain sums."""

import numpy as np
import pytest
import torch

from fuxictr.pytorch.optim import catch_up as skipped_steps
from fuxictr.pytorch.optim.catch_up import SkippedSteps


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_closed_form_is_the_plain_sum(dtype, monkeypatch):
    """For all s, t and x = sqrt(v); in float64, where the numbers of terms alone count."""
    monkeypatch.setitem(skipped_steps._NUM_TERMS, torch.float64, skipped_steps._NUM_TERMS[dtype])
    allowed = {torch.float32: 1.2e-8, torch.float64: 1e-13}[dtype]
    scales = np.concatenate([[0.0], np.logspace(-15, 8, 93), [1e150]])
    like = torch.zeros((), dtype=torch.float64)
    skipped = SkippedSteps(0, (0.9, 0.999), 1e-8, like)
    checked = {1, 2, 3, 5, 10, 30, 99, 100, 101, 120, 250, 600, 1500}
    for now in range(1, 1501):
        rate = 1e-3 if now % 400 < 300 else 1e-2
        skipped.advance(rate)
        if now not in checked:
            continue
        starts = sorted({s for s in checked | {now - 1, now - 7, 4, 17, 60} if 1 <= s < now})
        weights = torch.zeros(len(starts), len(scales), dtype=torch.float64)
        exp_avg, exp_avg_sq = (
            torch.ones_like(weights),
            torch.tensor(scales**2).repeat(len(starts), 1),
        )
        skipped.catch_up(weights, exp_avg, exp_avg_sq, torch.tensor(starts, dtype=torch.int32))
        for row, start in enumerate(starts):
            step = np.arange(start + 1, now + 1)[:, None]
            rates = np.where(step % 400 < 300, 1e-3, 1e-2)
            a = rates * 0.9 ** (step - start) / (1 - 0.9**step)
            c = np.sqrt(0.999 ** (step - start) / (1 - 0.999**step))
            expected = (a / (c * scales + 1e-8)).sum(axis=0)
            np.testing.assert_allclose(-weights[row].numpy(), expected, rtol=allowed)
            np.testing.assert_allclose(exp_avg[row], 0.9 ** (now - start), rtol=1e-12, atol=1e-30)
            np.testing.assert_allclose(
                exp_avg_sq[row], scales**2 * 0.999 ** (now - start), rtol=1e-12
            )
