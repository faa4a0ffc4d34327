"""Processes that write files of one kind and are killed at it; started by ``Victims``.

Run as a program this is their server: it has imported all that writes and forks a process for each
request, so that a hundred kills take seconds.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from matplotlib.figure import Figure
from PIL import Image

from fuxictr.analysis.records import RecordMeta, load_records, save_records
from fuxictr.datasets import demo
from fuxictr.features import FeatureMap
from fuxictr.files import atomic_path, write_atomically
from fuxictr.plotting.style import save_figure, save_numbers
from fuxictr.preprocess import EncodedDataset, prepare_dataset
from fuxictr.preprocess.dataset.cache import find_splits, load_key, make_key, stale_reason
from fuxictr.preprocess.dataset.finished import read_finished
from fuxictr.preprocess.dataset.processor import FeatureProcessor
from fuxictr.pytorch.checkpoint.weights import load_weights, save_weights
from tests.preprocess.tables import categorical, config, numeric, write_csv

ROOT = Path(__file__).resolve().parents[2]
SIZE = 50_000
# The calls at which a process may be killed before them.
STEPS = ("fsync", "replace", "rename", "unlink", "mkdir", "rmdir", "open")


def write_checkpoint(folder: Path, version: int) -> None:
    note = {"encoders_hash": f"{version:016x}"}
    save_weights(_model(version).state_dict(), folder / "a.model", note)


def read_checkpoint(folder: Path) -> int:
    model = _model(0)
    load_weights(model, folder / "a.model")
    note = folder / "a.model.json"
    version = _only(model.weight)
    # Without a note the weights are of unknown encoders, but never of others.
    assert not note.exists() or json.loads(note.read_text())["encoders_hash"] == f"{version:016x}"
    return version


def write_records(folder: Path, version: int) -> None:
    meta = RecordMeta("FM", "e", "gen", "d", "valid", 5, version, ("a",), 1, "0" * 64)
    arrays = {f"layer{i}/gen": np.full(SIZE, version) for i in range(4)}
    save_records(folder / "records.h5", arrays, meta)


def read_records(folder: Path) -> int:
    records = load_records(folder / "records.h5")
    assert len(records.arrays) == 4
    assert {_only(array) for array in records.arrays.values()} == {records.meta.seed}
    return records.meta.seed


def write_figure(folder: Path, version: int) -> None:
    figure = Figure(figsize=(2, 2))
    figure.add_subplot().set_facecolor((version % 200 / 255, 0, 0))
    save_figure(figure, folder / "a")


def read_figure(folder: Path) -> int:
    pdf = (folder / "a.pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and pdf.rstrip().endswith(b"%%EOF")
    with Image.open(folder / "a.png") as image:
        return image.convert("RGB").getpixel((300, 300))[0]


def write_table(folder: Path, version: int) -> None:
    save_numbers(folder / "a.csv", ["x"], [[version]] * SIZE)


def read_table(folder: Path) -> int:
    header, *rows = (folder / "a.csv").read_text().splitlines()
    assert header == "x" and len(rows) == SIZE
    return int(*set(rows))


def write_page(folder: Path, version: int) -> None:
    write_atomically(folder / "report.html", f"{version}\n" * SIZE)


def read_page(folder: Path) -> int:
    rows = (folder / "report.html").read_text().splitlines()
    assert len(rows) == SIZE
    return int(*set(rows))


def write_scores(folder: Path, version: int) -> None:
    table = pa.table({"y_pred": np.full(SIZE, version)})
    with atomic_path(folder / "a.parquet") as path, pq.ParquetWriter(path, table.schema) as writer:
        writer.write_table(table)


def read_scores(folder: Path) -> int:
    column = pq.read_table(folder / "a.parquet")["y_pred"].to_numpy()
    assert len(column) == SIZE
    return _only(column)


def write_feature_map(folder: Path, version: int) -> None:
    feature_map = FeatureMap("d")
    spec = {"type": "categorical", "vocab_size": version + 2}
    feature_map.features = {f"f{i}": spec for i in range(500)}
    feature_map.save(folder / "feature_map.json")


def read_feature_map(folder: Path) -> int:
    found = FeatureMap.load(folder / "feature_map.json", "d").features.values()
    assert len(found) == 500
    return _only([spec["vocab_size"] for spec in found]) - 2


def write_dataset(folder: Path, version: int) -> None:
    _build(folder, version, rebuild=True)


def read_dataset(folder: Path) -> int:
    """Returns whether the build in the folder is the one of an even or of an odd version."""
    home = folder / "encoded" / "tiny"
    key = load_key(home)
    assert key is not None, "neither the old build is there nor the new one"
    version = int("train.parquet" not in key["files"])
    processor, splits = _sources(folder, version)
    assert stale_reason(home, make_key(processor, splits), processor) is None
    found = read_finished(home, "tiny")
    assert found.data_hash == build_hash(folder, version)
    names = {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}
    assert {name for name in names if not name.startswith(".")} == {*key["files"], "cache_key.json"}
    return version


def build_hash(folder: Path, version: int) -> str:
    """Returns the hash that a build of the version has, from one that nobody killed."""
    undisturbed = folder.with_name(f"{folder.name}_undisturbed_{version % 2}")
    if not undisturbed.exists():
        undisturbed.mkdir()
        _build(undisturbed, version)
    return read_finished(undisturbed / "encoded" / "tiny", "tiny").data_hash


def write_demo(folder: Path, version: int) -> None:
    demo.generate(folder / "demo", 1000 + version % 2, 1)


def read_demo(folder: Path) -> int:
    """Returns the version; data whose generation was cut off are made again by the next run."""
    home = folder / "demo"
    if not (home / "ground_truth.json").exists():
        return -1
    rows = json.loads((home / "ground_truth.json").read_text())["rows"]
    lines = [len((home / f"{split}.csv").read_text().splitlines()) for split in demo.SPLITS]
    truth = [pq.read_metadata(home / f"true_ctr_{split}.parquet").num_rows for split in demo.SPLITS]
    assert sum(lines) - 3 == sum(truth) == rows
    return rows - 1000


# Kind of file -> how it is written, and what reads it back: the version, -1 = made anew.
KINDS: dict[str, tuple[Callable[[Path, int], None], Callable[[Path], int]]] = {
    name.removeprefix("write_"): (writer, globals()[name.replace("write_", "read_")])
    for name, writer in list(globals().items())
    if name.startswith("write_") and name.replace("write_", "read_") in globals()
}


class Victims:
    """Starts processes that write; each is killed by ``kill``, or by itself before a step."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-c", "from tests.reliability import victims; victims.serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "2"},
        )
        assert self._answer() == "ready"

    def start(self, kind: str, folder: Path, die_before: int | None = None) -> int:
        """Returns the id of a process that writes version after version; of one where it dies."""
        request = {"kind": kind, "folder": str(folder), "die_before": die_before}
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return int(self._answer())

    def end(self, pid: int, is_killed: bool = True) -> int:
        """Kills a process unless it dies by itself; returns its exit status, -9 where killed."""
        if is_killed:
            os.kill(pid, signal.SIGKILL)
        return int(self._answer())

    def close(self) -> None:
        self._server.communicate()

    def _answer(self) -> str:
        while line := self._server.stdout.readline():
            if found := re.fullmatch(r"victims: (.*)\n", line):
                return found[1]
        raise AssertionError("the server has ended")


def serve() -> None:
    """Forks a process for each line of the input; tells its id and, when it is dead, its status."""
    print("victims: ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if not pid:
            _write_until_killed(**request)
        print(f"victims: {pid}", flush=True)
        _, status = os.waitpid(pid, 0)
        print(f"victims: {os.waitstatus_to_exitcode(status)}", flush=True)


def _write_until_killed(kind: str, folder: str, die_before: int | None) -> None:
    write = KINDS[kind][0]
    if die_before is None:
        for version in itertools.count(1):
            write(Path(folder), version)
    _die_before(die_before)
    write(Path(folder), 1)
    os._exit(0)


def _die_before(number: int) -> None:
    """Lets this process die before the call of that number to a function that changes files."""
    calls = itertools.count(1)

    def dying(function: Callable) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(calls) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for name in STEPS:
        setattr(os, name, dying(getattr(os, name)))


def _model(version: int) -> torch.nn.Module:
    model = torch.nn.Linear(SIZE, 1, bias=False)
    torch.nn.init.constant_(model.weight, version)
    return model


def _only(values: Any) -> int:
    """Returns the one value that all have."""
    values = values.detach() if isinstance(values, torch.Tensor) else values
    found = {int(value) for value in np.unique(np.asarray(values))}
    assert len(found) == 1, f"of several versions: {sorted(found)[:5]}"
    return found.pop()


def _sources(folder: Path, version: int) -> tuple[FeatureProcessor, list]:
    columns = [categorical("c"), numeric("x")]
    parts = {"data_block_size": 100} if version % 2 else {}
    processor = FeatureProcessor.from_config(config(folder, columns, **parts))
    processor.base_dir = folder
    return processor, find_splits(processor, folder)


def _build(folder: Path, version: int, rebuild: bool = False) -> EncodedDataset:
    if not (folder / "train.csv").exists():
        rows = "".join(f"{i % 2},{i % 7},{i / 8}\n" for i in range(150))
        write_csv(folder / "train.csv", f"click,c,x\n{rows}")
    processor, _ = _sources(folder, version)
    return prepare_dataset(processor.config, folder, rebuild, 0)
