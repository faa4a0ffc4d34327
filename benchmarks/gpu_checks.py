"""Whether metrics, resumed trainings, compiled code and NCCL are right on a GPU.

Each function is a step of gpu.py and returns figures, with ``ok`` for whether they are right.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gpu_setup


def metrics(device: str, num_rows: int) -> dict[str, Any]:
    """Compares AUC and logloss of a device's tensors with those of numpy, and takes their time.

    Half of the scores have three digits, so that many are tied.
    """
    import torch

    from fuxictr.metrics import evaluate_metrics

    generator = torch.Generator().manual_seed(gpu_setup.SEED)
    scores = torch.rand(num_rows, generator=generator)
    scores[::2] = (scores[::2] * 1000).round() / 1000
    labels = (torch.rand(num_rows, generator=generator) < scores).float()
    names = ["AUC", "logloss"]
    start = time.perf_counter()
    expected = evaluate_metrics(labels.numpy(), scores.numpy(), names)
    host_seconds = time.perf_counter() - start
    on_device = labels.to(device), scores.to(device)
    evaluate_metrics(*on_device, names)  # the first call loads kernels
    _synchronize(device)
    start = time.perf_counter()
    found = evaluate_metrics(*on_device, names)
    seconds = time.perf_counter() - start
    is_close = abs(found["logloss"] - expected["logloss"]) < 1e-12
    return {
        "ok": found["AUC"] == expected["AUC"] and is_close,
        "rows": num_rows,
        "host": expected,
        "device": found,
        "host_seconds": host_seconds,
        "device_seconds": seconds,
    }


def resume(device: str, num_rows: int) -> dict[str, Any]:
    """Trains twice, and once with a cut in the second epoch; all should have the same bits.

    The model draws random numbers in every step: dropout on the device, fields that are predicted.
    """
    undisturbed = _fit(device, num_rows)
    again = _fit(device, num_rows)
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state"
        _fit(device, num_rows, cut=state)
        resumed = _fit(device, num_rows, state=state)
    repeat, resumption = _gap(undisturbed, again), _gap(undisturbed, resumed)
    return {
        "ok": repeat == resumption == 0 and undisturbed["history"] == resumed["history"],
        "largest_difference_of_a_repeat": repeat,
        "largest_difference_of_a_resumption": resumption,
        "history": undisturbed["history"],
    }


class _CutOff(Exception):
    """Stands for whatever ends a process."""


def _fit(
    device: str, num_rows: int, cut: Path | None = None, state: Path | None = None
) -> dict[str, Any]:
    from fuxictr.pytorch.checkpoint.training_state import TrainingState
    from fuxictr.pytorch.dataloaders import BatchIterator
    from fuxictr.pytorch.training.callback import Callback
    from fuxictr.pytorch.training.trainer import Trainer

    batch_size = num_rows // 10 + 1  # nine full batches, and a smaller one
    feature_map, data = gpu_setup.mixed_rows(num_rows)
    drawn = {"net_dropout": 0.3, "batch_norm": True, "target": "random", "num_target": 3}
    network = gpu_setup.make_model("DeepFM", "gen", feature_map, True, **drawn)
    config = gpu_setup.train_config(
        batch_size=batch_size, learning_rate=0.01, epochs=2, eval_steps=4, early_stop_patience=9
    )
    trainer = Trainer(network, config, device, verbose=0)

    class Cutter(Callback):
        def is_due(self, step: int) -> bool:
            return cut is not None and step == 13

        def after_step(self, epoch: int, step: int) -> None:
            trainer.state().save(cut)
            raise _CutOff

    trainer.callbacks.append(Cutter())
    train = BatchIterator(data, batch_size, True, seed=3, device=device)
    valid = BatchIterator(data, 1000, device=device)
    try:
        result = trainer.fit(train, valid, TrainingState.load(state) if state else None)
    except _CutOff:
        return {}
    return {"weights": network.state_dict(), "history": result.history}


def _gap(one: dict[str, Any], two: dict[str, Any]) -> float:
    """Returns the largest difference of two trainings' weights; 0 for the same bits."""
    pairs = ((w, two["weights"][name]) for name, w in one["weights"].items())
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs)


def compile_modes(
    model: str, device: str, num_rows: int, is_small: bool, words: list[bool | str]
) -> dict[str, Any]:
    """Trains with each value of key ``compile``, false first; compares losses, takes the rows/s.

    A value that needs a compiler, where there is none, has its reason instead of figures.
    """
    from fuxictr.errors import ConfigError

    found: dict[str, Any] = {"ok": True}
    for side in gpu_setup.SIDES:
        for word in words:
            name = f"{side}_{str(word).lower()}"
            try:
                found[name] = _compiled_training(model, side, device, num_rows, is_small, word)
            except ConfigError as error:
                found[name] = {"skipped": str(error)}
                continue
            plain = found[f"{side}_false"]["losses"]
            gaps = (abs(a - b) for a, b in zip(found[name]["losses"], plain, strict=True))
            found[name]["largest_difference"] = max(gaps)
            found["ok"] &= found[name]["largest_difference"] < 1e-3
    for name in found.keys() - {"ok"}:
        found[name].pop("losses", None)
    return found


def _compiled_training(
    model: str, side: str, device: str, num_rows: int, is_small: bool, word: bool | str
) -> dict[str, Any]:
    import torch

    from fuxictr.pytorch.dataloaders import BatchIterator
    from fuxictr.pytorch.training.trainer import Trainer

    batch_size = num_rows // 4 - 1  # four full batches an epoch, and a smaller one
    feature_map = gpu_setup.avazu_map(1000 if is_small else None)
    data = gpu_setup.draw_rows(feature_map, num_rows, torch.device(device))
    network = gpu_setup.make_model(model, side, feature_map, is_small)
    config = gpu_setup.train_config(batch_size=batch_size, compile=word)
    trainer = Trainer(network, config, device, verbose=0)
    batches = BatchIterator(data, batch_size, True, seed=3, device=device)
    trainer._step.compile(batch_size)
    network.train()
    losses, seconds, num_epochs = [], [], 6
    for _ in range(num_epochs):
        _synchronize(device)
        start = time.perf_counter()
        losses += [trainer.train_step(batch) for batch in batches]
        _synchronize(device)
        seconds.append(time.perf_counter() - start)
    return {
        "first_epoch_seconds": seconds[0],
        "rows_per_second": num_rows / min(seconds[2:]),
        "losses": torch.stack(losses).tolist(),
    }


class _OneOfSeveral(int):
    """The number 1 of processes, which does not say so: nothing is skipped for being alone."""

    def __eq__(self, other: object) -> bool:
        return other is self

    def __ne__(self, other: object) -> bool:
        return other is not self

    def __gt__(self, other: int) -> bool:
        return other < 2

    __hash__ = int.__hash__


@contextmanager
def one_of_several(device: str) -> Iterator[Any]:
    """Context in which this process alone does all that several do, over NCCL (on a CPU gloo)."""
    import torch
    import torch.distributed as dist

    from fuxictr.pytorch.distributed import ranks

    if device != "cpu":
        torch.cuda.set_device(device)
    dist.init_process_group(
        "gloo" if device == "cpu" else "nccl", store=dist.HashStore(), rank=0, world_size=1
    )
    try:
        host_group = dist.new_group(backend="gloo")
        ranks._current = ranks.Ranks(0, _OneOfSeveral(1), 0, device, host_group)
        yield ranks._current
    finally:
        ranks._current = ranks.ALONE
        dist.destroy_process_group()


def one_process_of_several(device: str, num_rows: int) -> dict[str, Any]:
    """Trains with the step of several processes, one process alone, and compares the losses.

    Every collective operation runs. Tables are full, or sharded by rows; the model has batch
    normalisation and draws its targets.
    """
    plain = _shared_training(device, num_rows, "none")
    found: dict[str, Any] = {"ok": True}
    with one_of_several(device) as ranks:
        for sharding in ("none", "row"):
            other = _shared_training(device, num_rows, sharding, ranks.size)
            gaps = (abs(a - b) for a, b in zip(other["losses"], plain["losses"], strict=True))
            found[sharding] = {"largest_difference": max(gaps), "sharded": other["sharded"]}
            found["ok"] &= found[sharding]["largest_difference"] < 1e-4
    found["ok"] &= found["row"]["sharded"] == 2 and found["none"]["sharded"] == 0
    return found


def _shared_training(device: str, num_rows: int, sharding: str, size: int = 1) -> dict[str, Any]:
    import torch

    from fuxictr.pytorch.dataloaders import BatchIterator
    from fuxictr.pytorch.dataloaders.share import Share
    from fuxictr.pytorch.sharding.tables import table_shares
    from fuxictr.pytorch.training.trainer import Trainer

    feature_map, data = gpu_setup.mixed_rows(num_rows)
    drawn = {"batch_norm": True, "target": "random", "num_target": 3}
    network = gpu_setup.make_model(
        "DeepFM", "gen", feature_map, True, **drawn, **gpu_setup.PENALTIES
    )
    batch_size = num_rows // 8
    config = gpu_setup.train_config(
        batch_size=batch_size, learning_rate=0.01, epochs=2, embedding_sharding=sharding
    )
    trainer = Trainer(network, config, device, verbose=0)
    losses: list[Any] = []
    step = trainer.train_step

    def noted(batch: Any) -> Any:
        losses.append(step(batch))
        return losses[-1]

    trainer.train_step = noted  # type: ignore[method-assign]
    share = Share(0, size)
    train = BatchIterator(data, batch_size, False, device=device, share=share)
    valid = BatchIterator(data, 1000, device=device, share=share, is_split_by_batch=True)
    trainer.fit(train, valid)
    return {"losses": torch.stack(losses).tolist(), "sharded": len(table_shares(network))}


def _synchronize(device: str) -> None:
    import torch

    if device != "cpu":
        torch.cuda.synchronize(device)
