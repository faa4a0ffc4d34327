"""A batch: one integer matrix, one float matrix, and names for their columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class ColumnLayout:
    """Which column of which matrix holds which name.

    Attributes:
        id_columns: names of the integer matrix's columns: the categorical fields.
        value_columns: names of the float matrix's columns: numeric fields, then labels.
    """

    id_columns: tuple[str, ...]
    value_columns: tuple[str, ...]
    positions: dict[str, tuple[bool, int]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        positions = {name: (True, i) for i, name in enumerate(self.id_columns)}
        positions |= {name: (False, i) for i, name in enumerate(self.value_columns)}
        object.__setattr__(self, "positions", positions)


class Batch(Mapping[str, torch.Tensor]):
    """Column name -> tensor (B,), where all tensors are views of two matrices.

    Attributes:
        layout: names of the columns.
        ids: (B, number of categorical fields), int32 or int64.
        values: (B, number of numeric fields and labels), float32.
    """

    def __init__(self, layout: ColumnLayout, ids: torch.Tensor, values: torch.Tensor) -> None:
        self.layout = layout
        self.ids = ids
        self.values_matrix = values

    def __getitem__(self, name: str) -> torch.Tensor:
        is_id, index = self.layout.positions[name]
        return (self.ids if is_id else self.values_matrix)[:, index]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layout.positions)

    def __len__(self) -> int:
        return len(self.layout.positions)

    @property
    def num_rows(self) -> int:
        """Number of rows B."""
        return self.ids.shape[0]

    def to(self, device: torch.device) -> Batch:
        """Returns the batch on ``device``, in two copies at most."""
        return Batch(
            self.layout,
            self.ids.to(device, non_blocking=True),
            self.values_matrix.to(device, non_blocking=True),
        )


def stack_columns(
    inputs: Mapping[str, torch.Tensor], names: tuple[str, ...], integer: bool
) -> torch.Tensor:
    """Returns the named columns as one (B, len(names)) matrix.

    A batch whose matrix begins with just these columns gives a view of it: no copy, one lookup.

    Args:
        inputs: a Batch, or any mapping of column name -> tensor of B rows.
        names: the columns, in the order wanted.
        integer: whether the columns are ids (integer) or values (float).
    """
    if isinstance(inputs, Batch):
        layout = inputs.layout
        held = layout.id_columns if integer else layout.value_columns
        if held[: len(names)] == names:
            return (inputs.ids if integer else inputs.values_matrix)[:, : len(names)]
    columns = [inputs[name].reshape(-1) for name in names]
    if integer:
        columns = [c if not c.is_floating_point() else c.long() for c in columns]
        return torch.stack(columns, dim=1)
    return torch.stack([c.float() if not c.is_floating_point() else c for c in columns], dim=1)
