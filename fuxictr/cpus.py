"""How many CPUs this process may use: what its affinity and its container allow."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_ROOT = Path("/")


def usable_cpus(root: Path = _ROOT) -> int:
    """Returns the number of CPUs that this process may use, at least 1.

    It is the CPUs of its affinity (taskset, Slurm), or fewer where a control group allows it less
    time (docker --cpus, Kubernetes limits). A part of a CPU counts as a whole one only where there
    is no other: 2.5 are 2. ``root`` is the folder of /proc and /sys.
    """
    has_affinity = hasattr(os, "sched_getaffinity")
    allowed = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, math.floor(min([float(allowed), *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    """Yields the CPUs' worth of time that each control group around this process allows it."""
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:  # version 2
                folder, read = root / "sys/fs/cgroup", _quota
            elif "cpu" in controllers.split(","):
                folder, read = root / "sys/fs/cgroup/cpu", _quota_of_version_1
            else:
                continue
            group = folder / path.strip("/")
            # A container may see its own group as the root, and be told its path outside.
            for place in [group, *group.parents]:
                if place.is_relative_to(folder):
                    with suppress(OSError, ValueError, ZeroDivisionError):
                        yield read(place)


def _quota(group: Path) -> float:
    quota, period = (group / "cpu.max").read_text(encoding="utf-8").split()
    return int(quota) / int(period)  # "max" is a ValueError: no limit


def _quota_of_version_1(group: Path) -> float:
    quota = int((group / "cpu.cfs_quota_us").read_text(encoding="utf-8"))
    if quota <= 0:
        raise ValueError("no limit")
    return quota / int((group / "cpu.cfs_period_us").read_text(encoding="utf-8"))
