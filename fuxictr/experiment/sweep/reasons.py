"""Why a run of a sweep failed, from its exit status and the end of its output."""

from __future__ import annotations

import re
import signal
import textwrap

from fuxictr.experiment.run.launch import IS_GONE

_REASON_LENGTH = 500
# The line of a traceback, or of run_cli, that names the error; more lines of it may follow.
_ERROR = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit|Warning)\b")
# torchrun's line on the process that ended first, its log lines, and torch's prefix of traceback
# lines in one of several processes. torchrun's error file would not do: a killed process has none.
_PROCESS_FAILED = re.compile(r"failed \(exitcode: (-?\d+)\) local_rank: (\d+)")
_LOG_LINE = re.compile(r"[IWE]\d{4} [\d:.]+ ")
_RANK = re.compile(r"^\[rank\d+\]:\s*")


def find_reason(status: int, tail: str) -> str:
    """Returns why a run failed: the signal that ended it, or the error that it wrote last."""
    if status < 0:
        return _ended_by(-status)
    lines = [line.strip() for line in tail.replace("\r", "\n").splitlines() if line.strip()]
    for i, line in enumerate(lines):
        if found := _PROCESS_FAILED.search(line):
            return _reason_of_processes(lines[:i], int(found[1]), found[2])
    errors = [i for i, line in enumerate(lines) if _ERROR.match(line)]
    message = _shorten(lines[errors[-1] :] if errors else (lines or ["no message"])[-1:])
    return message if status else f"ended without a row of results ({message})"


def _reason_of_processes(lines: list[str], status: int, rank: str) -> str:
    """Returns why one of several processes failed; ``status`` is of the one that ended first."""
    lines = [_RANK.sub("", line) for line in lines if not _LOG_LINE.match(line)]
    starts = [i for i, line in enumerate(lines) if _ERROR.match(line)]
    for start, stop in zip(starts, [*starts[1:], len(lines)], strict=True):
        message = _shorten(lines[start:stop])
        if IS_GONE not in message:
            return message
    return f"rank {rank}: {_ended_by(-status) if status < 0 else f'ended with status {status}'}"


def _shorten(lines: list[str]) -> str:
    return textwrap.shorten(" ".join(lines), _REASON_LENGTH, placeholder=" ...")


def _ended_by(number: int) -> str:
    name = signal.Signals(number).name
    hint = "; the machine may have run out of memory" if name == "SIGKILL" else ""
    return f"ended by {name}{hint}"
