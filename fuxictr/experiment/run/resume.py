"""Going on with an interrupted run: which state fits it, and what its row says of it."""

from __future__ import annotations

import contextlib
import logging
import signal
import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import torch

from fuxictr.config import ExperimentConfig
from fuxictr.errors import CheckpointError, ConfigError, Interrupted
from fuxictr.experiment.results.config_record import plain
from fuxictr.experiment.run.launch import first_says, going_on
from fuxictr.experiment.run.signals import StopRequest, stop_requests
from fuxictr.pytorch.checkpoint.training_state import TrainingState
from fuxictr.pytorch.distributed.ranks import current_ranks
from fuxictr.pytorch.training.state_saver import StateFiles, StateSaver
from fuxictr.pytorch.training.trainer import Trainer

logger = logging.getLogger(__name__)

_SHOWN_CHARACTERS = 60  # of a value in a message


def state_files(config: ExperimentConfig) -> StateFiles:
    """Returns where a run's state lies, <output stem>.state."""
    return StateFiles(config.output_stem, config.checkpoint_path)


def what_is_trained(config: ExperimentConfig, row: dict[str, Any]) -> dict[str, Any]:
    """Returns all that a run that goes on must share with the one that was interrupted.

    Args:
        config: the config.
        row: how the run's row of results begins.
    """
    params = {**config.hashed_params(), "analyze_every": config.run.analyze_every}
    keys = {f"key '{name}'": plain(value) for name, value in params.items()}
    return {"seed": row["seed"], **keys, "data": row["data_hash"], "code": row["code_hash"]}


class RunLife:
    """A run from its start, or from where it was interrupted, to its end or the next interruption.

    Args:
        what: what is trained.
        devices: where, as a row of results has it.
        start: when it began, of time.perf_counter.
        run_id: its name in the results store; null = a random one.

    Attributes:
        run_id: its name in the results store, the same in all lives.
        resumes: one entry for each time that it went on: epoch, step, time.
    """

    def __init__(
        self, what: dict[str, Any], devices: str, start: float, run_id: str | None = None
    ) -> None:
        self.what = what
        self._ranks = current_ranks()
        # What the last digits depend on beside it.
        self.made_on = {
            "device": devices,
            "processes": self._ranks.size,
            "torch": str(torch.__version__),
        }
        self.run_id = run_id or uuid.uuid4().hex
        self.resumes: list[dict[str, Any]] = []
        self._start = start
        self._earlier_seconds = 0.0

    def total_seconds(self) -> float:
        """Returns how long all lives took up to now, up to their last states."""
        return self._earlier_seconds + time.perf_counter() - self._start

    def find_state(self, files: StateFiles, anew_otherwise: bool) -> TrainingState | None:
        """Returns the state to go on from, None where there is none.

        Of several processes the first one decides, and each reads the state.

        Args:
            files: where it lies.
            anew_otherwise: return None, with a warning, where the state cannot be used.

        Raises:
            CheckpointError: it is damaged, or another process cannot read it.
            ConfigError: it is of another config, data or code; names what differs.
        """
        found: list[TrainingState] = []

        def decide() -> dict[str, Any] | None:
            state = self._find(files, anew_otherwise)
            if state is None:
                return None
            found.append(state)
            return _position(state)

        position = first_says(self._ranks, decide)
        if position is None:
            return None
        with self._ranks.together():
            if not found:
                found.append(_read_again(files, position))
        return found[0]

    @contextlib.contextmanager
    def saving(self, trainer: Trainer, config: ExperimentConfig) -> Iterator[None]:
        """Context in which the state is saved as the config says, and when a signal ends the run.

        Raises:
            Interrupted: a signal came; says how to go on.
        """
        if not config.run.save_state:
            yield
            return
        files, ranks = state_files(config), self._ranks
        with stop_requests(ranks.size > 1, ranks.is_first) as request:
            saver = StateSaver(
                trainer,
                files,
                self._identify,
                config.run.save_steps,
                config.run.save_minutes,
                lambda: bool(request),
                lambda: _stop(request, files),
            )
            trainer.callbacks.append(saver)
            yield

    def _find(self, files: StateFiles, anew_otherwise: bool) -> TrainingState | None:
        try:
            state = files.load(mapped=self._ranks.size > 1)  # of which each needs its rows only
            if state is not None:
                self._check(state, files)
                files.restore_best(state)
                self._continue(state)
            return state
        except (CheckpointError, ConfigError) as error:
            if not anew_otherwise:
                raise
            logger.warning("%s; training anew", error)
            return None

    def _check(self, state: TrainingState, files: StateFiles) -> None:
        if not all(isinstance(state.identity.get(k), dict) for k in ("what", "made_on", "run")):
            raise CheckpointError(f"{files.path}: does not say which run it is of")
        differing = _differences(state.identity["what"], self.what)
        if differing:
            raise ConfigError(
                f"{files.path}: the interrupted run was another one: {', '.join(differing)}; set "
                "back what differs, or train without --resume"
            )

    def _continue(self, state: TrainingState) -> None:
        before = {"processes": 1, **state.identity["made_on"]}
        changed = _differences(before, self.made_on)
        if changed:
            logger.warning(
                "The last digits may differ from an undisturbed run: %s", ", ".join(changed)
            )
        known, position = state.identity["run"], state.progress["result"]
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        entry = {"epoch": position["num_epochs"], "step": position["num_steps"], "time": now}
        logger.info("Going on after epoch %(epoch)d, step %(step)d", entry)
        self.run_id, self._earlier_seconds = known["run_id"], known["seconds"]
        self.resumes = [*known["resumes"], entry]

    def _identify(self) -> dict[str, Any]:
        run = {"run_id": self.run_id, "resumes": self.resumes, "seconds": self.total_seconds()}
        return {"what": self.what, "made_on": self.made_on, "run": run}


def _stop(request: StopRequest, files: StateFiles) -> None:
    name = request.name or "a signal to another process"
    raise Interrupted(
        f"{name}: the state is in {files.path}; go on with: {going_on()}",
        request.signal or signal.SIGTERM,
    )


def _position(state: TrainingState) -> dict[str, Any]:
    """Returns by what two readers of a state know that it is the same one."""
    result, run = state.progress["result"], state.identity["run"]
    return {"run_id": run["run_id"], "step": result["num_steps"], "lives": len(run["resumes"])}


def _read_again(files: StateFiles, position: dict[str, Any]) -> TrainingState:
    """Returns the state that the first process goes on from, read by another one."""
    if files.path.is_file():
        state = TrainingState.load(files.path, mapped=True)
        if _position(state) == position:
            return state
        problem = "is another state than the one that the first process goes on from"
    else:
        problem = "is not there"
    raise CheckpointError(
        f"{files.path}: {problem}; to go on, all machines need the folder of the run's files (key "
        "'model_root') as a shared one"
    )


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [
        f"{name} (was {_short(before.get(name))}, is {_short(now.get(name))})"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]} ..."
