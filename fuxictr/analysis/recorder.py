"""Recorder: switches a model's recording on, and collects what its forward passes record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from fuxictr.errors import CheckpointError

PREFIX = "record_"
ROOT_NAME = "model"


class Recorder:
    """Context in which a model and its submodules record their tensors.

    A module records if it follows the record contract: ``init_record`` (optional) creates lists
    named ``record_<name>``, and forward appends tensors (rows first) while ``self.analyzing`` is
    true. Entering the context empties old lists, calls ``init_record`` and sets ``analyzing``;
    leaving it resets ``analyzing`` and empties the lists.

    Example::

        with Recorder(model.eval()) as recorder, torch.inference_mode():
            for batch in loader:
                model(batch)
            arrays = recorder.collect()

    Raises CheckpointError if an attribute ``record_<name>`` is no list.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __enter__(self) -> Recorder:
        clear_records(self.model)
        for module in self.model.modules():
            if callable(getattr(module, "init_record", None)):
                module.init_record()
        for path, name, records in _records(self.model):
            _check_list(path, name, records)
        set_analyzing(self.model, True)
        return self

    def __exit__(self, *exception: object) -> None:
        set_analyzing(self.model, False)
        clear_records(self.model)

    def collect(self) -> dict[str, np.ndarray]:
        """Returns what has been recorded since the last call, and empties the lists.

        The arrays are ``{"<module path>/<name>": (rows, ...)}``, float32; the path of the model
        itself is ``model``. Empty lists have no entry. Raises CheckpointError if trailing shapes
        differ, or two modules claim one key.
        """
        arrays: dict[str, np.ndarray] = {}
        for path, name, records in _records(self.model):
            _check_list(path, name, records)
            if not records:
                continue
            key = f"{path}/{name}"
            if key in arrays:
                raise CheckpointError(
                    f"record '{key}' exists twice: the model itself is called '{ROOT_NAME}', and "
                    f"so is a module inside it; rename that module"
                )
            arrays[key] = _concatenate(path, name, records)
            records.clear()
        return arrays


def set_analyzing(model: nn.Module, flag: bool) -> None:
    """Sets ``analyzing`` of the model and all its submodules."""
    for module in model.modules():
        module.analyzing = flag


def clear_records(model: nn.Module) -> None:
    """Empties every list ``record_<name>`` of the model and all its submodules."""
    for _, _, records in _records(model):
        if isinstance(records, list):
            records.clear()


def _records(model: nn.Module) -> Iterator[tuple[str, str, Any]]:
    """Yields (module path, record name, value) of every ``record_<name>`` attribute."""
    for path, module in model.named_modules():
        for attribute, value in list(vars(module).items()):
            if attribute.startswith(PREFIX):
                yield path or ROOT_NAME, attribute.removeprefix(PREFIX), value


def _check_list(path: str, name: str, records: object) -> None:
    if not isinstance(records, list):
        raise CheckpointError(
            f"module '{path}': {PREFIX}{name} is a {type(records).__name__}; "
            f"attributes named {PREFIX}* must be lists to which forward appends tensors"
        )


def _concatenate(path: str, name: str, records: list) -> np.ndarray:
    """Returns the batches as one float32 array (rows, ...)."""
    where = f"module '{path}': {PREFIX}{name}"
    for record in records:
        if not isinstance(record, torch.Tensor) or record.ndim == 0:
            found = "a scalar" if isinstance(record, torch.Tensor) else f"a {type(record).__name__}"
            raise CheckpointError(f"{where} holds {found}; append tensors with rows first")
    shapes = sorted({tuple(record.shape[1:]) for record in records})
    if len(shapes) > 1:
        raise CheckpointError(
            f"{where} holds batches that differ beyond their rows: trailing shapes "
            f"{', '.join(map(str, shapes))}; use one record for each shape"
        )
    return torch.cat([record.detach().cpu().float() for record in records]).numpy()
