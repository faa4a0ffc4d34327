"""The mark of tests that need CUDA."""

from collections.abc import Callable

import pytest
import torch


def needs_gpu(test: Callable) -> Callable:
    """Marks a test as one for a GPU; it is skipped where there is none."""
    is_missing = not torch.cuda.is_available()
    return pytest.mark.gpu(pytest.mark.skipif(is_missing, reason="needs a GPU")(test))
