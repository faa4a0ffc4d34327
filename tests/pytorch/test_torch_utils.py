"""Seeds, devices, optimisers, activations."""

import platform
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from fuxictr.errors import ConfigError
from fuxictr.pytorch.torch_utils import (
    get_activation,
    get_device,
    get_optimizer,
    seed_everything,
)


def test_seed_everything_seeds_all_three():
    def draw():
        seed_everything(5)
        return random.random(), np.random.rand(), torch.rand(1).item()

    assert draw() == draw()


def test_devices():
    assert get_device(-1) == torch.device("cpu")
    assert get_device("-1") == torch.device("cpu")
    has_gpu = torch.cuda.is_available()
    assert get_device("auto").type == ("cuda" if has_gpu else "cpu")
    for wrong in (99, "99", -2):
        with pytest.raises(ConfigError, match=f"--gpu {wrong}: this machine has"):
            get_device(wrong)
    with pytest.raises(ConfigError, match="--gpu first: allowed: auto, -1"):
        get_device("first")


def test_names():
    weight = [torch.nn.Parameter(torch.zeros(1))]
    assert isinstance(get_optimizer("Adam", weight, 0.1), torch.optim.Adam)
    assert isinstance(get_activation("ReLU"), torch.nn.ReLU)
    assert get_activation(None) is None
    with pytest.raises(ConfigError, match="optimizer 'adma'.*did you mean 'adam'"):
        get_optimizer("adma", weight, 0.1)
    with pytest.raises(ConfigError, match="activation 'gleu'.*did you mean 'gelu'"):
        get_activation("gleu")


FREE_LARGE_TENSOR = """
import sys, torch
from pathlib import Path
from fuxictr.pytorch.torch_utils import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
held = torch.ones(4_000_000)  # 16 MB

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])

before = resident()
del held
print(before - resident())
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep freed memory"
)
def test_freed_memory_is_kept_for_the_next_allocation():
    def pages_given_back(word):  # the switch is of a whole process
        command = [sys.executable, "-c", FREE_LARGE_TENSOR, word]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert pages_given_back("default") > 3_000
    assert pages_given_back("keep") < 300
