"""Commands on a small disk that fills up: one clear line, and the last good state stays."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fuxictr.analysis import records
from fuxictr.analysis.records import RecordMeta, load_records, save_records
from fuxictr.cli import analyze, predict
from fuxictr.cli import run as run_expid
from fuxictr.cli.command import run_cli
from fuxictr.cli.prepare import main as prepare_main
from fuxictr.cli.tables import main as tables_main
from fuxictr.datasets import archive, demo
from fuxictr.datasets.archive import unpack_csv
from fuxictr.experiment.recordings import trained
from fuxictr.experiment.report.inputs import load_runs
from fuxictr.experiment.results.record import RunRecord
from fuxictr.experiment.results.store import append_result, read_results
from fuxictr.experiment.run import run
from fuxictr.experiment.zoo.models import ROOT, ZOO, load_experiment
from fuxictr.files import DiskFullError, write_atomically
from fuxictr.plotting.correlation import write_correlation
from fuxictr.plotting.spectrum import write_collapse
from fuxictr.preprocess import find_current
from fuxictr.pytorch.checkpoint.weights import read_tensors
from fuxictr.utils import set_logger
from tests.datasets.server import GOOD_ZIP, MD5
from tests.end_to_end.conftest import UserFolder
from tests.experiment.result_rows import make_pair
from tests.experiment.result_rows import records as records_of

PAGE = 4096
FULL = re.compile(
    r"DiskFullError: (/\S+): the disk is full \(0\.0\d GB free(, but it has no room [^)]*\))?\)?; "
    r"free some space and run the command again"
)
LOST = "Lines of the log are lost. "
INSIDE = "GE4REC_TEST_IN_NAMESPACE"  # set where this file is run in a namespace of its own


class Disk:
    """A small disk of its own."""

    def __init__(self, path: Path, num_bytes: int = 8 << 20) -> None:
        self.path = path
        path.mkdir()
        self._mount(f"size={num_bytes}")

    def fill(self, leave: int) -> None:
        """Leaves so many bytes."""
        self.free()
        with open(self.path / "ballast", "wb") as file:
            size = shutil.disk_usage(self.path).free - leave
            os.posix_fallocate(file.fileno(), 0, max(size, 1))

    def free(self) -> None:
        (self.path / "ballast").unlink(missing_ok=True)

    def make_read_only(self, is_read_only: bool = True) -> None:
        self._mount(f"remount,{'ro' if is_read_only else 'rw'}")

    def _mount(self, options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no small disk can be mounted here ({done.stderr.splitlines()[0]})")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if shutil.which("mount") is None:
        pytest.skip("no small disk can be mounted here (there is no mount)")
    made = Disk(tmp_path / "disk")
    yield made
    subprocess.run(["umount", "-l", str(made.path)], check=True)  # the log is still open


def test_these_tests_run_without_the_rights_to_mount(tmp_path):
    """Runs this file in a user namespace, in which everyone may mount."""
    mount, folder = ["mount", "-t", "tmpfs", "tmpfs"], str(tmp_path)
    if INSIDE in os.environ:
        pytest.skip("this is that run")
    if shutil.which("mount") is None or shutil.which("unshare") is None:
        pytest.skip("there is no mount, or no unshare")
    if subprocess.run([*mount, folder], capture_output=True, check=False).returncode == 0:
        subprocess.run(["umount", folder], check=True)
        pytest.skip("they run with these rights")
    if subprocess.run(["unshare", "-rm", *mount, folder], check=False).returncode:
        pytest.skip("there are no user namespaces")
    inside = ["unshare", "-rm", sys.executable, "-m", "pytest", "-q", "--no-header", __file__]
    done = subprocess.run(
        [*inside, "-m", "not slow", "-p", "no:cacheprovider"],
        cwd=ROOT,
        env={**os.environ, INSIDE: "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]


class Commands:
    """A user's folder on the disk, and commands on it that run in this process."""

    def __init__(self, disk: Disk, capsys: pytest.CaptureFixture) -> None:
        self.disk, self._capsys = disk, capsys
        (disk.path / "my_config").mkdir()
        (disk.path / "DeepFM").mkdir()
        self.user = UserFolder(disk.path / "my_config")
        self.results = disk.path / "results" / "results.jsonl"

    @property
    def chosen(self) -> list[str]:
        return ["--config", str(self.user.path), "--expid", "mine", "--gpu", "-1"]

    def train(self, *options: str) -> tuple[int, str]:
        where = [*self.chosen, "--results", str(self.results)]
        return self.call(lambda: run_expid.main(self.disk.path / "DeepFM", [*where, *options]))

    def predict(self, out: Path) -> tuple[int, str]:
        data = ["--data", str(self.user.path / "train.csv"), "--out", str(out)]
        return self.call(lambda: predict.main(["--model", "DeepFM", *self.chosen, *data]))

    def analyze(self, *options: str) -> tuple[int, str]:
        return self.call(lambda: analyze.main(["--model", "DeepFM", *self.chosen, *options]))

    def call(self, main: Callable[[], object]) -> tuple[int, str]:
        """Returns exit status and what was written to stderr; no log stays open on the disk."""
        with pytest.raises(SystemExit) as ended:
            main()
        set_logger({}, self.disk.path.parent / "another.log")
        return ended.value.code, self._capsys.readouterr().err


@pytest.fixture
def commands(disk, capsys, monkeypatch) -> Commands:
    made = Commands(disk, capsys)
    monkeypatch.setattr(run, "RESULTS", made.results)
    monkeypatch.setattr(trained, "ROOT", disk.path)
    return made


@pytest.fixture
def after_training(commands) -> Commands:
    status, printed = commands.train()
    assert status == 0, printed
    return commands


def check_one_line(printed: str, disk: Disk) -> str:
    """Asserts that what a command wrote ends in one clear line; returns the path that it names."""
    assert "Traceback" not in printed and "Logging error" not in printed, printed
    assert printed.count(LOST) <= 1 and printed.count("DiskFullError") == 1, printed
    found = FULL.fullmatch(printed.splitlines()[-1])
    assert found, printed.splitlines()[-1]
    assert found[1].startswith(str(disk.path)) and ".tmp" not in found[1]
    return found[1]


def amounts(most: int, num_quick: int) -> list:
    """Returns numbers of free pages: some of them quick, the others slow."""
    quick = {round(share * most) for share in np.linspace(0, 1, num_quick)}
    others = (pytest.param(n, marks=pytest.mark.slow) for n in range(most + 1) if n not in quick)
    return [*sorted(quick), *others]


@pytest.mark.parametrize("num_pages", amounts(20, 4))
def test_encoding_and_training(after_training, num_pages):
    check_training(after_training, num_pages, "--rebuild")


@pytest.mark.parametrize("num_pages", amounts(10, 3))
def test_training(after_training, num_pages):
    check_training(after_training, num_pages)


def check_training(after_training: Commands, num_pages: int, *options: str) -> None:
    """With any amount of space a run comes to its end, or ends in one line and spoils nothing."""
    commands, disk = after_training, after_training.disk
    (first,) = read_results(commands.results)
    config, _ = load_experiment("mine", ZOO / "DeepFM", commands.user.path)
    disk.fill(num_pages * PAGE)
    status, printed = commands.train("--seed", "2", *options)
    assert status == 1 or num_pages
    rows = read_results(commands.results)
    if status:
        check_one_line(printed, disk)
        assert rows == [first]
    else:
        assert [row.seed for row in rows] == [first.seed, 2] and rows[0] == first
    assert read_tensors(config.checkpoint_path), "the old weights, or newer ones, but whole"
    disk.free()
    encoded = find_current(config.dataset, config.data_dir)
    assert encoded is not None and encoded.data_hash == first.data_hash
    assert commands.train("--seed", "2", "--resume")[0] == 0
    last = read_results(commands.results)[-1]
    assert (last.seed, last.data_hash) == (2, first.data_hash)
    left = [p.name for p in disk.path.rglob(".*") if ".tmp" in p.name or p.name == ".building"]
    assert left == []


def test_a_row_of_results_that_does_not_fit(disk):
    path, row = disk.path / "results.jsonl", RunRecord(expid="e", dataset_id="d", seed=1)
    append_result(path, row)
    disk.fill(PAGE)
    with pytest.raises(DiskFullError, match="results.jsonl: the disk is full"):
        append_result(path, replace(row, device="x" * 10 * PAGE))
    assert read_results(path) == [row]
    assert path.read_bytes().endswith(b"}\n"), "what was written of it is taken back"
    disk.free()
    append_result(path, replace(row, seed=2))
    assert [found.seed for found in read_results(path)] == [1, 2]


def test_a_log_that_does_not_fit_is_said_once(after_training):
    commands, disk = after_training, after_training.disk
    (log,) = disk.path.rglob("mine.log")
    with open(log, "ab") as file:
        file.write(b"x" * (-log.stat().st_size % PAGE - 1) + b"\n")
    commands.user.dataset["min_categr_count"] = 5  # so that the build fails, the log before it
    commands.user.write_configs()
    disk.fill(0)
    status, printed = commands.train()
    assert status == 1 and "/encoded/clicks" in check_one_line(printed, disk)
    assert printed.count(LOST) == 1
    assert "INFO Building dataset" in printed, "the screen has all lines"


def test_training_ends_at_once_where_nothing_can_be_written(after_training):
    commands, disk = after_training, after_training.disk
    before = {path: path.read_bytes() for path in disk.path.rglob("*") if path.suffix == ".model"}
    disk.make_read_only()
    status, printed = commands.train("--seed", "2")
    disk.make_read_only(False)
    assert status == 1 and "Traceback" not in printed
    assert re.fullmatch(
        r"WriteError: \S+: Read-only file system; check that files can be written there and run "
        "the command again",
        printed.splitlines()[-1],
    )
    assert {path: path.read_bytes() for path in before} == before
    assert commands.train("--seed", "2")[0] == 0


def test_another_build_that_does_not_fit_leaves_the_one_before(after_training):
    commands, disk = after_training, after_training.disk
    config, _ = load_experiment("mine", ZOO / "DeepFM", commands.user.path)
    before = find_current(config.dataset, config.data_dir)
    rows = pl.read_parquet(before.paths["train"])
    commands.user.dataset["min_categr_count"] = 5
    commands.user.write_configs()
    disk.fill(3 * PAGE)
    status, printed = commands.train()
    assert status == 1 and "/encoded/clicks" in check_one_line(printed, disk)
    del commands.user.dataset["min_categr_count"]
    commands.user.write_configs()
    found = find_current(config.dataset, config.data_dir)
    assert (found.data_hash, found.paths) == (before.data_hash, before.paths)
    assert pl.read_parquet(found.paths["train"]).equals(rows)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_scoring(after_training, suffix):
    commands, disk = after_training, after_training.disk
    out = disk.path / f"scores{suffix}"
    assert commands.predict(out)[0] == 0
    before = out.read_bytes()
    for num_pages in (0, 1):
        disk.fill(num_pages * PAGE)
        status, printed = commands.predict(out)
        assert status == 1 and check_one_line(printed, disk) == str(out)
        assert out.read_bytes() == before
    disk.free()
    assert commands.predict(out)[0] == 0


def test_recording(after_training):
    commands, disk = after_training, after_training.disk
    assert commands.analyze()[0] == 0
    (path,) = disk.path.rglob("records.h5")
    before = path.read_bytes()
    for num_pages in (0, 1, 5, 20):
        disk.fill(num_pages * PAGE)
        status, printed = commands.analyze("--seed", "3")
        assert status == 1 and check_one_line(printed, disk) == str(path)
        assert path.read_bytes() == before and load_records(path).meta.seed != 3
    disk.free()
    assert commands.analyze("--seed", "3")[0] == 0
    assert load_records(path).meta.seed == 3


@pytest.mark.parametrize("num_arrays", [1, 40])
@pytest.mark.parametrize("key", ["model/gen", "a.b.c.layers.{0}/gen", "a{0}/b{0}/c{0}/d{0}/gen{0}"])
def test_what_is_reserved_for_a_recording_is_enough(tmp_path, monkeypatch, num_arrays, key):
    needed, path = [], tmp_path / "records.h5"
    estimate = records._most_bytes
    monkeypatch.setattr(records, "_most_bytes", lambda *a: needed.append(estimate(*a)) or needed[0])
    meta = {"expid": "e" * 200, "fields": [f"field{i}" for i in range(500)], "embedding_dim": 1}
    others = {"model": "FM", "variant": "gen", "dataset_id": "d", "split": "valid", "num_rows": 3}
    meta = RecordMeta(**meta, **others, seed=1, checkpoint_sha256="0" * 64)
    arrays = {key.format(i): np.zeros((3, 7)) for i in range(num_arrays)}
    save_records(path, arrays, meta)
    assert path.stat().st_size <= needed[0]
    assert set(load_records(path).arrays) == set(arrays)


def test_figures_and_tables(after_training):
    commands, disk = after_training, after_training.disk
    assert commands.analyze()[0] == 0
    recorded = load_runs(disk.path, "clicks", ["mine"], "DeepFM")

    def draw() -> None:
        for write in (write_collapse, write_correlation):
            assert write(disk.path, "clicks", "DeepFM", recorded)

    def tabulate() -> None:
        options = ["--dataset", "demo", "--results", str(results), "--out", str(disk.path / "out")]
        tables_main(options)

    results = disk.path / "demo.jsonl"
    for row in records_of(make_pair("FM", [0.7, 0.71], [0.72, 0.73])):
        append_result(results, row)
    commands_to_try = {"figure/final": lambda: run_cli(draw), "out": tabulate}
    for folder, command in commands_to_try.items():
        assert commands.call(command)[0] == 0
        before = {p: p.read_bytes() for p in (disk.path / folder).rglob("*") if p.is_file()}
        assert len(before) > 3
        for num_pages in (0, 2):
            disk.fill(num_pages * PAGE)
            status, printed = commands.call(command)
            if num_pages == 0 or status:
                assert status == 1
                assert Path(check_one_line(printed, disk)) in before
            assert all(path.stat().st_size == len(content) for path, content in before.items())
            disk.free()


def test_generating_and_unpacking(disk, capsys, monkeypatch):
    argv = ["demo", "--rows", "2000", "--root", str(disk.path)]
    with pytest.raises(SystemExit) as ended:
        prepare_main(argv)
    assert ended.value.code == 0
    (truth,) = disk.path.rglob("ground_truth.json")
    before = {path: path.read_bytes() for path in truth.parent.iterdir()}
    for module in (demo, archive):
        monkeypatch.setattr(module, "check_free_disk", lambda folder, needed: None)
    capsys.readouterr()
    disk.fill(100_000)
    with pytest.raises(SystemExit) as ended:
        prepare_main(["demo", "--rows", "20000", "--root", str(disk.path)])
    assert ended.value.code == 1
    check_one_line(capsys.readouterr().err, disk)
    assert {path: path.read_bytes() for path in truth.parent.iterdir()} == before
    assert [path for path in truth.parent.parent.iterdir() if ".partial" in path.name] == []
    with open(disk.path.parent / "a.zip", "wb") as file:
        file.write(GOOD_ZIP)
    with pytest.raises(DiskFullError, match="out: the disk is full"):
        unpack_csv(disk.path.parent / "a.zip", disk.path / "out", MD5)
    assert not (disk.path / "out").exists()


def test_a_disk_without_room_for_another_name(disk):
    for number in range(10_000):
        try:
            (disk.path / str(number)).touch()
        except OSError:
            break
    else:
        subprocess.run(["mount", "-o", "remount,nr_inodes=10005", disk.path], check=True)
        with pytest.raises(OSError):
            for number in range(10_000, 10_010):
                (disk.path / str(number)).touch()
    with pytest.raises(DiskFullError, match="no free inodes"):
        write_atomically(disk.path / "new.json", "x")
    with pytest.raises(DiskFullError, match="no free inodes"):
        write_atomically(disk.path / "0", "x")
    assert (disk.path / "0").read_bytes() == b""
