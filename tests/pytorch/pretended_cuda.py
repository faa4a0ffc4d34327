"""A pretended GPU: code that believes in CUDA runs on tensors of the meta device.

Meta tensors have shapes and types, but no numbers. They call themselves tensors of ``cuda:0``, and
whatever is asked for on a CUDA device is made on the meta device. So the CUDA branches of the code
run without a GPU, and their operators check shapes, types and devices.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack
from torch.utils._pytree import tree_leaves, tree_map

CUDA, META = torch.device("cuda:0"), torch.device("meta")
# What autocast runs in bfloat16 on CUDA, of the functions that the layers use.
_PRODUCTS = {
    torch.nn.functional.linear: 2,
    torch.matmul: 2,
    torch.Tensor.matmul: 2,
    torch.Tensor.__matmul__: 2,
    torch.mm: 2,
    torch.bmm: 2,
    torch.einsum: 3,
    torch.nn.functional.scaled_dot_product_attention: 3,
}
# Functions that take numbers of the host, and make a tensor of them.
_FROM_NUMBERS = {
    *(torch.tensor, torch.as_tensor, torch.asarray, torch.Tensor.new_tensor),
    *(torch.Tensor.__getitem__, torch.Tensor.__setitem__),
}
# Operators whose result the host waits for: a value, or a size that depends on values.
_WAITS = {
    *("_local_scalar_dense", "item", "equal", "is_nonzero", "nonzero", "masked_select"),
    *("unique_consecutive", "_unique2", "unique_dim", "bincount", "repeat_interleave"),
}


class PretendedCuda(TorchFunctionMode):
    """Puts on the meta device what is meant for CUDA, and calls it CUDA when asked.

    Functions called in a backward pass do not come through it. ``copies`` holds the shape of each
    tensor that was moved, and whether the host waits for that.
    """

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[tuple[tuple[int, ...], bool]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.device:  # a name is only given, nothing made
            return func(*args, **(kwargs or {}))
        args, kwargs = tree_map(_to_meta, (args, kwargs or {}))
        if func is torch.Tensor.to and META in args and not args[0].is_meta:
            self.copies.append((tuple(args[0].shape), not kwargs.get("non_blocking", False)))
        if func is torch._fused_sgd_:  # it has no kernel for meta tensors
            return torch._foreach_add_(args[0], args[1])
        if func in _FROM_NUMBERS and _is_watched() and _makes_copy(func, args, kwargs):
            raise DeviceError(f"{func.__name__}: copies numbers of the host to the device")
        name = getattr(getattr(func, "__self__", None), "__name__", "")
        if name in ("device", "is_cuda") and func.__name__ == "__get__":
            if args[0].is_meta:
                return CUDA if name == "device" else True
        if func in _PRODUCTS and torch.is_autocast_enabled("cuda"):
            if "out" not in kwargs:
                args, kwargs = tree_map(_to_bfloat16, (args, kwargs))
        return func(*args, **kwargs)


def _to_meta(value: Any) -> Any:
    is_cuda = isinstance(value, torch.device) and value.type == "cuda"
    is_name = isinstance(value, str) and value.split(":")[0] == "cuda"
    return META if is_cuda or is_name else value


def _to_bfloat16(value: Any) -> Any:
    is_float = isinstance(value, torch.Tensor) and value.dtype == torch.float32
    return value.bfloat16() if is_float else value


class DeviceError(AssertionError):
    """An operator that would wait for a GPU, or that reads a tensor which was left on the host."""


class OnlyOnDevice(TorchDispatchMode):
    """Refuses operators that wait for the device, or that read host and device at once.

    A copy between host and device is refused as well, but for those whose (operator, shape) are
    in ``allowed``. What the host does with host tensors alone, such as counting steps, costs a GPU
    no time.
    """

    def __init__(self, allowed: frozenset[tuple[str, tuple[int, ...]]] = frozenset()) -> None:
        super().__init__()
        self.allowed = allowed
        self.num_operators = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        read = _tensors((args, kwargs))
        host = [tensor for tensor in read if not tensor.is_meta]
        if len(host) < len(read):
            if name in _WAITS or _has_mask(name, args):
                raise DeviceError(f"{name}: the host would wait for the device")
            self._refuse(name, host)
        made = func(*args, **kwargs)
        if any(tensor.is_meta for tensor in _tensors(made)):
            self._refuse(name, host)
            self.num_operators += 1
        return made

    def _refuse(self, name: str, host: list[torch.Tensor]) -> None:
        for tensor in host:
            shape = tuple(tensor.shape)
            if (name, shape) not in self.allowed:
                raise DeviceError(f"{name}: reads a tensor of shape {shape} from the host")


def _is_watched() -> bool:
    return any(isinstance(mode, OnlyOnDevice) for mode in _get_current_dispatch_mode_stack())


def _makes_copy(func: Any, args: Any, kwargs: Any) -> bool:
    """Returns whether numbers go to the device: as an index, or as the values of a tensor."""
    if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
        parts = args[1] if isinstance(args[1], tuple) else (args[1],)
        return args[0].is_meta and any(isinstance(part, (list, np.ndarray)) for part in parts)
    if func is torch.Tensor.new_tensor:
        return args[0].is_meta or kwargs.get("device") == META
    return kwargs.get("device") == META and not isinstance(args[0], torch.Tensor)


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _has_mask(name: str, args: tuple) -> bool:
    """Returns whether an index is a mask, whose number of rows the host must know."""
    indices = args[1] if name in ("index", "index_put", "index_put_") else ()
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)


@contextmanager
def pretended_cuda() -> Iterator[PretendedCuda]:
    """Context in which CUDA seems to be there."""
    with pytest.MonkeyPatch.context() as patch, PretendedCuda() as mode:
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda *args: True)
        patch.setattr(torch.cuda, "synchronize", lambda device=None: None)
        patch.setattr(torch.cuda, "mem_get_info", lambda device=None: (8 << 30, 16 << 30))
        yield mode
