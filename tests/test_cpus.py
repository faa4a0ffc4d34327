"""The CPUs that a process may use: affinity, and the limits of control groups."""

import os

import pytest

from fuxictr.cpus import usable_cpus


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


def write(root, **files):
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("DOT", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_without_control_groups_the_affinity_counts(tmp_path):
    assert usable_cpus(tmp_path) == 8
    write(tmp_path, proc__self__cgroup="0::/\n")
    assert usable_cpus(tmp_path) == 8, "no file of a limit"


@pytest.mark.parametrize(
    ("limit", "cpus"),
    [("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1), ("3200000 100000", 8)],
)
def test_a_quota_of_version_2(tmp_path, limit, cpus):
    write(tmp_path, proc__self__cgroup="0::/\n")
    write(tmp_path, sys__fs__cgroup__cpuDOTmax=limit + "\n")
    assert usable_cpus(tmp_path) == cpus


def test_the_smallest_quota_of_all_groups_around_the_process(tmp_path):
    write(tmp_path, proc__self__cgroup="0::/a/b\n")
    write(tmp_path, sys__fs__cgroup__a__cpuDOTmax="300000 100000\n")
    write(tmp_path, sys__fs__cgroup__a__b__cpuDOTmax="max 100000\n")
    assert usable_cpus(tmp_path) == 3
    write(tmp_path, sys__fs__cgroup__a__b__cpuDOTmax="200000 100000\n")
    assert usable_cpus(tmp_path) == 2


def test_a_container_that_is_told_its_path_outside(tmp_path):
    write(tmp_path, proc__self__cgroup="0::/docker/4f3a\n")
    write(tmp_path, sys__fs__cgroup__cpuDOTmax="400000 100000\n")
    assert usable_cpus(tmp_path) == 4


@pytest.mark.parametrize(("quota", "cpus"), [("-1", 8), ("400000", 4)])
def test_a_quota_of_version_1(tmp_path, quota, cpus):
    write(tmp_path, proc__self__cgroup="5:memory:/x\n4:cpu,cpuacct:/x\n")
    write(tmp_path, sys__fs__cgroup__cpu__x__cpuDOTcfs_quota_us=quota + "\n")
    write(tmp_path, sys__fs__cgroup__cpu__x__cpuDOTcfs_period_us="100000\n")
    assert usable_cpus(tmp_path) == cpus


@pytest.mark.parametrize("text", ["", "nonsense", "0 0\n", "100000 0\n"])
def test_a_file_that_says_nothing_limits_nothing(tmp_path, text):
    write(tmp_path, proc__self__cgroup="0::/\n", sys__fs__cgroup__cpuDOTmax=text)
    assert usable_cpus(tmp_path) == 8
