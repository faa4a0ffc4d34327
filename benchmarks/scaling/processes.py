"""Starts the processes of a job in a network of their own and counts the bytes that they send.

A network namespace has an interface ``lo`` that nothing else uses. Without the right to make one
(root, or a system that lets users have namespaces) the processes run as ever, uncounted.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import common

PRIVATE = "GE4REC_PRIVATE_NETWORK"
RESULTS = common.RESULTS / "scaling"
_POLL_SECONDS = 0.05


@cache
def private_network() -> tuple[str, ...] | None:
    """Returns the words before a command that give it its own network; None: not allowed."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return None
    for words in (("unshare", "--net"), ("unshare", "--map-root-user", "--net")):
        tried = subprocess.run(
            [*words, "ip", "link", "set", "lo", "up"], capture_output=True, check=False
        )
        if tried.returncode == 0:
            return words
    return None


def run_ranks(
    step: str,
    params: dict[str, Any],
    num_ranks: int,
    threads: int = 1,
    python: str = sys.executable,
    timeout: float = 600,
) -> list[dict[str, Any]]:
    """Runs a step of the calling script on several ranks, see run_step.

    Args:
        step: its name.
        params: its arguments.
        num_ranks: processes; rank and number are in their environment, as torchrun has them.
        threads: of each.
        python: the interpreter.
        timeout: seconds after which they are killed.

    Returns:
        What the step returned on each rank, with ``peak_mb``, its largest resident set.

    Raises:
        ChildError: a rank failed, or they took too long.
    """
    job = {"step": step, "params": params, "ranks": num_ranks, "threads": threads}
    script = Path(sys.argv[0]).resolve()
    command = [*(private_network() or ()), python, script, "--launch"]
    text = json.dumps({**job, "timeout": timeout, "is_private": private_network() is not None})
    ranks: list[dict[str, Any]] = common.run_child([*command, text]).output["ranks"]
    return ranks


def run_step(steps: dict[str, Any]) -> bool:
    """Runs what ``run_ranks`` asked for: all ranks, or the step of one; false: nothing asked.

    Args:
        steps: name -> function that takes the parameters and returns a dict.
    """
    if sys.argv[1:2] != ["--launch"]:
        is_done = common.run_step(steps)
        if is_done and PRIVATE in os.environ:
            os._exit(0)  # threads of gloo may end a process in Python's teardown by SIGABRT
        return is_done
    job = json.loads(sys.argv[2])
    if job["is_private"]:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    print(json.dumps({"ranks": _run_all(job)}), flush=True)
    return True


def bytes_sent() -> int | None:
    """Returns the bytes that all ranks have sent so far, headers included; None: not counted."""
    if os.environ.get(PRIVATE) != "1":
        return None
    import psutil

    counts: int = psutil.net_io_counters(pernic=True, nowrap=False)["lo"].bytes_sent
    return counts


def peak_mb() -> float | None:
    """Returns the largest resident set of this process so far in MB; None off Linux."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return round(int(line.split()[1]) * 1024 / 1e6, 1)


def forget_peak() -> None:
    """Lets ``peak_mb`` begin again with what is resident now, where the system allows it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _run_all(job: dict[str, Any]) -> list[dict[str, Any]]:
    environment = {
        **os.environ,
        "WORLD_SIZE": str(job["ranks"]),
        "LOCAL_WORLD_SIZE": str(job["ranks"]),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": str(job["threads"]),
        PRIVATE: str(int(job["is_private"])),
    }
    command = [sys.executable, sys.argv[0], "--step", job["step"], json.dumps(job["params"])]
    outs = [tempfile.TemporaryFile("w+") for _ in range(job["ranks"])]
    running = {}
    for rank, out in enumerate(outs):
        own = {**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        running[subprocess.Popen(command, stdout=out, env=own).pid] = rank
    peaks = _wait_for(running, job["timeout"])
    found = []
    for out, peak in zip(outs, peaks, strict=True):
        out.seek(0)
        (line,) = [line for line in out.read().splitlines() if line.startswith("{")][-1:]
        found.append({**json.loads(line), "peak_mb": round(peak, 1)})
    return found


def _wait_for(running: dict[int, int], timeout: float) -> list[float]:
    """Waits for processes, by number -> rank; returns each rank's peak memory in MB."""
    peaks = [0.0] * len(running)
    end = time.monotonic() + timeout
    unit = 1 if sys.platform == "darwin" else 1024  # bytes of ru_maxrss
    while running:
        for pid, rank in list(running.items()):
            done, status, usage = os.wait4(pid, os.WNOHANG)
            if not done:
                continue
            del running[pid]
            peaks[rank] = usage.ru_maxrss * unit / 1e6
            if status:
                _kill(running)
                raise SystemExit(f"rank {rank}: exit status {os.waitstatus_to_exitcode(status)}")
        if time.monotonic() > end:
            _kill(running)
            raise SystemExit(f"the ranks took longer than {timeout} s")
        time.sleep(_POLL_SECONDS)
    return peaks


def _kill(running: dict[int, int]) -> None:
    for pid in running:
        os.kill(pid, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])
