"""How the processes of one run are started, and how each of them reports an error at its end."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import torch

from fuxictr.errors import FuxiCTRError, Interrupted
from fuxictr.pytorch.distributed.ranks import RankError, Ranks, exit_now, launched_ranks

# The text of ranks.joined in a process that is not the one that failed.
IS_GONE = "another process of the job is gone"
# torchrun ends all processes as soon as one has failed. So a process that has nothing to report
# waits this long, in which rank 0 reports the error.
_SECONDS_TO_REPORT = 2.0
_NO_MEMORY = ("can't allocate memory", "not enough memory")  # of a CPU, in torch's RuntimeError


class OutOfMemoryError(FuxiCTRError, RuntimeError):
    """The host or the GPU has no memory left for what a run asks for."""


def torchrun_command(
    num_processes: int, gpus: Sequence[str] = (), python: str = sys.executable
) -> list[str]:
    """Returns the beginning of a command that starts a script in several processes at once.

    ``gpus`` are indices among the GPUs visible to this process; none = all.
    """
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    names = [visible[int(gpu)] if visible else gpu for gpu in gpus]
    start = ["env", f"CUDA_VISIBLE_DEVICES={','.join(names)}"] if names else []
    options = ["--standalone", f"--nproc_per_node={num_processes}"]
    return [*start, python, "-m", "torch.distributed.run", *options]


def start_command() -> str:
    """Returns what started this process: ``python``, or torchrun with its number of processes."""
    num_ranks = launched_ranks()[1]
    if num_ranks == 1:
        return "python"
    num_local = int(os.environ.get("LOCAL_WORLD_SIZE", num_ranks))
    # Without --standalone two jobs on one machine would use one port.
    where = f"--nnodes={num_machines()}" if num_machines() > 1 else "--standalone"
    return f"torchrun {where} --nproc_per_node={num_local}"


def this_command(*more: str) -> str:
    """Returns the command that a user typed to start this process, with more arguments."""
    is_module = sys.argv[0].endswith(os.path.join("fuxictr", "__main__.py"))
    script = ["-m", "fuxictr"] if is_module else sys.argv[:1]
    return f"{start_command()} {shlex.join([*script, *sys.argv[1:], *more])}"


def num_machines() -> int:
    """Returns how many machines torchrun uses for the job of this process."""
    return int(os.environ.get("GROUP_WORLD_SIZE", "1")) if launched_ranks()[1] > 1 else 1


def resume_command() -> str:
    """Returns the command by which a user resumes this run."""
    if num_machines() > 1:
        return "the same torchrun commands with --resume"
    return this_command(*([] if "--resume" in sys.argv else ["--resume"]))


def describe_devices(names: Sequence[str]) -> str:
    """Returns the devices of a run for its row, from each process's, as ``cuda:0 (NVIDIA H200)``.

    It is the name itself of one process; of several ``4 x cuda (NVIDIA H200)``, for each kind.
    """
    if len(names) == 1:
        return names[0]
    kinds: Counter[str] = Counter()
    for name in names:
        device, space, rest = name.partition(" ")
        kinds[device.partition(":")[0] + space + rest] += 1
    return ", ".join(f"{count} x {kind}" for kind, count in kinds.items())


def check_same(ranks: Ranks, what: Mapping[str, Any]) -> None:
    """Checks that all processes of a job agree on ``what``: name -> value, as JSON holds it.

    A RankError names the process that differs from rank 0, and both values.
    """
    first, *others = (json.loads(text) for text in ranks.gather_texts(json.dumps(what)))
    for rank, found in enumerate(others, start=1):
        differing = [
            f"{name} {found.get(name)} instead of {value}"
            for name, value in first.items()
            if found.get(name) != value
        ]
        if differing:
            error = RankError(
                f"rank {rank}: {', '.join(differing)}, which the first process has; all processes "
                "of a job need the same config, data, code, torch and kind of device"
            )
            ranks.raise_if_any(error)  # every rank has found the same one


@contextlib.contextmanager
def report_errors_once() -> Iterator[None]:
    """Context whose errors are reported once for all processes, with the rank of the failing one.

    Rank 0 passes on what it raises. Another rank names itself if it fails on its own, and is silent
    if all of them end. torchrun's own report at the end of the job shows the reason as well.

    Raises:
        OutOfMemoryError: torch found no memory.
        RankError: this is not rank 0, and it failed.
    """
    rank = launched_ranks()[0]
    try:
        with _naming_lack_of_memory():
            yield
    except RankError as error:
        _tell_torchrun(error, is_victim=True)
        raise
    except FuxiCTRError as error:
        if rank == 0:
            _tell_torchrun(error)
            raise
        named = RankError(f"rank {rank}: {type(error).__name__}: {error}")
        _tell_torchrun(named)
        raise named from error
    except (SystemExit, KeyboardInterrupt) as error:
        if rank == 0:
            raise
        time.sleep(_SECONDS_TO_REPORT)
        if isinstance(error, SystemExit):
            raise
        raise SystemExit(128 + error.signal if isinstance(error, Interrupted) else 130) from error


@contextlib.contextmanager
def report_errors_once_per_machine() -> Iterator[None]:
    """Context for errors that all processes of a machine have; only its first one reports them."""
    _, num_ranks, local_rank = launched_ranks()
    try:
        yield
    except FuxiCTRError as error:
        if num_ranks == 1 or local_rank == 0:
            _tell_torchrun(error)
            raise
        time.sleep(_SECONDS_TO_REPORT)
        raise SystemExit(1) from error


def end(status: Any) -> NoReturn:
    """Ends this process with a status as sys.exit takes it; one of several without a teardown."""
    if launched_ranks()[1] > 1 and isinstance(status, int | None):
        exit_now(status or 0)
    sys.exit(status)


@contextlib.contextmanager
def mute_warnings_unless(is_first: bool) -> Iterator[None]:
    """Context without warnings in the log, except in the process that logs for all."""
    before = logging.root.manager.disable
    logging.disable(before if is_first else logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _naming_lack_of_memory() -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.cuda.OutOfMemoryError is a RuntimeError
        if not isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
            if isinstance(error, FuxiCTRError) or not any(t in str(error) for t in _NO_MEMORY):
                raise
        reason = (str(error).strip() or "the host has no memory left").splitlines()[0]
        raise OutOfMemoryError(
            f"{reason:.300}; lower batch_size or embedding_dim, or share the tables among more "
            "processes (docs/scaling.md)"
        ) from error


def _tell_torchrun(error: FuxiCTRError, is_victim: bool = False) -> None:
    """Writes the reason to torchrun's error file, in one line instead of @record's traceback.

    torchrun shows the file with the earliest whole second as the root cause. So a process that only
    noticed that another one failed (``is_victim``) rounds its time up.
    """
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path is None:
        return
    now = math.ceil(time.time()) if is_victim else math.floor(time.time())
    text = f"{type(error).__name__}: {error}"
    extra = {"py_callstack": text, "timestamp": str(now)}  # shown as the traceback
    with contextlib.suppress(OSError), open(path, "w", encoding="utf-8") as file:
        json.dump({"message": {"message": text, "extraInfo": extra}}, file)
