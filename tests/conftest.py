"""What all tests share."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Tests open no window; this must come before anything imports matplotlib.
os.environ.setdefault("MPLBACKEND", "Agg")

# A shell lets its background jobs ignore Ctrl-C, and their children inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine must not turn a slow example into a failure.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")

# What takes longest comes first, so that no process is left with a long file at the end.
LONGEST = (
    *("end_to_end/test_sweep.py", "reliability/test_ranks.py", "distributed/test_trainings.py"),
    *("end_to_end/test_torchrun.py", "reliability/test_resume.py", "end_to_end/test_pipeline.py"),
    *("distributed/test_states.py", "end_to_end/test_report.py", "experiment/test_tables.py"),
    *("plotting/test_ablation.py", "end_to_end/test_documented.py", "benchmarks/test_scaling.py"),
    *("distributed/test_ranks_agree.py", "reliability/test_atomic_files.py", "zoo/test_zoo.py"),
    *("plotting/test_fields.py", "reliability/test_full_disk.py", "fuzz/test_csv.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the tests of LONGEST first; the others keep their order."""
    folder = Path(__file__).parent
    order = {folder / name: position for position, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path, len(LONGEST)))


@pytest.fixture(autouse=True)
def _own_log_handlers() -> Iterator[None]:
    """Removes the handlers that a command leaves on the root logger: their stream is the test's."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in [h for h in root.handlers if h not in handlers]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)
