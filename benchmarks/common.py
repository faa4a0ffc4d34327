"""What the benchmarks share: child processes with their peak memory, the machine, the results."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("torch", "numpy", "polars", "pyarrow", "pandas")
PEER_VERSION = "2.3.10"
# The largest probability at which chance does not count as the cause.
SIGNIFICANCE = 0.05
_STDERR_LINES = 20
_SAMPLE_SECONDS = 0.5


class ChildError(RuntimeError):
    """A child process failed; the message ends with its output."""


@dataclass(frozen=True)
class Child:
    """What a child process gave.

    Attributes:
        output: the JSON object of the last line that begins one.
        wall_seconds: from its start to its end, interpreter and imports included.
        peak_mb: largest resident set in MB (10^6 bytes) of it, or of a process that it waited for.
        tree_peak_mb: largest sum over it and all its descendants, sampled every half second with
            shared pages counted once; None if not asked for, or not on Linux.
    """

    output: dict[str, Any]
    wall_seconds: float
    peak_mb: float
    tree_peak_mb: float | None = None


def run_child(
    command: list[str | Path], cwd: str | Path | None = None, sample_tree: bool = False
) -> Child:
    """Runs a command that prints one JSON object as a line; after it libraries may say more.

    Linux counts the resident set of the process that forks into the child's, so the caller must
    be small: a benchmark loads no data and no libraries beside children whose memory it measures.

    Args:
        command: program and arguments.
        cwd: the child's folder.
        sample_tree: follow the memory of its descendants, too: daemons that a child starts (Ray's
            workers) are in no peak_mb.

    Raises:
        ChildError: it failed, or no line begins a JSON object, or the last such line is none.
    """
    shown = shlex.join(map(str, command))
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        start = time.perf_counter()
        process = subprocess.Popen(list(map(str, command)), stdout=out, stderr=err, cwd=cwd)
        sampler = (
            _TreeSampler(process.pid) if sample_tree and Path("/proc/self/stat").exists() else None
        )
        _, status, usage = os.wait4(process.pid, 0)
        tree_peak_mb = sampler.stop() if sampler else None
        wall_seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        lines, complaints = out.read().splitlines(), err.read().splitlines()[-_STDERR_LINES:]
    if process.returncode:
        raise ChildError("\n".join([f"exit status {process.returncode}: {shown}", *complaints]))
    try:
        output = json.loads([line for line in lines if line.startswith("{")][-1])
    except (IndexError, ValueError):
        found = lines[-1] if lines else "nothing"
        raise ChildError(f"no line of JSON: found last {found}: {shown}") from None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes of ru_maxrss
    return Child(output, wall_seconds, usage.ru_maxrss * unit / 1e6, tree_peak_mb)


class _TreeSampler(threading.Thread):
    """Follows the memory of a process and its descendants until stop()."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak_mb, self.is_over = pid, 0.0, threading.Event()
        self.start()

    def run(self) -> None:
        while not self.is_over.wait(_SAMPLE_SECONDS):
            self.peak_mb = max(self.peak_mb, _proportional_bytes(self.pid) / 1e6)

    def stop(self) -> float | None:
        self.is_over.set()
        self.join()
        return self.peak_mb or None


def _proportional_bytes(pid: int) -> int:
    """Returns the memory of a process and its descendants, shared pages counted once."""
    import psutil

    used = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for member in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):  # it may end while it is looked at
                used += member.memory_full_info().pss
    return used


def run_self(step: str, prefix: Sequence[str] = (), **params: Any) -> Child:
    """Runs one step of the calling script in its own process, see run_step.

    ``prefix`` comes before the command, as ("env", "NAME=value").
    """
    script = Path(sys.argv[0]).resolve()
    return run_child([*prefix, sys.executable, script, "--step", step, _text(params)])


def run_step(steps: dict[str, Any]) -> bool:
    """Runs the step that ``run_self`` asked for and prints what it returns as JSON.

    Args:
        steps: name -> function that takes the parameters and returns a dict.

    Returns:
        False where the command line asks for no step.
    """
    if sys.argv[1:2] != ["--step"]:
        return False
    name, params = sys.argv[2:4]
    print(_text(steps[name](**json.loads(params))), flush=True)
    return True


def versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Returns the versions of Python and of the installed packages among ``packages``."""
    from importlib import metadata

    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def peer_versions(python: str) -> dict[str, str]:
    """Returns the versions of the environment that ``--peer`` names.

    Raises:
        ChildError: it has no FuxiCTR, or another one than PEER_VERSION.
    """
    found: dict[str, str] = run_child([python, "-I", __file__]).output
    if found.get("fuxictr") != PEER_VERSION:
        raise ChildError(
            f"--peer {python}: found fuxictr {found.get('fuxictr')}, not {PEER_VERSION}"
        )
    return found


def machine() -> dict[str, Any]:
    """Returns the processor's name, the cores that may be used, the memory and the system."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        named = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = named[0].split(":", 1)[1].strip() if named else cpu
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": cpu,
        "cores": cores,
        "memory_gb": round(memory / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "load_before": round(os.getloadavg()[0], 2),
    }


def warn_if_busy(found: dict[str, Any]) -> None:
    """Prints a warning where other work had the machine; ``found`` is what machine() returned."""
    if found["load_before"] > 0.3 * found["cores"]:
        print(
            f"warning: the load was {found['load_before']} on {found['cores']} cores before the "
            "start; rows/s and ratios are not to be cited"
        )


def peak_rates(costs: list[dict[str, Any]]) -> tuple[float, float]:
    """Returns the machine's operations and bytes per second, the best of those measured.

    Other work on the machine only slows a measurement down.
    """
    flops, size = (max(c[key] for c in costs) for key in ("flops_per_second", "bytes_per_second"))
    return flops, size


def shares_of_peak(costs: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """Returns which share of the machine's peaks, products and memory, each training reached.

    Args:
        costs: what a row costs, at how many rows per second, on a machine of which rates.
    """
    flops, size = peak_rates(costs) if costs else (1.0, 1.0)
    return [
        (
            cost["rows_per_second"] * cost["training_flops"] / flops,
            cost["rows_per_second"] * cost["training_bytes"] / size,
        )
        for cost in costs
    ]


def sign_probability(num_worse: int, pairs: int) -> float:
    """Returns the probability that of ``pairs`` fair coins at least ``num_worse`` show heads."""
    return sum(math.comb(pairs, count) for count in range(num_worse, pairs + 1)) / 2**pairs


def store(name: str, record: dict[str, Any], folder: str | Path = RESULTS) -> Path:
    """Writes a record as <folder>/<name>_<date>.json, with command, date and code version added.

    Args:
        name: of the benchmark.
        record: what was measured, with ``machine`` and ``versions``.
        folder: where to.

    Returns:
        The file.
    """
    now = datetime.now(timezone.utc)
    script = Path(sys.argv[0]).resolve()
    shown = script.relative_to(ROOT) if script.is_relative_to(ROOT) else script
    head = {
        "benchmark": name,
        "date": now.isoformat(timespec="seconds"),
        "command": shlex.join(["python", str(shown), *map(_shortened, sys.argv[1:])]),
        "code": commit_of(ROOT),
    }
    path = Path(folder) / f"{name}_{now.strftime('%Y%m%d-%H%M%S')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**head, **record}, indent=2) + "\n")
    return path


def keep_newest(results: Path, kept: Path) -> None:
    """Copies the newest result of each benchmark, by name, from one folder to another."""
    kept.mkdir(exist_ok=True)
    for path in sorted(results.glob("*.json")):  # the names end in the date
        name = json.loads(path.read_text())["benchmark"]
        shutil.copyfile(path, kept / f"{name}.json")


def _shortened(argument: str) -> str:
    # Paths of this machine tell others nothing.
    path = Path(argument)
    return f".../{path.name}" if path.is_absolute() else argument


def commit_of(folder: Path) -> str:
    """Returns the commit of a checkout, with +dirty where its files differ."""
    described = subprocess.run(
        ["git", "-C", str(folder), "describe", "--always", "--dirty=+dirty", "--abbrev=12"],
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "unknown"


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, default=str)


if __name__ == "__main__":  # run by peer_versions, in that environment
    print(_text(versions(("fuxictr", *PACKAGES))))
