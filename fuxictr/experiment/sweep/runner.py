"""Runs many experiments, each in its own process, and continues where an earlier sweep ended."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import IO

from fuxictr.cpus import usable_cpus
from fuxictr.errors import FuxiCTRError
from fuxictr.experiment.results.identity import PresentData, find_finished
from fuxictr.experiment.results.record import RunRecord
from fuxictr.experiment.results.store import ResultsReader, append_result
from fuxictr.experiment.run.launch import torchrun_command
from fuxictr.experiment.sweep.plan import PlannedRun
from fuxictr.experiment.sweep.processes import RunProcess, RunProcesses
from fuxictr.experiment.sweep.progress import SweepProgress
from fuxictr.experiment.sweep.reasons import find_reason
from fuxictr.experiment.zoo.models import ROOT

_TAIL_BYTES = 20_000


class Sweep:
    """The runs, where they run, and their outcome.

    A run that has a row of the same config, data and code is skipped, unless ``rerun``. A run that
    fails leaves a row with its reason, and the sweep continues. The processes end with this one,
    also when it is killed.

    Args:
        gpus: one entry per concurrent run: the ``--gpu`` of its process, as ``-1`` or ``0``, or
            those of its several processes, as ``0,1`` or ``-1,-1``.
        verbose: show the output of the runs, not one line per run and a bar over the sweep.
        fresh: start Python anew for each run, where a fork server could fork them (RunProcesses).

    Attributes:
        failures: the runs that failed, with the reason.
        num_skipped: runs that were finished before.
    """

    def __init__(
        self,
        runs: Sequence[PlannedRun],
        gpus: Sequence[str],
        results_file: Path,
        rerun: bool = False,
        verbose: bool = False,
        fresh: bool = False,
    ) -> None:
        self.gpus, self.results_file = list(gpus), results_file
        self.rerun, self.verbose, self.fresh = rerun, verbose, fresh
        self.failures: list[tuple[PlannedRun, str]] = []
        self._results = ResultsReader(results_file)
        self.waiting = deque(runs if rerun else unfinished(runs, self._results.rows()))
        self.num_skipped = len(runs) - len(self.waiting)
        self._children: set[RunProcess] = set()
        self._is_stopping = False

    def run(self) -> None:
        """Runs all that is not finished; on KeyboardInterrupt its processes are ended first."""
        free = list(self.gpus)
        pending: dict[Future, tuple[PlannedRun, str]] = {}
        progress = SweepProgress(len(self.waiting), self.num_skipped, len(free), self.verbose)
        processes = RunProcesses(self.verbose, self.fresh, progress.say)
        with _sigterm_interrupts(), progress, processes, ThreadPoolExecutor(len(free)) as pool:
            try:
                while self.waiting or pending:
                    while self.waiting and free:
                        run, gpu = self.waiting.popleft(), free.pop(0)
                        progress.begin(run, gpu, [run, *self.waiting], self._results.rows())
                        pending[pool.submit(self._run, run, gpu, processes)] = run, gpu
                    for task in wait(pending, return_when=FIRST_COMPLETED).done:
                        run, gpu = pending.pop(task)
                        free.insert(0, gpu)
                        row = task.result()
                        if row.failed is not None:
                            self.failures.append((run, row.failed))
                        progress.end(run, row)
            except BaseException:
                self._is_stopping = True
                for child in list(self._children):
                    child.terminate()
                raise

    def _environment(self) -> dict[str, str]:
        """Returns the environment of the runs.

        All processes that train at a time share the CPUs: where there are as many of them as CPUs,
        they have one thread each. A number that the user has set is kept.
        """
        changes = {"COLUMNS": str(shutil.get_terminal_size().columns)}
        num_processes = len(",".join(self.gpus).split(","))
        if num_processes > 1:
            threads = str(max(1, usable_cpus() // num_processes))
            changes["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", threads)
        return os.environ | changes

    def _run(self, run: PlannedRun, gpu: str, processes: RunProcesses) -> RunRecord:
        """Runs one run to its end; returns the row that it, or its failure, left."""
        command, run_id = run_command(run, gpu), uuid.uuid4().hex
        options = ["--end-with-stdin", "--results", str(self.results_file), "--run-id", run_id]
        options += ["--jobs", str(self.gpus.count(gpu))]
        options += [] if self.rerun else ["--skip-finished", "--resume"]
        options += [] if self.verbose else ["--set", "verbose=0"]
        start = time.perf_counter()
        status, tail = self._execute(command + options, processes)
        row = None if status else self._find_row(run, run_id)
        if status is None:
            processes.give_up()
            if row is None and not self._is_stopping:
                status, tail = self._execute(command + options, processes)
                row = None if status else self._find_row(run, run_id)
        if row is None:
            row = replace(
                run_identity(run),
                run_id=run_id,
                failed=find_reason(status or 0, tail),
                command=shlex.join(command),
                seconds=round(time.perf_counter() - start, 3),
            )
            if not self._is_stopping:
                append_result(self.results_file, row)
        return row

    def _execute(self, command: list[str], processes: RunProcesses) -> tuple[int | None, str]:
        """Runs a command to its end; returns its exit status, if it is known, and its stderr."""
        # The run ends when its stdin does: with this process.
        with processes.start(command, self._environment()) as child:
            self._children.add(child)
            if self._is_stopping:
                child.terminate()
            assert child.stderr is not None
            tail = _drain(child.stderr, self.verbose)
            status = child.wait()
            self._children.discard(child)
        return status, tail

    def _find_row(self, run: PlannedRun, run_id: str) -> RunRecord | None:
        """Returns the row that a run wrote, or that it found in the results store."""
        rows = self._results.rows()
        own = [row for row in rows if row.run_id == run_id]
        any_data = replace(run_identity(run), code_hash=None)
        return own[-1] if own else find_finished(rows, any_data, run.seed)


def run_command(run: PlannedRun, gpu: str) -> list[str]:
    """Returns the command of a run, which also works by hand; ``gpu`` is as in Sweep."""
    script = run.folder / "run_expid.py"
    script = script.relative_to(ROOT) if script.is_relative_to(ROOT) else script
    start, gpus = [sys.executable], gpu.split(",")
    if len(gpus) > 1:
        is_cpu = gpus[0] == "-1"
        start, gpu = torchrun_command(len(gpus), [] if is_cpu else gpus), "-1" if is_cpu else "auto"
    command = [*start, str(script), "--expid", run.expid, "--gpu", gpu]
    command += [] if run.config_dir is None else ["--config", str(run.config_dir)]
    return [*command, "--seed", str(run.seed), "--set", f"model_id={run.config.run.model_id}"]


def run_identity(run: PlannedRun) -> RunRecord:
    """Returns the beginning of the row of a run, without its data."""
    from fuxictr.experiment.run.run import identity

    return identity(run.config, run.model_class)


def unfinished(runs: Sequence[PlannedRun], rows: list[RunRecord]) -> list[PlannedRun]:
    """Returns the runs that have no row of the same config, data and code.

    If their data must be encoded first, all are returned. Each looks again after the encoding.
    """
    known = {(row.expid, row.seed) for row in rows if row.is_finished}
    data = PresentData()
    found = []
    for run in runs:
        if (run.expid, run.seed) in known:
            data_hash = data.data_hash(run.config)
            wanted = replace(run_identity(run), data_hash=data_hash)
            if data_hash is not None and find_finished(rows, wanted, run.seed) is not None:
                continue
        found.append(run)
    return found


def encode_datasets(runs: Sequence[PlannedRun], rebuild: bool = False) -> None:
    """Encodes the datasets of the runs that need it, with ``rebuild`` all of them.

    So no run waits for it, or counts it in its time. A dataset that cannot be encoded is left to
    its runs, which fail with the reason.
    """
    from fuxictr.experiment.run.run import load_dataset

    first = {f"{run.config.data_dir} {run.config.dataset}": run for run in reversed(runs)}
    for run in reversed(list(first.values())):
        try:
            load_dataset(run.config, rebuild and not run.config.dataset.is_encoded)
        except FuxiCTRError as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)


def _drain(stream: IO[bytes], echo: bool) -> str:
    """Reads a stream to its end, prints it if ``echo``, and returns the last of it."""
    tail = b""
    while chunk := stream.read1(65536):  # type: ignore[attr-defined]
        tail = (tail + chunk)[-_TAIL_BYTES:]
        if echo:
            sys.stderr.buffer.write(chunk)
            sys.stderr.flush()
    return tail.decode("utf-8", "replace")


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Context in which SIGTERM ends the sweep as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
