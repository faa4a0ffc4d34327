"""How much work a training step is, and the number of threads that it is enough for."""

from __future__ import annotations

import logging
import math

import torch

from fuxictr.pytorch.dataloaders import make_layout
from fuxictr.pytorch.layers.embeddings import FieldBlocks
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.threads import take_threads

logger = logging.getLogger(__name__)

# A thread that has less to do in a step costs more, in starts and ends of parallel parts, than it
# saves. The rates are those of one core; an embedded number is moved some 30 times in a step: by
# the lookup, the interaction, the gradients and the optimiser.
_MILLISECONDS_PER_THREAD = 2.0
_FLOPS_PER_MILLISECOND = 60e6
_BYTES_PER_MILLISECOND = 10e6
_BYTES_PER_EMBEDDED_NUMBER = 30 * 4
_FLOPS_PER_WEIGHT = 6  # of a row: a multiply-add forwards and two backwards


def adapt_threads(model: BaseModel, batch_size: int, device: torch.device | str) -> int:
    """Sets torch's number of threads for a training on the CPU; returns the number it has now.

    It is one thread for each 2 ms that a step would take on one core, at most ``usable_cpus``. It
    depends on the model, the batch size and the machine alone, so that a run repeats its bits. A
    number that the user has set is kept.
    """
    before = torch.get_num_threads()
    if torch.device(device).type != "cpu":
        return before
    wanted = max(1, math.ceil(step_milliseconds(model, batch_size) / _MILLISECONDS_PER_THREAD))
    taken = take_threads(wanted)
    if taken < before:
        logger.info(
            "Threads: %d instead of %d, since a step has work for no more; OMP_NUM_THREADS sets "
            "another number",
            taken,
            before,
        )
    return taken


def step_milliseconds(model: BaseModel, batch_size: int) -> float:
    """Returns about how long a training step takes on one core, from the model's sizes alone.

    A weight counts once for each row, or as often as its module's ``applications_per_row`` says.
    """
    blocks = [module for module in model.modules() if isinstance(module, FieldBlocks)]
    tables = {id(table) for block in blocks for table in block.tables()}
    num_weights = sum(
        weight.numel() * getattr(module, "applications_per_row", 1)
        for module in model.modules()
        for weight in module.parameters(recurse=False)
        if weight.requires_grad and id(weight) not in tables
    )
    flops = _FLOPS_PER_WEIGHT * batch_size * num_weights
    size = _BYTES_PER_EMBEDDED_NUMBER * batch_size * sum(map(_embedded_numbers, blocks))
    return flops / _FLOPS_PER_MILLISECOND + size / _BYTES_PER_MILLISECOND


def _embedded_numbers(block: FieldBlocks) -> int:
    """Returns how many numbers the embeddings of a row are, before pooling."""
    layout = make_layout(block.feature_map)
    return (layout.num_ids + layout.num_values) * block.embedding_dim
