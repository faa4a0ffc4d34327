"""Jobs of two processes that are interrupted, have bad rows, or run on two machines."""

import contextlib
import os
import re
import secrets
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from fuxictr.experiment.zoo.models import ROOT
from tests.end_to_end.conftest import UserFolder
from tests.end_to_end.jobs import Job, assert_same, rows_of
from tests.preloaded import python
from tests.reliability.test_resume import SCRIPT, LongRun

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
TWO = ["--standalone", "--nproc_per_node=2"]


def start(folder: LongRun, *options: str, launch: list[str] = TWO, name: str = "job", **kwargs):
    command = folder.command(*options)
    return Job([*launch, *command[1:]], ROOT, folder.path / f"{name}.txt", **kwargs)


def errors_of(text: str) -> list[str]:
    """Returns the lines that name an error, before torchrun's own report."""
    own = text.partition("torch/distributed/elastic/")[0]
    return [line for line in own.splitlines() if re.match(r"\w+Error: ", line.strip())]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> LongRun:
    folder = LongRun(tmp_path_factory.mktemp("undisturbed") / "folder")
    job = start(folder)
    assert job.wait() == 0, job.said()[-3000:]
    assert folder.leftovers() == []
    return folder


@pytest.fixture(scope="module")
def undisturbed(finished) -> dict:
    return finished.row()


def test_a_run_is_repeated_by_as_many_processes_or_within_the_tolerance(finished):
    command = ["-m", "fuxictr.cli.show", "last", "--verify"]
    command += ["--results", str(finished.path / "results.jsonl")]
    job = Job([*TWO, *command], ROOT, finished.path / "verify.txt")
    assert job.wait() == 0, job.said()[-3000:]
    verdict = "Verdict: identical, bit for bit: metrics, history, parameters and weights."
    assert job.said().splitlines().count(verdict) == 1
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [python(), *command, "--tolerance", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=env,
    )
    assert re.search(r"  processes +was 2, is 1\n", done.stdout)
    assert re.search(r"not bit for bit; metrics equal within 1 .* another .*processes", done.stdout)


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path, undisturbed, is_terminal):
    folder = LongRun(tmp_path / "folder")
    folder.model["mine"] |= {"save_steps": None}
    folder.write_configs()
    job = start(folder)
    job.wait_for(lambda: folder.log().count("Train loss") >= 3)
    name = "SIGTERM"
    if is_terminal:  # to the whole group, and torchrun hands it on
        name = "Ctrl-C"
        for rank in (0, 1):
            os.kill(job.worker(rank), signal.SIGINT)
        os.killpg(job.process.pid, signal.SIGINT)
    else:
        job.process.terminate()
    assert job.wait(60) != 0
    said = job.said()
    assert said.count(f"{name}: finishing the step and saving the state\n") == 1
    (found,) = re.findall(r"(.*): the state is in (.*); resume with: (.*)", said)
    assert found[:2] == (name, f"{folder.stem}.state")
    assert "RankError" not in said and "Interrupted." not in said
    starter, *command = shlex.split(found[2])
    assert [starter, *command[:2], command[-1]] == ["torchrun", *TWO, "--resume"]
    assert rows_of(folder.path / "results.jsonl") == []
    again = Job(command, ROOT, folder.path / "again.txt")
    assert again.wait() == 0, again.said()[-3000:]
    row = folder.row()
    assert_same(row, undisturbed)
    assert [entry["step"] > 0 for entry in row["resumes"]] == [True]
    assert folder.leftovers() == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--set", "learnin_rate=0.1"), "ConfigError: .*'learnin_rate'.*did you mean"),
        (("--gpu", "0"), r"ConfigError: --gpu 0: torchrun started 2 processes, .* auto .* -1 \("),
        (("--set", "monitor=gAUC"), "ConfigError: .*key 'monitor': gAUC is not among the metrics"),
    ],
)
def test_what_is_wrong_for_all_is_said_once(tmp_path, options, reason):
    folder = LongRun(tmp_path / "folder")
    job = start(folder, *options)
    assert job.wait() != 0
    (line,) = errors_of(job.said())
    assert re.match(reason, line), line
    assert job.said().count("Traceback") == 1, "torchrun's own"
    assert job.said().count(line) == 2, "torchrun's report has it as well"


@pytest.mark.parametrize("streaming", [False, True])
def test_bad_rows_of_one_process_end_all(tmp_path, streaming):
    """In memory they are found before training, where all can agree on it; else in its middle."""
    (tmp_path / "folder").mkdir()
    user = UserFolder(tmp_path / "folder")
    user.dataset["data_block_size"] = 100
    user.model["mine"] |= {"streaming": streaming, "save_steps": 1}
    user.write_configs()
    results = tmp_path / "results.jsonl"
    config = ["--config", str(user.path), "--expid", "mine", "--results", str(results)]
    command = [str(SCRIPT), *config, "--gpu", "-1"]
    subprocess.run([python(), *command], check=True, capture_output=True)
    assert len(rows_of(results)) == 1

    user.dataset["rebuild_dataset"] = False  # so that what is spoilt is not made anew
    user.write_configs()
    # The second process has the second half of the rows in memory, or every second part file.
    order = torch.randperm(10, generator=torch.Generator().manual_seed(2019 * 1_000_003))
    spoil(user.path / "encoded/clicks/train", int(order[3]) if streaming else 7)
    job = Job([*TWO, *command], ROOT, tmp_path / "job.txt")
    assert job.wait() != 0
    lines = errors_of(job.said())
    (real,) = [line for line in lines if "another process of the job is gone" not in line]
    expected = r"\s*RankError: rank 1: DataError: .*column 'item', row 100: id 999 is outside"
    assert re.match(expected, real), real
    assert job.said().count("Traceback") == 1, "torchrun's own"
    assert len(rows_of(results)) == 1


def spoil(folder: Path, part: int) -> None:
    """Puts an id that no vocabulary has into the last row of a part file."""
    path = sorted(folder.glob("*.parquet"))[part]
    table = pq.read_table(path)
    place = table.schema.get_field_index("item")
    field = table.schema.field(place)
    ids = [*table["item"].to_pylist()[:-1], 999]
    pq.write_table(table.set_column(place, field, pa.array(ids, field.type)), path)


@contextlib.contextmanager
def machines() -> Iterator[list[tuple[str, str]]]:
    """Two network namespaces that are joined by a cable: (name, address) of each."""
    mark = secrets.token_hex(3)
    made = [(f"ge_{mark}_{i}", f"10.213.7.{i + 1}") for i in (0, 1)]

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)

    try:
        for name, _ in made:
            ip("netns", "add", name)
        ends = [f"v{mark}{i}" for i in (0, 1)]
        ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for (name, address), end in zip(made, ends, strict=True):
            ip("link", "set", end, "netns", name, "name", "cable")
            ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
            for device in ("lo", "cable"):
                ip("-n", name, "link", "set", device, "up")
    except (OSError, subprocess.CalledProcessError) as error:
        for name, _ in made:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
        pytest.skip(f"network namespaces cannot be made: {getattr(error, 'stderr', error)}")
    try:
        yield made
    finally:
        for name, _ in made:
            ip("netns", "del", name)


def start_on(machines: list[tuple[str, str]], folder: LongRun, *options: str) -> list[Job]:
    jobs = []
    for rank, (name, _) in enumerate(machines):
        launch = ["--nnodes=2", f"--node_rank={rank}", "--nproc_per_node=1"]
        launch += [f"--master_addr={machines[0][1]}", "--master_port=29543"]
        before = ["ip", "netns", "exec", name, "env", "-u", "GLOO_SOCKET_IFNAME"]
        jobs.append(start(folder, *options, launch=launch, name=name, before=before))
    return jobs


def test_two_machines(tmp_path, undisturbed):
    folder = LongRun(tmp_path / "folder")
    with machines() as two:
        first, second = jobs = start_on(two, folder)
        first.wait_for(lambda: folder.log().count("Train loss") >= 3)
        second.kill_worker(1)
        begin = time.monotonic()
        assert [job.wait(60) != 0 for job in jobs] == [True, True]
        assert time.monotonic() - begin < 60
        (line,) = errors_of(first.said())
        assert line.strip().startswith("RankError: rank 0: another process of the job is gone")
        assert "INFO" not in second.said() and errors_of(second.said()) == []
        assert rows_of(folder.path / "results.jsonl") == []

        first, second = start_on(two, folder, "--resume")
        assert [first.wait(), second.wait()] == [0, 0], first.said()[-3000:]
    row = folder.row()
    assert_same(row, undisturbed)
    assert len(row["resumes"]) == 1 and row["processes"] == 2
    assert folder.leftovers() == []


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["none", "row"])
def test_a_machine_that_falls_silent_is_given_up_within_a_minute(tmp_path, sharding):
    """Its connections are not closed, as those of a process that dies are."""
    folder = LongRun(tmp_path / "folder")
    with machines() as two:
        jobs = start_on(two, folder, "--set", f"embedding_sharding={sharding}")
        jobs[0].wait_for(lambda: folder.log().count("Train loss") >= 3)
        subprocess.run(["ip", "-n", two[1][0], "link", "set", "cable", "down"], check=True)
        begin = time.monotonic()
        assert jobs[0].wait(90) != 0
        assert time.monotonic() - begin < 60
        (line,) = errors_of(jobs[0].said())
        assert line.strip().startswith("RankError: rank 0: another process of the job is gone")
        assert jobs[1].wait(90) != 0
    assert rows_of(folder.path / "results.jsonl") == []
