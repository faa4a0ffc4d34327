"""Resuming an interrupted run: which state fits it, and what its row of results says about it."""

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
from fuxictr.experiment.results.checkpoint_config import short
from fuxictr.experiment.results.config_record import plain
from fuxictr.experiment.results.record import RunRecord
from fuxictr.experiment.run.launch import resume_command
from fuxictr.experiment.run.signals import stop_requests
from fuxictr.pytorch.checkpoint.state_files import StateFiles
from fuxictr.pytorch.checkpoint.training_state import TrainingState
from fuxictr.pytorch.distributed.ranks import current_ranks
from fuxictr.pytorch.training.state_saver import StateSaver
from fuxictr.pytorch.training.trainer import Trainer

logger = logging.getLogger(__name__)


def state_files(config: ExperimentConfig) -> StateFiles:
    """Returns where a run's state lies, <output stem>.state."""
    return StateFiles(config.output_stem, config.checkpoint_path)


def resume_identity(config: ExperimentConfig, row: RunRecord) -> dict[str, Any]:
    """Returns all that a resumed run must share with the interrupted one."""
    params = {**config.hashed_params(), "analyze_every": config.run.analyze_every}
    keys = {f"key '{name}'": plain(value) for name, value in params.items()}
    return {"seed": row.seed, **keys, "data": row.data_hash, "code": row.code_hash}


class RunSession:
    """A run from its start, or from where it resumes, to its end or its next interruption.

    Args:
        identity: what is trained, see ``resume_identity``.
        devices: where, as a row of results has it.
        start: when it began, of time.perf_counter.
        run_id: its name in the results store in all sessions; None = a random one.

    Attributes:
        resumes: one entry for each time that it was resumed: epoch, step, time.
    """

    def __init__(
        self, identity: dict[str, Any], devices: str, start: float, run_id: str | None = None
    ) -> None:
        self.identity = identity
        self._ranks = current_ranks()
        # Beside the identity, the last digits depend on these.
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
        """Returns the time of all sessions; of an interrupted one, the time to its last state."""
        return self._earlier_seconds + time.perf_counter() - self._start

    def find_state(self, files: StateFiles, restart_on_error: bool) -> TrainingState | None:
        """Returns the state to resume from, None if there is none.

        Of several processes rank 0 decides, and each reads the state. With ``restart_on_error`` a
        state that cannot be used is left with a warning.

        Raises:
            CheckpointError: it is damaged, or another process cannot read it.
            ConfigError: it is of another config, data or code; names what differs.
        """
        found: TrainingState | None = None

        def decide() -> dict[str, Any] | None:
            nonlocal found
            found = self._load(files, restart_on_error)
            return None if found is None else _position(found)

        position = self._ranks.from_rank_zero(decide)
        with self._ranks.raise_on_any_rank():
            if found is None and position is not None:
                found = _read_again(files, position)
        return found

    @contextlib.contextmanager
    def saving(self, trainer: Trainer, config: ExperimentConfig) -> Iterator[None]:
        """Context that saves the state as the config says, and when a signal ends the run.

        Raises:
            Interrupted: a signal came; the message gives the command that resumes the run.
        """
        if not config.run.save_state:
            yield
            return
        files, ranks = state_files(config), self._ranks
        with stop_requests(ranks.size > 1, ranks.is_first) as request:

            def stop() -> None:
                raise Interrupted(
                    f"{request.name or 'a signal to another process'}: the state is in "
                    f"{files.path}; resume with: {resume_command()}",
                    request.signal or signal.SIGTERM,
                )

            saver = StateSaver(
                trainer,
                files,
                self._state_identity,
                config.run.save_steps,
                config.run.save_minutes,
                lambda: bool(request),
                stop,
            )
            trainer.callbacks.append(saver)
            yield

    def _load(self, files: StateFiles, restart_on_error: bool) -> TrainingState | None:
        try:
            state = files.load(mapped=self._ranks.size > 1)  # a rank needs only its own rows
            if state is not None:
                self._check(state, files)
                files.restore_best(state)
                self._continue(state)
            return state
        except (CheckpointError, ConfigError) as error:
            if not restart_on_error:
                raise
            logger.warning("%s; training anew", error)
            return None

    def _check(self, state: TrainingState, files: StateFiles) -> None:
        if not all(isinstance(state.identity.get(k), dict) for k in ("what", "made_on", "run")):
            raise CheckpointError(f"{files.path}: does not say which run it is of")
        differing = _differences(state.identity["what"], self.identity)
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
        logger.info("Resuming after epoch %(epoch)d, step %(step)d", entry)
        self.run_id, self._earlier_seconds = known["run_id"], known["seconds"]
        self.resumes = [*known["resumes"], entry]

    def _state_identity(self) -> dict[str, Any]:
        run = {"run_id": self.run_id, "resumes": self.resumes, "seconds": self.total_seconds()}
        return {"what": self.identity, "made_on": self.made_on, "run": run}


def _position(state: TrainingState) -> dict[str, Any]:
    """Returns what tells two readers of a state that it is the same one."""
    result, run = state.progress["result"], state.identity["run"]
    return {"run_id": run["run_id"], "step": result["num_steps"], "lives": len(run["resumes"])}


def _read_again(files: StateFiles, position: dict[str, Any]) -> TrainingState:
    """Returns the state from which rank 0 resumes, read by another rank."""
    problem = "is not there"
    if files.path.is_file():
        state = TrainingState.load(files.path, mapped=True)
        if _position(state) == position:
            return state
        problem = "is another state than the one from which the first process resumes"
    raise CheckpointError(
        f"{files.path}: {problem}; to resume, all machines need the folder of the run's files (key "
        "'model_root') as a shared one"
    )


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [
        f"{name} (was {short(before.get(name))}, is {short(now.get(name))})"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]
