"""Locks that end with their process, leftovers of killed ones."""

import subprocess
import sys
import time

from fuxictr.files import atomic_path, file_lock, remove_leftovers

HOLDER = """
import sys, time
from fuxictr.files import file_lock
with file_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


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
    kept = [tmp_path / name for name in ("a.model", "a.log", ".b.model.x.model", "a.model.json")]
    for path in kept:
        path.write_text("whole")
    try:
        with atomic_path(tmp_path / "a.model") as temporary:
            left = temporary.with_name(temporary.name.replace(".a.model.", ".a.model.killed"))
            left.write_text("half")
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert left.exists() and not temporary.exists()
    remove_leftovers(tmp_path / "a.model")
    assert sorted(tmp_path.iterdir()) == sorted(kept)
