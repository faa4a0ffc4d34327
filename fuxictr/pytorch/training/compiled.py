"""Training steps that torch compiles (``compile: true``) or a CUDA graph replays (``auto``)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Protocol

import torch
from torch import nn

from fuxictr.errors import ConfigError
from fuxictr.pytorch.batch import Batch
from fuxictr.pytorch.layers.generation import GEN

logger = logging.getLogger(__name__)

# Of a batch: its loss, or a whole training step that returns the loss.
Step = Callable[[Batch], torch.Tensor]


class CompiledLoss:
    """A model's loss, compiled by torch for batches of one size.

    A batch of another size, as the last one of an epoch, is computed without the compiler, which
    would compile anew for it. So are modules with ``compiles = False``.

    Args:
        loss: computes the loss of a batch by the model.
        model: the model.
        device: where it runs.
        num_rows: rows of a batch.

    Raises:
        ConfigError: torch cannot compile here, for want of a C++ compiler or of triton.
    """

    def __init__(self, loss: Step, model: nn.Module, device: torch.device, num_rows: int) -> None:
        check_compiler(device)
        for module in model.modules():
            if not getattr(module, "compiles", True):
                module.forward = torch.compiler.disable(module.forward)  # type: ignore[method-assign]
        self.loss = loss
        self._compiled: Step = torch.compile(loss, dynamic=False)
        self._num_rows = num_rows

    def __call__(self, batch: Batch) -> torch.Tensor:
        """Returns the loss of a batch."""
        return (self._compiled if batch.num_rows == self._num_rows else self.loss)(batch)


def check_compiler(device: torch.device) -> None:
    """Compiles one addition, to see whether torch can.

    Raises:
        ConfigError: it cannot; says why.
    """
    try:
        torch.compile(torch.add)(torch.ones(8, device=device), 1)
    except Exception as error:  # each backend has errors of its own for what it misses
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        needed = "triton" if device.type == "cuda" else "a C++ compiler (g++, or CXX)"
        raise ConfigError(
            f"key 'compile': found true, but torch.compile does not work here ({reason}); it needs "
            f"{needed}; install that, or set false"
        ) from error


class Graphs(Protocol):
    """How a step without arguments is recorded as a graph."""

    def warm_up(self, step: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Does the step, and returns what it returns."""

    def capture(self, step: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        """Returns what does the step when it is called; does not do it yet."""


class CudaGraphs:
    """CUDA graphs of one device, made as PyTorch's notes on CUDA semantics describe it.

    Args:
        device: the CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)

    def warm_up(self, step: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Does the step on a stream of its own, where its memory and handles are set up."""
        current = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            loss = step()
        current.wait_stream(self._stream)
        return loss

    def capture(self, step: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        """Returns the replay of the step.

        Raises:
            RuntimeError: the step does what a graph cannot, as waiting for the device.
        """
        current = torch.cuda.current_stream(self.device)
        generator = torch.cuda.default_generators[current.device_index]
        state = generator.clone_state()
        graph = torch.cuda.CUDAGraph()
        try:
            # The outer context sets the device, and the stream back also where the inner one fails.
            # Other threads may read data and pin memory meanwhile: their calls must not count.
            with (
                torch.cuda.stream(current),
                torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
            ):
                loss = step()
        except RuntimeError:
            generator.graphsafe_set_state(state)  # the old one may still count for the graph
            raise

        def replay() -> torch.Tensor:
            graph.replay()
            return loss

        return replay


class GraphedStep:
    """A training step that a graph replays for all batches of one size.

    Every batch is trained on once: the first ``num_warmup`` ones without the graph; then the step
    is captured, which computes nothing, and replayed for each batch, which is copied to where the
    graph reads. A batch of another size is trained on without the graph. The learning rate is a
    constant of the graph, so a new one is captured anew. Where a capture fails, all further steps
    are done without the graph.

    Args:
        step: does one training step and returns the loss, on the device and without waiting for it.
        optimizer: the step's optimiser.
        graphs: records steps.
        num_rows: rows of a batch.
        num_warmup: batches before the capture.
    """

    def __init__(
        self,
        step: Step,
        optimizer: torch.optim.Optimizer,
        graphs: Graphs,
        num_rows: int,
        num_warmup: int = 3,
    ) -> None:
        self.step = step
        self.optimizer = optimizer
        self.graphs = graphs
        self.num_rows = num_rows
        self.num_warmup = num_warmup
        self._held: Batch | None = None  # what the graph reads
        self._replay: Callable[[], torch.Tensor] | None = None
        self._rates: list[float] = []
        self._has_failed = False

    def __call__(self, batch: Batch) -> torch.Tensor:
        """Does one step and returns its loss; the next replay writes over it."""
        if self._has_failed or not self._hold(batch):
            return self.step(batch)
        assert self._held is not None
        step = partial(self.step, self._held)
        if self.num_warmup > 0:
            self.num_warmup -= 1
            return self.graphs.warm_up(step)
        rates = [group["lr"] for group in self.optimizer.param_groups]
        if self._replay is None or rates != self._rates:
            self._replay, self._rates = None, rates  # the old graph's memory first
            try:
                self.optimizer.zero_grad(set_to_none=True)
                with _capturable(self.optimizer):
                    self._replay = self.graphs.capture(step)
            except RuntimeError as error:
                self._has_failed, self._held = True, None
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                logger.warning("compile: auto trains without a CUDA graph: %s", reason)
                return self.step(batch)
        return self._replay()

    def _hold(self, batch: Batch) -> bool:
        """Copies the batch to where the graph reads; returns whether its size is the graph's."""
        if batch.num_rows != self.num_rows:
            return False
        new = (batch.ids, batch.values_matrix)
        if self._held is None:
            self._held = Batch(batch.layout, *(matrix.clone() for matrix in new))
            return True
        held = (self._held.ids, self._held.values_matrix)
        for old, matrix in zip(held, new, strict=True):
            old.copy_(matrix, non_blocking=True)
        return True


def make_graphed_step(
    step: Step, model: nn.Module, optimizer: torch.optim.Optimizer, graphs: Graphs, num_rows: int
) -> Step:
    """Returns the training step as a GraphedStep, or as it is where it cannot be a graph.

    The log says why it cannot.
    """
    reason = why_no_graph(model, optimizer)
    if reason is None:
        return GraphedStep(step, optimizer, graphs, num_rows)
    logger.info("compile: auto trains without a CUDA graph: %s", reason)
    return step


def why_no_graph(model: nn.Module, optimizer: torch.optim.Optimizer) -> str | None:
    """Returns what a training step does on the host for each batch; None = nothing known."""
    targets = (m.config.target for m in model.modules() if isinstance(m, GEN))
    drawn = next((target for target in targets if target != "all"), None)
    if drawn is not None:
        return f"target: {drawn} draws the predicted fields on the host"
    if not all(group.get("fused") for group in optimizer.param_groups):
        return f"{type(optimizer).__name__} has no fused form, it counts its steps on the host"
    return None


@contextmanager
def _capturable(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    # Set for the capture only: a step without a graph warns of it. Fused optimisers keep their
    # state on the device either way.
    groups = [group for group in optimizer.param_groups if "capturable" in group]
    before = [group["capturable"] for group in groups]
    for group in groups:
        group["capturable"] = True
    try:
        yield
    finally:
        for group, value in zip(groups, before, strict=True):
            group["capturable"] = value
