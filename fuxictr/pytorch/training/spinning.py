"""Threads that wait for one another sleep while other programs need the CPUs, and spin else.

A training step is thousands of short parallel parts. After each one GNU OpenMP lets its threads
spin for some milliseconds, so that the next part starts at once. Beside other programs that is
ruin: a thread spins in the place of the one that it waits for, and a run takes 20 times as long.
Threads that sleep at once (OMP_WAIT_POLICY=passive) take their fair share, but cost up to a half
of the speed where the machine is free. So what threads do is changed while they run.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import torch

logger = logging.getLogger(__name__)

_PERIOD = 0.25  # seconds of a measurement
_CALM_PERIODS = 3  # after which threads spin again
_SLACK = 0.25  # CPUs that others may take, for what the system itself does
_SLACK_OF_ALL = 0.02  # the same as a share of all CPUs, for errors of measurement
_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")  # a user's own choice, which is kept


class SpinLimit:
    """Makes the threads of GNU OpenMP sleep soon after a parallel part instead of spinning.

    The library's manual says (GOMP_SPINCOUNT): where there are more OpenMP threads than CPUs, a
    thread spins 100 times before it sleeps, else 300,000 times. So a second team of threads, which
    does nothing and sleeps, switches all threads of this process over, and its end switches them
    back. No thread gets other work by it: the bits of a run stay the same.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    def set(self) -> None:
        """Limits spinning; does nothing where it is limited already."""
        if self._thread is None:
            self._is_over.clear()
            self._thread = threading.Thread(target=self._keep_team, name="spin limit", daemon=True)
            self._thread.start()

    def lift(self) -> None:
        """Lets threads spin again; does nothing where they do."""
        if self._thread is not None:
            self._is_over.set()
            self._thread.join()
            self._thread = None

    def _keep_team(self) -> None:
        num_cpus = self._library.omp_get_num_procs()
        num_extra = max(2, num_cpus - torch.get_num_threads() + 2)
        nothing = ctypes.cast(ctypes.CDLL(None).free, ctypes.c_void_p)  # free(NULL)
        self._library.GOMP_parallel(nothing, None, ctypes.c_uint(num_extra), ctypes.c_uint(0))
        self._is_over.wait()  # the team lives as long as the thread that has it


class _Watch:
    """Measures how many CPUs other programs take of those that this process may use."""

    def __init__(self) -> None:
        self._last = self._read()

    def read(self) -> float:
        """Returns the CPUs that others took on average since the call before."""
        before, self._last = self._last, self._read()
        seconds, busy, own = (now - then for now, then in zip(self._last, before, strict=True))
        return (busy - own) / seconds if seconds > 0 else 0.0

    @staticmethod
    def _read() -> tuple[float, float, float]:
        import psutil  # a training needs torch and numpy alone

        cpus = psutil.cpu_times(percpu=True)
        allowed = os.sched_getaffinity(0)
        times = [cpu for number, cpu in enumerate(cpus) if number in allowed]
        busy = sum(cpu.user + cpu.system + cpu.irq + cpu.softirq for cpu in times)
        if os.nice(0) > 0:  # else programs of lower priority than this one give way
            busy += sum(cpu.nice for cpu in times)
        return time.monotonic(), busy, time.process_time()


class _Guard:
    """Watches the machine in a thread, and sets and lifts the limit."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._limit = SpinLimit(library)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch CPUs", daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._is_over.set()
        self._thread.join()
        self._limit.lift()

    def _watch(self) -> None:
        watch, num_calm = _Watch(), 0
        while not self._is_over.wait(_PERIOD):
            if is_crowded(watch.read(), torch.get_num_threads(), len(os.sched_getaffinity(0))):
                num_calm = 0
                self._limit.set()
            else:
                num_calm += 1
                if num_calm >= _CALM_PERIODS:
                    self._limit.lift()


def is_crowded(others: float, num_threads: int, num_cpus: int) -> bool:
    """Returns whether threads find no free CPU where other programs take ``others`` CPUs."""
    slack = max(_SLACK, _SLACK_OF_ALL * num_cpus)
    return others > max(0, num_cpus - num_threads) + slack


class _Current:
    """The guard of this process, and how many contexts need it."""

    lock = threading.Lock()
    guard: _Guard | None = None
    num_users = 0


@contextlib.contextmanager
def spinning_where_alone(device: torch.device) -> Iterator[None]:
    """Context in which waiting threads spin while the CPUs are free, and sleep while they are not.

    It does nothing on another device, with one thread, without GNU OpenMP on Linux or psutil, and
    where the user has set OMP_WAIT_POLICY or GOMP_SPINCOUNT.
    """
    library = _find_library() if device.type == "cpu" and torch.get_num_threads() > 1 else None
    if library is None:
        yield
        return
    with _Current.lock:
        _Current.num_users += 1
        _Current.guard = _Current.guard or _Guard(library)
    try:
        yield
    finally:
        with _Current.lock:
            _Current.num_users -= 1
            if not _Current.num_users:
                _Current.guard.end()
                _Current.guard = None


def _find_library() -> ctypes.CDLL | None:
    """Returns the GNU OpenMP that torch has loaded, None where there is none or the user chose."""
    is_given = any(os.environ.get(name) for name in _VARIABLES)
    if is_given or find_spec("psutil") is None:
        return None
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    files = {line.split(maxsplit=5)[-1] for line in maps.splitlines() if "libgomp" in line}
    beside_torch = str(Path(torch.__file__).parent)
    own = [file for file in files if file.startswith(beside_torch)] or sorted(files)
    try:
        library = ctypes.CDLL(own[0]) if own else None
    except OSError:
        return None
    has_all = hasattr(library, "GOMP_parallel") and hasattr(library, "omp_get_num_procs")
    return library if has_all else None
