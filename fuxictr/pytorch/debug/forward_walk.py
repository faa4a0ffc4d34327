"""Finds where in a forward pass a value stops being finite."""

from __future__ import annotations

import dataclasses
import math
import random
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

_VALUES_AT_ONCE = 1 << 20  # to be counted at once: a table may take most of the memory


class Extent(NamedTuple):
    """How many values there are, how many are not finite, and the largest finite |value| or 0."""

    num_values: int
    num_bad: int
    largest: float

    def __str__(self) -> str:
        return f"{self.num_bad:,} of {self.num_values:,} values are NaN or infinite"


def measure(tree: Any) -> Extent:
    """Returns the extent of all floats in a tensor, or in a nested structure of tensors."""
    num_values = num_bad = 0
    largest = 0.0
    for values in _tensors(tree):
        num_values += values.numel()
        low, high = (abs(bound.item()) for bound in torch.aminmax(values))  # makes no copy
        if math.isfinite(low) and math.isfinite(high):
            largest = max(largest, low, high)
            continue
        for part in values.reshape(-1).split(_VALUES_AT_ONCE):
            finite = part[part.isfinite()]
            num_bad += part.numel() - finite.numel()
            if finite.numel():
                largest = max(largest, finite.abs().max().item())
    return Extent(num_values, num_bad, largest)


def _tensors(tree: Any) -> Iterator[torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        values = torch.view_as_real(tree.resolve_conj()) if tree.is_complex() else tree
        if values.is_floating_point() and values.layout == torch.strided and values.numel():
            yield values.detach()
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from _tensors(value)
    elif isinstance(tree, (list, tuple)):
        for value in tree:
            yield from _tensors(value)
    elif dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        for field in dataclasses.fields(tree):
            yield from _tensors(getattr(tree, field.name))


@dataclasses.dataclass
class _Call:
    """A call of a module that has not returned."""

    module: nn.Module
    inputs: Extent  # measured before anything overwrites them
    culprit: str = ""  # what a module inside it has done
    broken_part: str = ""  # the first module that it calls with values that are not finite


class ForwardWalk:
    """Context that finds the first module of a model with finite inputs and an output that is not.

    A module whose ``forward`` is not called is part of the module that uses it. Infinite values
    that an outer module removes again, as those of a mask before a softmax, do not count.
    """

    def __init__(self, model: nn.Module) -> None:
        self._names = {module: name for name, module in model.named_modules()}
        self._calls: list[_Call] = []  # the model's own first, the innermost last
        self._counts: Counter[nn.Module] = Counter()
        self._result = ""

    @property
    def found(self) -> str:
        """What was found, also where the pass ended with an error; empty: nothing."""
        return self._result or next((call.culprit for call in self._calls if call.culprit), "")

    def __enter__(self) -> ForwardWalk:
        self._handles = []
        for module in self._names:
            enter = module.register_forward_pre_hook(self._enter, with_kwargs=True)
            leave = module.register_forward_hook(self._leave, with_kwargs=True)
            self._handles += [enter, leave]
        return self

    def __exit__(self, *exception: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._counts[module] += 1
        inputs = measure((args, kwargs))
        if inputs.num_bad and self._calls and not self._calls[-1].broken_part:
            self._calls[-1].broken_part = self._name(module)
        self._calls.append(_Call(module, inputs))

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        while (call := self._calls.pop()).module is not module:
            pass  # one that raised an error, which the model caught
        extent = measure(output)
        if not extent.num_bad:
            return
        culprit = call.culprit
        if not culprit and not call.inputs.num_bad:
            culprit = self._describe(call, extent)
        if self._calls:
            self._calls[-1].culprit = self._calls[-1].culprit or culprit
        else:
            self._result = self._result or culprit

    def _describe(self, call: _Call, output: Extent) -> str:
        number = self._counts[call.module]
        weights = measure(list(call.module.parameters(recurse=False)))
        return "".join(
            [
                f"the first output that is not finite is that of {self._name(call.module)}",
                f", in its call number {number}" if number > 1 else "",
                f": {output}, made of inputs up to {call.inputs.largest:.3g}",
                f" and weights up to {weights.largest:.3g}" if weights.num_values else "",
                f", before it calls {call.broken_part}" if call.broken_part else "",
            ]
        )

    def _name(self, module: nn.Module) -> str:
        name = self._names[module].replace("_orig_mod.", "").removesuffix("_orig_mod").rstrip(".")
        return f"'{name}' ({type(module).__name__})" if name else f"the {type(module).__name__}"


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Context that leaves the model and all random number generators as they were before it.

    Within it gradients and recording are off, and compiled code runs uncompiled.
    """
    modules = list(model.modules())
    attributes = [(vars(module), dict(vars(module))) for module in modules]
    registered = [(module._buffers, dict(module._buffers)) for module in modules]
    values = [(buffer, buffer.clone()) for buffer in model.buffers()]
    python, numpy = random.getstate(), np.random.get_state()
    devices = {weight.device.index for weight in model.parameters() if weight.is_cuda}
    with torch.no_grad(), torch.random.fork_rng(devices=devices), _uncompiled():
        try:
            for module in modules:
                module.analyzing = False  # type: ignore[assignment]
            yield
        finally:
            for held, before in [*attributes, *registered]:
                held.clear()
                held.update(before)
            for buffer, value in values:
                buffer.copy_(value)
            random.setstate(python)
            np.random.set_state(numpy)


def _uncompiled() -> AbstractContextManager:
    set_stance = getattr(torch.compiler, "set_stance", None)
    if set_stance is None or "torch._dynamo" not in sys.modules:
        return nullcontext()
    return set_stance("force_eager")
