"""What decides how a training run goes on, as tensors and plain values, and its file."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
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

# Raise it whenever a state of before cannot be gone on from.
STATE_VERSION = 1


@dataclass
class TrainingState:
    """All that decides how a training run goes on.

    Attributes:
        progress: plain values: position, history, early stopping, callbacks.
        tensors: weights, optimiser, random number generators.
        identity: what is trained, by which a state is known to fit; of plain values.
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
        """Reads what ``save`` wrote.

        Args:
            path: the file.
            mapped: see ``read_tensors``.

        Raises:
            CheckpointError: the file is missing, damaged, or of another version.
        """
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
                f"{path}: not the state of a training run that can be gone on from ({error}); "
                "train without --resume"
            ) from error


def raw_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Returns all weights and buffers as they are, without bringing any up to date."""
    return {name: tensor.detach() for name, tensor in _named_tensors(model)}


@torch.no_grad()
def load_raw_weights(model: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Copies what ``raw_weights`` of the same model returned into it.

    Raises:
        CheckpointError: the model has other weights, or of another shape.
    """
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


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Returns an optimiser's state as it is, without bringing any weight up to date."""
    lazy = isinstance(optimizer, LazyAdam)
    return optimizer.raw_state() if lazy else optimizer.state_dict()


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Takes over what ``optimizer_state`` returned."""
    if isinstance(optimizer, LazyAdam):
        optimizer.load_raw_state(state)
    else:
        optimizer.load_state_dict(state)


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
    """Returns what ``random_state`` returned on each rank, on all of them.

    Each generator's state as it is read back from a file, of tensors and plain values.
    """
    texts = ranks.gather_texts(json.dumps(_to_plain(state)))
    return [_from_plain(json.loads(text)) for text in texts]


def _to_plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return {"dtype": str(value.dtype).removeprefix("torch."), "values": value.tolist()}
    if isinstance(value, Mapping):
        return {name: _to_plain(part) for name, part in value.items()}
    return [_to_plain(part) for part in value] if isinstance(value, list) else value


def _from_plain(value: Any) -> Any:
    if isinstance(value, dict) and value.keys() == {"dtype", "values"}:
        return torch.tensor(value["values"], dtype=getattr(torch, value["dtype"]))
    if isinstance(value, dict):
        return {name: _from_plain(part) for name, part in value.items()}
    return [_from_plain(part) for part in value] if isinstance(value, list) else value


def _named_tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    return chain(model.named_parameters(), model.named_buffers())
