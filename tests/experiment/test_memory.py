"""The peak of memory of a run."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fuxictr.experiment.run.memory import PeakMemory
from fuxictr.experiment.zoo.models import ROOT

MEGABYTE = 1 << 20


def touch(megabytes: int) -> None:
    array = np.ones(megabytes * MEGABYTE // 8)
    del array


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_peak_leaves_out_what_was_before_and_what_looks_on():
    """In a process of its own, where nothing of other tests is freed meanwhile."""
    command = "from tests.experiment.test_memory import check_peak; check_peak()"
    subprocess.run([sys.executable, "-c", command], cwd=ROOT, check=True)


def check_peak() -> None:
    touch(400)
    peak = PeakMemory(torch.device("cpu"))
    before, gpu = peak.read()
    assert gpu is None
    touch(100)
    after, _ = peak.read()
    assert 80 * MEGABYTE < after - before < 150 * MEGABYTE
    with peak.paused():
        touch(400)
    assert peak.read()[0] == after
    touch(200)
    assert 180 * MEGABYTE < peak.read()[0] - before < 250 * MEGABYTE
