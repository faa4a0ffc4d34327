"""Rows per second of the backbones on a GPU: steps, a whole epoch, an evaluation.

Each function is a step of gpu.py. The rows lie on the device, as they do where they fit.
"""

from __future__ import annotations

import time
from typing import Any

import gpu_setup

_WARM_UP = 12  # batches of the same size, before an epoch is timed
# Name of a number format -> keys of the training.
FORMATS: dict[str, dict[str, Any]] = {
    "float32": {},
    "tf32": {"matmul_precision": "high"},
    "bf16": {"amp": "bf16"},
    "bf16_graphs": {"amp": "bf16", "compile": "auto"},
}


def speed(
    model: str, device: str, num_rows: int, batch_size: int, is_small: bool
) -> dict[str, Any]:
    """Trains a backbone, DIS and GEN, in each number format; returns rows/s and memory.

    An evaluation is timed with its metrics, the second of two. A format that fails has its error
    instead of figures. Only DIS is compiled.
    """
    import torch

    feature_map = gpu_setup.avazu_map(_most_values(is_small))
    data = gpu_setup.draw_rows(feature_map, num_rows, torch.device(device))
    sizes = (data, device, batch_size, is_small)
    found = {}
    for side in gpu_setup.SIDES:
        for name, keys in FORMATS.items():
            if side == "gen" and "compile" in keys:
                continue  # compiling takes most of the time
            found[f"{side}_{name}"] = _try_to_train(model, side, *sizes, keys)
    return found


def epoch(
    model: str, device: str, num_rows: int, batch_size: int, is_small: bool
) -> dict[str, Any]:
    """Trains one epoch in each number format; returns its seconds, with the drawing of its order.

    Few batches before it load kernels and compile code. A format that fails has its error.
    """
    import torch

    feature_map = gpu_setup.avazu_map(_most_values(is_small))
    start = time.perf_counter()
    data = gpu_setup.draw_rows(feature_map, num_rows, torch.device(device))
    found: dict[str, Any] = {"rows": num_rows, "draw_seconds": time.perf_counter() - start}
    for name, keys in FORMATS.items():
        found[name] = _try_to_train(model, "dis", data, device, batch_size, is_small, keys)
    return found


def evaluation(
    model: str, device: str, num_rows: int, batch_size: int, is_small: bool
) -> dict[str, Any]:
    """Scores rows and computes AUC and logloss, three times; returns the seconds of each."""
    import torch

    from fuxictr.pytorch.dataloaders import BatchIterator
    from fuxictr.pytorch.training.trainer import Trainer

    feature_map = gpu_setup.avazu_map(_most_values(is_small))
    data = gpu_setup.draw_rows(feature_map, num_rows, torch.device(device))
    network = gpu_setup.make_model(model, "dis", feature_map, is_small)
    trainer = Trainer(network, gpu_setup.train_config(batch_size=batch_size), device, verbose=0)
    batches = BatchIterator(data, batch_size, device=device)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        metrics = trainer.evaluate(batches)
        seconds.append(time.perf_counter() - start)
    return {"rows": num_rows, "seconds": min(seconds), "seconds_each": seconds, "metrics": metrics}


def _try_to_train(*arguments: Any) -> dict[str, Any]:
    try:
        return _train(*arguments)
    except RuntimeError as error:  # out of memory, or what a compiler raises
        return {"error": f"{type(error).__name__}: {error}"[:500]}


def _train(
    model: str,
    side: str,
    data: Any,
    device: str,
    batch_size: int,
    is_small: bool,
    keys: dict[str, Any],
) -> dict[str, Any]:
    """Trains on few batches, then for an epoch; returns its rows/s and seconds, and peak memory."""
    import torch

    from fuxictr.pytorch.dataloaders import BatchIterator
    from fuxictr.pytorch.training.trainer import Trainer

    is_cuda = device != "cpu"
    if is_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    feature_map = gpu_setup.avazu_map(_most_values(is_small))
    network = gpu_setup.make_model(model, side, feature_map, is_small)
    config = gpu_setup.train_config(batch_size=batch_size, epochs=1, **keys)
    trainer = Trainer(network, config, device, verbose=0)
    few = data.take(slice(0, _WARM_UP * batch_size))
    trainer.fit(BatchIterator(few, batch_size, True, device=device), None)
    fitted = trainer.fit(BatchIterator(data, batch_size, True, device=device), None)
    scored = BatchIterator(few, batch_size, device=device)
    trainer.evaluate(scored)
    start = time.perf_counter()
    metrics = trainer.evaluate(scored)
    evaluate_seconds = time.perf_counter() - start
    return {
        "rows_per_second": data.num_rows / fitted.train_seconds,
        "epoch_seconds": fitted.train_seconds,
        "evaluate_rows_per_second": few.num_rows / evaluate_seconds,
        "train_auc": metrics["AUC"],
        "parameters": network.count_parameters(),
        "gpu_peak_mb": torch.cuda.max_memory_allocated(device) / 1e6 if is_cuda else None,
    }


def _most_values(is_small: bool) -> int | None:
    return 1000 if is_small else None
