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
    assert isinstance(get_activation(None), torch.nn.Identity)
    with pytest.raises(ConfigError, match="optimizer 'adma'.*did you mean 'adam'"):
        get_optimizer("adma", weight, 0.1)
    with pytest.raises(ConfigError, match="activation 'gleu'.*did you mean 'gelu'"):
        get_activation("gleu")


COUNT_FAULTS = """
import resource, sys, torch
from fuxictr.pytorch.torch_utils import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
sizes = [4_000_000, 2_000_000] * 10  # 16 and 8 MB: glibc learns of one size by itself
def use(size):
    held = [torch.empty(size).fill_(1) for _ in range(3)]

for size in sizes[:4]:
    use(size)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for size in sizes:
    use(size)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep freed memory"
)
def test_freed_memory_is_kept_for_the_next_allocation():
    def faults(word):  # the switch is of a whole process
        command = [sys.executable, "-c", COUNT_FAULTS, word]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert faults("keep") < faults("default") / 2
