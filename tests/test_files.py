"""Files whole or not at all, leftovers of killed processes, locks, and what a full disk says."""

import errno
import logging
import os
import shutil
import subprocess
import sys
import threading
import time

import pytest

from fuxictr.errors import CheckpointError, DataError
from fuxictr.files import (
    DiskFullError,
    LogFile,
    WriteError,
    atomic_path,
    explain,
    file_lock,
    naming_full_disk,
    remove_leftovers,
    write_atomically,
    write_errors,
)

HOLDER = """
import sys, time
from fuxictr.files import file_lock
with file_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def leftover(path):
    """Makes the temporary file that a killed process would leave."""
    with pytest.raises(KeyboardInterrupt), atomic_path(path) as temporary:
        left = temporary.with_name(temporary.name.replace(".tmp", "x.tmp"))
        temporary.rename(left)
        raise KeyboardInterrupt
    return left.rename(temporary)


def test_a_lock_is_waited_for_and_ends_with_the_process_that_holds_it(tmp_path):
    path = tmp_path / "folder" / ".lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    waited = []

    def kill() -> None:
        waited.append(time.monotonic())
        holder.kill()

    with file_lock(path, on_wait=kill):
        assert len(waited) == 1
    holder.communicate()
    with file_lock(path, on_wait=kill):
        assert len(waited) == 1, "nobody holds it, so nothing is waited for"


def test_leftovers_of_killed_processes_go_and_nothing_else(tmp_path):
    names = ("a.model", "a.log", ".b.model.x.model", "a.model.json", ".a.yaml", ".a.model.mine")
    kept = [tmp_path / name for name in names]
    for path in kept:
        path.write_text("whole")
    left = leftover(tmp_path / "a.model")
    other = leftover(tmp_path / "a")
    assert left.exists() and left.name.startswith(".a.model.")
    remove_leftovers(tmp_path / "a.model")
    assert sorted(tmp_path.iterdir()) == sorted([*kept, other])
    write_atomically(tmp_path / "a", "the next write removes them as well")
    assert sorted(tmp_path.iterdir()) == sorted([*kept, tmp_path / "a"])
    remove_leftovers(tmp_path / "no such folder" / "a")


def test_the_temporary_file_of_a_live_process_is_never_removed(tmp_path):
    path = tmp_path / "a.json"
    written = threading.Event(), threading.Event()

    def write() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("slow")
            written[0].set()
            assert written[1].wait(30)

    writer = threading.Thread(target=write)  # flock tells two openings apart, also in one process
    writer.start()
    assert written[0].wait(30)
    remove_leftovers(path)
    write_atomically(path, "quick")
    assert path.read_text() == "quick"
    written[1].set()
    writer.join()
    assert path.read_text() == "slow"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(shutil.which("flock") is None, reason="there is no command flock")
def test_a_folder_that_something_else_locks_can_be_written(tmp_path):
    path = tmp_path / "a.json"
    left = leftover(path)
    code = f"from fuxictr.files import write_atomically; write_atomically({str(path)!r}, 'x')"
    subprocess.run(["flock", tmp_path, sys.executable, "-c", code], check=True, timeout=30)
    assert path.read_text() == "x" and left.exists()


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.json"
    write_atomically(path, "old")
    for error in (KeyboardInterrupt(), ValueError("x"), DataError("x"), CheckpointError("x")):
        with pytest.raises(type(error)) as raised, atomic_path(path) as temporary:
            temporary.write_text("half")
            raise error
        assert raised.value is error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_file_and_folder_are_synced_before_and_after_the_rename(tmp_path, monkeypatch):
    path, seen = tmp_path / "a.json", []
    fsync, replace = os.fsync, os.replace

    def name_of(handle):
        return os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))

    monkeypatch.setattr(os, "fsync", lambda f: (seen.append(f"fsync {name_of(f)}"), fsync(f)))
    monkeypatch.setattr(os, "replace", lambda a, b: (seen.append("rename"), replace(a, b)))
    write_atomically(path, "x")
    assert seen[0].startswith("fsync .a.json.")
    assert seen[1:] == ["rename", f"fsync {tmp_path.name}"]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_files_have_the_rights_of_new_ones(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "a.json", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize(
    "name", ["x" * 250 + ".json", "é" * 120 + ".csv", "." + "y" * 254, "z.mod"]
)
def test_the_longest_names_can_be_written(tmp_path, name):
    write_atomically(tmp_path / name, "x")
    leftover(tmp_path / name)
    write_atomically(tmp_path / name, "y")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "y"


def test_what_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    cases = {
        tmp_path / "folder": "folder: Is a directory; check that files can be written there",
        tmp_path / "file" / "a.json": "file: Not a directory|file: File exists",
        tmp_path / ("x" * 300): "x: File name too long; check",
    }
    for path, message in cases.items():
        with pytest.raises(WriteError, match=message) as raised:
            write_atomically(path, "x")
        assert ".tmp" not in str(raised.value) and "\n" not in str(raised.value)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, r"a.json: the disk is full \(\d+.\d\d GB free\); free some space and run"),
        (errno.EDQUOT, r"the disk is full \(\d+.\d\d GB free, but the quota is used up\)"),
        (errno.EROFS, r"a.json: Read-only file system; check that files can be written there"),
    ],
)
def test_errors_of_the_disk_in_a_library_name_the_file(tmp_path, number, message):
    path = tmp_path / "a.json"
    with pytest.raises(WriteError, match=message), atomic_path(path):
        raise OSError(number, os.strerror(number))
    with pytest.raises(FileNotFoundError), atomic_path(path):
        open(tmp_path / "another file")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error", [RuntimeError("unexpected pos"), OSError("1 requested, 0 written")]
)
def test_where_a_library_drops_the_reason_the_disk_is_asked(tmp_path, monkeypatch, error):
    with pytest.raises(type(error)) as raised, naming_full_disk(tmp_path / "a"):
        raise error
    assert raised.value is error, "the disk takes more: it was not the disk"
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr("fuxictr.files._probe_disk", lambda folder: full)
    with (
        pytest.raises(DiskFullError, match="a: the disk is full"),
        naming_full_disk(tmp_path / "a"),
    ):
        raise error


def test_a_disk_without_room_for_names_says_so(tmp_path, monkeypatch):
    free = os.statvfs(tmp_path)
    monkeypatch.setattr(os, "statvfs", lambda path: free.__class__((*free[:7], 0, *free[8:])))
    with pytest.raises(DiskFullError, match=r"no room for another file's name \(no free inodes\)"):
        raise explain(OSError(errno.ENOSPC, ""), tmp_path / "a")


def test_the_class_of_other_errors_is_the_callers(tmp_path):
    with pytest.raises(DataError, match="Permission denied"), write_errors(tmp_path, DataError):
        raise PermissionError(errno.EACCES, "Permission denied")
    with pytest.raises(DataError, match="refused"), write_errors(tmp_path, DataError):
        raise WriteError("refused")
    with pytest.raises(DiskFullError), write_errors(tmp_path, DataError):
        raise OSError(errno.ENOSPC, "")
    assert shutil.disk_usage(tmp_path).free > 0


def test_lost_lines_of_a_log_are_said_once(capsys):
    log, logger = LogFile("/dev/full"), logging.Logger("full")
    logger.addHandler(log)
    for number in range(3):
        logger.warning("line %d", number)
    log.close()
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 1
    assert printed[0].startswith("Lines of the log are lost. /dev/full: the disk is full")


def test_other_errors_of_a_log_are_shown_as_usual(tmp_path, capsys):
    log, logger = LogFile(tmp_path / "a.log"), logging.Logger("wrong")
    logger.addHandler(log)
    logger.warning("line %d", "no number")
    log.close()
    assert "--- Logging error ---" in capsys.readouterr().err


COMMANDS = {
    "the output": "print('x' * 1_000_000)",
    "the buffered output": "print('x')",
    "a file": "open('/dev/full', 'w', buffering=1).write('x\\n')",
}


@pytest.mark.parametrize("body", COMMANDS.values(), ids=COMMANDS)
def test_a_command_ends_in_one_line_where_the_disk_is_full(body):
    code = f"from fuxictr.cli.command import run_cli\nrun_cli(lambda: {body} and 0)"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "No space left on device; free some space on its disk and run the command again" in line


def test_defects_keep_their_traceback():
    code = "from fuxictr.cli.command import run_cli\nrun_cli(lambda: open('no such file'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" in done.stderr
