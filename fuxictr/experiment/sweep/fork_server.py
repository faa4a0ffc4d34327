"""The fork server of a sweep: with torch and this package imported, it forks the runs' processes.

It keeps one process waiting, which has also imported what starts threads (polars, pyarrow). That
process takes the next request and becomes its run; then the server forks another one. The server
itself starts no thread and touches no GPU: neither would survive a fork.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import importlib.machinery
import io
import json
import os
import selectors
import signal
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import CodeType, FrameType, ModuleType

import numpy
import torch

# A run needs them; none of them starts a thread when it is imported.
_IMPORTED = (
    *("h5py", "scipy.stats", "tqdm", "torch._dynamo", "fuxictr.analysis.recorder"),
    *("fuxictr.pytorch.training.trainer", "fuxictr.experiment.results.checkpoint_config"),
)
# What a waiting process imports: all that a run needs.
_OF_A_RUN = "fuxictr.experiment.run.run"
_LARGEST = 1 << 20  # bytes of a request
# With it a question for GPUs during an import does not start CUDA, which survives no fork.
_WITHOUT_CUDA = "PYTORCH_NVML_BASED_CUDA_CHECK"
_AT_START = dict(os.environ)


@dataclass(frozen=True)
class Request:
    """What a process is to run, and with what it replaces its own.

    Attributes:
        command: a script and its arguments.
        folder: the current folder.
        environment: its environment variables; those that libraries read when they are imported are
            the server's as well.
    """

    command: list[str]
    folder: str
    environment: dict[str, str]

    def send(self, server: socket.socket, files: Sequence[int]) -> None:
        """Sends the request with the files of ``receive``; OSError where nobody receives it."""
        socket.send_fds(server, [json.dumps(asdict(self)).encode()], files)

    @classmethod
    def receive(cls, sweep: socket.socket) -> tuple[Request, list[int]] | None:
        """Waits for a request; returns it with its files, or None where the sweep is over.

        The files are a socket on which the exit status is sent, and stdin, stdout and stderr.
        """
        text, files, _, _ = socket.recv_fds(sweep, _LARGEST, 4)
        return (cls(**json.loads(text)), files) if text else None

    def take_over(self, files: Sequence[int]) -> None:
        """Makes this process what a new Python with this command would be."""
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.chdir(self.folder)
        if _WITHOUT_CUDA not in self.environment:
            os.environ.pop(_WITHOUT_CUDA)
        # What imports have changed since the start stays, as it does in a new Python.
        changed = {n: v for n, v in self.environment.items() if _AT_START.get(n) != v}
        os.environ.update(changed)
        script = Path(self.command[0])
        if not getattr(sys.flags, "safe_path", False):
            sys.path[0] = str(script.resolve().parent)
        sys.argv[:] = self.command
        numpy.random.seed()  # random and tempfile look after themselves
        torch.default_generator.seed()
        with contextlib.suppress(OSError):  # what ps and top show
            Path("/proc/self/comm").write_text(script.name)

    def run(self) -> None:
        """Runs the script as Python would."""
        module = ModuleType("__main__")
        module.__file__ = os.path.abspath(self.command[0])
        module.__loader__ = loader = _Script("__main__", module.__file__)
        sys.modules["__main__"] = module
        loader.exec_module(module)


class _Script(importlib.machinery.SourceFileLoader):
    """Loads a script: its text as it is now, not what was compiled of it before."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


class ForkServer:
    """Forks processes, and passes signals and exit statuses between them and the sweep."""

    def __init__(self, sweep: socket.socket) -> None:
        self._sweep = sweep
        self._runs: dict[int, socket.socket] = {}  # by process; the sweep has the other ends
        self._spare: tuple[int, socket.socket] | None = None  # the process that waits, and a link
        self._is_open = True  # the sweep may send more requests
        self._waiting = selectors.DefaultSelector()
        self._ended, self._on_end = socket.socketpair()
        self._on_end.setblocking(False)
        signal.set_wakeup_fd(self._on_end.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _note)
        self._waiting.register(self._ended, selectors.EVENT_READ)

    def serve(self) -> tuple[Request, list[int]] | None:
        """Returns a request in the process that runs it; None in the server, at the sweep's end."""
        while True:
            if self._is_open and self._spare is None and self._fork():
                return self._wait()
            if self._spare is None and not self._runs:
                return None
            for key, _ in self._waiting.select():
                if key.fileobj is self._ended:
                    self._ended.recv(100)
                    self._pass_statuses()
                elif key.data in self._runs:
                    self._pass_signals(key.data)
                elif self._spare is not None and key.data == self._spare[0]:
                    self._take_note()

    def _fork(self) -> bool:
        """Forks the process that waits for the next request; returns whether this one is it."""
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if not pid:
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._waiting.close()
            for opened in (ours, self._ended, self._on_end, *self._runs.values()):
                opened.close()
            self._spare = (0, theirs)
            return True
        theirs.close()
        self._spare = (pid, ours)
        self._waiting.register(ours, selectors.EVENT_READ, pid)
        return False

    def _wait(self) -> tuple[Request, list[int]]:
        """Waits for a request, and tells the server that it is taken; ends with the sweep."""
        assert self._spare is not None
        importlib.import_module(_OF_A_RUN)
        received = Request.receive(self._sweep)
        if received is None:
            os._exit(0)
        request, (status, *files) = received
        script = Path(request.folder, request.command[0])
        try:
            socket.send_fds(self._spare[1], [str(script.parent).encode()], [status])
        except OSError:  # the server was killed, and nobody would pass on the exit status
            os._exit(1)
        os.close(status)
        self._spare[1].close()
        self._sweep.close()
        return request, files

    def _take_note(self) -> None:
        """Notes that the waiting process has become a run, or has ended, as with the sweep."""
        assert self._spare is not None
        pid, link = self._spare
        self._waiting.unregister(link)
        text, files, _, _ = socket.recv_fds(link, _LARGEST, 1)
        link.close()
        self._spare = None
        if not text:
            self._is_open = False
            self._sweep.close()
            return
        self._runs[pid] = run = socket.socket(fileno=files[0])
        self._waiting.register(run, selectors.EVENT_READ, pid)
        _read_configs(Path(text.decode()))

    def _pass_signals(self, pid: int) -> None:
        """Sends a run the signals that the sweep sends it."""
        try:
            numbers = self._runs[pid].recv(100)
        except OSError:
            numbers = b""
        if not numbers:  # the sweep is gone; its runs end with their stdin
            self._waiting.unregister(self._runs[pid])
        for number in numbers:
            os.kill(pid, number)

    def _pass_statuses(self) -> None:
        """Tells the sweep the exit statuses of runs that have ended."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                if self._spare is not None and pid == self._spare[0]:
                    self._take_note()
                run = self._runs.pop(pid, None)
                if run is None:
                    continue
                with contextlib.suppress(KeyError):
                    self._waiting.unregister(run)
                with contextlib.suppress(OSError):
                    run.send(struct.pack("i", os.waitstatus_to_exitcode(status)))
                run.close()


def main() -> None:
    """Serves the sweep that has the other end of stdin."""
    sweep = socket.socket(fileno=os.dup(0))
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    _prepare()
    taken = ForkServer(sweep).serve()
    if taken is None:
        os._exit(0)
    request, files = taken
    status = 1
    try:
        request.take_over(files)
        request.run()
        status = 0
    except SystemExit as ended:
        status = _status_of(ended)
    except BaseException:
        traceback.print_exc()
    finally:
        _leave(status)


def _prepare() -> None:
    """Imports, and computes what is the same in all runs.

    Raises:
        RuntimeError: something has started a thread.
    """
    for name in _IMPORTED:
        importlib.import_module(name)
    from fuxictr.experiment.results.code_hash import package_digest
    from fuxictr.experiment.results.environment import package_versions, platform_record

    for each in (package_digest, package_versions, platform_record):
        each()
    gc.collect()
    gc.freeze()  # pages that the collector does not touch stay shared with the runs
    # OpenBLAS has threads from the start, and ends them at a fork.
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    num_threads = len(os.listdir("/proc/self/task"))
    if num_threads > 1:
        raise RuntimeError(f"found {num_threads} threads after the imports, allowed: 1")


def _read_configs(folder: Path) -> None:
    """Reads the configs of a model's folder; a run finds equal texts in the cache of the parser."""
    from fuxictr.config.yaml_file import read_yaml_file
    from fuxictr.errors import FuxiCTRError

    folder = folder.resolve()
    for file in [*sorted(folder.glob("config/**/*.yaml")), folder.parent / "dataset_config.yaml"]:
        with contextlib.suppress(FuxiCTRError):  # the run itself will report it
            read_yaml_file(file)


def _note(number: int, frame: FrameType | None) -> None:
    """Does nothing; only with a handler does a signal wake the server up."""


def _status_of(ended: SystemExit) -> int:
    if ended.code is None or isinstance(ended.code, int):
        return ended.code or 0
    print(ended.code, file=sys.stderr)
    return 1


def _leave(status: int) -> None:
    """Ends this process as Python does, but keeps its modules, whose removal takes 0.3 seconds."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    opened = {io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom}
    for file in [sys.stdout, sys.stderr, *gc.get_objects()]:
        if type(file) in opened:
            with contextlib.suppress(OSError, ValueError):
                file.flush()
    os._exit(status & 0xFF)


def server_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment of a server whose runs have this one."""
    return {**environment, _WITHOUT_CUDA: "1"}
