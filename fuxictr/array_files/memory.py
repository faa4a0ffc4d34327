"""Whether memory can hold what a file declares, asked before the file is believed."""

from __future__ import annotations

from pathlib import Path

from fuxictr.errors import DataError

_CONTAINER = Path("/sys/fs/cgroup/memory.max")  # psutil knows the machine's memory only


def available_memory() -> int:
    """Returns the bytes that can be allocated without swapping, here or in this container."""
    import psutil

    available: int = psutil.virtual_memory().available
    limit = _CONTAINER.read_text().strip() if _CONTAINER.is_file() else ""
    return min(available, int(limit)) if limit.isdigit() else available


def require_memory(num_bytes: int, where: str) -> None:
    """Raises DataError, which begins with ``where``, if memory cannot hold what a file declares."""
    if num_bytes < 1 << 24:  # too small for a call to the system
        return
    available = available_memory()
    if num_bytes > available:
        raise DataError(
            f"{where}: declares {num_bytes / 1e9:,.2f} GB, allowed: the memory that is free, "
            f"{available / 1e9:,.2f} GB"
        )
