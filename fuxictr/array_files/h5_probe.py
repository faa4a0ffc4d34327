"""The process that reads h5 datasets first, so that a crash ends no other process."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

from fuxictr.errors import DataError

# A slice is small: a disk that needs longer for one is taken for a reader that never returns.
TIMEOUT = 60.0
_MOST_KNOWN = 10_000


class Probe:
    """Asks a child process, started once and kept, whether it can read a dataset.

    The child ends itself where a slice takes longer than ``timeout`` seconds.
    """

    def __init__(self, timeout: float = TIMEOUT) -> None:
        self.timeout = timeout
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None
        self._owner = 0
        self._known: set[tuple[str, str | None, int, int]] = set()

    def check(self, path: Path, name: str | None = None) -> None:
        """Has the child open a file and, with a name, read all values of that dataset.

        What was readable is not read again as long as the file keeps its size and time. Raises
        DataError if the child found a fault, crashed, or did not end.
        """
        status = path.stat()
        question = (str(path.absolute()), name, status.st_size, status.st_mtime_ns)
        with self._lock:
            if question in self._known:
                return
            fault = self._ask(question[:2])
            if fault is not None:
                part = "" if name is None else f": column '{name}'"
                raise DataError(f"{path}{part}: not readable as h5 ({fault}); write it again")
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known.add(question)

    def close(self) -> None:
        """Ends the child."""
        child, self._child = self._child, None
        if child is None or self._owner != os.getpid():  # a fork has no say about it
            return
        assert child.stdin is not None and child.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
        child.stdout.close()
        child.wait()

    def _ask(self, question: tuple[str, str | None]) -> str | None:
        child = self._running()
        assert child.stdin is not None and child.stdout is not None
        answer = None
        try:
            child.stdin.write(json.dumps([*question, self.timeout]) + "\n")
            child.stdin.flush()
            answer = child.stdout.readline()
        finally:
            if answer is None:  # interrupted: its answer must not be taken for the next one's
                child.kill()
                self.close()
        if answer:
            fault: str | None = json.loads(answer)
            return fault
        status = child.wait()
        self.close()
        if status < 0:
            return f"reading it ended a process with signal {-status}"
        return f"reading it did not go on for {self.timeout:g} s"

    def _running(self) -> subprocess.Popen[str]:
        if self._child is None or self._owner != os.getpid() or self._child.poll() is not None:
            self.close()
            package = Path(__file__).parents[2]
            paths = [str(package), os.environ.get("PYTHONPATH", "")]
            self._child = subprocess.Popen(
                [sys.executable, "-m", "fuxictr.array_files.h5_child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                    "OPENBLAS_NUM_THREADS": "1",
                },
                text=True,
            )
            self._owner = os.getpid()
        return self._child


PROBE = Probe()
atexit.register(PROBE.close)
