"""How the processes of one run are started, and what each of them says where it ends."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import torch

from fuxictr.errors import FuxiCTRError, Interrupted
from fuxictr.pytorch.distributed.ranks import RankError, Ranks, launched_ranks, leave

# What ranks.joined says where this process is not the one that failed.
IS_GONE = "another process of the job is gone"
# torchrun ends all processes as soon as one of them has ended with an error. So the others, which
# have nothing to say, let the first one say it.
_SECONDS_TO_SPEAK = 2.0
_NO_MEMORY = ("can't allocate memory", "not enough memory")  # of a CPU, in torch's RuntimeError


class OutOfMemoryError(FuxiCTRError, RuntimeError):
    """The host or the GPU has no memory left for what a run asks for."""


def launcher(
    num_processes: int, gpus: Sequence[str] = (), python: str = sys.executable
) -> list[str]:
    """Returns the beginning of a command that starts a script in several processes at once.

    Args:
        num_processes: how many, on this machine.
        gpus: the indices of the GPUs that they see, among those that this process sees; none = all.
        python: the interpreter.
    """
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    names = [visible[int(gpu)] if visible else gpu for gpu in gpus]
    start = ["env", f"CUDA_VISIBLE_DEVICES={','.join(names)}"] if names else []
    options = ["--standalone", f"--nproc_per_node={num_processes}"]
    return [*start, python, "-m", "torch.distributed.run", *options]


def starter() -> str:
    """Returns what started this process: ``python``, or torchrun with its number of processes."""
    num_ranks = launched_ranks()[1]
    if num_ranks == 1:
        return "python"
    num_local = int(os.environ.get("LOCAL_WORLD_SIZE", num_ranks))
    # Without --standalone two jobs on one machine would use one port.
    where = f"--nnodes={num_machines()}" if num_machines() > 1 else "--standalone"
    return f"torchrun {where} --nproc_per_node={num_local}"


def num_machines() -> int:
    """Returns how many machines torchrun uses for the job of this process."""
    return int(os.environ.get("GROUP_WORLD_SIZE", "1")) if launched_ranks()[1] > 1 else 1


def going_on() -> str:
    """Returns how a user lets this run go on."""
    if num_machines() > 1:
        return "the same torchrun commands with --resume"
    resume = [] if "--resume" in sys.argv else ["--resume"]
    is_module = sys.argv[0].endswith(os.path.join("fuxictr", "__main__.py"))
    command = ["-m", "fuxictr"] if is_module else sys.argv[:1]
    return f"{starter()} {shlex.join([*command, *sys.argv[1:], *resume])}"


def describe_devices(names: Sequence[str]) -> str:
    """Returns what a row of results calls the devices of a run.

    Args:
        names: that of each process, as ``cuda:0 (NVIDIA H200)``.

    Returns:
        The name itself of one process; of several ``4 x cuda (NVIDIA H200)``, a kind after the
        other.
    """
    if len(names) == 1:
        return names[0]
    kinds: dict[str, int] = {}
    for name in names:
        device, space, rest = name.partition(" ")
        kind = device.partition(":")[0] + space + rest
        kinds[kind] = kinds.get(kind, 0) + 1
    return ", ".join(f"{count} x {kind}" for kind, count in kinds.items())


def first_says(ranks: Ranks, make: Callable[[], Any]) -> Any:
    """Returns, on all processes, what the first one makes, which nothing collective may be part of.

    Args:
        ranks: the processes.
        make: called on the first one; of plain values as JSON has them.

    Raises:
        FuxiCTRError: what it raised; the others end silently.
    """
    made = None
    with ranks.together():
        if ranks.is_first:
            made = make()
    if ranks.size == 1:
        return made
    texts = ranks.gather_texts(json.dumps(made) if ranks.is_first else "")
    return made if ranks.is_first else json.loads(texts[0])


def check_same(ranks: Ranks, what: Mapping[str, Any]) -> None:
    """Checks that all processes of a job do the same.

    Args:
        ranks: the processes.
        what: name -> value of what they must agree on, as JSON holds it.

    Raises:
        RankError: a process differs from the first one; names it and both values.
    """
    error: RankError | None = None
    first, *others = (json.loads(text) for text in ranks.gather_texts(json.dumps(what)))
    for rank, found in enumerate(others, start=1):
        differing = [
            f"{name} {found.get(name)} instead of {value}"
            for name, value in first.items()
            if found.get(name) != value
        ]
        if differing and error is None:
            error = RankError(
                f"rank {rank}: {', '.join(differing)}, which the first process has; all processes "
                "of a job need the same config, data, code, torch and kind of device"
            )
    ranks.raise_together(error)


@contextlib.contextmanager
def speaking() -> Iterator[None]:
    """Context whose end is told once for all processes, or with the number of the failing one.

    What the first process raises passes. Another one names itself where it fails on its own, and is
    silent where all of them end. torchrun's own report gets the reason as well.

    Raises:
        OutOfMemoryError: torch found no memory.
        RankError: this is not the first process, and it failed.
    """
    rank = launched_ranks()[0]
    try:
        with _naming_lack_of_memory():
            yield
    except RankError as error:
        _report(error, is_victim=True)
        raise
    except FuxiCTRError as error:
        if rank == 0:
            _report(error)
            raise
        named = RankError(f"rank {rank}: {type(error).__name__}: {error}")
        _report(named)
        raise named from error
    except (SystemExit, KeyboardInterrupt) as error:
        if rank == 0:
            raise
        time.sleep(_SECONDS_TO_SPEAK)
        if isinstance(error, SystemExit):
            raise
        raise SystemExit(128 + error.signal if isinstance(error, Interrupted) else 130) from error


@contextlib.contextmanager
def saying_once() -> Iterator[None]:
    """Context whose errors are those of each process of this machine: only the first says them.

    Raises:
        SystemExit: on the others.
    """
    _, num_ranks, local_rank = launched_ranks()
    try:
        yield
    except FuxiCTRError as error:
        if num_ranks == 1 or local_rank == 0:
            _report(error)
            raise
        time.sleep(_SECONDS_TO_SPEAK)
        raise SystemExit(1) from error


def end(status: Any) -> NoReturn:
    """Ends this process; one of several without a teardown, which torch's threads may not survive.

    Args:
        status: as sys.exit takes it.
    """
    if launched_ranks()[1] > 1 and isinstance(status, int | None):
        leave(status or 0)
    sys.exit(status)


@contextlib.contextmanager
def silent_unless(is_first: bool) -> Iterator[None]:
    """Context without warnings in the log where another process gives the same ones.

    Args:
        is_first: whether this is the one that does.
    """
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
    except (MemoryError, torch.cuda.OutOfMemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not isinstance(error, torch.cuda.OutOfMemoryError):
            if isinstance(error, FuxiCTRError) or not any(t in str(error) for t in _NO_MEMORY):
                raise
        reason = (str(error).strip() or "the host has no memory left").splitlines()[0]
        raise OutOfMemoryError(
            f"{reason:.300}; lower batch_size or embedding_dim, or share the tables among more "
            "processes (docs/scaling.md)"
        ) from error


def _report(error: FuxiCTRError, is_victim: bool = False) -> None:
    """Hands the reason to torchrun, whose report at the end of the job shows it.

    Args:
        error: the reason.
        is_victim: whether another process failed before: of two in one second it comes second.
    """
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path is None:
        return
    now = math.ceil(time.time()) if is_victim else math.floor(time.time())
    text = f"{type(error).__name__}: {error}"
    extra = {"py_callstack": text, "timestamp": str(now)}  # torchrun shows what is called a stack
    with contextlib.suppress(OSError), open(path, "w", encoding="utf-8") as file:
        json.dump({"message": {"message": text, "extraInfo": extra}}, file)
