"""Memory: what there is of it, asked before a file's declared sizes are believed."""

from __future__ import annotations

import os
from pathlib import Path

from fuxictr.errors import DataError

_MEMINFO, _CONTAINER = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")


def available_memory() -> int:
    """Returns the bytes that can be allocated without swapping, or all memory where unknown."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if _MEMINFO.is_file():
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        found = min(found, int(lines["MemAvailable"].split()[0]) << 10)
    if _CONTAINER.is_file():
        limit = _CONTAINER.read_text().strip()
        found = min(found, int(limit)) if limit.isdigit() else found
    return found


def require_memory(num_bytes: int, where: str) -> None:
    """Checks that memory can hold what a file declares, before any of it is allocated.

    Args:
        num_bytes: what is needed.
        where: file and column, for the message.

    Raises:
        DataError: it cannot.
    """
    if num_bytes < 1 << 24:  # never asked of the system for what is small
        return
    available = available_memory()
    if num_bytes > available:
        raise DataError(
            f"{where}: declares {num_bytes / 1e9:,.2f} GB, allowed: the memory that is free, "
            f"{available / 1e9:,.2f} GB"
        )
