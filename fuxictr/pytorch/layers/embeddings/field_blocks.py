"""What the embedding layers share: fields of one kind are embedded at once, as one block."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import nn

from fuxictr.errors import ConfigError, DataError, as_names
from fuxictr.features import ID_TYPES, FeatureMap
from fuxictr.pytorch.batch import stack_columns
from fuxictr.pytorch.layers.embeddings.encoder_layers import (
    DEFAULT_INITIALIZER,
    Initializer,
    make_encoder,
    parse_initializer,
)
from fuxictr.pytorch.layers.embeddings.field_layout import FieldLayout, module_name
from fuxictr.pytorch.layers.embeddings.fuxictr_weights import rename_fuxictr_weights
from fuxictr.pytorch.layers.embeddings.lookup import look_up
from fuxictr.pytorch.layers.embeddings.own_table import (
    INIT_STD,
    OwnTable,
    make_own_table,
    pooling_weights,
)
from fuxictr.pytorch.layers.embeddings.row_share import DeferredTable, RowShare


class RowReader(Protocol):
    """What may look up rows instead of the layer, such as an optimiser that updates lazily."""

    def look_up(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns the vectors (..., D) of rows (...)."""

    def narrow(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns a table (U, D) with the vectors that are looked for, and their rows in it."""

    def flush(self) -> None:
        """Brings the whole table up to date."""


class FieldBlocks(nn.Module):
    """Embeds every field of a feature map at the width that ``embedding_dims`` gives it.

    - categorical: v_i = E[offset_i + id_i];
    - sequence: the average or the sum of E[offset_i + id] over the positions without padding
      (id 0), zero where all are padding; without pooling, one vector per position, zero at padding;
    - numeric: v_i = x_i w_i;
    - embedding: v_i = W_i x_i, a bias-free linear map of the given vector.

    The tables of all fields of width D are one matrix E (``table``), so that a batch is one lookup;
    fields that share a table have one offset. The weights of all numeric fields are one matrix,
    too. The rest is embedded field by field (``own``): vectors, fields of another width, and fields
    with vectors given for their tokens (OwnTable). Where a field's emb_output_dim differs from its
    embedding_dim, a bias-free linear map follows (``projections``). A feature_encoder other than a
    pooling is done last (``encoders``); that of a vector replaces its linear map. With D = 1 and
    one of the last two arguments False, as for a first-order part, all fields have width 1 and no
    encoder, and a sequence is summed.

    Args:
        embedding_initializer: what fills the rows of a table, see parse_initializer.
        required_feature_columns: the fields that are embedded; None or none at all for all.
        not_required_feature_columns: fields that are not.
        use_pretrain: False ignores vectors given for tokens.
        use_sharing: False gives every field a table of its own.

    Attributes:
        known_names: features and labels of the whole feature map.
        layout: which fields are embedded how.
        share: which of the rows ``table`` holds; None: all of them.

    Raises:
        ConfigError: no such field, or a share_embedding leads nowhere.
        DataError: the given vectors cannot be read.
    """

    # A table of the paper's code is an nn.Embedding, the map of a number an nn.Linear.
    reference_penalties: ClassVar = {"table": "embedding", "numeric_weight": "net"}
    table: nn.Parameter | None

    def __init__(
        self,
        feature_map: FeatureMap,
        embedding_dim: int,
        embedding_initializer: str | Initializer = DEFAULT_INITIALIZER,
        required_feature_columns: Iterable[str] | None = None,
        not_required_feature_columns: Iterable[str] | None = None,
        use_pretrain: bool = True,
        use_sharing: bool = True,
    ) -> None:
        super().__init__()
        self._reader: RowReader | None = None
        self.share: RowShare | None = None
        self.known_names = {*feature_map.features, *feature_map.labels}
        self._initializer = None
        if embedding_initializer != DEFAULT_INITIALIZER:
            self._initializer = parse_initializer(embedding_initializer)
        unused = {} if use_pretrain else {"pretrained_emb": None}
        unused |= {} if use_sharing else {"share_embedding": None}
        first_order = embedding_dim == 1 and not (use_pretrain and use_sharing)
        required = as_names(required_feature_columns or (), "required_feature_columns")
        dropped = as_names(not_required_feature_columns or (), "not_required_feature_columns")
        kept = feature_map.select(required or None).features
        self.feature_map = feature_map.select(
            [name for name in feature_map.features if name in kept and name not in dropped],
            {
                name: {**unused, **(_first_order(spec) if first_order else {})}
                for name, spec in feature_map.features.items()
            },
        )
        self.embedding_dim = embedding_dim
        self.layout = FieldLayout(self.feature_map, embedding_dim)
        self._make_common_table()
        num_numeric = len(self.layout.numeric)
        self.numeric_weight = (
            nn.Parameter(torch.empty(num_numeric, embedding_dim)) if num_numeric else None
        )
        self._make_own_layers()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws tables from N(0, 1e-4), maps xavier-normal; zeroes padding, keeps given vectors."""
        if isinstance(self.table, DeferredTable):
            if self._initializer is not None:
                raise ConfigError(
                    "embedding_initializer cannot fill a table that is sharded before it is drawn; "
                    "set embedding_sharding: none"
                )
            self.table.defer(INIT_STD, self.offsets.long())
        elif self.table is not None:
            nn.init.normal_(self.table, std=INIT_STD)
            self._initialize()
            with torch.no_grad():
                self.table[self.offsets.long()] = 0.0
        if self.numeric_weight is not None:
            nn.init.normal_(self.numeric_weight, std=(2.0 / (1 + self.embedding_dim)) ** 0.5)
        for layer in (*self.own.values(), *self.projections.values()):
            if isinstance(layer, OwnTable):
                layer.reset_parameters()
                if self._initializer is not None and layer.table is not None:
                    self._initializer(layer.table.data[1:])
            elif isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)
        for layer in self.encoders.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def _initialize(self) -> None:
        """Fills the rows of each field's table with an ``embedding_initializer`` of the user's."""
        if self._initializer is None or self.table is None:
            return
        for start, stop in self.layout.table_rows.values():
            self._initializer(self.table.data[start + 1 : stop])

    @property
    def row_key(self) -> tuple:
        """Equal for layers that read the same rows of a batch."""
        return (*self.layout.ids, *self.layout.offsets, self.num_table_rows)

    @property
    def num_table_rows(self) -> int:
        """Rows of the common table, on all ranks together."""
        if self.share is not None:
            return self.share.num_rows
        return 0 if self.table is None else len(self.table)

    def place_table(self, share: RowShare | None) -> None:
        """Keeps only the rows of ``share`` (None: all), and draws the table if it was deferred.

        The parameter stays the same object: all layers with this table call this. A layer that
        keeps a share needs a reader (``read_rows_with``) before it is used.
        """
        table = self.table
        assert table is not None and self.share is None, "a table is sharded once"
        self.share = share
        if isinstance(table, DeferredTable):
            own = table.draw(share)
        elif share is not None and len(table) == share.num_rows:
            own = share.own(table.detach()).clone()
        else:
            return
        torch.utils.swap_tensors(table, nn.Parameter(own, requires_grad=table.requires_grad))

    @property
    def reader(self) -> RowReader | None:
        """What reads the table; None: the layer itself does."""
        return self._reader

    def read_rows_with(self, reader: RowReader | None) -> None:
        """Lets a reader look up the rows of the common table from now on; None: the layer does."""
        self._reader = reader

    def tables(self) -> list[nn.Parameter]:
        """Returns the weights that hold one row per token, given vectors included."""
        owned = [t for m in self.own.values() if isinstance(m, OwnTable) for t in m.tables()]
        return owned if self.table is None else [self.table, *owned]

    def blocks(self, X: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
        """Returns the embeddings in blocks (B, n, width), where ``layout.places`` finds each field.

        Raises DataError where a sequence has another length than the feature map says.
        """
        found = []
        if self.table is not None:
            found.append(self._look_up(X, self.table))
        if self.numeric_weight is not None:
            values = stack_columns(X, self.layout.numeric, integer=False)
            found.append(values.unsqueeze(-1) * self.numeric_weight)  # (B, F_num, D)
        return found + [self.embed_apart(X, name) for name in self.layout.apart]

    def _look_up(self, X: Mapping[str, torch.Tensor], table: torch.Tensor) -> torch.Tensor:
        layout = self.layout
        ids = stack_columns(X, layout.ids, integer=True)  # (B, S), all positions of these fields
        if ids.shape[1] != len(self.offsets):
            self._reject_lengths(X)
        rows = ids + self.offsets
        if not layout.sequences:  # (B, F_cat, D)
            return look_up(table, rows) if self._reader is None else self._reader.look_up(rows)
        if self._reader is not None:
            rows, table = self._reader.narrow(rows)
        start = len(layout.categorical)
        weights = [table.new_ones(len(ids), start)]
        for name in layout.sequences:
            stop = start + layout.lengths[name]
            weights.append(pooling_weights(ids[:, start:stop], layout.poolings[name], table.dtype))
            start = stop
        first_of_row = torch.arange(0, rows.numel(), start, dtype=rows.dtype, device=rows.device)
        sums = F.embedding_bag(
            rows.reshape(-1),
            table,
            (first_of_row.unsqueeze(1) + self.sum_starts).reshape(-1),
            mode="sum",
            per_sample_weights=torch.cat(weights, dim=1).reshape(-1),
        )
        return sums.view(len(ids), len(self.sum_starts), table.shape[1])  # (B, n, D)

    def _save_to_state_dict(self, *args: Any) -> None:
        self._flush()
        super()._save_to_state_dict(*args)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        self._flush()
        rename_fuxictr_weights(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def __getstate__(self) -> dict[str, Any]:
        self._flush()
        return {**self.__dict__, "_reader": None}

    def _flush(self) -> None:
        if self._reader is not None:
            self._reader.flush()

    def embed_apart(self, X: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
        """Returns the embedding (B, n, width) of a field of ``layout.apart``."""
        layer = self.own[module_name(self.layout.table_owners[name])]
        if isinstance(layer, OwnTable):
            ids = stack_columns(X, (name,), integer=True)  # (B, L), L = 1 of a categorical field
            weights, num_vectors = None, 1
            if name in self.layout.poolings:
                pooling = self.layout.poolings[name]
                weights = pooling_weights(ids, pooling, layer.tables()[0].dtype)
                if pooling is None:
                    num_vectors = ids.shape[1]
                    ids, weights = ids.reshape(-1, 1), weights.reshape(-1, 1)
            embedded = layer(ids, weights).unflatten(0, (-1, num_vectors))  # (B, n, W)
        elif isinstance(layer, nn.Identity):
            embedded = stack_columns(X, (name,), integer=False).unsqueeze(1)  # (B, 1, E)
        else:
            values = stack_columns(X, (name,), integer=False)  # (B, E), E = 1 of a numeric field
            embedded = layer(values.to(layer.weight.dtype)).unsqueeze(1)  # (B, 1, W)
        if module_name(name) in self.projections:
            embedded = self.projections[module_name(name)](embedded)
        if module_name(name) in self.encoders:
            is_list = name in self.layout.poolings  # others are one vector, without a position
            embedded = self.encoders[module_name(name)](
                embedded if is_list else embedded.squeeze(1)
            )
            embedded = embedded if embedded.ndim == 3 else embedded.unsqueeze(1)
        return embedded

    def _make_common_table(self) -> None:
        for name in ("offsets", "sum_starts"):
            numbers = torch.tensor(getattr(self.layout, name), dtype=torch.int32)
            self.register_buffer(name, numbers, persistent=False)
        shape = (self.layout.num_rows, self.embedding_dim)
        if not self.layout.num_rows:
            self.table = None
        elif self.feature_map.defer_tables:
            self.table = DeferredTable(torch.empty(shape, device="meta"))
        else:
            self.table = nn.Parameter(torch.empty(shape))

    def _make_own_layers(self) -> None:
        self.own = nn.ModuleDict()
        self.projections = nn.ModuleDict()
        self.encoders = nn.ModuleDict()
        outputs = self.feature_map.embedding_dims(self.embedding_dim)
        for (name, spec), output in zip(self.feature_map.fields.items(), outputs, strict=True):
            if name not in self.layout.apart:
                continue
            width = self.feature_map.table_dim(name, self.embedding_dim)
            owner = self.layout.table_owners[name]
            has_encoder = self.feature_map.has_encoder(name)
            if has_encoder:
                self.encoders[module_name(name)] = make_encoder(self.feature_map.encoder(name))
            if has_encoder and spec["type"] == "embedding":
                self.own[module_name(name)] = nn.Identity()
            elif spec["type"] not in ID_TYPES:
                self.own[module_name(name)] = nn.Linear(
                    spec.get("pretrain_dim", 1), width, bias=False
                )
            elif module_name(owner) not in self.own:
                self.own[module_name(owner)] = make_own_table(self.feature_map, owner, width)
            if output != width and not has_encoder:
                self.projections[module_name(name)] = nn.Linear(width, output, bias=False)

    def _reject_lengths(self, X: Mapping[str, torch.Tensor]) -> None:
        for name in self.layout.ids:
            found, expected = X[name].reshape(len(X[name]), -1).shape[1], self.layout.lengths[name]
            if found != expected:
                raise DataError(
                    f"column '{name}': found {found} ids per row, the feature map says {expected}; "
                    "rebuild the dataset"
                )


def _first_order(spec: Mapping[str, Any]) -> dict[str, Any]:
    encoder = "sum" if spec["type"] == "sequence" else None
    return {"embedding_dim": None, "emb_output_dim": None, "feature_encoder": encoder}
