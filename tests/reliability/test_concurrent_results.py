"""results.jsonl under many processes: appends while some are killed, and readers beside them."""

from __future__ import annotations

import multiprocessing
import os
import random
import threading
import time
from pathlib import Path

import pytest

from fuxictr.experiment.results.record import RunRecord
from fuxictr.experiment.results.store import append_line, append_result, read_results

CONTEXT = multiprocessing.get_context("forkserver")


def row(writer: int, number: int, num_bytes: int) -> RunRecord:
    filler = chr(97 + writer % 26) * num_bytes
    return RunRecord(expid=f"w{writer}", dataset_id="x", seed=number, device=filler)


def size_of(writer: int, number: int) -> int:
    """Returns the length of a row's filler: most are short, some have a megabyte."""
    return 1_000_000 if (writer + number) % 7 == 0 else (10, 3_000, 70_000)[number % 3]


def append_many(path: Path, writer: int, count: int) -> None:
    """Appends rows, and says after each that it is done."""
    done = os.open(path.with_name(f"done_{writer}"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in range(count):
        append_result(path, row(writer, number, size_of(writer, number)))
        os.write(done, b".")


def num_done(path: Path, writer: int) -> int:
    done = path.with_name(f"done_{writer}")
    return done.stat().st_size if done.exists() else 0


def check(path: Path, num_writers: int) -> int:
    """Asserts that all completed appends are there, whole and in order; returns their number."""
    rows = read_results(path)
    total = 0
    for writer in range(num_writers):
        seeds = [found.seed for found in rows if found.expid == f"w{writer}"]
        assert seeds == list(range(len(seeds))), "none is lost, doubled or out of order"
        # One more may be whole than was said to be: its process was killed before it could.
        assert num_done(path, writer) <= len(seeds) <= num_done(path, writer) + 1
        total += len(seeds)
    assert len(rows) == total
    for found in rows:
        writer, number = int(found.expid[1:]), found.seed
        assert found == row(writer, number, size_of(writer, number))
    return total


def start(path: Path, writer: int, count: int) -> multiprocessing.Process:
    process = CONTEXT.Process(target=append_many, args=(path, writer, count))
    process.start()
    return process


def test_appends_of_four_processes_lose_and_tear_nothing(tmp_path, caplog):
    path = tmp_path / "results" / "results.jsonl"
    path.parent.mkdir()
    workers = [start(path, writer, 30) for writer in range(4)]
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert check(path, 4) == 4 * 30
    assert len(path.read_bytes().splitlines()) == 4 * 30 and caplog.messages == []


@pytest.mark.parametrize("num_kills", [6, pytest.param(120, marks=pytest.mark.slow)])
def test_a_process_killed_while_it_appends_costs_nobody_a_line(tmp_path, num_kills):
    path, rng = tmp_path / "results.jsonl", random.Random(num_kills)
    survivors = [start(path, writer, 20 * num_kills) for writer in range(2)]
    victims = []
    for writer in range(2, 2 + num_kills):
        victim = start(path, writer, 10_000)
        while num_done(path, writer) < 1 + rng.randrange(3):
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.02))
        victim.kill()
        victim.join(60)
        victims.append(victim.exitcode)
    for survivor in survivors:
        survivor.join(300)
        assert survivor.exitcode == 0
    assert victims == [-9] * num_kills
    append_many(path, 2 + num_kills, 1)
    assert check(path, 3 + num_kills) >= 2 * 20 * num_kills + num_kills + 1


def test_every_beginning_of_a_line_may_be_left_behind(tmp_path, caplog):
    path, last = tmp_path / "results.jsonl", row(1, 2, 20)
    append_result(path, last)
    line = path.read_bytes()
    for length in range(1, len(line) - 1):
        path.write_bytes(line + line[:length])
        assert read_results(path) == [last]
        append_result(path, last)
        assert read_results(path) == [last, last]
    path.write_bytes(line + line[:-1])
    assert read_results(path) == [last, last], "all of it but for the end of the line"
    append_result(path, last)
    assert read_results(path) == [last] * 3
    assert caplog.messages and all("line 2 is torn" in text for text in caplog.messages)


def test_a_line_that_is_being_written_is_waited_for(tmp_path, monkeypatch, caplog):
    path, first, second = tmp_path / "results.jsonl", row(1, 0, 10), row(1, 1, 100)
    append_result(path, first)
    is_half, go_on = threading.Event(), threading.Event()

    def write_in_two(file, data):
        file.write(data[:50])
        is_half.set()
        assert go_on.wait(30)
        file.write(data[50:])

    monkeypatch.setattr("fuxictr.experiment.results.store._write", write_in_two)
    writer = threading.Thread(target=append_result, args=(path, second))
    writer.start()
    assert is_half.wait(30)
    threading.Timer(0.2, go_on.set).start()
    assert read_results(path) == [first, second]
    writer.join()
    assert caplog.messages == []


def test_readers_beside_writers_see_whole_rows_only(tmp_path, caplog):
    path = tmp_path / "results.jsonl"
    writers = [start(path, writer, 40) for writer in range(2)]
    sizes = []
    while any(writer.is_alive() for writer in writers):
        rows = read_results(path, missing_ok=True)
        assert all(found == row(w, n, size_of(w, n)) for found in rows for w, n in [key(found)])
        sizes.append(len(rows))
    assert sizes == sorted(sizes) and caplog.messages == []
    assert check(path, 2) == 80


def key(found: dict) -> tuple[int, int]:
    return int(found.expid[1:]), found.seed


def test_a_refused_append_leaves_no_trace(tmp_path, monkeypatch):
    path = tmp_path / "results.csv"
    append_line(path, "first")

    def write_half(file, data):
        file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("fuxictr.experiment.results.store._write", write_half)
        with pytest.raises(Exception, match="results.csv: the disk is full"):
            append_line(path, "second")
    append_line(path, "third")
    assert path.read_text() == "first\nthird\n"
