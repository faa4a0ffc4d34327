"""The cost of a model, counted by running it on the meta device, without data or weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from fuxictr.config import ExperimentConfig
from fuxictr.experiment.run.run import build_model
from fuxictr.features import FeatureMap
from fuxictr.pytorch.batch import Batch
from fuxictr.pytorch.dataloaders import make_layout
from fuxictr.pytorch.layers.embeddings import FieldBlocks
from fuxictr.pytorch.layers.embeddings.lookup import look_up
from fuxictr.pytorch.models import BaseModel

# The backward pass has two matrix products for each one of the forward pass.
TRAINING_FACTOR = 3
# Numbers that an optimiser keeps per weight, with torch's defaults.
_OPTIMIZER_STATES = {"adam": 2, "adamw": 2, "sgd": 0, "adagrad": 1, "rmsprop": 1}
_BYTES = 4  # float32
_META = torch.device("meta")


@dataclass(frozen=True, kw_only=True)
class ModelCost:
    """The cost of a model at one batch size.

    Attributes:
        table_parameters: trainable weights of embedding tables.
        dense_parameters: all other trainable weights.
        forward_flops: per row, of the matrix products; a multiply-add counts as two.
        num_lookups: per row, table rows read.
        lookup_bytes: per row, the bytes of these.
        forward_bytes: per row, bytes that the forward pass reads and writes, lookups included.
        step_bytes: per step, bytes of gradients and weights moved, as every table is updated whole.
        activation_bytes: per batch, bytes kept for the backward pass.
        state_bytes: bytes of weights, gradients and the optimiser's numbers.
        num_operations: tensor operations of a forward pass and its loss.
    """

    table_parameters: int
    dense_parameters: int
    frozen_parameters: int
    forward_flops: float
    num_lookups: float
    lookup_bytes: float
    forward_bytes: float
    step_bytes: int
    activation_bytes: int
    state_bytes: int
    num_operations: int
    batch_size: int

    @property
    def parameters(self) -> int:
        """Number of trainable weights."""
        return self.table_parameters + self.dense_parameters

    @property
    def checkpoint_bytes(self) -> int:
        """Bytes of all weights on disk."""
        return _BYTES * (self.parameters + self.frozen_parameters)

    @property
    def training_flops(self) -> float:
        """Operations of the matrix products of a row's forward and backward pass."""
        return TRAINING_FACTOR * self.forward_flops

    @property
    def training_bytes(self) -> float:
        """Bytes that a row of a full batch moves in training, its share of the step included."""
        return TRAINING_FACTOR * self.forward_bytes + self.step_bytes / self.batch_size

    def forward_seconds(self, rates: MachineRates, num_rows: int) -> float:
        """Returns the duration of the forward passes over ``num_rows`` rows."""
        num_steps = -(-num_rows // self.batch_size)
        seconds = num_rows * self.forward_flops / rates.flops
        seconds += num_rows * self.forward_bytes / rates.bytes
        return seconds + num_steps * self.num_operations / rates.operations

    def training_seconds(self, rates: MachineRates, num_rows: int) -> float:
        """Returns the duration of the training steps over ``num_rows`` rows."""
        num_steps = -(-num_rows // self.batch_size)
        seconds = TRAINING_FACTOR * self.forward_seconds(rates, num_rows)
        seconds += num_rows * self.num_lookups / rates.lookups
        return seconds + num_steps * self.step_bytes / rates.bytes


@dataclass(frozen=True)
class MachineRates:
    """What a device does per second.

    Attributes:
        flops: operations of large float32 matrix products.
        bytes: bytes read and written by a copy of a large tensor.
        lookups: table rows read whose gradients are then added up.
        operations: small tensor operations, those of the backward pass included.
    """

    flops: float
    bytes: float
    lookups: float
    operations: float


def count_cost(config: ExperimentConfig, model_class: type, feature_map: FeatureMap) -> ModelCost:
    """Returns the cost of a config's model.

    Raises:
        ConfigError: the config does not fit the model.
        RuntimeError: building or running the model needs values, not only shapes.
    """
    model = build_on_meta(config, model_class, feature_map)
    return model_cost(model, config.train.batch_size, config.train.optimizer)


def build_on_meta(
    config: ExperimentConfig, model_class: type, feature_map: FeatureMap
) -> BaseModel:
    """Returns the model of a config on the meta device, without memory for its weights."""
    blank = feature_map.select()
    blank.pretrained = {
        name: np.broadcast_to(np.float32(0), (spec["vocab_size"], spec["pretrain_dim"]))
        for name, spec in blank.fields.items()
        if spec.get("pretrained_emb")
    }
    with _META:
        return build_model(config, model_class, blank).to(_META)


def model_cost(model: BaseModel, batch_size: int, optimizer: str = "adam") -> ModelCost:
    """Returns the cost of a model on the meta device; ``optimizer`` is as in the config."""
    layers = [module for module in model.modules() if isinstance(module, FieldBlocks)]
    tables = {id(table) for layer in layers for table in layer.tables()}
    trained = [p for p in model.parameters() if p.requires_grad]
    num_table = sum(p.numel() for p in trained if id(p) in tables)
    num_trained = sum(p.numel() for p in trained)
    num_all = sum(p.numel() for p in model.parameters())
    num_states = _OPTIMIZER_STATES[optimizer]
    traffic, products, kept = _Traffic(), FlopCounterMode(display=False), _Kept(model)
    batch = blank_batch(model.feature_map, batch_size)
    with _META, products, traffic, torch.autograd.graph.saved_tensors_hooks(kept, _unused):
        model.batch_loss(model.train()(batch), model.get_labels(batch))
    return ModelCost(
        table_parameters=num_table,
        dense_parameters=num_trained - num_table,
        frozen_parameters=num_all - num_trained,
        forward_flops=products.get_total_flops() / batch_size,
        num_lookups=traffic.num_lookups / batch_size,
        lookup_bytes=traffic.lookup_bytes / batch_size,
        forward_bytes=traffic.bytes / batch_size,
        step_bytes=_step_bytes(model, num_trained, num_states),
        activation_bytes=kept.bytes,
        state_bytes=_BYTES * (num_all + (1 + num_states) * num_trained),
        num_operations=traffic.num_operations,
        batch_size=batch_size,
    )


def blank_batch(feature_map: FeatureMap, batch_size: int) -> Batch:
    """Returns a batch on the meta device."""
    layout = make_layout(feature_map)
    ids = torch.empty(batch_size, layout.num_ids, dtype=torch.int32, device=_META)
    return Batch(layout, ids, torch.empty(batch_size, layout.num_values, device=_META))


def measure_rates(device: torch.device, seconds: float = 0.2) -> MachineRates:
    """Measures matrix products, copies, lookups and small operations: the best time of each."""
    # Short on a CPU, so that a busy machine interrupts few of the repetitions.
    is_gpu = device.type == "cuda"
    size, num_numbers, num_ids = (4096, 1 << 28, 1 << 20) if is_gpu else (512, 1 << 24, 1 << 15)
    matrix = torch.ones(size, size, device=device)
    out = torch.empty_like(matrix)
    source = torch.ones(num_numbers, device=device)
    target = torch.empty_like(source)
    table = torch.zeros(num_ids // 2, 16, device=device, requires_grad=True)
    ids = torch.arange(num_ids, device=device) * 40_503 % len(table)
    gradient = torch.ones(num_ids, 16, device=device)
    weight = torch.ones(8, device=device, requires_grad=True)
    chain = 20

    def read_rows() -> None:
        torch.autograd.grad(look_up(table, ids), table, gradient)

    def small_operations() -> None:
        value = weight
        for _ in range(chain):
            value = value * weight
        torch.autograd.grad(value.sum(), weight)

    return MachineRates(
        flops=2 * size**3 / _best_time(lambda: torch.mm(matrix, matrix, out=out), device, seconds),
        bytes=2 * _BYTES * num_numbers / _best_time(lambda: target.copy_(source), device, seconds),
        lookups=len(ids) / _best_time(read_rows, device, seconds),
        operations=TRAINING_FACTOR * chain / _best_time(small_operations, device, seconds),
    )


def _best_time(function: Callable[[], Any], device: torch.device, seconds: float) -> float:
    def synchronize() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    function()
    synchronize()
    times: list[float] = []
    while sum(times) < seconds:
        start = time.perf_counter()
        function()
        synchronize()
        times.append(time.perf_counter() - start)
    return min(times)


def _step_bytes(model: BaseModel, num_trained: int, num_states: int) -> int:
    """Returns the bytes of a step's passes over all weights.

    The gradient is zeroed (1), its norm is taken (1), it is scaled (2); the update reads gradient,
    weight and states and writes the last two (3 + 2 per state). A penalty moves three more.
    """
    num_penalized = sum(weight.numel() for weight, _, _ in model.penalized_parameters())
    return _BYTES * ((7 + 2 * num_states) * num_trained + 3 * num_penalized)


class _Traffic(TorchDispatchMode):
    """Adds up the bytes that operations read and write; views move none."""

    _LOOKUPS = ("embedding", "_embedding_bag", "_embedding_bag_forward_only")
    _GATHERS = ("index_select", "index", "gather")
    _RELABELS = ("_unsafe_view", "lift_fresh")

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self.num_lookups = 0
        self.lookup_bytes = 0
        self.num_operations = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        if func.is_view or name in self._RELABELS:
            return result
        self.num_operations += 1
        read, written = list(_tensors((args, tuple(kwargs.values())))), list(_tensors(result))
        if name in self._LOOKUPS:
            table, ids = read[:2]
            found = ids.numel() * table.shape[1] * table.element_size()
            self.num_lookups += ids.numel()
            self.lookup_bytes += found
            self.bytes += found
            read = read[1:]
        elif name in self._GATHERS:
            self.bytes += sum(map(_num_bytes, written))
            read = read[1:]
        self.bytes += sum(map(_num_bytes, [*read, *written]))
        return result


class _Kept:
    """Hook that adds up the storages that autograd keeps, each once, without the weights."""

    def __init__(self, model: nn.Module) -> None:
        self.bytes = 0
        # Holds the storages, so that no id is reused.
        self._seen = {id(s): s for s in (p.untyped_storage() for p in model.parameters())}

    def __call__(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if id(storage) not in self._seen:
            self._seen[id(storage)] = storage
            self.bytes += storage.nbytes()


def _unused(kept: Any) -> torch.Tensor:
    raise AssertionError("there is no backward pass")


def _tensors(value: Any) -> Iterable[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)


def _num_bytes(tensor: torch.Tensor) -> int:
    """Returns the bytes of a tensor, for an expanded one those of its source."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
