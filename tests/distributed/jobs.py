"""What a launch can be told to do, by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fuxictr.errors import FuxiCTRError
from fuxictr.pytorch.checkpoint.weights import read_tensors
from fuxictr.pytorch.dataloaders import BatchIterator, Share
from fuxictr.pytorch.distributed.ranks import current_ranks
from fuxictr.pytorch.distributed.sync_batch_norm import share_batch_norm
from fuxictr.pytorch.layers.embeddings import FieldBlocks
from fuxictr.pytorch.layers.generation import GEN
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.training.trainer import Trainer
from tests.distributed.cases import EVALUATIONS, TRAININGS, Training, make_rows
from tests.distributed.launcher import Arrays


def train(training: Training, folder: Path, name: str) -> Arrays:
    """Trains on the ranks of now.

    Returns:
        ``loss`` and ``rate`` of each evaluation, ``rows`` trained on, ``metric.NAME``, how tables
        are read (``readers``), and on the first rank ``weight.NAME`` after the file that it wrote.
    """
    ranks = current_ranks()
    share = Share(ranks.rank, ranks.size)
    model, feature_map = training.build(
        ranks.size > 1 and training.config.embedding_sharding != "none"
    )
    file = folder / f"{name}.model"
    config = training.config
    trainer = Trainer(model, config, checkpoint=file, verbose=0)
    rows = make_rows(feature_map, training.num_rows)
    batches = BatchIterator(rows, training.batch_size, config.shuffle, share=share)
    valid = None
    if training.num_valid:
        rows = make_rows(feature_map, training.num_valid, seed=2)
        valid = BatchIterator(rows, training.batch_size, share=share, is_split_by_batch=True)
    readers = _readers(model)
    result = trainer.fit(batches, valid)
    found = {
        "loss": np.array([entry["train_loss"] for entry in result.history]),
        "rate": np.array([entry["learning_rate"] for entry in result.history]),
        "rows": np.array([result.num_rows, result.num_steps]),
        "readers": np.array(readers),
    }
    for metric in result.history[0].get("metrics", {}):
        values = [entry["metrics"][metric] for entry in result.history]
        found[f"metric.{metric}"] = np.array(values)
    if ranks.is_first:
        found |= {f"weight.{key}": value.numpy() for key, value in read_tensors(file).items()}
    return found


def evaluate(training: Training, folder: Path) -> Arrays:
    """Evaluates and predicts with weights that are the same on any ranks; none is trained.

    Returns:
        ``metric.NAME``, and ``y_pred`` of all rows on the first rank, of none on others.
    """
    ranks = current_ranks()
    share = Share(ranks.rank, ranks.size)
    model, feature_map = training.build()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.3, generator=generator)
    metrics = ["AUC", "logloss", "gAUC", "avgAUC", "MRR", "NDCG(k=3)"]
    config = replace(training.config, metrics=metrics, group_id="user")
    trainer = Trainer(model, config, verbose=0)
    rows = make_rows(feature_map, training.num_rows)
    users = np.random.default_rng(5).integers(0, 4, training.num_rows)
    rows = replace(rows, group_ids=users)
    batches = BatchIterator(rows, training.batch_size, share=share, is_split_by_batch=True)
    found = trainer.evaluate(batches)
    arrays = {f"metric.{name}": np.array(value) for name, value in found.items()}
    return {**arrays, "y_pred": trainer.predict(batches)}


def _readers(model: BaseModel) -> list[str]:
    blocks = [module for module in model.modules() if isinstance(module, FieldBlocks)]
    return [type(b.reader).__name__ for b in blocks if b.table is not None]


def normalize(folder: Path, parts: Sequence[int], shape: Sequence[int], **options: Any) -> Arrays:
    """Trains a batch normalisation on this rank's part of a batch, then evaluates it.

    Args:
        folder: without use.
        parts: rows of each rank.
        shape: of a row, channels first.
        options: of nn.BatchNorm1d; ``dtype`` of the inputs.

    Returns:
        Outputs and gradients of this rank's rows, gradients of the weights, running statistics.
    """
    ranks = current_ranks()
    dtype = options.pop("dtype", torch.float32)
    model = nn.Sequential(nn.BatchNorm1d(shape[0], **options))
    share_batch_norm(model, ranks)
    torch.manual_seed(1)
    for weight in model.parameters():
        nn.init.normal_(weight)
    whole = torch.randn(3, sum(parts), *shape) * 2 + 3
    own = slice(sum(parts[: ranks.rank]), sum(parts[: ranks.rank + 1]))
    own = slice(None) if ranks.size == 1 else own
    found = {}
    for step, values in enumerate(whole[:2]):
        inputs = values[own].to(dtype).requires_grad_()
        outputs = model(inputs)
        (outputs.float() * whole[2][own]).sum().backward()
        found |= {f"output{step}": outputs.float(), f"gradient{step}": inputs.grad.float()}
    found |= {f"sum.{name}": weight.grad for name, weight in model.named_parameters()}
    found |= {f"state.{name}": value for name, value in model.state_dict().items()}
    found["evaluated"] = model.eval()(whole[0])  # whole batches are evaluated
    return {name: value.detach().numpy() for name, value in found.items()}


def reject_one_row(folder: Path) -> Arrays:
    """Checks that one row of all ranks together cannot be normalised, on all ranks."""
    ranks = current_ranks()
    model = nn.Sequential(nn.BatchNorm1d(2))
    share_batch_norm(model, ranks)
    try:
        model(torch.ones(int(ranks.rank == ranks.size - 1), 2))
    except ValueError as error:
        return {"error": np.array(str(error))}
    return {"error": np.array("")}


def draw(folder: Path) -> Arrays:
    """Returns the fields that GEN draws, and what dropout leaves, with seeds of each rank's own."""
    training = Training("FM_demo_gen", overrides=("target=random", "embedding_dropout=0.5"))
    model, feature_map = training.build()
    (generator,) = (module for module in model.modules() if isinstance(module, GEN))
    batch = make_rows(feature_map, 8).rows(slice(None))
    torch.manual_seed(current_ranks().rank)
    targets, kept = [], []
    for _ in range(6):
        model(batch)
        targets.append(generator._targets.numpy())
        kept.append((model.embedding_layer(batch) != 0).numpy())
    return {"targets": np.array(targets), "kept": np.array(kept)}


def fail(folder: Path) -> Arrays:
    """Fails on the last rank while the others wait for it."""
    ranks = current_ranks()
    if ranks.rank == ranks.size - 1:
        raise RuntimeError("this rank fails")
    ranks.barrier()
    return {}


def hang(folder: Path) -> Arrays:
    """Never ends."""
    while True:
        time.sleep(60)


def refuse_reads(how: str, folder: Path) -> Arrays:
    """Returns why a model cannot be trained that reads its table itself, which is exchanged."""
    training = Training("TableRead", keys=(("embedding_sharding", how),))
    try:
        train(training, folder, "TableRead")
    except RuntimeError as error:
        return {"error": np.array(str(error))}
    return {"error": np.array("")}


def meet_infinity(overrides: tuple[str, ...], how: str, folder: Path) -> Arrays:
    """Trains on rows of which one, of the last rank, has a number that no loss survives.

    Returns:
        ``error``: type and message of what ended the training on this rank.
    """
    ranks = current_ranks()
    training = Training(
        "DeepFM_demo_gen", "large", overrides, (("embedding_sharding", how), ("shuffle", False))
    )
    model, feature_map = training.build()
    trainer = Trainer(model, training.config, verbose=0)
    rows = make_rows(feature_map, training.num_rows)
    rows.values[3 * training.batch_size - 1, 0] = 3e38
    batches = BatchIterator(rows, training.batch_size, False, share=Share(ranks.rank, ranks.size))
    found: BaseException | None = None
    try:
        trainer.fit(batches, None)
    except (FuxiCTRError, SystemExit) as error:
        found = error
    is_finite = all(bool(weight.isfinite().all()) for weight in model.parameters())
    return {"error": np.array(f"{type(found).__name__}: {found}"), "is_finite": np.array(is_finite)}


# In four ranks, of which the second has no rows.
PARTS = (5, 0, 8, 1)
NORMALIZED = {
    "normalize": {"shape": [4]},
    "normalize-length": {"shape": [4, 3]},
    "normalize-plain": {"shape": [4], "affine": False},
    "normalize-mean_of_all": {"shape": [4], "momentum": None},
    "normalize-untracked": {"shape": [4], "track_running_stats": False},
    "normalize-momentum": {"shape": [4], "momentum": 0.3, "eps": 0.1},
    "normalize-bf16": {"shape": [4], "dtype": torch.bfloat16},
}
JOBS: dict[str, Callable[[Path], Arrays]] = {
    **{name: partial(train, training, name=name) for name, training in TRAININGS.items()},
    **{name: partial(evaluate, training) for name, training in EVALUATIONS.items()},
    **{name: partial(normalize, parts=PARTS, **keys) for name, keys in NORMALIZED.items()},
    **{f"refuse_reads-{how}": partial(refuse_reads, how) for how in ("none", "row")},
    **{
        f"meet_infinity-{'_'.join(overrides)}-{how}": partial(meet_infinity, overrides, how)
        for overrides in ((), ("batch_norm=true", "target=random"))
        for how in ("none", "row")
    },
    **{job.__name__: job for job in (reject_one_row, draw, fail, hang)},
}
