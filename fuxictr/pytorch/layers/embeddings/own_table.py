"""Tables beside the common one: of fields with another width, or with given vectors."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from fuxictr.errors import ConfigError, did_you_mean
from fuxictr.features import FeatureMap

INIT_STD = 1e-4
USAGES = ("init", "sum", "concat")


class OwnTable(nn.Module):
    """Embeds ids by a learnt table E (V, W), by given vectors P (V, P), or by both.

    - no vectors: e(i) = E[i];
    - ``init``: e(i) = A P[i]; a token without a vector starts as N(0, 1e-4), or as zero if frozen;
    - ``sum``: e(i) = E[i] + A P[i];
    - ``concat``: e(i) = A [E[i] ; P[i]].

    A is a bias-free linear map to width W, the identity for init and sum where P = W already. In
    sum and concat a token without a vector counts as zero. Row 0 (padding) starts at zero. An
    unknown ``usage`` is a ConfigError.

    Args:
        given: vectors (V, P), NaN for a token without one; None: no vectors.
        usage: init, sum or concat.
        freeze: whether the given vectors stay as they are.

    Shape:
        input: ids (N, L), and weights (N, L); None: ones.
        output: (N, W), the weighted sums of e(i) over L.
    """

    reference_penalties: ClassVar = {"table": "embedding", "vectors": "embedding"}

    def __init__(
        self,
        num_rows: int,
        width: int,
        given: np.ndarray | None = None,
        usage: str = "init",
        freeze: bool = True,
    ) -> None:
        super().__init__()
        if usage not in USAGES:
            raise ConfigError(
                f"key 'pretrain_usage': found '{usage}', allowed: {', '.join(USAGES)}"
                + did_you_mean(usage, USAGES)
            )
        self.is_joined = given is not None and usage == "concat"
        has_table = given is None or usage != "init"
        self.table = nn.Parameter(torch.empty(num_rows, width)) if has_table else None
        self.vectors = None
        self.projection = None
        if given is not None:
            self.vectors = nn.Parameter(
                _filled(given, is_drawn=usage == "init" and not freeze), requires_grad=not freeze
            )
            input_dim = given.shape[1] + (width if self.is_joined else 0)
            if input_dim != width:
                self.projection = nn.Linear(input_dim, width, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws E from N(0, 1e-4) and A xavier-normal; the given vectors stay."""
        if self.table is not None:
            nn.init.normal_(self.table, std=INIT_STD)
            with torch.no_grad():
                self.table[0] = 0.0
        if self.projection is not None:
            nn.init.xavier_normal_(self.projection.weight)

    def tables(self) -> list[nn.Parameter]:
        """Returns the weights that hold one row per token: E and P, where there are."""
        return [rows for rows in (self.table, self.vectors) if rows is not None]

    def forward(self, ids: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
        """Returns the weighted sums (N, W); e is linear, so the rows are summed before A."""
        found = [
            F.embedding_bag(ids, rows, mode="sum", per_sample_weights=weights)
            for rows in self.tables()
        ]
        if self.is_joined:
            found = [torch.cat(found, dim=1)]  # (N, W + P)
        if self.projection is not None:
            found[-1] = self.projection(found[-1])
        return found[0] if len(found) == 1 else found[0] + found[1]


def make_own_table(feature_map: FeatureMap, name: str, width: int) -> OwnTable:
    """Returns the table of a field, with the vectors that were given for its tokens."""
    spec = feature_map.features[name]
    if not spec.get("pretrained_emb"):
        return OwnTable(spec["vocab_size"], width)
    given, usage = feature_map.pretrained_vectors(name), spec.get("pretrain_usage", "init")
    return OwnTable(spec["vocab_size"], width, given, usage, spec.get("freeze_emb", True))


def pooling_weights(ids: torch.Tensor, pooling: str | None, dtype: torch.dtype) -> torch.Tensor:
    """Returns the weight (B, L) of each position of a sequence: 0 for padding, which is id 0.

    Others have 1, or for ``average`` 1 / number of them in the row.
    """
    weights = (ids != 0).to(dtype)
    if pooling == "average":
        weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1)
    return weights


def _filled(given: np.ndarray, is_drawn: bool) -> torch.Tensor:
    vectors = torch.tensor(given, dtype=torch.float32)
    missing = vectors.isnan().any(dim=1)
    vectors[missing] = 0.0
    if is_drawn:
        vectors[missing] = INIT_STD * torch.randn(int(missing.sum()), vectors.shape[1])
    vectors[0] = 0.0
    return vectors
