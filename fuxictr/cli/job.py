"""How a command ends that torchrun may have started in several processes."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn


def end_process(status: Any) -> NoReturn:
    """Ends a process as sys.exit does, also one of a torchrun job; an ``end`` for ``run_cli``."""
    if "WORLD_SIZE" not in os.environ:
        sys.exit(status)
    from fuxictr.experiment.run.launch import end  # needs torch

    end(status)
