"""The state of a training run, from which it resumes: tensors, plain values, and their file."""

from __future__ import annotations

import base64
import io
import json
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fuxictr.errors import CheckpointError
from fuxictr.pytorch.checkpoint.weights import read_tensors, write_tensors
from fuxictr.pytorch.distributed.ranks import Ranks
from fuxictr.pytorch.optim.lazy_adam import LazyAdam
from fuxictr.pytorch.sharding.state_dict import (
    gather_full_optimizer_state,
    gather_full_state_dict,
    local_optimizer_state,
    local_state_dict,
)

# Raise it whenever training cannot resume from the states written so far.
STATE_VERSION = 1


@dataclass
class TrainingState:
    """All that a training run needs to resume.

    Attributes:
        progress: plain values: position, history, early stopping, callbacks.
        tensors: weights, optimiser, random number generators.
        identity: plain values that say what is trained; a state fits a run with equal ones.
    """

    progress: dict[str, Any]
    tensors: dict[str, Any]
    identity: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Writes the state, whole or not at all."""
        plain = {"progress": self.progress, "identity": self.identity}
        # Plain values as JSON: what torch.load makes of a file is tensors and texts only.
        content = {"version": STATE_VERSION, "plain": json.dumps(plain), "tensors": self.tensors}
        write_tensors(content, path)

    @classmethod
    def load(cls, path: Path, mapped: bool = False) -> TrainingState:
        """Reads what ``save`` wrote; CheckpointError if missing, damaged or of another version."""
        content = read_tensors(path, mapped)
        try:
            version = content["version"]
            if version != STATE_VERSION:
                raise ValueError(f"version {version}, this one reads {STATE_VERSION}")
            state = cls(tensors=content["tensors"], **json.loads(content["plain"]))
            if not all(isinstance(part, dict) for part in vars(state).values()):
                raise TypeError("a part of it is no mapping")
            return state
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{path}: not the state of a training run that can be resumed ({error}); "
                "train without --resume"
            ) from error


def raw_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Returns all weights and buffers as they are, without the delayed updates of LazyAdam."""
    return {name: tensor.detach() for name, tensor in _named_tensors(model)}


@torch.no_grad()
def load_raw_weights(model: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Copies what ``raw_weights`` of the same model returned into it; else CheckpointError."""
    held = dict(_named_tensors(model))
    problems = [name for name in held.keys() ^ weights.keys()]
    problems += [n for n in held.keys() & weights.keys() if held[n].shape != weights[n].shape]
    if problems:
        raise CheckpointError(
            f"the state of the training run does not fit the model {type(model).__name__}: weight "
            f"'{sorted(problems)[0]}' is missing, unexpected or of another shape"
        )
    for name, tensor in held.items():
        tensor.copy_(weights[name])


def gather_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device, ranks: Ranks
) -> dict[str, Any]:
    """Returns weights, optimiser and random numbers for ``TrainingState.tensors``; collective.

    They are the tensors in use; the first process has them in the form that one process has.
    """
    lazy = isinstance(optimizer, LazyAdam)
    state = optimizer.raw_state() if lazy else optimizer.state_dict()
    tensors: dict[str, Any] = {
        "weights": gather_full_state_dict(raw_weights(model), model, ranks),
        "optimizer": gather_full_optimizer_state(state, optimizer, model, ranks),
        "random": random_state(device),
    }
    if ranks.size > 1:
        tensors["random_of_ranks"] = gather_random_states(tensors["random"], ranks)
    return tensors


def load_tensors(
    tensors: Mapping[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Takes over weights and optimiser, or this process's rows of them."""
    load_raw_weights(model, local_state_dict(tensors["weights"], model))
    state = local_optimizer_state(tensors["optimizer"], optimizer, model)
    if isinstance(optimizer, LazyAdam):
        optimizer.load_raw_state(state)
    else:
        optimizer.load_state_dict(state)


def load_random_numbers(tensors: Mapping[str, Any], device: torch.device, ranks: Ranks) -> bool:
    """Takes over this process's random numbers; False if saved by another number of processes."""
    of_ranks = tensors.get("random_of_ranks", [])
    if ranks.is_first:
        load_random_state(tensors["random"], device)
    elif len(of_ranks) == ranks.size:
        load_random_state(of_ranks[ranks.rank], device)
    else:
        return False
    return True


def random_state(device: torch.device) -> dict[str, Any]:
    """Returns the state of the random number generators of torch, the device, numpy and python."""
    numpy_state: dict[str, Any] = np.random.get_state(legacy=False)  # type: ignore[assignment]
    words = torch.tensor(numpy_state["state"]["key"].astype(np.int64))
    version, python_words, python_gauss = random.getstate()
    state = {
        "torch": torch.get_rng_state(),
        "numpy": [
            words,
            numpy_state["state"]["pos"],
            numpy_state["has_gauss"],
            numpy_state["gauss"],
        ],
        "python": [version, torch.tensor(python_words), python_gauss],
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def load_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Takes over what ``random_state`` returned."""
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
    words, *rest = state["numpy"]
    np.random.set_state(("MT19937", words.numpy().astype(np.uint32), *rest))
    version, python_words, python_gauss = state["python"]
    random.setstate((version, tuple(python_words.tolist()), python_gauss))


def gather_random_states(state: Mapping[str, Any], ranks: Ranks) -> list[dict[str, Any]]:
    """Returns what ``random_state`` returned on each rank, on all of them."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    texts = ranks.gather_texts(base64.b64encode(buffer.getvalue()).decode())
    contents = (io.BytesIO(base64.b64decode(text)) for text in texts)
    return [torch.load(content, weights_only=True) for content in contents]


def seed_rank(seed: int, ranks: Ranks) -> None:
    """Lets each rank draw its own dropout; the first one draws what one process would."""
    if not ranks.is_first:
        torch.manual_seed(seed + 1_000_003 * ranks.rank)


def _named_tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    return chain(model.named_parameters(), model.named_buffers())


@contextmanager
def naming_the_state() -> Iterator[None]:
    """Context that turns the errors of a state with other contents into a CheckpointError."""
    try:
        yield
    except CheckpointError:
        raise
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"the state of the training run does not fit the model or the config ({error!r}); "
            "train without --resume"
        ) from error
