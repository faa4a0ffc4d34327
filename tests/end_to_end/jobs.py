"""Jobs of several processes, as torchrun starts them, and what they leave behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.preloaded import python

# What a run may take from its clock, its interruptions and its places.
OF_THE_LIFE = {"run_id", "time", "seconds", "resumes", "train_seconds", "train_rows_per_second"}
OF_THE_LIFE |= {"peak_memory_bytes", "checkpoint", "encoded", "config", "environment"}


class Job:
    """A command that torchrun runs in several processes.

    Args:
        arguments: what follows ``torchrun``.
        folder: where it runs.
        log: file of what it says.
        before: what comes before it, as ``ip netns exec NAME``.
    """

    def __init__(
        self, arguments: Sequence[str], folder: Path, log: Path, before: Sequence[str] = ()
    ) -> None:
        self.folder, self.log = folder, log
        program = sys.executable if before else python()
        command = [*before, program, "-m", "torch.distributed.run", *arguments]
        self._mark = f"JOB_OF_TEST={uuid.uuid4().hex}"
        name, _, value = self._mark.partition("=")
        with open(log, "w") as file:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**os.environ, "OMP_NUM_THREADS": "1", name: value},
                start_new_session=True,
            )

    def said(self) -> str:
        return self.log.read_text()

    def wait(self, seconds: float = 120) -> int:
        """Waits for the end; returns the exit status."""
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it did not end: {self.said()[-3000:]}") from None

    def wait_for(self, condition: Callable[[], bool], seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.said()[-3000:]
            assert time.monotonic() < end, f"waited in vain: {self.said()[-3000:]}"
            time.sleep(0.02)

    def worker(self, rank: int) -> int:
        """Returns the id of the process of a rank."""
        wanted = {f"RANK={rank}".encode(), self._mark.encode()}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if wanted <= set((process / "environ").read_bytes().split(b"\0")):
                    return int(process.name)
            except OSError:
                continue
        raise AssertionError(f"no process of rank {rank}: {self.said()[-3000:]}")

    def kill_worker(self, rank: int) -> None:
        os.kill(self.worker(rank), signal.SIGKILL)

    def kill(self) -> None:
        """Ends all of it, at once."""
        for rank in range(8):
            try:
                os.kill(self.worker(rank), signal.SIGKILL)
            except (AssertionError, ProcessLookupError):
                continue
        self.process.kill()
        self.process.wait()


def rows_of(path: Path) -> list[dict]:
    """Returns the rows of a results store, each of which must be whole; [] where there is none."""
    if not path.exists():
        return []
    text = path.read_text()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def assert_same(row: dict, wanted: dict) -> None:
    """Checks that two runs came to the same, bit for bit."""
    for name in (row.keys() | wanted.keys()) - OF_THE_LIFE:
        assert row[name] == wanted[name], name
