"""The peak memory of a run, without what was in use before it or what only observes it."""

from __future__ import annotations

import contextlib
import json
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from fuxictr.pytorch.distributed.ranks import Ranks

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Follows the largest resident size of this process and the largest use of a GPU.

    Outside Linux the host's peak cannot be reset: it is that since the start of the process. In a
    forked process memory that it shares with its parent counts in full; pages of libraries count
    once it has read them, so that its peak is some 5 % below that of a process started anew.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._host = self._gpu = 0
        self._reset()

    def read(self) -> tuple[int, int | None]:
        """Returns the peaks so far in bytes: of the host, and of the GPU if the device is one."""
        gpu = None
        if self.device.type == "cuda":
            gpu = max(self._gpu, torch.cuda.max_memory_allocated(self.device))
        return max(self._host, _host_peak()), gpu

    def read_largest(self, ranks: Ranks) -> tuple[int, int | None]:
        """Returns, as ``read``, the largest peaks of all processes of a job."""
        found = [json.loads(text) for text in ranks.gather_texts(json.dumps(self.read()))]
        host, gpu = zip(*found, strict=True)
        return max(host), None if None in gpu else max(gpu)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Context whose memory does not count."""
        self._host, gpu = self.read()
        self._gpu = gpu or 0
        try:
            yield
        finally:
            if not self._reset():
                self._host = max(self._host, _host_peak())

    def _reset(self) -> bool:
        """Restarts the peaks from what is in use now; returns whether the host's could be."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        try:
            _RESET.write_text("5")
        except OSError:
            return False
        return True


def _host_peak() -> int:
    """Returns the peak of the resident size since its reset, in bytes; psutil does not have it."""
    with contextlib.suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
