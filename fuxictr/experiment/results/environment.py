"""The environment of a run, for its row of results: packages, machine, device, threads, flags, git.

Only what is listed here by name is kept: no environment variable except those that change numbers,
no address of a remote, no name of a user or a host except in paths.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from fuxictr import ge4rec_version
from fuxictr.cpus import usable_cpus
from fuxictr.experiment.results.config_record import plain
from fuxictr.experiment.zoo.models import ROOT

# Distributions, by their names on PyPI.
PACKAGES = ("torch", "numpy", "scipy", "polars", "pyarrow", "pandas", "h5py", "PyYAML")
# Environment variables that change numbers: threads, instruction sets, kernels, precision.
VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "BLIS_NUM_THREADS",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_VISIBLE_DEVICES",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_DYNAMIC",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_DYNAMIC",
    "OMP_NUM_THREADS",
    "OMP_SCHEDULE",
    "OMP_THREAD_LIMIT",
    "OMP_WAIT_POLICY",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "PYTHONHASHSEED",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "VECLIB_MAXIMUM_THREADS",
)
_DRIVER = Path("/proc/driver/nvidia/version")
_GIT_SECONDS = 10
_LONGEST_ARGUMENT, _MOST_ARGUMENTS = 300, 40


def environment_record() -> dict[str, Any]:
    """Returns the environment of this process, as JSON holds it; no device is touched."""
    return {
        "packages": package_versions(),
        "platform": platform_record(),
        "threads": threads_record(),
        "variables": {name: plain(os.environ[name]) for name in VARIABLES if name in os.environ},
        "numerics": numerics_record(),
        "git": git_record(ROOT),
        "argv": [plain(part)[:_LONGEST_ARGUMENT] for part in sys.argv[:_MOST_ARGUMENTS]],
        "cwd": str(Path.cwd()),
    }


def threads_record() -> dict[str, int]:
    """Returns the numbers of torch's threads, within an operation and between operations."""
    return {
        "intra_op": torch.get_num_threads(),
        "inter_op": torch.get_num_interop_threads(),
    }


def device_record(device: torch.device) -> dict[str, Any]:
    """Returns the properties of the device of a run."""
    if device.type != "cuda":
        return {"type": device.type}
    known = torch.cuda.get_device_properties(device)
    return {
        "type": "cuda",
        "name": known.name,
        "capability": f"{known.major}.{known.minor}",
        "memory_bytes": known.total_memory,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "driver": _driver_version(),
    }


@functools.cache
def package_versions() -> dict[str, str]:
    """Returns package -> version: of this package, Python, and the libraries it computes with."""
    found = {"ge4rec": ge4rec_version, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return {**found, "torch": torch.__version__}


@functools.cache
def platform_record() -> dict[str, Any]:
    """Returns system, kernel, machine, model and number of CPU cores, and memory."""
    return {
        "system": _system_name(),
        "kernel": f"{platform.system()} {platform.release()}",
        "libc": " ".join(platform.libc_ver()).strip(),
        "machine": platform.machine(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cpus(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def numerics_record() -> dict[str, Any]:
    """Returns which instructions and libraries torch computes with, and its deterministic flags."""
    build = torch.__config__.show()
    cudnn = torch.backends.cudnn
    return {
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "blas": _find(r"BLAS_INFO=(\w+)", build),
        "mkl": _find(r"Math Kernel Library Version (\S+)", build),
        "onednn": _find(r"MKL-DNN v(\S+)", build) or _find(r"oneDNN v(\S+)", build),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn_deterministic": cudnn.deterministic,
        "cudnn_benchmark": cudnn.benchmark,
        "cudnn_tf32": cudnn.allow_tf32,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "default_dtype": str(torch.get_default_dtype()).removeprefix("torch."),
    }


@functools.cache
def git_record(root: Path) -> dict[str, Any] | None:
    """Returns the state of the repository that holds ``root``, the folder of fuxictr/, or None.

    Returns:
        ``commit``, ``branch`` (None if none is checked out), ``dirty`` (whether a tracked file
            differs from the commit), ``diff_sha256`` (of ``git diff HEAD``; None if nothing
            differs) and ``untracked`` (number of files neither tracked nor ignored).
    """
    if not _is_tracked(root):
        return None
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    diff = _git(root, "diff", "--no-ext-diff", "--no-textconv", "--no-color", "HEAD")
    untracked = _git(root, "ls-files", "--others", "--exclude-standard")
    if commit is None or diff is None or untracked is None:
        return None
    branch = _git(root, "symbolic-ref", "--short", "--quiet", "HEAD")
    return {
        "commit": commit.decode().strip(),
        "branch": plain(branch.decode("utf-8", "replace").strip()) if branch else None,
        "dirty": bool(diff),
        "diff_sha256": hashlib.sha256(diff).hexdigest() if diff else None,
        "untracked": len(untracked.splitlines()),
    }


@functools.cache
def code_version() -> str:
    """Returns the package's version, with the git commit and +dirty if there are any."""
    options = ("--always", "--dirty=+dirty", "--abbrev=12")
    described = _git(ROOT, "describe", *options) if _is_tracked(ROOT) else None
    return ge4rec_version if described is None else f"{ge4rec_version}-{described.decode().strip()}"


def _is_tracked(root: Path) -> bool:
    """Returns whether git tracks the package, which may also lie ignored in another repository."""
    return _git(root, "ls-files", "--error-unmatch", "fuxictr/__init__.py") is not None


def _git(root: Path, *arguments: str) -> bytes | None:
    """Returns the output of a git command that only reads, None if it failed."""
    # A hook or an alias that runs this process sets GIT_DIR and others to its own repository.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-c", "core.fsmonitor=false", "--no-optional-locks", "-C", str(root)]
    try:
        return subprocess.run(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=_GIT_SECONDS,
            env=env,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _system_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform()


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor()
    return _find(r"(?m)^model name\s*:\s*(.+)$", text) or platform.processor()


def _driver_version() -> str | None:
    try:
        return _find(r"Kernel Module.*?\s(\d+\.[\d.]+)", _DRIVER.read_text(encoding="utf-8"))
    except OSError:
        return None


def _find(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text)
    return match[1].strip() if match else None
