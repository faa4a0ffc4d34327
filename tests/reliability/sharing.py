"""A process that runs what it is told: ``python -m tests.reliability.sharing FOLDER RESULTS``.

It reads orders and writes answers, a JSON object a line: {"expid": ..., "overrides": [...],
"skip_finished": bool} trains an expid of the folder, {"build": true} builds the dataset anew and
{"hang": true} does so up to its middle, where it stops for ever.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from fuxictr.experiment.run.run import RunOptions, load_dataset, run_experiment
from fuxictr.experiment.zoo.models import ZOO, load_experiment
from fuxictr.preprocess.dataset import build


def obey(order: dict[str, Any], folder: Path, results: Path) -> dict[str, Any]:
    """Does what an order says."""
    expid, overrides = order.get("expid", "mine"), order.get("overrides", [])
    config, kind = load_experiment(expid, ZOO / "DeepFM", folder, overrides)
    if "hang" in order:
        build.publish = hang
    if "build" in order or "hang" in order:
        return {"data_hash": load_dataset(config, rebuild=True).data_hash}
    csv_file, skip = folder / "lines.csv", order.get("skip_finished", False)
    options = RunOptions(csv_file=csv_file, results_file=results, skip_finished=skip)
    return run_experiment(config, kind, torch.device("cpu"), options).to_json()


def hang(*args: Any) -> None:
    say({"is_building": True})
    time.sleep(3600)


def say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    say({"is_ready": True})
    for line in sys.stdin:
        say(obey(json.loads(line), Path(sys.argv[1]), Path(sys.argv[2])))
