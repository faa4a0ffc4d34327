"""The number of threads of a training, and whether they spin while they wait."""

import json
import os
import subprocess
import sys
import threading
import time
from collections import namedtuple

import psutil
import pytest
import torch

from fuxictr.cpus import usable_cpus
from fuxictr.pytorch import threads
from fuxictr.pytorch.training import spinning, work
from fuxictr.pytorch.training.spinning import is_crowded, spinning_where_alone
from fuxictr.pytorch.training.work import adapt_threads, step_milliseconds
from tests.pytorch.tiny import make, tiny_map

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NEEDS_TWO = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="two CPUs"
)
CPU = torch.device("cpu")


def run(program: str, **variables: str) -> dict:
    """Runs a program in a process in which nobody has set a number of threads."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "MKL_", "GOMP_"))}
    found = subprocess.run(
        [sys.executable, "-c", program],
        env=kept | variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(found.stdout.splitlines()[-1])


@pytest.fixture
def machine(monkeypatch):
    """A machine with 8 usable CPUs, of which torch takes 16 by itself; nobody has set a number."""
    state = {"threads": 16}
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: state["threads"])
    monkeypatch.setattr(torch, "set_num_threads", lambda n: state.update(threads=n))
    monkeypatch.setattr(threads, "usable_cpus", lambda: 8)
    for name, value in {"most": 16, "now": 16, "is_to_stay": False}.items():
        monkeypatch.setattr(threads._Chosen, name, value)


def test_as_many_threads_as_wanted_and_allowed(machine, monkeypatch):
    assert [threads.take_threads(n) for n in (3, 1, 5, 100)] == [3, 1, 5, 8]
    monkeypatch.setattr(threads._Chosen, "most", 6)
    assert threads.take_threads(100) == 6, "no more than torch took by itself"


def test_a_number_of_the_user_is_kept(machine, monkeypatch):
    threads.take_threads(3)
    torch.set_num_threads(4)
    assert [threads.take_threads(n) for n in (3, 100)] == [4, 4]


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_a_variable_of_the_user_is_kept(machine, monkeypatch, name):
    monkeypatch.setenv(name, "16")
    assert threads.take_threads(3) == 16
    threads.limit_threads()
    threads.repeat_threads(5)
    assert torch.get_num_threads() == 16


def test_a_quota_limits_the_threads_of_an_import(machine, monkeypatch):
    threads.limit_threads()
    assert torch.get_num_threads() == 8
    monkeypatch.setattr(threads, "usable_cpus", lambda: 20)
    threads.limit_threads()
    assert torch.get_num_threads() == 8, "it never takes more"


def test_a_repeated_run_has_the_threads_of_the_first(machine):
    threads.repeat_threads(5)
    assert threads.take_threads(1) == 5


def test_a_process_takes_the_threads_that_its_step_has_work_for():
    program = """
import json, torch
import fuxictr.pytorch
from fuxictr.pytorch.threads import take_threads
print(json.dumps([torch.get_num_threads(), take_threads(1), torch.get_num_threads()]))
"""
    found = run(program)
    assert found[1:] == [1, 1] and 1 <= found[0] <= usable_cpus()
    assert run(program, OMP_NUM_THREADS="1") == [1, 1, 1]


def test_work_grows_with_rows_and_weights_and_not_with_tables():
    small, wide = make(tiny_map()), make(tiny_map(), embedding_dim=400)
    assert step_milliseconds(small, 2000) == pytest.approx(2 * step_milliseconds(small, 1000))
    assert step_milliseconds(wide, 1000) > step_milliseconds(small, 1000)
    once = step_milliseconds(small, 1000)
    small.head.applications_per_row = 50
    assert step_milliseconds(small, 1000) > once
    del small.head.applications_per_row
    large = tiny_map()
    large.features["a"]["vocab_size"] = 100_000
    assert step_milliseconds(make(large), 1000) == step_milliseconds(small, 1000)


def test_small_steps_get_one_thread_and_another_device_none(monkeypatch):
    wanted = []
    monkeypatch.setattr(work, "take_threads", lambda n: wanted.append(n) or n)
    model = make(tiny_map())
    adapt_threads(model, 10, "cpu")
    adapt_threads(model, 10_000_000, "cpu")
    adapt_threads(model, 10, "cuda")
    assert wanted[0] == 1 and wanted[1] > 100 and len(wanted) == 2


@pytest.mark.parametrize(
    ("others", "num_threads", "num_cpus", "expected"),
    [
        (0.1, 2, 2, False),
        (0.5, 2, 2, True),
        (1.0, 1, 2, False),
        (1.5, 1, 2, True),
        (50.0, 8, 64, False),
        (60.0, 8, 64, True),
        (1.0, 64, 64, False),  # an error of measurement
        (3.0, 64, 64, True),
        (1.0, 8, 4, True),
    ],
)
def test_crowded_means_that_threads_find_no_free_cpu(others, num_threads, num_cpus, expected):
    assert is_crowded(others, num_threads, num_cpus) is expected


SPINNING = """
import json, os, threading, time
import torch
from fuxictr.pytorch.training import spinning

def names(): return {t.name for t in threading.enumerate()}
def tasks(): return len(os.listdir("/proc/self/task"))
def wait(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)

a = torch.randn(300, 300)
torch.set_num_threads(2)
expected = (a @ a).clone()
others = [0.0]
spinning._PERIOD = 0.01
spinning._Watch.read = lambda self: others[0]
alone = tasks()
found = []
with spinning.spinning_where_alone(torch.device("cpu")):
    with spinning.spinning_where_alone(torch.device("cpu")):
        found.append("watch CPUs" in names())
    for _ in range(3):
        others[0] = 99.0
        wait(lambda: "spin limit" in names() and tasks() >= alone + 3)
        found.append(bool(torch.equal(a @ a, expected)))
        others[0] = 0.0
        wait(lambda: "spin limit" not in names() and tasks() == alone + 1)
        found.append(bool(torch.equal(a @ a, expected)))
    others[0] = 99.0
    wait(lambda: "spin limit" in names())
wait(lambda: tasks() == alone)
found.append(not {"watch CPUs", "spin limit"} & names())
print(json.dumps(found))
"""


@NEEDS_TWO
def test_threads_sleep_while_others_need_the_cpus_and_compute_the_same():
    library = "import torch; from fuxictr.pytorch.training.spinning import _find_library as f; "
    if not run(library + "import json; print(json.dumps([f() is not None]))")[0]:
        pytest.skip("torch has no GNU OpenMP here")
    assert run(SPINNING) == [True] * 8


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_what_the_user_chose_is_kept(name, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setenv(name, "1000")
    with spinning_where_alone(CPU):
        assert "watch CPUs" not in {t.name for t in threading.enumerate()}


def test_nothing_is_watched_with_one_thread_or_on_another_device(monkeypatch):
    for count, device in ((1, CPU), (2, torch.device("cuda"))):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=count: count)
        with spinning_where_alone(device):
            assert "watch CPUs" not in {t.name for t in threading.enumerate()}


def test_own_work_and_low_priority_are_not_that_of_others(monkeypatch):
    busy = namedtuple("Times", "user nice system idle irq softirq")
    readings = iter([(0.0, busy(10, 5, 1, 9, 0, 0)), (2.0, busy(13, 9, 1.5, 9, 0.25, 0.25))])
    clock = {}

    def read(percpu):
        clock["now"], times = next(readings)
        return [times, busy(*[1e6 * clock["now"]] * 6)]  # the second CPU is not this process's

    monkeypatch.setattr(psutil, "cpu_times", read)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)
    monkeypatch.setattr(time, "monotonic", lambda: clock["now"])
    monkeypatch.setattr(time, "process_time", lambda: clock["now"] / 2)
    watch = spinning._Watch()
    assert watch.read() == pytest.approx((3 + 0.5 + 0.25 + 0.25 - 1) / 2)
