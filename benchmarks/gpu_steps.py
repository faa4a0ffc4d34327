"""The steps of gpu.py: what each does, with which sizes, and how long it may take."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import common
import gpu_agree
import gpu_checks
import gpu_setup
import gpu_speed

_OUTPUT_LINES = 25
_PEER_LINE = re.compile(r"^wrote (.+\.json)$", re.M)


class Step(NamedTuple):
    """A step: a function of FUNCTIONS with its arguments, and what it needs.

    Attributes:
        limit: seconds after which it is ended.
        packages: beside torch and numpy.
    """

    function: str
    params: dict[str, Any]
    limit: float
    packages: tuple[str, ...] = ()


def environment(device: str) -> dict[str, Any]:
    """Returns the versions, the GPU, and which packages of requirements.txt are missing."""
    import torch

    found: dict[str, Any] = {"versions": common.versions(), "missing": missing_packages()}
    found["versions"]["torch"] = torch.__version__
    if device != "cpu":
        known = torch.cuda.get_device_properties(device)
        free, total = torch.cuda.mem_get_info(device)
        found["gpu"] = {
            "name": known.name,
            "capability": f"{known.major}.{known.minor}",
            "memory_gb": round(total / 1e9, 1),
            "free_gb": round(free / 1e9, 1),
            "cuda": torch.version.cuda,
        }
    return found


def tests(device: str) -> dict[str, Any]:
    """Runs the tests that are marked gpu: on a GPU all, where the packages that they need are."""
    needed = ("hypothesis", "sklearn", "yaml", "pyarrow", "polars")
    has_all = not any(importlib.util.find_spec(name) is None for name in needed)
    options = ["tests"] if has_all and device != "cpu" else ["--noconftest", "tests/gpu"]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *options], cwd=common.ROOT, capture_output=True, text=True, check=False
    )
    lines = done.stdout.splitlines()
    return {"ok": done.returncode == 0, "options": options, "output": lines[-_OUTPUT_LINES:]}


def peer(device: str, python: str, num_rows: int) -> dict[str, Any]:
    """Runs train_throughput.py beside FuxiCTR on the device; returns its summary."""
    script = Path(__file__).with_name("train_throughput.py")
    kind = device.partition(":")[0]
    command = [sys.executable, str(script), "--device", kind, "--peer", python, "--paper"]
    command += ["--full-vocab", "--rows", str(num_rows), "--repeats", "1", "--sides", "dis,peer"]
    command += ["--name", "train_throughput_gpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    written = _PEER_LINE.search(done.stdout)
    if done.returncode or written is None:
        raise RuntimeError(f"train_throughput.py failed: {done.stderr[-2000:]}")
    file = Path(written[1])
    record = json.loads(file.read_text())
    file.unlink()  # its figures are in this benchmark's json
    return {"summary": record["summary"], "peer_versions": record["peer_versions"]}


FUNCTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "environment": environment,
    "agree": gpu_agree.agree,
    "metrics": gpu_checks.metrics,
    "resume": gpu_checks.resume,
    "compile": gpu_checks.compile_modes,
    "nccl": gpu_checks.one_process_of_several,
    "tests": tests,
    "speed": gpu_speed.speed,
    "epoch": gpu_speed.epoch,
    "evaluation": gpu_speed.evaluation,
    "peer": peer,
}


def plan(device: str, is_tiny: bool, peer_python: str | None) -> dict[str, Step]:
    """Returns the steps by name, in the order in which they run: first what is right, then speed.

    Args:
        device: cuda:0 or cpu.
        is_tiny: small models, few rows.
        peer_python: an interpreter with FuxiCTR; None: no comparison.
    """
    on = {"device": device}
    sized = {**on, "is_small": is_tiny, "batch_size": 100 if is_tiny else 10_000}

    def rows(full: int) -> int:
        return 1500 if is_tiny else full

    steps = {"environment": Step("environment", on, 60)}
    compared = (
        {"num_steps": 5, "batch_size": 40} if is_tiny else {"num_steps": 50, "batch_size": 512}
    )
    for model in gpu_setup.MODELS:
        steps[f"agree_{model}"] = Step("agree", {"model": model, **on, **compared}, 120)
    steps["metrics"] = Step("metrics", {**on, "num_rows": rows(4_000_000)}, 60)
    steps["resume"] = Step("resume", {**on, "num_rows": rows(50_000)}, 60)
    steps["nccl"] = Step("nccl", {**on, "num_rows": 400 if is_tiny else 20_000}, 90)
    steps["tests"] = Step("tests", on, 300, ("pytest",))
    for name in ("FM", "DeepFM"):
        sizes = {"model": name, **sized}
        steps[f"evaluation_{name}"] = Step("evaluation", {**sizes, "num_rows": rows(4_000_000)}, 90)
        full = {**sizes, "num_rows": rows(gpu_setup.FULL_ROWS)}
        steps[f"epoch_{name}"] = Step("epoch", full, 300)
    for model in gpu_setup.MODELS:
        of_model = {"model": model, **sized, "num_rows": rows(2_000_000)}
        steps[f"speed_{model}"] = Step("speed", of_model, 240)
    for model in ("FM", "DeepFM", "FmFM", "xDeepFM"):
        sizes = {"is_small": is_tiny, "num_rows": 600 if is_tiny else 200_000}
        words = {"words": [False, "auto"]}
        steps[f"compile_{model}"] = Step("compile", {"model": model, **on, **sizes, **words}, 300)
    if peer_python is not None:
        compared = {**on, "python": peer_python, "num_rows": rows(1_000_000)}
        steps["peer"] = Step("peer", compared, 900, ("pyarrow", "psutil"))
    return steps


def missing_packages() -> list[str]:
    """Returns the lines of requirements.txt whose package is not installed, without comments."""
    from importlib import metadata

    lines = (common.ROOT / "requirements.txt").read_text().splitlines()
    wanted = [line.partition("#")[0].strip() for line in lines]
    missing = []
    for requirement in filter(None, wanted):
        try:
            metadata.version(re.split(r"[<>=!~ ;]", requirement)[0])
        except metadata.PackageNotFoundError:
            missing.append(requirement)
    return missing
