"""Damaged and strange npz and h5 files, raw and encoded: the right rows, or one clear error."""

from __future__ import annotations

import io
import itertools
import json
import subprocess
import sys
import threading

import h5py
import numpy as np
import pytest
from hypothesis import given

from fuxictr.errors import FuxiCTRError
from fuxictr.preprocess import FeatureProcessor
from fuxictr.pytorch.dataloaders import read_encoded
from tests.fuzz.h5_worker import COLUMNS
from tests.fuzz.mutations import case_counts, cases, mutated, no_hang
from tests.pytorch.encoded_rows import make_columns, make_feature_map

ROWS = make_columns()


def read_raw(path, columns=COLUMNS):
    settings = {"data_format": path.suffix.removeprefix(".")}
    processor = FeatureProcessor(columns, {"name": "click"}, "d", **settings)
    return processor.fit([path]).transform([path])


def check_message(text, path):
    assert str(path) in text
    assert len(text.splitlines()) == 1 and len(text) < 2_000, text


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("count", case_counts)
def test_damaged_npz_files(tmp_path, count, save):
    """The checksums of a zip archive notice a changed number."""
    whole = tmp_path / "whole.npz"
    save(whole, **ROWS)
    raw, encoded = read_raw(whole), read_encoded(whole, make_feature_map())
    outcomes, numbers = {"read": 0, "refused": 0}, itertools.count()

    @cases(count // 2)
    @given(mutated(whole.read_bytes(), [b"a.npy", b"b.npy", b"(25,)", b"<f4", b"|O"]))
    def check(data):
        path = tmp_path / f"{next(numbers)}.npz"
        path.write_bytes(data)
        try:
            with no_hang():
                found = read_encoded(path, make_feature_map())
            assert found.ids.equal(encoded.ids) and found.values.equal(encoded.values)
            with no_hang():
                assert read_raw(path).equals(raw)
            outcomes["read"] += 1
        except FuxiCTRError as error:
            check_message(str(error), path)
            outcomes["refused"] += 1

    check()
    assert min(outcomes.values()) > 0, outcomes


class Worker:
    """A process that reads h5 files, and is asked to survive them."""

    def __init__(self, timeout):
        command = [sys.executable, "-m", "tests.fuzz.h5_worker", str(timeout)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout.readline() == "ready\n"

    def read(self, path, patience=30):
        """What became of the file, raw and encoded."""
        watchdog = threading.Timer(patience, self.process.kill)
        watchdog.start()
        self.process.stdin.write(json.dumps(str(path)) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        watchdog.cancel()
        assert answer, f"{path} ended the process that read it"
        return json.loads(answer)

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait(30) == 0


@pytest.fixture(scope="module")
def worker():
    started = Worker(2)
    yield started
    started.close()


def h5_bytes(**options):
    sink = io.BytesIO()
    with h5py.File(sink, "w", libver=options.pop("libver", None)) as file:
        for name, column in ROWS.items():
            if column.dtype.kind == "U":
                file[name] = column.astype(object)
            else:
                shape = (10, *column.shape[1:])
                file.create_dataset(name, data=column, chunks=shape if options else None, **options)
    return sink.getvalue()


FORMS = [{}, {"libver": "latest"}, {"compression": "gzip", "shuffle": True, "fletcher32": True}]


@pytest.mark.parametrize("form", range(len(FORMS)))
@pytest.mark.parametrize("count", case_counts)
def test_damaged_h5_files(tmp_path, worker, count, form):
    """The process that reads them lives, and comes to an end with each of them."""
    outcomes, numbers = {"read": 0, "refused": 0}, itertools.count()

    @cases(count // 3 + 1)
    @given(mutated(h5_bytes(**FORMS[form]), max_mutations=2))
    def check(data):
        path = tmp_path / f"{next(numbers)}.h5"
        path.write_bytes(data)
        for outcome, found in worker.read(path):
            assert outcome in outcomes, found
            outcomes[outcome] += 1
            if outcome == "refused":
                check_message(found, path)

    check()
    assert min(outcomes.values()) > 0, outcomes
