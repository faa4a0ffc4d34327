"""Memory and traffic of a training step on several ranks, by formula, for any expid.

    python benchmarks/scaling/formulas.py --expid DeepFM_avazu_gen --ranks 1,2,8,64

A model is taken apart on the meta device, without memory for its weights. Bytes are what a rank
sends in a step, memory is that of weights, gradients and Adam's moments; lazy: where large tables
are updated lazily. Reductions and gathers are those of a ring, as gloo and NCCL have them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from processes import common

if TYPE_CHECKING:
    from fuxictr.experiment.estimate.model_cost import ModelCost

# What becomes of the common tables: weights as any other, exchanged by row, or cut.
MODES = ("all-reduce", "touched", "row")
_FLOAT, _INT, _DOUBLE = 4, 4, 8
_DIRECT = 1 << 20  # values of a field that are summed over one by one


@dataclass(frozen=True, kw_only=True)
class TableGroup:
    """Tables whose layers read the same rows of a batch: one exchange serves them.

    Attributes:
        num_rows: rows N of each.
        widths: their widths D, as 16 of the embedding and 1 of the linear part.
        num_lookups: rows S that a row of the data reads.
    """

    num_rows: int
    widths: tuple[int, ...]
    num_lookups: int

    @property
    def width(self) -> int:
        """Sum D of the widths."""
        return sum(self.widths)

    @property
    def weights(self) -> int:
        """Weights N D."""
        return self.num_rows * self.width


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What of a model decides memory and traffic.

    Attributes:
        dense_weights: trained weights W outside the common tables, tables of fields with a width of
            their own included.
        groups: the common tables.
        norm_layers: layers of batch normalisation.
        norm_channels: their channels C, all together.
    """

    dense_weights: int
    groups: tuple[TableGroup, ...]
    norm_layers: int = 0
    norm_channels: int = 0

    @property
    def table_weights(self) -> int:
        """Weights V of all common tables."""
        return sum(group.weights for group in self.groups)


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Bytes that a rank sends in a step.

    Attributes:
        dense: gradients of dense weights, and sums of batch normalisation.
        tables: of common tables: numbers of rows, vectors, gradients.
    """

    dense: float
    tables: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.dense + self.tables


def sizes_of(model: Any) -> Sizes:
    """Returns the sizes of a model, which may be on the meta device."""
    from torch.nn.modules.batchnorm import _BatchNorm

    from fuxictr.pytorch.sharding.tables import trained_blocks

    found: dict[tuple, TableGroup] = {}
    seen: set[int] = set()
    for block in trained_blocks(model):
        assert block.table is not None
        key = block.row_key
        widths = found[key].widths if key in found else ()
        if id(block.table) not in seen:
            widths += (block.table.shape[1],)
        seen.add(id(block.table))
        found[key] = TableGroup(
            num_rows=block.num_table_rows, widths=widths, num_lookups=len(block.offsets)
        )
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in seen]
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    return Sizes(
        dense_weights=sum(p.numel() for p in others),
        groups=tuple(found.values()),
        norm_layers=len(norms),
        norm_channels=sum(norm.num_features for norm in norms),
    )


def traffic(sizes: Sizes, mode: str, num_ranks: int, distinct: Sequence[float]) -> Traffic:
    """Returns what a rank sends in a training step.

    With P ranks, U distinct rows of a rank's part of the batch, tables (N, D), W dense weights:

    - dense weights: a ring's all-reduce, 8 W (P - 1) / P;
    - batch normalisation: 1 + 2 C sums forward and 2 C backward in float64, the same way;
    - all-reduce: 8 N D (P - 1) / P;
    - touched: numbers and gradients to all others, 4 (P - 1) U (1 + D);
    - row: numbers out, vectors back, gradients out, 4 U (1 + 2 D) (P - 1) / P, and P counts.

    Args:
        sizes: of the model.
        mode: of MODES.
        num_ranks: P.
        distinct: U of each group of tables; of ranks that differ, the largest for touched, whose
            parts are filled up to it.
    """
    share = (num_ranks - 1) / num_ranks
    norms = 4 * sizes.norm_channels + sizes.norm_layers
    dense = 2 * share * (_FLOAT * sizes.dense_weights + _DOUBLE * norms)
    tables = 0.0
    for group, rows in zip(sizes.groups, distinct, strict=True):
        if mode == "all-reduce":
            tables += 2 * share * _FLOAT * group.weights
        elif mode == "touched":
            tables += (num_ranks - 1) * rows * (_INT + _FLOAT * group.width)
        else:
            tables += share * rows * (_INT + 2 * _FLOAT * group.width)
            tables += (num_ranks - 1) * 8
    return Traffic(dense=dense, tables=tables)


def memory(sizes: Sizes, mode: str, num_ranks: int, is_lazy: bool) -> float:
    """Returns the bytes of weights, gradients and Adam's moments on a rank.

    Dense: four numbers a weight, and with several ranks a fifth, the buckets that are reduced.
    Tables: the same under all-reduce; four otherwise, of N / P rows where they are cut. A table
    that is updated lazily has no gradient but of the batch's rows, and one step number per row.

    Args:
        sizes: of the model.
        mode: of MODES.
        num_ranks: P.
        is_lazy: whether tables are updated lazily, as large ones without a penalty on a CPU; under
            all-reduce they never are.
    """
    bucket = int(num_ranks > 1)
    total = _FLOAT * (4 + bucket) * sizes.dense_weights
    for group in sizes.groups:
        rows = -(-group.num_rows // num_ranks) if mode == "row" else group.num_rows
        if is_lazy and mode != "all-reduce":
            total += rows * (3 * _FLOAT * group.width + _INT * len(group.widths))
        else:
            total += _FLOAT * (4 + bucket * (mode == "all-reduce")) * rows * group.width
    return float(total)


def expected_distinct(sizes: Iterable[int], num_rows: int) -> float:
    """Returns how many distinct rows a part of a batch reads, on average.

    Values follow Zipf's law as in avazu_shaped.py, P(k) = log((k + 2) / (k + 1)) / log(size + 1):
    sum over fields and values of 1 - (1 - P(k))^rows.

    Args:
        sizes: values of each field.
        num_rows: rows of the part.
    """
    return sum(_distinct_of_field(size, num_rows) for size in sizes)


def _distinct_of_field(size: int, num_rows: int) -> float:
    values = np.arange(min(size, _DIRECT), dtype=np.float64)
    total = float(_seen(values, size, num_rows).sum())
    if size > _DIRECT:  # the rest in runs of nearly equal values
        edges = np.geomspace(_DIRECT, size, 20_000)
        middle = np.sqrt(edges[1:] * edges[:-1])
        total += float((_seen(middle, size, num_rows) * np.diff(edges)).sum())
    return total


def _seen(values: np.ndarray, size: int, num_rows: int) -> np.ndarray:
    chance = np.log1p(1 / (values + 1)) / np.log(size + 1)
    return -np.expm1(num_rows * np.log1p(-np.minimum(chance, 1 - 1e-12)))


def avazu_fields(scale: float = 1.0) -> dict[str, int]:
    """Returns field -> values of Avazu_x4; of large fields multiplied by scale."""
    import avazu_shaped

    named = {"hour": 24, "weekday": 7, "is_weekend": 2}
    fields = named | {n: s for n, s in avazu_shaped.CARDINALITIES.items() if n != "hour"}
    return {name: round(size * scale) if size > 1000 else size for name, size in fields.items()}


def feature_map_of(
    fields: dict[str, int], numeric: Iterable[str] = (), label: str = "click"
) -> Any:
    """Returns a feature map of categorical fields with so many values, and of numeric ones."""
    import json
    import tempfile
    from pathlib import Path

    from fuxictr.features import FeatureMap

    specs: list[dict[str, Any]] = [{name: {"source": "", "type": "numeric"}} for name in numeric]
    for name, size in fields.items():
        ids = {"padding_idx": 0, "oov_idx": size + 1, "vocab_size": size + 2}
        specs.append({name: {"source": "", "type": "categorical", **ids}})
    text = {
        "dataset_id": "formulas",
        "num_fields": len(specs),
        "total_features": sum(fields.values()) + 2 * len(fields) + len(specs) - len(fields),
        "input_length": len(specs),
        "labels": [label],
        "features": specs,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "feature_map.json"
        path.write_text(json.dumps(text))
        return FeatureMap.load(path)


def cost_of(expid: str, feature_map: Any) -> tuple[Sizes, ModelCost, int]:
    """Returns sizes and cost of a shipped expid's model on a feature map, and its batch size."""
    from fuxictr.experiment.estimate.model_cost import build_on_meta, model_cost
    from fuxictr.experiment.zoo.models import find_folder, load_experiment

    config, model_class = load_experiment(expid, find_folder(expid.split("_")[0]))
    model = build_on_meta(config, model_class, feature_map)
    return sizes_of(model), model_cost(model, config.train.batch_size), config.train.batch_size


def main() -> None:
    """Parses the command line and prints the table of an expid."""
    sys.path.insert(0, str(common.ROOT))
    parser = argparse.ArgumentParser(description="Memory and traffic of a step by formula.")
    parser.add_argument("--expid", required=True, help="of an Avazu config of model_zoo/")
    parser.add_argument("--ranks", default="1,2,8,64", help="numbers of processes")
    parser.add_argument("--batch-size", type=int, help="global; default: the config's")
    args = parser.parse_args()
    fields = avazu_fields()
    sizes, _, batch_size = cost_of(args.expid, feature_map_of(fields))
    batch_size = args.batch_size or batch_size
    print(f"{args.expid}: {sizes.dense_weights:,} dense weights, {sizes.table_weights:,} of tables")
    print(f"{'ranks':>5} {'tables':10} {'sent, MB':>10} {'memory, MB':>11} {'lazy, MB':>9}")
    for num_ranks in map(int, args.ranks.split(",")):
        distinct = expected_distinct(fields.values(), batch_size // num_ranks)
        for mode in MODES if num_ranks > 1 else ("alone",):
            sent = traffic(sizes, mode, num_ranks, [distinct] * len(sizes.groups)).total
            held = [memory(sizes, mode, num_ranks, is_lazy) / 1e6 for is_lazy in (False, True)]
            lazy = "" if mode == "all-reduce" else f"{held[1]:,.0f}"
            print(f"{num_ranks:5} {mode:10} {sent / 1e6:10.3f} {held[0]:11,.0f} {lazy:>9}")


if __name__ == "__main__":
    main()
