"""Starts processes with torchrun for many cases at once, and brings back what each case gave.

A launch costs seconds, so one does all cases of a test module. ``worker.py`` is what runs in it.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from tests.preloaded import python

ROOT = Path(__file__).parents[2]
WORKER = "tests.distributed.worker"
_SECONDS_TO_END = 10  # that torchrun has to end its processes after it was asked to
_MAX_LAUNCHES = 3
_SHOWN = 8000  # characters of the output of a launch that failed

Arrays = dict[str, np.ndarray]


class LaunchError(RuntimeError):
    """The processes failed or took too long; holds what they said."""


def chosen_cases(request: pytest.FixtureRequest, argument: str) -> list:
    """Returns the different values of an argument in the chosen tests of the module."""
    items = [item for item in request.session.items if item.path == request.path]
    calls = [item.callspec.params for item in items if hasattr(item, "callspec")]
    return list(dict.fromkeys(call[argument] for call in calls if argument in call))


def run_cases(
    names: Sequence[str], num_ranks: int, folder: Path, timeout: float = 300.0
) -> dict[str, list[Arrays] | LaunchError]:
    """Does cases in several processes, all in one launch unless one of them fails.

    A case that fails ends the launch; those behind it are done in another one, twice at most.

    Args:
        names: what the worker does, in this order.
        num_ranks: number of processes.
        folder: a new one, for results.
        timeout: seconds that a launch may take.

    Returns:
        Name -> what each rank returned, or why there is nothing.
    """
    results: dict[str, list[Arrays] | LaunchError] = {}
    left, num_launches = list(names), 0
    while left:
        error = None
        try:
            launch([str(folder), *left], num_ranks, folder, timeout)
        except LaunchError as raised:
            error = raised
        num_launches += 1
        while left and all(
            result_file(folder, left[0], rank).exists() for rank in range(num_ranks)
        ):
            name = left.pop(0)
            results[name] = [_read(result_file(folder, name, rank)) for rank in range(num_ranks)]
        failed = left if num_launches == _MAX_LAUNCHES else left[:1]
        reason = error or LaunchError("the processes ended well, without a result")
        results |= dict.fromkeys(failed, reason)
        left = left[len(failed) :]
    return results


def launch(
    arguments: Sequence[str], num_ranks: int, folder: Path, timeout: float, module: str = WORKER
) -> str:
    """Runs a module in several processes on this machine and returns what they said.

    Args:
        arguments: the module's; some of them names the folder.
        num_ranks: number of processes.
        folder: for their output.
        timeout: seconds.
        module: its name.

    Raises:
        LaunchError: a process failed, or they took longer; none is left. Holds the output's end.
    """
    command = [python(), "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={num_ranks}", "--module", module, *arguments]
    # More threads would wait for one another; torchrun itself may warn.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONWARNINGS", None)
    log = folder / "output.txt"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(timeout)
            reason = f"ended with status {status}"
        except subprocess.TimeoutExpired:
            status, reason = 1, f"took more than {timeout:g} s and were ended"
        finally:
            _end(process, folder)
    said = log.read_text(encoding="utf-8", errors="replace")
    if status:
        raise LaunchError(f"{num_ranks} processes {reason}:\n{said[-_SHOWN:]}")
    return said


def _end(process: subprocess.Popen, folder: Path) -> None:
    if process.poll() is not None:
        return
    process.terminate()  # torchrun ends its processes, which are in sessions of their own
    with suppress(subprocess.TimeoutExpired):
        process.wait(_SECONDS_TO_END)
        return
    process.kill()
    process.wait()
    for number in processes_of(folder):
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


def processes_of(folder: Path) -> list[int]:
    """Returns the processes whose command names the folder, this one left out."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if str(folder).encode() in entry.read_bytes().split(b"\0"):
                found.append(int(entry.parent.name))
    return [number for number in found if number != os.getpid()]


def result_file(folder: Path, name: str, rank: int) -> Path:
    """Returns where a rank writes what a case gave."""
    return folder / f"{name}.rank{rank}.npz"


def write_result(folder: Path, name: str, rank: int, arrays: Arrays) -> None:
    """Writes what a rank returned of a case, whole or not at all."""
    path = result_file(folder, name, rank)
    part = path.with_suffix(".part")
    with open(part, "wb") as file:
        np.savez(file, **arrays)
    part.rename(path)


def _read(path: Path) -> Arrays:
    with np.load(path) as arrays:
        return dict(arrays)
