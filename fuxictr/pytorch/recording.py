"""The record contract: what a module may keep of its forward pass for the analysis."""

from __future__ import annotations

import torch


class Recordable:
    """Mixin of modules that record tensors while ``analyzing`` is true, and cost nothing otherwise.

    ``self.record("gen", z)`` appends a detached CPU copy to the list ``record_gen``, which it
    creates. A module without this mixin may create ``record_<name>`` lists in ``init_record`` and
    append to them in forward when ``self.analyzing`` is true.
    """

    analyzing: bool = False

    def record(self, name: str, tensor: torch.Tensor) -> None:
        """Appends ``tensor`` to the list ``record_<name>`` while analyzing."""
        self.record_all(**{name: tensor})

    def record_all(self, **tensors: torch.Tensor) -> None:
        """Appends each tensor to the list ``record_<name>`` of its name while analyzing."""
        if self.analyzing:
            for name, tensor in tensors.items():
                self.__dict__.setdefault(f"record_{name}", []).append(tensor.detach().cpu())
