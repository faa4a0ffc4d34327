"""The weights of the best evaluation: kept in a file, or in memory, and restored."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fuxictr.pytorch.checkpoint.weights import load_weights, read_tensors, save_weights
from fuxictr.pytorch.distributed.ranks import Ranks
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.sharding.state_dict import (
    gather_full_state_dict,
    load_full_state_dict,
    local_state_dict,
)

logger = logging.getLogger(__name__)


class BestWeights:
    """Keeps a model's weights as they were at its best, in a file or (path None) in memory.

    On several processes the first one writes and reads the file, which holds whole tables. In
    memory each rank keeps its own part. All methods are collective. The note is kept beside the
    file.
    """

    def __init__(
        self, model: BaseModel, path: Path | None, note: Mapping[str, Any] | None, ranks: Ranks
    ) -> None:
        self.model, self.path, self.ranks, self.note = model, path, ranks, note
        self._held: dict[str, torch.Tensor] | None = None

    def keep(self) -> None:
        """Keeps the present weights."""
        weights = self.model.state_dict()
        path = self.path
        if path is None:
            self._held = {name: tensor.clone() for name, tensor in weights.items()}
            return
        full = gather_full_state_dict(weights, self.model, self.ranks)
        self.ranks.from_rank_zero(lambda: save_weights(full, path, self.note))

    def restore(self) -> None:
        """Loads the kept weights, if any; CheckpointError if the file is missing or damaged."""
        if self.path is None:
            if self._held is not None:
                self.model.load_state_dict(self._held)
            return
        logger.info("Load best model: %s", self.path)
        if self.ranks.size == 1:
            load_weights(self.model, self.path)
            return
        with self.ranks.raise_on_any_rank():
            full = read_tensors(self.path) if self.ranks.is_first else {}
        load_full_state_dict(full, self.model, self.ranks)

    def state(self) -> dict[str, torch.Tensor] | None:
        """Returns what is kept in memory, with the rows of all ranks; None where nothing is."""
        if self._held is None:
            return None
        return gather_full_state_dict(self._held, self.model, self.ranks)

    def load_state(self, weights: Mapping[str, torch.Tensor] | None) -> None:
        """Takes over what ``state`` returned on the first rank."""
        self._held = None if weights is None else local_state_dict(weights, self.model)
