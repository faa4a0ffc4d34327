"""One process of a launch: ``--module tests.distributed.state_worker FOLDER TASK ...``.

A task is ``straight:KIND``, ``cut:KIND``, ``go_on:KIND:P`` with the state that P processes left, or
``bad_number:KIND``. Results are FOLDER/<task>.<P>.npz, of the first rank.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import torch

from fuxictr.errors import FuxiCTRError
from fuxictr.pytorch.checkpoint.training_state import TrainingState
from fuxictr.pytorch.dataloaders import BatchIterator, Share
from fuxictr.pytorch.distributed.ranks import current_ranks, exit_now, joined
from fuxictr.pytorch.sharding.state_dict import gather_full_state_dict
from fuxictr.pytorch.training.callback import Callback
from fuxictr.pytorch.training.trainer import Trainer
from tests.distributed.cases import Training, make_rows

CUT_AT = 13  # in the second epoch, between two evaluations
_DROPOUT = ("net_dropout=0.3", "embedding_dropout=0.2")
_SIZES = {"num_rows": 315, "batch_size": 32, "num_valid": 77}


def _kind(size: str, how: str, *overrides: str, **keys: object) -> Training:
    items = (("embedding_sharding", how), ("epochs", 3), ("eval_steps", 5), *keys.items())
    return Training("DeepFM_demo_gen", size, overrides, items, **_SIZES)


KINDS = {
    "lazy_whole": _kind("large", "none"),
    "lazy_cut": _kind("large", "row"),
    "lazy_cut_dropout": _kind("large", "row", *_DROPOUT),
    "penalised_cut": _kind("large", "row", "embedding_regularizer=0.01"),
    "rows_whole": _kind("medium", "none", "embedding_regularizer=0.01"),
    "rows_cut": _kind("medium", "row", optimizer="rmsprop"),
    "dense_dropout": _kind("small", "none", *_DROPOUT, "batch_norm=true"),
    "tiny_cut": _kind("small", "row", optimizer="adagrad"),
}


class Cut(Exception):
    """The training was ended at a step."""


class StateAt(Callback):
    """Writes the state after a step, and ends the training."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path
        self.trainer: Trainer | None = None

    def is_due(self, step: int) -> bool:
        return step == self.step

    def after_step(self, epoch: int, step: int) -> None:
        assert self.trainer is not None
        state = self.trainer.state()
        if current_ranks().is_first:
            state.save(self.path)
        raise Cut


def do(task: str, folder: Path) -> None:
    verb, kind, *made_by = task.split(":")
    training, ranks = KINDS[kind], current_ranks()
    model, feature_map = training.build()
    share = Share(ranks.rank, ranks.size)
    rows = make_rows(feature_map, training.num_rows)
    held = make_rows(feature_map, training.num_valid, seed=2)
    train = BatchIterator(rows, training.batch_size, True, share=share)
    valid = BatchIterator(held, training.batch_size, share=share, is_split_by_batch=True)
    callback = StateAt(CUT_AT if verb == "cut" else -1, folder / f"{kind}.{ranks.size}.state")
    trainer = Trainer(model, training.config, verbose=0, callbacks=[callback])
    callback.trainer = trainer
    found = {}
    try:
        state = None
        if verb == "go_on":
            state = TrainingState.load(folder / f"{kind}.{made_by[0]}.state", ranks.size > 1)
        if verb == "bad_number" and ranks.rank == 1:
            train.data.values[5] = float("nan")
        before = [weight.detach().clone() for weight in model.parameters()]
        result = trainer.fit(train, valid, state)
        found["losses"] = np.array([entry["train_loss"] for entry in result.history])
        found["AUC"] = np.array([entry["metrics"]["AUC"] for entry in result.history])
    except Cut:
        pass
    except (FuxiCTRError, SystemExit) as error:
        found["error"] = np.array(f"{type(error).__name__}: {error}")
        pairs = zip(before, model.parameters(), strict=True)
        found["unchanged"] = np.array(all(torch.equal(*pair) for pair in pairs))
    ranks.barrier()
    weights = gather_full_state_dict(model.state_dict(), model, ranks)
    found |= {f"weight.{name}": weight.numpy() for name, weight in weights.items()}
    if ranks.is_first or verb == "bad_number":
        name = f"{task.replace(':', '.')}.{ranks.size}.rank{ranks.rank}.npz"
        np.savez(folder / name, **found)


def main(folder: Path, tasks: list[str]) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    with joined("cpu"):
        for task in tasks:
            do(task, folder)
    exit_now(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
