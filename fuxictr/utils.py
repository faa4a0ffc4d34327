"""Names that users of FuxiCTR import from here, and the logger of a run."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fuxictr.config import load_config, load_dataset_config, load_model_config
from fuxictr.files import LogFile
from fuxictr.metrics import Monitor, format_metrics

__all__ = [
    "Monitor",
    "load_config",
    "load_dataset_config",
    "load_model_config",
    "not_in_whitelist",
    "print_to_json",
    "print_to_list",
    "set_logger",
]

_HANDLER_NAME = "fuxictr"
_FORMAT = "%(asctime)s P%(process)d %(levelname)s %(message)s"


def set_logger(params: Mapping[str, Any], log_file: str | Path | None = None) -> Path:
    """Sends log lines to the screen and, appending, to a file; returns the file.

    The file is ``<model_root>/<dataset_id>/<model_id>.log`` of ``params``, or ``log_file``;
    debug_mode gives the level.
    """
    path = Path(
        log_file
        or Path(params.get("model_root", "./checkpoints"))
        / params.get("dataset_id", "")
        / f"{params.get('model_id', 'run')}.log"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    level = logging.DEBUG if params.get("debug_mode") else logging.INFO
    handlers = logging.getLogger().handlers
    early = [record for h in handlers if isinstance(h, _EarlyWarnings) for record in h.records]
    file = LogFile(path, encoding="utf-8")
    _set_handlers(level, _FORMAT, file, logging.StreamHandler())
    for record in early:
        file.handle(record)
    return path


def keep_early_warnings() -> None:
    """Keeps warnings that come before ``set_logger``, which then writes them to the log file."""
    _set_handlers(logging.WARNING, "%(message)s", _EarlyWarnings())


class _EarlyWarnings(logging.Handler):
    """Holds records, and prints them as Python does if no handler is set."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        if logging.getLogger().handlers == [self] and logging.lastResort is not None:
            logging.lastResort.handle(record)


def set_rank_logger(rank: int) -> None:
    """Sends only warnings to the screen, with the rank of this process, which is not 0."""
    _set_handlers(
        logging.WARNING, f"rank {rank}: %(levelname)s %(message)s", logging.StreamHandler()
    )


def print_to_json(data: Mapping[str, Any], sort_keys: bool = True) -> str:
    """Returns a mapping as indented JSON, values as text."""
    return json.dumps({k: str(v) for k, v in data.items()}, indent=4, sort_keys=sort_keys)


def print_to_list(data: Mapping[str, float]) -> str:
    """Returns ``AUC: 0.805664 - logloss: 0.445767``."""
    return format_metrics(data)


def not_in_whitelist(element: Any, whitelist: Any = ()) -> bool:
    """Returns whether an element is not in a list, or not the one value; never if that is empty."""
    if not whitelist:
        return False
    is_list = isinstance(whitelist, (list, tuple, set))
    return bool(element not in whitelist if is_list else element != whitelist)


def _set_handlers(level: int, form: str, *handlers: logging.Handler) -> None:
    root = logging.getLogger()
    for handler in [h for h in root.handlers if h.get_name() == _HANDLER_NAME]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)
    for name in ("matplotlib", "fontTools", "h5py", "PIL"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for handler in handlers:
        handler.setFormatter(logging.Formatter(form))
        handler.set_name(_HANDLER_NAME)
        root.addHandler(handler)
