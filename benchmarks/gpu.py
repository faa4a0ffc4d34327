"""Checks and measures the project on one GPU, step by step, and keeps all in one json.

    bash benchmarks/gpu.sh                       everything, to benchmarks/results/gpu.json
    bash benchmarks/gpu.sh OUT --minutes 9       stops in time; the next call goes on
    bash benchmarks/gpu.sh --device cpu --tiny   the same steps, tiny, without a GPU

It needs torch and numpy; a step that needs more says so and is skipped. Each step is a process of
its own with a time limit: one that fails is recorded with its error, and the others go on. Steps
that the json has already are not run again, unless --rerun says so.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import common
from gpu_steps import FUNCTIONS, Step, missing_packages, plan

_ERROR_LINES = 25
_LEAST_SECONDS = 20  # that a step needs at least


def run_steps(
    steps: dict[str, Step], file: Path, head: dict[str, Any], stop_at: float, rerun: set[str]
) -> dict[str, Any]:
    """Runs the steps that the json lacks, and writes it after each; returns its content.

    Args:
        steps: by name.
        file: the json.
        head: what it says beside the steps.
        stop_at: time of ``time.monotonic`` after which no step runs.
        rerun: ``all``, ``failed``, or names of steps that run again.
    """
    known = json.loads(file.read_text())["steps"] if file.is_file() else {}
    for name, step in steps.items():
        before = known.get(name)
        if before is not None and not _is_repeated(name, before["status"], rerun):
            continue
        left = stop_at - time.monotonic()
        if left < _LEAST_SECONDS:
            print("no time is left for the other steps; the same command goes on with them")
            break
        known[name] = run_one(step, min(step.limit, left))
        content = {**head, "steps": {n: known[n] for n in [*steps, *known] if n in known}}
        temporary = file.with_suffix(".tmp")
        temporary.write_text(json.dumps(content, indent=1) + "\n")
        os.replace(temporary, file)
        print(f"{name:20} {_shown(known[name])}", flush=True)
    return json.loads(file.read_text()) if file.is_file() else {**head, "steps": {}}


def _is_repeated(name: str, status: str, rerun: set[str]) -> bool:
    is_failed = status == "failed" and "failed" in rerun
    return status == "skipped" or is_failed or name in rerun or "all" in rerun


def run_one(step: Step, limit: float) -> dict[str, Any]:
    """Runs a step in its own process; returns its status with its result, or why there is none."""
    lacking = [name for name in step.packages if importlib.util.find_spec(name) is None]
    if lacking:
        return {"status": "skipped", "reason": f"needs {', '.join(lacking)}, not installed here"}
    command = [sys.executable, __file__, "--step", step.function, json.dumps(step.params)]
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        # A group of its own, so that what it starts ends with it.
        process = subprocess.Popen(command, stdout=out, stderr=err, start_new_session=True)
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            pass
        finally:  # also where this process is interrupted
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        out.seek(0)
        err.seek(0)
        lines, complaints = out.read().splitlines(), err.read().splitlines()[-_ERROR_LINES:]
    seconds = round(time.monotonic() - start, 1)
    if process.returncode == -signal.SIGKILL and seconds >= limit:
        complaints.append(f"ended after its limit of {limit:.0f} s")
    if process.returncode or not lines or not lines[-1].startswith("{"):
        status = f"exit status {process.returncode}"
        return {"status": "failed", "seconds": seconds, "error": [status, *complaints]}
    return {"status": "done", "seconds": seconds, "result": json.loads(lines[-1])}


def _shown(record: dict[str, Any]) -> str:
    if record["status"] == "skipped":
        return f"skipped: {record['reason']}"
    if record["status"] == "failed":
        return f"FAILED after {record['seconds']} s: {record['error'][-1][:200]}"
    verdict = {True: "right", False: "WRONG", None: "done"}[record["result"].get("ok")]
    return f"{verdict}, {record['seconds']} s"


def check(device: str, is_installing: bool) -> str | None:
    """Says which packages are missing, installs them if asked; returns why nothing can run."""
    missing = missing_packages()
    if missing and is_installing:
        subprocess.run([sys.executable, "-m", "pip", "install", *missing], check=False)
        missing = missing_packages()
    if missing:
        print(f"not installed: {', '.join(missing)}; steps that need them are skipped (--install)")
    if any(importlib.util.find_spec(name) is None for name in ("torch", "numpy")):
        return f"{sys.executable} has no torch and numpy, which every step needs"
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            return (
                f"torch {torch.__version__} finds no CUDA device; --device cpu --tiny runs the "
                "same steps without one"
            )
    return None


def header(name: str, device: str) -> dict[str, Any]:
    """Returns what the json says beside its steps, as the other benchmarks' files have it."""
    given = [_without_folders(argument) for argument in sys.argv[1:]]
    return {
        "benchmark": name,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join(["bash", "benchmarks/gpu.sh", *given]),
        "code": common.commit_of(common.ROOT) if shutil.which("git") else "unknown",
        "machine": common.machine(),
        "versions": common.versions(),
        "device": device,
    }


def _without_folders(argument: str) -> str:
    # Paths of this machine tell others nothing.
    return f".../{Path(argument).name}" if "/" in argument else argument


def main() -> int:
    """Parses the command line, runs the steps, and returns 1 where a step failed or was wrong."""
    if common.run_step(FUNCTIONS):
        return 0
    parser = argparse.ArgumentParser(description="Check and measure the project on one GPU.")
    parser.add_argument("out", nargs="?", type=Path, help="folder of gpu.json")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small models and few rows")
    parser.add_argument("--minutes", type=float, default=60, help="for all steps together")
    parser.add_argument(
        "--only", default="", help="comma-separated steps, or beginnings of their names"
    )
    parser.add_argument("--rerun", default="", help="all, failed, or comma-separated steps")
    parser.add_argument("--peer", help="Python that has fuxictr 2.3.10, see benchmarks/README.md")
    parser.add_argument("--install", action="store_true", help="install what is missing by pip")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    stop_at = time.monotonic() + 60 * args.minutes
    if args.device == "cpu" and not args.tiny:
        parser.error("--device cpu: allowed with --tiny; train_throughput.py measures a CPU")
    problem = check(args.device, args.install)
    if problem:
        parser.error(problem)
    steps = plan("cuda:0" if args.device == "cuda" else "cpu", args.tiny, args.peer)
    rerun, chosen = (set(filter(None, text.split(","))) for text in (args.rerun, args.only))
    if unknown := rerun - {"all", "failed", *steps}:
        parser.error(
            f"--rerun {', '.join(sorted(unknown))}: allowed: all, failed, {', '.join(steps)}"
        )
    if chosen:
        known = steps
        steps = {name: step for name, step in steps.items() if name.startswith(tuple(chosen))}
        if not steps:
            parser.error(f"--only {args.only}: allowed: beginnings of {', '.join(known)}")
    name = "gpu_tiny" if args.tiny else "gpu"
    out = args.out or (common.RESULTS / name if args.tiny else common.RESULTS)
    out.mkdir(parents=True, exist_ok=True)
    head = header(name, args.device)
    content = run_steps(steps, out / f"{name}.json", head, stop_at, rerun)
    if not args.peer:
        print("peer                 skipped: --peer names no Python that has FuxiCTR")
    wrong = [n for n, record in content["steps"].items() if is_bad(record)]
    print(f"{out / name}.json: {len(content['steps'])} steps, wrong or failed: {wrong or 'none'}")
    return 1 if wrong else 0


def is_bad(record: dict[str, Any]) -> bool:
    """Returns whether a step failed, or found something wrong."""
    return record["status"] == "failed" or record.get("result", {}).get("ok") is False


if __name__ == "__main__":
    sys.exit(main())
