"""The processes of a sweep's runs: forked ones behave as ones that are started anew."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from fuxictr.experiment.sweep import processes
from fuxictr.experiment.sweep.processes import ForkedProcess, RunProcesses

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a fork server needs Linux")


class Runs:
    """Scripts run by RunProcesses, and what was said meanwhile."""

    def __init__(self, folder: Path, fresh: bool = False) -> None:
        self.folder, self.said, self.num_scripts = folder, list[str](), 0
        self.processes = RunProcesses(verbose=False, fresh=fresh, say=self.said.append)
        self.environment = {**os.environ, "COLUMNS": "77", "OMP_NUM_THREADS": "1"}
        self.environment["_RJEM_MALLOC_CONF"] = "dirty_decay_ms:500"  # polars adds to it

    def start(self, text: str, *arguments: str):
        script = self.folder / f"script{self.num_scripts}.py"
        self.num_scripts += 1
        script.write_text(text)
        return self.processes.start([sys.executable, str(script), *arguments], self.environment)

    def run(self, text: str, *arguments: str) -> tuple[int | None, str]:
        with self.start(text, *arguments) as process:
            stderr = process.stderr.read().decode()
            return process.wait(), stderr

    def servers(self) -> list[int]:
        return [server.pid for server in self.processes._started]


@pytest.fixture(scope="module")
def forked(tmp_path_factory):
    runs = Runs(tmp_path_factory.mktemp("forked"))
    with runs.processes:
        yield runs
    assert runs.said == [] and len(runs.servers()) == 1


SEEN = """
import json, os, signal, sys, warnings
import h5py, scipy.stats, torch._dynamo
sys.path.append(os.getcwd())
import fuxictr.experiment.run.run
ALIVE = True
names = ("SIGINT", "SIGTERM", "SIGCHLD", "SIGPIPE", "SIGHUP")
json.dump({
    "names": [__name__, __file__, __package__, __spec__, __doc__, sys.modules["__main__"].ALIVE],
    "argv": sys.argv, "path": sys.path, "folder": os.getcwd(), "umask": os.umask(0o22),
    "environment": dict(os.environ), "session": os.getsid(0) == os.getpid(),
    "signals": [str(signal.getsignal(getattr(signal, name))) for name in names],
    "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
    "files": sorted(int(n) for n in os.listdir("/proc/self/fd") if int(n) < 200),
    "streams": [(s.encoding, s.errors, s.line_buffering, s.isatty(), os.fstat(s.fileno()).st_mode)
                for s in (sys.stdin, sys.stdout, sys.stderr)],
    "threads": [torch.get_num_threads(), torch.get_num_interop_threads()],
    "limit": sys.getrecursionlimit(),
    "warnings": sorted({str(entry) for entry in warnings.filters}), "nice": os.nice(0),
}, sys.stderr)
"""


def test_a_forked_process_sees_what_a_new_one_sees(forked, tmp_path):
    new = Runs(tmp_path, fresh=True)
    new.num_scripts = forked.num_scripts
    new.environment = forked.environment
    (status, found), (other_status, expected) = (
        runs.run(SEEN, "--expid", "x y") for runs in (forked, new)
    )
    assert status == other_status == 0
    for key, value in json.loads(expected).items():
        assert json.loads(found.replace(str(forked.folder), str(tmp_path)))[key] == value, key


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit('a reason')", 1, "a reason"),
        ("raise KeyError('a reason')", 1, "KeyError: 'a reason'"),
        ("syntax error", 1, "SyntaxError: "),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, ""),
        ("import ctypes; ctypes.string_at(0)", -signal.SIGSEGV, ""),
        ("import os; os._exit(7)", 7, ""),
        ("import threading, time; threading.Thread(target=time.sleep, args=[0.2]).start()", 0, ""),
    ],
)
def test_the_end_of_a_run_is_that_of_its_process_alone(forked, text, status, said):
    found, stderr = forked.run(text)
    assert found == status
    assert said in stderr
    assert forked.run("print('unseen')") == (0, "")


def test_what_a_run_has_not_closed_is_written_at_its_end(forked, tmp_path):
    kept = tmp_path / "kept.txt"
    text = f"import atexit\nfile = open({str(kept)!r}, 'w')\nfile.write('whole')\n"
    status, _ = forked.run(text + "atexit.register(lambda: file.write(' and more'))")
    assert status == 0
    assert kept.read_text() == "whole and more"


def test_forks_differ_where_new_processes_differ(forked):
    text = (
        "import random, sys, tempfile, uuid\nimport numpy, torch\n"
        "names = [random.random(), numpy.random.random(), uuid.uuid4(), torch.initial_seed()]\n"
        "print(*names, next(tempfile._get_candidate_names()), file=sys.stderr)"
    )
    first, second = (forked.run(text)[1].split() for _ in range(2))
    assert len(first) == 5
    assert all(a != b for a, b in zip(first, second, strict=True))


def test_a_run_is_ended_by_sigterm_and_sees_the_end_of_its_stdin(forked):
    with forked.start("import time; time.sleep(60)") as process:
        process.terminate()
        assert process.wait() == -signal.SIGTERM
    with forked.start("import os, sys\nos.read(0, 1)\nsys.stderr.write('over')") as process:
        os.close(process._stdin)
        process._stdin = os.dup(2)
        assert process.stderr.read() == b"over"
        assert process.wait() == 0


def test_the_server_has_one_thread_and_a_run_loads_the_sources_of_models_itself(forked):
    text = "import sys; print([n for n in sys.modules if 'model_zoo' in n], file=sys.stderr)"
    assert forked.run(text) == (0, "[]\n")
    (server,) = forked.servers()
    assert len(os.listdir(f"/proc/{server}/task")) == 1


def test_several_runs_at_a_time_and_the_exit_status_of_each(forked):
    text = "import sys, time; time.sleep(float(sys.argv[1])); sys.exit(int(sys.argv[2]))"
    started = [forked.start(text, str((3 - i) / 10), str(i)) for i in range(4)]
    assert [process.wait() for process in started] == [0, 1, 2, 3]
    for process in started:
        process.__exit__(None, None, None)


def test_changed_sources_or_another_environment_need_another_server(tmp_path, monkeypatch):
    (tmp_path / "fuxictr").mkdir()
    source = tmp_path / "fuxictr" / "a.py"
    source.write_text("A = 1\n")
    with monkeypatch.context() as patch:
        patch.setattr(processes, "ROOT", tmp_path)
        before = processes._sources()
        assert list(before) == [str(source)]
        source.write_text("A = 22\n")
        after = processes._sources()
    assert before != after

    runs = Runs(tmp_path)
    with runs.processes:
        monkeypatch.setattr(processes, "_sources", lambda: before)
        with runs.start("import os, sys; os.read(0, 1); sys.exit(5)") as running:
            monkeypatch.setattr(processes, "_sources", lambda: after)
            assert runs.run("import sys; sys.exit(6)")[0] == 6
            assert len(runs.servers()) == 2
            os.write(running._stdin, b"x")
            assert running.wait() == 5, "the server that was replaced ends after its run"
        runs.environment["COLUMNS"] = "78"
        assert runs.run("")[0] == 0 and len(runs.servers()) == 2
        runs.environment["OMP_NUM_THREADS"] = "2"
        text = "import sys, torch; sys.exit(torch.get_num_threads())"
        assert runs.run(text)[0] == 2 and len(runs.servers()) == 3
    assert runs.said == []


def test_after_the_end_of_its_server_a_run_goes_on_and_later_ones_start_anew(tmp_path):
    runs = Runs(tmp_path)
    with runs.processes:
        with runs.start("import os, sys; os.read(0, 1); sys.stderr.write('done')") as process:
            os.write(process._stdin, b"")
            wait_for_a_run(runs.servers()[0])
            os.kill(runs.servers()[0], signal.SIGKILL)
            os.write(process._stdin, b"x")
            assert process.stderr.read() == b"done"
            assert process.wait() is None
        for _ in range(2):
            runs.processes.give_up()
        assert runs.said == [processes._GIVEN_UP]
        with runs.start("raise SystemExit(4)") as process:
            assert not isinstance(process, ForkedProcess)
            assert process.wait() == 4


def test_a_server_that_cannot_start_is_said_once_and_runs_start_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_START", "raise SystemExit(1)")
    runs = Runs(tmp_path)
    with runs.processes:
        statuses = []
        for _ in range(3):
            with runs.start("raise SystemExit(4)") as process:
                process.stderr.read()
                statuses.append(process.wait())
                if statuses[-1] is None:
                    runs.processes.give_up()
    assert statuses in ([None, 4, 4], [4, 4, 4]) and runs.said == [processes._GIVEN_UP]


def test_a_run_of_several_processes_is_not_forked(tmp_path):
    runs = Runs(tmp_path)
    with runs.processes:
        command = [sys.executable, "-m", "torch.distributed.run", "--version"]
        with runs.processes.start(command, runs.environment) as process:
            assert not isinstance(process, ForkedProcess)
            process.terminate()
        assert runs.servers() == []


def wait_for_a_run(server: int) -> None:
    """Waits until a process of a server runs a script."""
    end = time.monotonic() + 60
    children = Path(f"/proc/{server}/task/{server}/children")
    while True:
        for pid in children.read_text().split():
            if Path(f"/proc/{pid}/comm").read_text().startswith("script"):
                return
        assert time.monotonic() < end
        time.sleep(0.02)
