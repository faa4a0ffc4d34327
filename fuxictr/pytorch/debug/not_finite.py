"""What became NaN or infinite first, in words: a value, a weight, a module's output, a gradient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import nn

from fuxictr.pytorch.batch import Batch
from fuxictr.pytorch.debug.forward_walk import ForwardWalk, measure, unchanged
from fuxictr.pytorch.layers.embeddings import FieldBlocks
from fuxictr.pytorch.layers.generation import GEN
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.optim.sparse_lookup import TableReader
from fuxictr.pytorch.sharding.row_wise import ShardReader

LARGE = 100.0  # a numeric column that reaches this is worth scaling


def explain_not_finite(
    model: BaseModel,
    batch: Mapping[str, torch.Tensor],
    where: str,
    loss: float,
    learning_rate: float,
    may_call: bool = True,
) -> str:
    """Returns the message about numbers that are not finite: where, why, and what to do.

    ``where`` is the place in the training, as "epoch 2, step 57". The batch, the loss and the rate
    are those of that step. With ``may_call`` the forward pass may be repeated.
    """
    culprit = find_not_finite(model, batch, may_call) or "looked at again, everything is finite"
    advice = advise(model, batch, learning_rate)
    return f"{where}: the training loss is {loss:.6g}; {culprit}; {advice}"


def find_not_finite(
    model: BaseModel, batch: Mapping[str, torch.Tensor], may_call: bool = True
) -> str | None:
    """Returns what is NaN or infinite first, None where nothing is.

    It looks in this order: values of the batch; weights; outputs of modules whose inputs are
    finite, in the order of the forward pass (ForwardWalk); the loss; the penalty; gradients and
    their norm.

    With ``may_call`` it repeats the forward pass in the model's present mode, without gradients;
    the caller enters the autocast of the training. Weights, buffers, records and random number
    generators keep their bits. Tables are read as they lie in memory, also where an optimiser
    updates them lazily. Gradients must not be clipped yet, for clipping makes all of them NaN where
    one is.
    """
    found = _in_batch(batch) or _in_weights(model)
    if not found and may_call:
        found = _in_forward(model, batch)
    return found or _in_penalty(model) or _in_gradients(model)


def _in_batch(batch: Mapping[str, torch.Tensor]) -> str | None:
    names = batch.layout.positions if isinstance(batch, Batch) else batch
    for name, column in ((name, batch[name]) for name in names):
        extent = measure(column)
        if extent.num_bad:
            cells = column.reshape(len(column), -1)
            row, cell = (~cells.isfinite()).nonzero()[0].tolist()
            value = cells[row, cell].item()
            return f"column '{name}' of the batch: {extent}, the first is {value} in row {row + 1}"
    return None


def _in_weights(model: nn.Module) -> str | None:
    found = []
    for kind, named in (("weight", model.named_parameters()), ("buffer", model.named_buffers())):
        extents = ((name, measure(values)) for name, values in named)
        found += [f"{kind} '{name}': {extent}" for name, extent in extents if extent.num_bad]
    if not found:
        return None
    others = f" (so are some of {len(found) - 1} more weights)" if len(found) > 1 else ""
    return f"{found[0]}{others}; an earlier step, or what was loaded, made them so"


def _in_forward(model: BaseModel, batch: Mapping[str, torch.Tensor]) -> str | None:
    walk = ForwardWalk(model)
    with unchanged(model):
        try:
            with walk:
                outputs = model(batch)
        except Exception:
            # An error that NaN leads to does not matter once its origin is known.
            if not walk.found:
                raise
        if walk.found:
            return walk.found
        loss = model.batch_loss(outputs, model.get_labels(batch))
    if measure(loss).num_bad:
        return f"the loss is that of finite outputs, which reach {measure(outputs).largest:.3g}"
    return None


@torch.no_grad()
def _in_penalty(model: BaseModel) -> str | None:
    if not measure(model.regularization_loss()).num_bad:
        return None
    largest = {name: measure(weight).largest for name, weight in model.named_parameters()}
    name = max(largest, key=lambda name: largest[name])
    return (
        "the penalty on the weights (regularizer) is infinite, the weights are not: "
        f"'{name}' reaches {largest[name]:.3g}"
    )


def _in_gradients(model: nn.Module) -> str | None:
    largest, norms = {}, []
    for name, gradient in _gradients(model):
        extent = measure(gradient)
        if extent.num_bad:
            return f"the loss is finite, the gradient of '{name}' is not: {extent}"
        largest[name] = extent.largest
        norms.append(gradient.norm())
    if norms and not torch.stack(norms).norm().isfinite():
        name = max(largest, key=lambda name: largest[name])
        return (
            "the norm of all gradients is infinite, they are not: "
            f"that of '{name}' reaches {largest[name]:.3g}"
        )
    return None


def _gradients(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields the weights' gradients by name; of a table that is read by rows, that of the rows."""
    readers = {
        id(module.table): module.reader
        for module in model.modules()
        if isinstance(module, FieldBlocks) and isinstance(module.reader, TableReader | ShardReader)
    }
    for name, weight in model.named_parameters():
        is_by_rows = weight.grad is None and id(weight) in readers
        holder = _own_rows(readers[id(weight)]).row_gradients() if is_by_rows else weight
        if holder is not None and holder.grad is not None:
            yield name, holder.grad


def _own_rows(reader: TableReader | ShardReader) -> TableReader:
    return reader.own_rows if isinstance(reader, ShardReader) else reader


def advise(
    model: BaseModel,
    batch: Mapping[str, torch.Tensor],
    learning_rate: float,
    least: float = LARGE,
) -> str:
    """Returns what to do against numbers that grow too large: rate, gamma, columns to scale."""
    advice = f"lower learning_rate ({learning_rate:g})"
    gammas = {module.gamma for module in model.modules() if isinstance(module, GEN)}
    if gammas:
        advice += f" or gamma ({max(gammas, key=abs):g})"
    large = large_columns(model, batch, least)
    if large:
        named = [f"'{name}', which reaches {reach:.3g} in this batch" for name, reach in large]
        advice += f", and scale column {' and column '.join(named)}"
        specs = model.feature_map.features
        if any(specs[name]["type"] == "numeric" for name, _ in large):
            advice += " (normalizer: StandardScaler)"
    return advice


def large_columns(
    model: BaseModel, batch: Mapping[str, torch.Tensor], least: float = LARGE
) -> list[tuple[str, float]]:
    """Returns columns of numbers or vectors with large values, and their largest absolute value.

    At most three, the largest first, and none below a tenth of the largest.
    """
    specs = model.feature_map.features
    of_numbers = [n for n in batch if specs.get(n, {}).get("type") in ("numeric", "embedding")]
    reach = {name: measure(batch[name]).largest for name in of_numbers}
    furthest = max(reach.values(), default=0.0)
    large = [item for item in reach.items() if item[1] >= max(least, furthest / 10)]
    return sorted(large, key=lambda item: -item[1])[:3]
