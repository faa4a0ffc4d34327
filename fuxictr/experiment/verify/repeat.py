"""Repeats a run of the results from its record and compares what came out, bit for bit."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fuxictr.config import ExperimentConfig
from fuxictr.errors import ConfigError, DataError
from fuxictr.experiment.results.config_record import NO_KEY, changed_keys, gpu_option, load_recorded
from fuxictr.experiment.results.environment import device_record
from fuxictr.experiment.results.record import RunRecord
from fuxictr.experiment.run.launch import (
    describe_devices,
    report_errors_once,
    report_errors_once_per_machine,
)
from fuxictr.experiment.run.run import device_name, identity, run_experiment
from fuxictr.experiment.verify.compare import (
    HARMLESS,
    Difference,
    compare_weights,
    differences,
    environment_differences,
)
from fuxictr.preprocess import find_current
from fuxictr.preprocess.dataset.build import find_stale_reason
from fuxictr.preprocess.dataset.finished import dataset_folder
from fuxictr.pytorch.distributed.ranks import Ranks, current_ranks, joined, launched_ranks
from fuxictr.pytorch.threads import repeat_threads
from fuxictr.pytorch.torch_utils import get_device
from fuxictr.text_tables import align_columns, align_pairs

_MOST_LINES, _MOST_NAMES = 30, 5


def verify(row: RunRecord, gpu: str | None = None, tolerance: float = 1e-4) -> int:
    """Repeats a run in a temporary folder, compares, and prints the differences.

    The run's files are not touched, and no data are encoded. Processes that torchrun started repeat
    it together; to get the same bits they must be as many as the run had. ``gpu`` is as --gpu, None
    = where the run ran. ``tolerance`` is the largest difference of a metric that passes in another
    environment.

    Returns:
        0 for the same bits, or metrics within the tolerance in another environment; else 2.

    Raises:
        ConfigError: the run failed, or its config has changed.
        DataError: its encoded data have changed or are missing.
    """
    with report_errors_once_per_machine():
        device = get_device(_gpu_of(row) if gpu is None else gpu)
    with report_errors_once(), joined(device) as ranks:
        return _verify(row, device, ranks, tolerance)


def _verify(row: RunRecord, device: torch.device, ranks: Ranks, tolerance: float) -> int:
    with ranks.raise_on_any_rank():
        run = f"{row.expid}, seed {row.seed}, of {row.time}"
        if not row.is_finished:
            raise ConfigError(f"{run}: it failed ({row.failed}); there is nothing to compare with")
        config, model_class = load_recorded(row)
        notes = check_config(row, config, model_class)
        check_data(row, config)
    if row.threads:
        repeat_threads(row.threads)
    others = environment_differences(row, _surroundings(config, model_class, device))
    if ranks.is_first:
        print(f"{run}: config {row.config_hash} and data {row.data_hash} are the same.")
        print("\n".join([*notes, *_environment_lines(others)]), flush=True)
    counted = [d.name for d in others if not d.name.startswith(HARMLESS)]
    is_exact = not counted and row.environment is not None
    with _repeated(config, model_class, device) as (repeat, weights):

        def conclude() -> int:
            found = differences(row, repeat)
            other_weights, unknown = compare_weights(row, weights, is_exact)
            is_cuda = device.type == "cuda"
            return _conclude(found + other_weights, unknown, counted, tolerance, is_cuda)

        return ranks.from_rank_zero(conclude)


def _gpu_of(row: RunRecord) -> str:
    """Returns where a run is repeated: on the GPU that it ran on, or on one of several."""
    gpu = gpu_option(row.device)
    is_launched = launched_ranks()[1] > 1
    if is_launched:
        return "-1" if gpu == "-1" else "auto"
    return "0" if gpu == "auto" else gpu


def check_config(row: RunRecord, config: ExperimentConfig, model_class: type) -> list[str]:
    """Checks that a run's config is unchanged; returns one line per key that still differs.

    Such keys change no number, or are new defaults of a model, which no hash of a config covers.

    Raises:
        ConfigError: it has changed; names the keys with both values.
    """
    changed = changed_keys(row, config, model_class)
    lines = {name: f"key '{name}': was {was}, is {now}" for name, (was, now) in changed.items()}
    was, now = row.config_hash, config.config_hash()
    harmless = config.params().keys() - config.hashed_params().keys()
    others = [name for name in changed if name not in harmless and NO_KEY not in changed[name]]
    if was != now or others:
        counting = "; ".join(line for name, line in lines.items() if name not in harmless)
        unknown = f"its hash was {was}, is {now}; the row does not say which keys it had"
        raise ConfigError(
            f"expid '{config.expid}': its config has changed since the run, so a repeat would be "
            f"another run: {counting or unknown}"
        )
    return [
        f"{line} ({'changes no number' if name in harmless else 'of another version'})"
        for name, line in lines.items()
    ]


def check_data(row: RunRecord, config: ExperimentConfig) -> None:
    """Checks that a run's encoded data exist and are unchanged.

    Raises:
        DataError: they are missing, stale or others; names the dataset.
    """
    dataset = config.dataset
    encoded = find_current(dataset, config.data_dir)
    folder = dataset_folder(dataset, config.data_dir)
    if encoded is None:
        reason = find_stale_reason(dataset, config.data_dir)
        raise DataError(
            f"dataset '{dataset.dataset_id}': {reason}, so the rows in {folder} cannot be those of "
            f"the run (data hash {row.data_hash}); --verify encodes none"
        )
    if encoded.data_hash != row.data_hash:
        raise DataError(
            f"dataset '{dataset.dataset_id}': the encoded rows in {folder} have changed since the "
            f"run: their data hash was {row.data_hash}, is {encoded.data_hash}"
        )


@contextlib.contextmanager
def _repeated(
    config: ExperimentConfig, model_class: type, device: torch.device
) -> Iterator[tuple[RunRecord, Path]]:
    """Trains again; yields the row as it would be read, and the checkpoint."""
    root = logging.getLogger()
    handlers = list(root.handlers)
    with contextlib.ExitStack() as held:
        folder = current_ranks().from_rank_zero(
            lambda: held.enter_context(tempfile.TemporaryDirectory(prefix="verify_"))
        )
        quiet = {"verbose": 0, "analyze_every": None, "tensorboard": False, "save_state": False}
        own = replace(config, run=replace(config.run, model_root=folder, **quiet))
        try:
            row = run_experiment(own, model_class, device)
        finally:
            for handler in [h for h in root.handlers if h not in handlers]:
                root.removeHandler(handler)
                handler.close()
        as_read = RunRecord.from_json(json.loads(json.dumps(row.to_json())))
        yield as_read, own.checkpoint_path


def _surroundings(config: ExperimentConfig, model_class: type, device: torch.device) -> RunRecord:
    """Returns a row with the code and the environment of this process."""
    row, ranks = identity(config, model_class), current_ranks()
    return replace(
        row,
        environment={**(row.environment or {}), "device": device_record(device)},
        device=describe_devices(ranks.gather_texts(device_name(device))),
        threads=torch.get_num_threads(),
        processes=ranks.size,
    )


def _environment_lines(others: list[Difference]) -> list[str]:
    if not others:
        return ["Code, packages, machine, device, threads and flags are the same."]
    pairs = [(d.name, f"was {_text(d.before)}, is {_text(d.now)}") for d in others]
    return ["Not as it was then:", *align_pairs(pairs)]


def _conclude(
    found: list[Difference],
    unknown: str | None,
    others: list[str],
    tolerance: float,
    is_cuda: bool,
) -> int:
    """Prints the verdict; returns the exit status."""
    if not found and unknown is None:
        print("Verdict: identical, bit for bit: metrics, history, parameters and weights.")
        return 0
    if not found:
        print(f"Verdict: identical, bit for bit: metrics, history and parameters; {unknown}.")
        return 0
    lines: list[tuple[str, ...]] = [("", "run", "repeat", "difference")]
    for d in found[:_MOST_LINES]:
        size = "" if d.size is None else f"{d.size:.3g}"
        lines.append((d.name, _text(d.before), _text(d.now), size))
    print("\n".join(align_columns(lines, indent=2)))
    if len(found) > _MOST_LINES:
        print(f"  and {len(found) - _MOST_LINES} more")
    if unknown is not None:
        print(f"  weights not compared: {unknown}")
    metrics = [d for d in found if d.name.startswith(("valid.", "test."))]
    if not others:
        print("Verdict: DIFFERENT, though code, packages, device and threads are the same.")
        if is_cuda:
            print("On a GPU some sums are formed in another order each time (CUDA atomics).")
        return 2
    largest = max((math.inf if d.size is None else d.size for d in metrics), default=0.0)
    within = largest <= tolerance
    relation = "equal within" if within else "DIFFERENT by more than"
    more = f" and {len(others) - _MOST_NAMES} more" * (len(others) > _MOST_NAMES)
    print(
        f"Verdict: not bit for bit; metrics {relation} {tolerance:g} (largest difference "
        f"{largest:.3g}), with another {', '.join(others[:_MOST_NAMES])}{more}."
    )
    return 0 if within else 2


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
