"""Why a run of a sweep failed, from its exit status and the last that it wrote."""

from __future__ import annotations

import re
import signal
import textwrap

from fuxictr.experiment.run.launch import IS_GONE

_REASON_LENGTH = 500
# The line of a traceback, or of run_cli, that names the error; more lines of it may follow.
_ERROR = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit|Warning)\b")
# What torchrun says of the process that ended first, what it logs, and what torch writes before the
# lines of a traceback in one of several processes.
_PROCESS_FAILED = re.compile(r"failed \(exitcode: (-?\d+)\) local_rank: (\d+)")
_LOG_LINE = re.compile(r"[IWE]\d{4} [\d:.]+ ")
_RANK = re.compile(r"^\[rank\d+\]:\s*")


def find_reason(status: int, tail: str) -> str:
    """Returns why a run failed: the signal that ended it, or the error that it wrote last."""
    if status < 0:
        return _ended_by(-status)
    lines = [line.strip() for line in tail.replace("\r", "\n").splitlines() if line.strip()]
    found = next((i for i, line in enumerate(lines) if _PROCESS_FAILED.search(line)), None)
    if found is not None:
        return _reason_of_processes(lines[:found], lines[found])
    errors = [i for i, line in enumerate(lines) if _ERROR.match(line)]
    message = " ".join(lines[errors[-1] :]) if errors else (lines or ["no message"])[-1]
    message = textwrap.shorten(message, _REASON_LENGTH, placeholder=" ...")
    return message if status else f"ended without a row of results ({message})"


def _reason_of_processes(lines: list[str], report: str) -> str:
    """Returns why one of several processes failed, which the others only noticed.

    Args:
        lines: what they all wrote.
        report: torchrun's line on the one that it saw end first.
    """
    lines = [_RANK.sub("", line) for line in lines if not _LOG_LINE.match(line)]
    starts = [i for i, line in enumerate(lines) if _ERROR.match(line)]
    bounds = zip(starts, [*starts[1:], len(lines)], strict=True)
    errors = [" ".join(lines[start:stop]) for start, stop in bounds]
    own = [text for text in errors if IS_GONE not in text]
    if own:
        return textwrap.shorten(own[0], _REASON_LENGTH, placeholder=" ...")
    found = _PROCESS_FAILED.search(report)
    assert found is not None, "that is how the line was found"
    status, rank = int(found[1]), found[2]
    return f"rank {rank}: {_ended_by(-status) if status < 0 else f'ended with status {status}'}"


def _ended_by(number: int) -> str:
    name = signal.Signals(number).name
    hint = "; the machine may have run out of memory" if name == "SIGKILL" else ""
    return f"ended by {name}{hint}"
