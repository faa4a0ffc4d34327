"""A batch: one integer matrix, one float matrix, and names for their columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class ColumnLayout:
    """Which columns of which matrix hold which name.

    Attributes:
        id_columns: names in the integer matrix, in order: categorical fields, then sequences.
        value_columns: names in the float matrix, in order: numeric fields, vectors, then labels.
        widths: name -> length of a sequence or width of a vector; other names have one column.
        labels: the names that are labels, which a batch holds but does not list.
        order: all names but the labels, as a batch lists them; default: in the order of columns.
        positions: name -> (whether it is in the integer matrix, its first column).
    """

    id_columns: tuple[str, ...]
    value_columns: tuple[str, ...]
    widths: Mapping[str, int] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    positions: dict[str, tuple[bool, int]] = field(init=False, repr=False, compare=False)
    num_ids: int = field(init=False, repr=False, compare=False)
    num_values: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        positions = {}
        for is_id, names in ((True, self.id_columns), (False, self.value_columns)):
            start = 0
            for name in names:
                positions[name] = (is_id, start)
                start += self.widths.get(name, 1)
            object.__setattr__(self, "num_ids" if is_id else "num_values", start)
        object.__setattr__(self, "positions", positions)
        names = tuple(name for name in positions if name not in self.labels)
        object.__setattr__(self, "order", self.order or names)


class Batch(Mapping[str, torch.Tensor]):
    """Column name -> tensor (B,), or (B, width) of the layout, a view of one of two matrices.

    Iteration is in the order of ``layout.order``. It leaves out the labels, so that a model which
    reads all columns does not read them.

    Attributes:
        ids: (B, layout.num_ids), int32 or int64.
        values_matrix: (B, layout.num_values), float32.
        num_global_rows: rows of the batch on all processes, of which these B are a part; default B.
    """

    def __init__(
        self,
        layout: ColumnLayout,
        ids: torch.Tensor,
        values: torch.Tensor,
        num_global_rows: int | None = None,
    ) -> None:
        self.layout = layout
        self.ids = ids
        self.values_matrix = values
        self.num_global_rows = ids.shape[0] if num_global_rows is None else num_global_rows

    def __getitem__(self, name: str) -> torch.Tensor:
        is_id, start = self.layout.positions[name]
        matrix = self.ids if is_id else self.values_matrix
        width = self.layout.widths.get(name)
        return matrix[:, start] if width is None else matrix[:, start : start + width]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layout.order)

    def __len__(self) -> int:
        return len(self.layout.order)

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
            self.num_global_rows,
        )


def stack_columns(
    inputs: Mapping[str, torch.Tensor], names: tuple[str, ...], integer: bool
) -> torch.Tensor:
    """Returns the named columns next to each other in one matrix (B, sum of their widths).

    A batch whose matrix begins with just these columns gives a view of it: no copy, one lookup.
    Other inputs are a mapping of column name -> tensor (B,), (B, 1) or (B, width). ``integer`` is
    true for ids and false for float values.
    """
    if isinstance(inputs, Batch):
        layout = inputs.layout
        held = layout.id_columns if integer else layout.value_columns
        if held[: len(names)] == names:
            width = sum(layout.widths.get(name, 1) for name in names)
            return (inputs.ids if integer else inputs.values_matrix)[:, :width]
    columns = [c.unsqueeze(1) if c.ndim == 1 else c.flatten(1) for c in (inputs[n] for n in names)]
    if integer:
        columns = [c if not c.is_floating_point() else c.long() for c in columns]
    else:
        columns = [c.float() if not c.is_floating_point() else c for c in columns]
    return torch.cat(columns, dim=1)
