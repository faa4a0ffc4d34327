"""A Python that has imported the large libraries already, for tests that start many processes.

``python()`` returns a program that is called as ``sys.executable`` is. It hands its arguments,
folder, environment and files to a server, which forks a process that runs them. Signals go to that
process, and its exit status comes back. So each command has a process of its own, without the
seconds in which torch is imported. What belongs to this repository is imported by the process.

With FRESH_PROCESSES in the environment, as ``bash tests/run.sh --all`` sets it, ``python()`` is
``sys.executable``. Run as a program, this module is the server.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import importlib.abc
import importlib.util
import io
import os
import random
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import traceback
import types
from ast import literal_eval
from pathlib import Path
from typing import Any

# None of them starts a thread when it is imported: a process that has threads must not fork.
LIBRARIES = (
    *("numpy", "scipy.stats", "yaml", "h5py", "tqdm", "jinja2", "PIL.Image", "matplotlib.figure"),
    *("torch", "torch._dynamo", "torch.distributed.run", "matplotlib.backends.backend_agg"),
)
# Environment variables that Python or a library reads when it starts.
AT_START = ("PYTHON", "OMP_", "MKL_", "KMP_", "GOMP_", "OPENBLAS_", "LD_", "LC_", "LANG", "MPL")
NOT_AT_START = ("PYTHON", "OMP_WAIT_POLICY")  # ours, and one without effect on a single thread
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)

# The program that tests start. Other options of Python, or another environment: a fresh process.
CLIENT = """#!{python} -IS
import os, signal, socket, struct, sys

def starts(environment):
    names = (name for name in environment if name.startswith({at_start}))
    return {{name: environment[name] for name in names if name not in {not_at_start}}}

def end(status):
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)

args = sys.argv[1:]
first = args[args[:1] == ["-u"]:][:1]
is_plain = first and (first[0] in ("-m", "-c") or not first[0].startswith("-"))
if not is_plain or starts(os.environ) != {environment}:
    os.execv({python!r}, [{python!r}, *args])
ignored = [n for n in {signals} if signal.getsignal(n) == signal.SIG_IGN]
heard = [n for n in {signals} if n not in ignored]
signal.pthread_sigmask(signal.SIG_BLOCK, heard)
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
for number in heard:
    signal.signal(number, lambda number, frame: server.send(bytes([number])))
umask = os.umask(0)
request = repr((args, os.getcwd(), dict(os.environ), umask, ignored, sys.argv[0])).encode()
socket.send_fds(server, [struct.pack("I", len(request))], [0, 1, 2])
server.sendall(request)
signal.pthread_sigmask(signal.SIG_UNBLOCK, heard)
answer = server.recv(4)
end(*struct.unpack("i", answer) if answer else [70])
"""


@functools.cache
def python() -> str:
    """Returns the path of a program to be called as ``sys.executable`` is."""
    if "FRESH_PROCESSES" in os.environ or not hasattr(os, "fork"):
        return sys.executable
    folder = Path(tempfile.mkdtemp(prefix="ge4rec_python_"))  # a socket's path must be short
    address, program = folder / "socket", folder / "python"
    numbers = tuple(map(int, SIGNALS))
    program.write_text(
        CLIENT.format(
            python=sys.executable,
            at_start=AT_START,
            not_at_start=NOT_AT_START,
            environment=_read_at_start(),
            signals=numbers,
            address=str(address),
        )
    )
    program.chmod(0o755)
    server = subprocess.Popen(
        [sys.executable, __file__, address],
        stdin=subprocess.PIPE,  # it ends when this process does
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert server.stdout is not None and server.stdout.readline() == b"ready\n"
    atexit.register(server.communicate)
    return str(program)


def _read_at_start() -> dict[str, str]:
    names = (name for name in os.environ if name.startswith(AT_START))
    return {name: os.environ[name] for name in names if name not in NOT_AT_START}


class Request:
    """What a client asks for: a command with all that a process inherits."""

    def __init__(self, connection: socket.socket) -> None:
        prefix, self.files, *_ = socket.recv_fds(connection, 4, 3)
        (left,) = struct.unpack("I", prefix)
        content = b""
        while len(content) < left:
            part = connection.recv(left - len(content))
            if not part:
                raise ConnectionError("the client has gone")
            content += part
        request: Any = literal_eval(content.decode())
        self.args, self.folder, self.environment, self.umask, self.ignored, self.program = request

    def take_over(self) -> None:
        """Makes this process what a fresh one with the request would be."""
        for number, file in enumerate(self.files):
            os.dup2(file, number)
            os.close(file)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in self.ignored:
            signal.signal(number, signal.SIG_IGN)
        os.umask(self.umask)
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.environment)
        sys.executable = self.program
        sys.orig_argv = [self.program, *self.args]
        random.seed()
        sys.modules["numpy"].random.seed()
        tempfile.tempdir = None

    def run(self) -> None:
        """Runs the command as Python would."""
        first, *rest = self.args
        if first == "-u":  # as torchrun starts its processes
            for number, name in ((1, "stdout"), (2, "stderr")):
                file = io.FileIO(number, "w", closefd=False)
                setattr(sys, name, io.TextIOWrapper(file, write_through=True))
            first, *rest = rest
        main = types.ModuleType("__main__")
        if first == "-c":
            text, *rest = rest
            sys.path.insert(0, "")
        else:
            is_module = first == "-m"
            folder = self.folder if is_module else Path(first).resolve().parent
            sys.path.insert(0, str(folder))
            if is_module:
                name, *rest = rest
                first, main.__package__ = _find_module(name)
            main.__file__ = first
            text = Path(first).read_text(encoding="utf-8")
        sys.argv[:] = [first, *rest]
        sys.modules["__main__"] = main
        _Source(text, "<string>" if first == "-c" else first).exec_module(main)


def _find_module(name: str) -> tuple[str, str]:
    """Returns the file that ``python -m NAME`` runs, and its package."""
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = importlib.util.find_spec(f"{name}.__main__")
    if spec is None or spec.origin is None:
        raise SystemExit(f"{sys.executable}: No module named {name}")
    return spec.origin, spec.parent or ""


class _Source(importlib.abc.InspectLoader):
    """Loads a text, which is no file of its own or one that is run."""

    def __init__(self, text: str, file: str) -> None:
        self.text, self.file = text, file

    def get_source(self, fullname: str) -> str:
        return self.text

    def get_code(self, fullname: str) -> types.CodeType:
        return self.source_to_code(self.text, self.file)


def serve(address: str) -> Request:
    """Forks a process for each request; returns in that process only."""
    clients: dict[int, socket.socket] = {}  # by the process that runs what the client asked for
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    ends, on_end = socket.socketpair()
    on_end.setblocking(False)
    signal.set_wakeup_fd(on_end.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    waiting = selectors.DefaultSelector()
    for file in (0, listener, ends):
        waiting.register(file, selectors.EVENT_READ)
    print("ready", flush=True)
    while True:
        for key, _ in waiting.select():
            if key.fileobj == 0:
                _end(address, clients)
            elif key.fileobj is ends:
                ends.recv(100)
                _tell_of_ends(clients, waiting)
            elif key.fileobj is listener:
                client, _ = listener.accept()
                try:
                    request = Request(client)
                except (OSError, struct.error):
                    client.close()
                    continue
                pid = os.fork()
                if not pid:
                    signal.set_wakeup_fd(-1)
                    for opened in (listener, ends, on_end, waiting, client, *clients.values()):
                        opened.close()
                    return request
                for number in request.files:
                    os.close(number)
                clients[pid] = client
                waiting.register(client, selectors.EVENT_READ, pid)
            elif key.data in clients:
                _pass_on(key.fileobj, key.data, waiting)


def _pass_on(client: Any, pid: int, waiting: selectors.BaseSelector) -> None:
    """Sends the signals that a client was sent to its process; SIGKILL where the client is gone."""
    try:
        numbers = client.recv(100)
    except OSError:
        numbers = b""
    if not numbers:
        waiting.unregister(client)
    for number in numbers or [signal.SIGKILL]:
        os.kill(pid, number)


def _tell_of_ends(clients: dict[int, socket.socket], waiting: selectors.BaseSelector) -> None:
    """Tells clients the exit statuses of processes that have ended."""
    while clients:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        client = clients.pop(pid)
        with contextlib.suppress(KeyError):
            waiting.unregister(client)
        with contextlib.suppress(OSError):
            client.send(struct.pack("i", os.waitstatus_to_exitcode(status)))
        client.close()


def _end(address: str, clients: dict[int, socket.socket]) -> None:
    """Ends the server, whose tests are over, and all that it has started."""
    for pid in clients:
        os.kill(pid, signal.SIGKILL)
    for name in ("socket", "python"):
        Path(address).with_name(name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        Path(address).parent.rmdir()
    os._exit(0)


def main() -> None:
    del sys.path[0]  # the folder of this file
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.freeze()
    request = serve(sys.argv[1])
    status = 1
    try:
        request.take_over()
        request.run()
        status = 0
    except SystemExit as error:
        status = _status_of(error)
    except KeyboardInterrupt:
        traceback.print_exc()
        status = -signal.SIGINT
    except BaseException:
        traceback.print_exc()
    finally:
        _leave(status)


def _status_of(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    print(error.code, file=sys.stderr)
    return 1


def _leave(status: int) -> None:
    """Ends this process as Python does, but for the modules of LIBRARIES, which take a second."""
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status & 0xFF)


if __name__ == "__main__":
    main()
