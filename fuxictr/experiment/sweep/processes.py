"""The processes of a sweep's runs: forked by a fork server where that can be, else started anew."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import IO

from fuxictr.experiment.sweep.fork_server import Request, server_environment
from fuxictr.experiment.zoo.models import ROOT

_START = "from fuxictr.experiment.sweep.fork_server import main; main()"
_GIVEN_UP = "The fork server of the sweep takes no more runs; from now on each starts Python anew."


class ForkedProcess:
    """A run's process that a fork server forked; it is used as subprocess.Popen is."""

    def __init__(self, status: socket.socket, stdin: int, stderr: IO[bytes]) -> None:
        self.stderr = stderr
        self._status, self._stdin = status, stdin
        self._code: int | None = None

    def terminate(self) -> None:
        """Sends SIGTERM."""
        with contextlib.suppress(OSError):
            self._status.send(bytes([signal.SIGTERM]))

    def wait(self) -> int | None:
        """Returns the exit status, as Popen has it; None where the server ended before it came."""
        if self._code is None:
            with contextlib.suppress(ConnectionError):
                answer = self._status.recv(4)
                self._code = struct.unpack("i", answer)[0] if answer else None
        return self._code

    def __enter__(self) -> ForkedProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._stdin)
        self.stderr.close()
        self._status.close()


RunProcess = ForkedProcess | subprocess.Popen[bytes]


class RunProcesses:
    """Starts the processes of runs; several threads may do so at once.

    A fork server serves runs of one Python process each, on Linux. It is replaced where a source
    of fuxictr/ or the environment has changed since it was started. Where it has ended by itself,
    each later process is started anew.

    Args:
        verbose: show what the runs write to stdout.
        fresh: start each process anew.
        say: prints a line.
    """

    def __init__(self, verbose: bool, fresh: bool, say: Callable[[str], None]) -> None:
        self._stdout = None if verbose else subprocess.DEVNULL
        self._say = say
        self._can_fork = not fresh and sys.platform == "linux" and hasattr(socket, "send_fds")
        self._lock = threading.Lock()
        self._server: socket.socket | None = None
        self._server_state: object = None
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> RunProcess:
        """Returns a started process, with pipes for its stdin and stderr.

        It has its own session: Ctrl-C is for this process, which then ends its runs.
        """
        with self._lock:
            if self._can_fork and command[0] == sys.executable and command[1].endswith(".py"):
                try:
                    return self._fork(list(command[1:]), environment)
                except OSError:
                    self._give_up()
        return subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=self._stdout,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )

    def give_up(self) -> None:
        """Starts each later process anew, and says so once; for a process of unknown status."""
        with self._lock:
            self._give_up()

    def __enter__(self) -> RunProcesses:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends the servers, all of whose runs have ended."""
        with self._lock:
            self._close_server()
        for server in self._started:
            server.wait()

    def _fork(self, command: list[str], environment: Mapping[str, str]) -> ForkedProcess:
        server = self._current_server(environment)
        ours, theirs = socket.socketpair()
        stdin, to_run = os.pipe()
        from_run, stderr = os.pipe()
        nothing = os.open(os.devnull, os.O_WRONLY)
        stdout = 1 if self._stdout is None else nothing
        try:
            request = Request(command, str(ROOT), dict(environment))
            request.send(server, [theirs.fileno(), stdin, stdout, stderr])
        except OSError:
            ours.close()
            os.close(to_run)
            os.close(from_run)
            raise
        finally:
            theirs.close()
            for file in (stdin, stderr, nothing):
                os.close(file)
        return ForkedProcess(ours, to_run, open(from_run, "rb"))

    def _current_server(self, environment: Mapping[str, str]) -> socket.socket:
        """Returns the connection to a server of the present sources and of an environment."""
        variables = {name: value for name, value in environment.items() if name != "COLUMNS"}
        state = (_sources(), variables)
        if self._server is None or state != self._server_state:
            self._close_server()
            self._server, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._server_state = state
            with theirs:
                process = subprocess.Popen(
                    [sys.executable, "-c", _START],
                    cwd=ROOT,
                    stdin=theirs.fileno(),
                    stdout=self._stdout,
                    env=server_environment(environment),
                    start_new_session=True,
                )
            self._started.append(process)
        return self._server

    def _close_server(self) -> None:
        """Lets the server end once its runs have ended."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def _give_up(self) -> None:
        if self._can_fork:
            self._can_fork = False
            self._close_server()
            self._say(_GIVEN_UP)


def _sources() -> dict[str, tuple[int, int]]:
    """Returns path -> time and size of the sources that a server imports."""
    found = {}
    for folder, _, names in os.walk(ROOT / "fuxictr"):
        for name in names:
            if name.endswith(".py"):
                with contextlib.suppress(FileNotFoundError):
                    status = os.stat(os.path.join(folder, name))
                    found[os.path.join(folder, name)] = (status.st_mtime_ns, status.st_size)
    return found
