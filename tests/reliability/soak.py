"""Many short runs in one process, and what they leave behind.

``python -m tests.reliability.soak FOLDER RUNS EVERY``
"""

from __future__ import annotations

import functools
import gc
import json
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import torch

from fuxictr.errors import ConfigError, DataError, FuxiCTRError
from fuxictr.experiment.run.run import RunOptions, run_experiment
from fuxictr.experiment.scoring import score
from fuxictr.experiment.zoo.models import ZOO, load_experiment
from fuxictr.pytorch.training.step import NotFiniteError
from tests.end_to_end.conftest import UserFolder

MODELS = ("FM", "DCNv2", "DeepFM")
SMALL = {"FM": {}, "DCNv2": {"parallel_dnn_hidden_units": [8]}, "DeepFM": {"hidden_units": [8]}}
# What a run does beside training, or how it fails.
MODES: dict[str, tuple[dict[str, Any], type[FuxiCTRError] | None]] = {
    "plain": ({}, None),
    "streaming": ({"streaming": True, "num_workers": 2, "shuffle_window": 200}, None),
    "analysed": ({"analyze_every": 1, "eval_steps": 4}, None),
    "nan": ({"learning_rate": 1e38}, NotFiniteError),
    "streaming nan": ({"streaming": True, "num_workers": 2, "learning_rate": 1e38}, NotFiniteError),
    "bad key": ({"learnin_rate": 0.1}, ConfigError),
    "bad data": ({"train_data": "./broken.csv"}, DataError),
}


def make_folder(path: Path) -> UserFolder:
    """A user's folder with an expid for each model and variant, and a file that is broken."""
    path.mkdir()
    folder = UserFolder(path)
    mine = {k: v for k, v in folder.model["mine"].items() if k != "hidden_units"}
    folder.model = {"Base": {"model_root": "./checkpoints/"}}
    for model in MODELS:
        dis = {**mine, **SMALL[model], "model": model, "epochs": 1}
        gen = {**dis, "concat_emb": True, "emb_activation": "relu", "gamma": 1}
        folder.model |= {f"{model}_dis": dis, f"{model}_gen": gen}
    folder.dataset["data_block_size"] = 100  # so that threads that read ahead are never done
    folder.write_configs()
    (path / "broken.csv").write_text("click,user,item,price\n0,1,2,0.5\n1,1,2,cheap\n")
    return folder


def run_once(folder: Path, number: int) -> None:
    """Does run 0, 1, ...: each mode with each model and variant in 42 runs, one after another."""
    model, variant = MODELS[number % 3], ("dis", "gen")[number % 2]
    keys, error = list(MODES.values())[number % len(MODES)]
    overrides = [f"{key}={value}" for key, value in keys.items()]

    def run() -> None:
        config, kind = load_experiment(f"{model}_{variant}", ZOO / model, folder, overrides)
        options = RunOptions(results_file=folder / "results.jsonl")
        run_experiment(config, kind, torch.device("cpu"), options)

    if error is None:
        run()
        rows = pl.read_csv(folder / "test.csv", infer_schema=False)
        scored = score(rows, model, f"{model}_{variant}", folder, gpu=-1)
        assert scored.height == rows.height
    else:
        expect(error, run)


def expect(error: type[FuxiCTRError], run: Callable[[], None]) -> None:
    try:
        run()
    except error:
        return
    raise AssertionError(f"{error.__name__} was not raised")


def count(folder: Path) -> dict[str, int]:
    """What this process holds now."""
    gc.collect()
    objects = gc.get_objects()
    tensors = sum(issubclass(type(thing), torch.Tensor) for thing in objects)
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    caches = [f for f in objects if type(f) is functools._lru_cache_wrapper]
    return {
        "rss_kib": int(Path("/proc/self/statm").read_text().split()[1]) * 4,
        "objects": len(objects),
        "tensors": tensors,
        "files": len(os.listdir("/proc/self/fd")),
        "threads": len(threading.enumerate()),
        "tasks": min(count_tasks() for _ in range(5)),
        "handlers": sum(len(getattr(logger, "handlers", ())) for logger in loggers),
        "loggers": len(loggers),
        "modules": len(sys.modules),
        "cached": sum(cache.cache_info().currsize for cache in caches),
        "temporary": len(os.listdir(tempfile.gettempdir())),
        "in_folder": sum(1 for _ in folder.rglob("*")),
    }


def count_tasks() -> int:
    time.sleep(0.01)  # a thread that was joined may not be quite gone
    return len(os.listdir("/proc/self/task"))


def main(folder: Path, num_runs: int, every: int) -> None:
    """Prints what is held after each ``every``-th run, as lines of JSON."""
    make_folder(folder)
    for number in range(1, num_runs + 1):
        run_once(folder, number - 1)
        if number % every == 0:
            print(json.dumps({"runs": number, **count(folder)}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
