"""How long a sweep's runs will take and what memory they need, before one of them starts."""

from __future__ import annotations

import heapq
import statistics
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from fuxictr.config import ExperimentConfig
from fuxictr.errors import ConfigError, DataError, FuxiCTRError
from fuxictr.experiment.estimate.data_size import DataFacts, describe_data
from fuxictr.experiment.estimate.model_cost import (
    MachineRates,
    ModelCost,
    count_cost,
    measure_rates,
)
from fuxictr.experiment.results.record import RunRecord
from fuxictr.experiment.run.run import device_name
from fuxictr.experiment.zoo.models import find_folder, load_experiment
from fuxictr.text_tables import align_columns, format_duration, format_size

Row = RunRecord

# Host memory of Python and its libraries, and of CUDA's on a GPU.
_PROCESS_BYTES = {"cpu": 500_000_000, "cuda": 2_500_000_000}
_START_SECONDS = 3.0  # of a process; recorded times leave it out
_READ_BYTES_PER_SECOND = 2e8
_NUM_COPIES = 3  # a training state holds the weights and Adam's two moments
_GRADIENT_SHARE = 1.5  # a backward pass holds activations and some of their gradients


class Plan(Protocol):
    """A planned run."""

    @property
    def config(self) -> ExperimentConfig:
        """The config, with the seed of the run."""

    @property
    def model_class(self) -> type:
        """The model."""


@dataclass(frozen=True)
class Estimate:
    """What a run will need; None = unknown.

    ``seconds`` is the whole run without encoding the data, ``disk_bytes`` its checkpoint.
    ``gpu_bytes`` is None on a CPU, ``basis`` says what the estimate is based on.
    """

    seconds: float | None
    epochs: int | None
    host_bytes: int | None
    gpu_bytes: int | None
    disk_bytes: int | None
    basis: str
    is_encoded: bool = True


def estimate_runs(
    plans: Sequence[Plan],
    rows: Iterable[Row],
    device: torch.device,
    rates: MachineRates | None = None,
) -> list[Estimate]:
    """Returns an estimate for each run; reads no data and trains nothing.

    The time comes from the first of these that is available:

    1. measured: the median of earlier runs of the same config and dataset on such a device;
    2. scaled: the cost model, times the median ratio of measured to modelled time of other runs of
       the dataset on such a device;
    3. the cost model alone, with the ``rates`` of the device, which are measured where None.
    """
    estimator = _Estimator([row for row in rows if row.is_finished], device, rates)
    return [estimator.estimate(plan.config, plan.model_class) for plan in plans]


def typical_epochs(rows: Iterable[Row], config: ExperimentConfig) -> tuple[int, str]:
    """Returns the expected number of epochs, and the reason in words.

    It is the median of earlier runs of the expid, or of any on its dataset; otherwise the patience
    plus one, the earliest that a run can stop.
    """
    on_dataset = [r for r in rows if r.dataset_id == config.dataset.dataset_id]
    own = [row for row in on_dataset if row.expid == config.expid]
    found = [row.epochs for row in own or on_dataset if row.epochs]
    patience, most = config.train.early_stop_patience, config.train.epochs
    epochs = round(statistics.median(found)) if found else patience + 1
    if epochs >= most:
        return most, f"epochs = {most}, all"
    return epochs, "epochs as before" if found else f"epochs = patience {patience} + 1"


class _Estimator:
    """Estimates runs; remembers costs and rates."""

    def __init__(self, rows: list[Row], device: torch.device, rates: MachineRates | None) -> None:
        self.rows = rows
        self.device = device
        kind = _device_kind(device_name(device))
        self.local_rows = [row for row in rows if _device_kind(row.device or "") == kind]
        self._rates = rates
        self._known: dict[str, tuple[DataFacts | None, ModelCost | str]] = {}
        self._ratios: list[tuple[Row, float]] | None = None

    @property
    def rates(self) -> MachineRates:
        """The device's rates."""
        if self._rates is None:
            try:
                self._rates = measure_rates(self.device)
            except torch.cuda.OutOfMemoryError:
                raise DataError(
                    f"{self.device} has no room to be measured: other programs use its memory"
                ) from None
        return self._rates

    def estimate(self, config: ExperimentConfig, model_class: type) -> Estimate:
        """Returns the estimate of a run."""
        facts, cost = self._look_at(config, model_class)
        own = [row for row in self.local_rows if _is_same_run(row, config)]
        epochs, words = typical_epochs(own or self.rows, config)
        if own:
            basis = f"measured, {_count(own, 'run')}"
            seconds = statistics.median([(row.seconds or 0) * _growth(row, facts) for row in own])
            seconds += _START_SECONDS
        elif facts is None or isinstance(cost, str):
            is_encoded = facts is not None and facts.is_encoded
            return Estimate(None, epochs, None, None, None, f"unknown: {cost}", is_encoded)
        else:
            ratios = self._find_ratios(config)
            factor = statistics.median(ratios) if ratios else 1.0
            seconds = self._model_seconds(config, cost, facts, epochs, factor)
            basis = f"scaled by {_count(ratios, 'other run')}" if ratios else "cost model"
            basis += f"; {words}" + ("" if facts.is_encoded else "; data not encoded yet")
        host = gpu = disk = None
        if facts is not None and isinstance(cost, ModelCost):
            host, gpu = self._memory(config, cost, facts)
            disk = cost.checkpoint_bytes
        return Estimate(
            seconds=seconds,
            epochs=epochs,
            host_bytes=_measured(own, "peak_memory_bytes", host),
            gpu_bytes=_measured(own, "peak_gpu_bytes", gpu),
            disk_bytes=disk,
            basis=basis,
            is_encoded=facts is None or facts.is_encoded,
        )

    def _look_at(
        self, config: ExperimentConfig, model_class: type
    ) -> tuple[DataFacts | None, ModelCost | str]:
        key = f"{config.expid} {config.config_hash()}"
        if key not in self._known:
            self._known[key] = _look_at(config, model_class)
        return self._known[key]

    def _find_ratios(self, config: ExperimentConfig) -> list[float]:
        """Returns measured over modelled training time of earlier runs on such a device."""
        if self._ratios is None:
            found = ((row, self._ratio(row)) for row in self.local_rows)
            self._ratios = [(row, ratio) for row, ratio in found if ratio is not None]
        dataset_id = config.dataset.dataset_id
        return [ratio for row, ratio in self._ratios if row.dataset_id == dataset_id]

    def _ratio(self, row: Row) -> float | None:
        try:
            config, model_class = load_experiment(row.expid, find_folder(str(row.model)))
        except (ConfigError, KeyError):  # removed, or from a user's own config folder
            return None
        facts, cost = self._look_at(config, model_class)
        if facts is None or isinstance(cost, str) or config.config_hash() != row.config_hash:
            return None
        if not row.epochs or not row.train_seconds:
            return None
        num_rows = (row.rows or facts.rows).get("train", 0)
        modelled = row.epochs * cost.training_seconds(self.rates, num_rows)
        return row.train_seconds / modelled if modelled else None

    def _model_seconds(
        self,
        config: ExperimentConfig,
        cost: ModelCost,
        facts: DataFacts,
        epochs: int,
        factor: float,
    ) -> float:
        num_train, num_valid = facts.rows.get("train", 0), facts.rows.get("valid", 0)
        steps = max(1, -(-num_train // cost.batch_size))
        evaluations = 1 + epochs * max(1, steps // (config.train.eval_steps or steps))
        seconds = epochs * cost.training_seconds(self.rates, num_train)
        seconds += evaluations * cost.forward_seconds(self.rates, num_valid)
        seconds += cost.forward_seconds(self.rates, facts.rows.get("test", 0))
        seconds = factor * seconds + _START_SECONDS
        if config.train.streaming:  # reading overlaps with training
            return seconds
        return seconds + facts.row_bytes * sum(facts.rows.values()) / _READ_BYTES_PER_SECOND

    def _memory(
        self, config: ExperimentConfig, cost: ModelCost, facts: DataFacts
    ) -> tuple[int, int | None]:
        row_bytes = facts.row_bytes
        splits = [row_bytes * count for count in facts.rows.values()]
        if config.train.streaming:  # the shuffle window, and about as much read ahead
            window = min(config.train.shuffle_window, facts.rows.get("train", 0))
            splits = [2 * row_bytes * window]
        order = 8 * facts.rows.get("train", 0) if not config.train.streaming else 0
        # A penalty squares a table at evaluations, when no activations are held.
        passing = max(round(_GRADIENT_SHARE * cost.activation_bytes), 4 * cost.table_parameters)
        training = cost.state_bytes + passing
        process = _PROCESS_BYTES.get(self.device.type, _PROCESS_BYTES["cuda"])
        if self.device.type != "cuda":
            return process + training + sum(splits) + order, None
        free, _ = torch.cuda.mem_get_info(self.device)
        is_resident = not config.train.streaming and sum(splits) <= free / 2
        host = process + cost.checkpoint_bytes + order
        host += max(splits, default=0) if is_resident else sum(splits)
        return host, training + (sum(splits) + order if is_resident else 0)


def _look_at(
    config: ExperimentConfig, model_class: type
) -> tuple[DataFacts | None, ModelCost | str]:
    """Returns the sizes of the data, if known, and the model's cost or why it is unknown."""
    facts = None
    try:
        facts = describe_data(config)
        if facts is None:
            return None, f"encode dataset '{config.dataset.dataset_id}' first"
        return facts, count_cost(config, model_class, facts.feature_map)
    except (FuxiCTRError, RuntimeError, NotImplementedError) as error:
        # The model needs values, not only shapes, or the config does not fit it.
        return facts, str(error).splitlines()[0] if str(error) else repr(error)


def format_plan(
    plans: Sequence[Plan],
    estimates: Sequence[Estimate],
    finished: Collection[tuple[str, int]] = (),
    jobs: int = 1,
) -> str:
    """Returns the runs as an aligned table, and a line on what is still to run.

    ``finished`` holds (expid, seed) of finished runs; ``jobs`` run at a time.
    """
    names = [(plan.config.expid, plan.config.train.seed) for plan in plans]
    head = ("run", "expid", "seed", "state", "epochs", "time", "host memory", "GPU memory", "disk")
    lines = [(*head, "basis")]
    for number, (name, found) in enumerate(zip(names, estimates, strict=True), start=1):
        state = "done" if name in finished else "to run"
        epochs = "?" if found.epochs is None else str(found.epochs)
        gpu = "-" if found.host_bytes and found.gpu_bytes is None else _size(found.gpu_bytes)
        sizes = (_size(found.host_bytes), gpu, _size(found.disk_bytes))
        cells = (str(number), name[0], str(name[1]), state, epochs)
        time = "?" if found.seconds is None else format_duration(found.seconds)
        lines.append((*cells, time, *sizes, found.basis))
    text = "\n".join(align_columns(lines, "><><>>>>><"))
    waiting = [e for name, e in zip(names, estimates, strict=True) if name not in finished]
    return f"{text}\n\n{_total(waiting, len(plans), jobs)}\n"


def _total(waiting: Sequence[Estimate], num_runs: int, jobs: int) -> str:
    if not waiting:
        return f"Nothing to run: all {num_runs} runs are finished."
    known = [e for e in waiting if e.seconds is not None]
    at_a_time = f", {jobs} at a time" if jobs > 1 else ""
    host = sum(sorted((e.host_bytes or 0 for e in known), reverse=True)[:jobs])
    text = f"To run: {len(waiting)} of {num_runs} runs{at_a_time}."
    if known:
        text += f" About {format_duration(_makespan(known, jobs))}; {_size(host)} of host memory"
        gpu = max((e.gpu_bytes or 0 for e in known), default=0)
        text += f", {_size(gpu)} of GPU memory per run" if gpu else ""
        disk = [e.disk_bytes or 0 for e in known]
        states = _NUM_COPIES * sum(sorted(disk, reverse=True)[:jobs])
        text += f"; {_size(sum(disk))} of disk for checkpoints, {_size(states)} for training "
        text += "states until the runs end."
    left_out = [f"{len(waiting) - len(known)} of unknown cost"] * (len(known) < len(waiting))
    left_out += ["encoding the data"] * (not all(estimate.is_encoded for estimate in waiting))
    return text + (f" Not counted: {', '.join(left_out)}." if left_out else "")


def _makespan(estimates: Sequence[Estimate], jobs: int) -> float:
    """Returns when the last run ends, if each starts as soon as one of ``jobs`` has ended."""
    ends = [0.0] * jobs
    for estimate in estimates:
        heapq.heapreplace(ends, ends[0] + (estimate.seconds or 0.0))
    return max(ends)


def _is_same_run(row: Row, config: ExperimentConfig) -> bool:
    wanted = (config.expid, config.dataset.dataset_id, config.config_hash())
    found = (row.expid, row.dataset_id, row.config_hash)
    return found == wanted and bool(row.seconds)


def _growth(row: Row, facts: DataFacts | None) -> float:
    """Returns the ratio of the training rows now to those of an earlier run."""
    before = (row.rows or {}).get("train")
    now = facts.rows.get("train") if facts is not None else None
    return now / before if before and now else 1.0


def _measured(rows: Sequence[Row], key: str, otherwise: int | None) -> int | None:
    found = [getattr(row, key) for row in rows if getattr(row, key)]
    return round(statistics.median(found)) if found else otherwise


def _device_kind(text: str) -> tuple[str, str]:
    """Returns a device without its index: ("cuda", "NVIDIA H100)") of "cuda:1 (NVIDIA H100)"."""
    index, _, name = text.partition(" (")
    return index.partition(":")[0], name


def _count(items: Sequence[object], word: str) -> str:
    return f"{len(items)} {word}" + "s" * (len(items) != 1)


def _size(num_bytes: int | None) -> str:
    return "?" if num_bytes is None else format_size(num_bytes)
