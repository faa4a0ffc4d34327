"""What a log would take on GPUs that are not here: computed from formulas.py and stated rates.

Nothing of it is measured. A step is the sum of what the model computes, by the cost model of
fuxictr/experiment/estimate/model_cost.py, what it sends, and what its collectives wait for, as if
none of them overlapped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import formulas

GPUS_A_NODE = 8
# An H100 (SXM): shares of 67 TFLOP/s of float32 and 3.35 TB/s; the rest is a guess.
FLOPS, MEMORY_BYTES = 33e12, 2.3e12
LOOKUPS, OPERATIONS = 1e9, 1.5e5
# Bytes per second: NVLink's 450 GB/s per direction; per node 400 Gb/s, which its GPUs share.
LINK, NODE_NETWORK = 0.8 * 450e9, 0.8 * 50e9
# Seconds that a collective takes beside its bytes, within a node and among nodes.
LATENCY = (30e-6, 60e-6)
GPU_BYTES = 80e9
_BUCKET = 25e6  # of DistributedDataParallel
_GRADIENT_SHARE = 1.5  # activations and their gradients


@dataclass(frozen=True, kw_only=True)
class Log:
    """A log that is trained on.

    Attributes:
        name: what the page calls it.
        expid: whose model it is.
        rows: training rows of an epoch.
        batch_size: of all GPUs together.
        fields: categorical field -> values.
        numeric: numeric fields.
    """

    name: str
    expid: str
    rows: int
    batch_size: int
    fields: dict[str, int]
    numeric: tuple[str, ...] = ()


def logs() -> list[Log]:
    """Returns Avazu_x4, Criteo_x1, and a billion rows with half a billion features."""
    criteo = _criteo_fields()
    numeric = tuple(f"I{number}" for number in range(1, 14))
    large = formulas.avazu_fields(133.35)
    return [
        Log(
            name="Avazu_x4",
            expid="DeepFM_avazu_gen",
            rows=32_343_172,
            batch_size=10_000,
            fields=formulas.avazu_fields(),
        ),
        Log(
            name="Criteo_x1",
            expid="DeepFM_criteo_gen",
            rows=33_003_326,
            batch_size=4_096,
            fields=criteo,
            numeric=numeric,
        ),
        Log(
            name="1 billion rows, 500 million features",
            expid="DeepFM_avazu_gen",
            rows=1_000_000_000,
            batch_size=100_000,
            fields=large,
        ),
    ]


def _criteo_fields() -> dict[str, int]:
    """Returns 26 fields that have Criteo_x1's 2,086,329 features with the 13 numeric ones.

    Their sizes are not published here: they fall by a third from one field to the next.
    """
    total = 2_086_329 - 13 - 2 * 26
    shares = [(2 / 3) ** number for number in range(26)]
    sizes = [max(3, round(total * share / sum(shares))) for share in shares]
    sizes[0] += total - sum(sizes)
    return {f"C{number}": size for number, size in enumerate(sizes, start=1)}


def project(log: Log, gpu_counts: tuple[int, ...] = (1, 8, 64)) -> list[dict[str, Any]]:
    """Returns memory, traffic and time of an epoch, for whole and for cut tables."""
    feature_map = formulas.feature_map_of(log.fields, log.numeric)
    sizes, cost, _ = formulas.cost_of(log.expid, feature_map)
    found = []
    for num_gpus in gpu_counts:
        for mode in ("touched", "row") if num_gpus > 1 else ("alone",):
            found.append(_line(log, sizes, cost, mode, num_gpus))
    alone = found[0]["step_seconds"]
    for line in found:
        line["efficiency"] = alone / line["step_seconds"] / line["gpus"]
    return found


def _line(log: Log, sizes: Any, cost: Any, mode: str, num_gpus: int) -> dict[str, Any]:
    rows = -(-log.batch_size // num_gpus)
    distinct = [formulas.expected_distinct(log.fields.values(), rows)] * len(sizes.groups)
    sent = formulas.traffic(sizes, mode, num_gpus, distinct)
    held = formulas.memory(sizes, mode, num_gpus, is_lazy=False)
    activations = _GRADIENT_SHARE * cost.activation_bytes / cost.batch_size * rows
    parts = {
        "compute": _compute(sizes, cost, mode, num_gpus, rows),
        "network": _network(sent, mode, num_gpus),
        "waiting": _waiting(sizes, mode, num_gpus),
    }
    seconds = sum(parts.values())
    return {
        "log": log.name,
        "gpus": num_gpus,
        "mode": mode,
        "batch_size": log.batch_size,
        "rows_a_gpu": rows,
        "weights_bytes": held,
        "activation_bytes": activations,
        "fits": held + activations < 0.9 * GPU_BYTES,
        "sent_bytes": sent.total,
        "dense_bytes": sent.dense,
        **{f"{name}_seconds": value for name, value in parts.items()},
        "step_seconds": seconds,
        "epoch_hours": -(-log.rows // log.batch_size) * seconds / 3600,
        "checkpoint_bytes": 4 * (sizes.dense_weights + sizes.table_weights),
        "rows_bytes": 4 * (len(log.fields) + len(log.numeric) + 1) * log.rows / num_gpus,
    }


def _compute(sizes: Any, cost: Any, mode: str, num_gpus: int, rows: int) -> float:
    """Returns the seconds of forward and backward pass of the part, and of the update."""
    from fuxictr.experiment.estimate.model_cost import TRAINING_FACTOR

    own = sizes.table_weights / (num_gpus if mode == "row" else 1) + sizes.dense_weights
    update = cost.step_bytes * own / (sizes.table_weights + sizes.dense_weights)
    seconds = rows * (cost.forward_flops / FLOPS + cost.forward_bytes / MEMORY_BYTES)
    seconds += cost.num_operations / OPERATIONS
    return TRAINING_FACTOR * seconds + rows * cost.num_lookups / LOOKUPS + update / MEMORY_BYTES


def _network(sent: Any, mode: str, num_gpus: int) -> float:
    """Returns the seconds that the bytes take.

    Rings use the whole network of a node, as all its GPUs send what goes to the next one. In an
    exchange each GPU has its share of it, for what is not for its own node.
    """
    if num_gpus <= GPUS_A_NODE:
        return sent.total / LINK
    is_ring = mode != "row"
    reduced = sent.total if is_ring else sent.dense
    outside = (num_gpus - GPUS_A_NODE) / num_gpus
    exchanged = 0.0 if is_ring else sent.tables * outside
    return reduced / NODE_NETWORK + exchanged / (NODE_NETWORK / GPUS_A_NODE)


def _waiting(sizes: Any, mode: str, num_gpus: int) -> float:
    """Returns the seconds that collectives take beside their bytes."""
    if num_gpus == 1:
        return 0.0
    buckets = -(-4 * sizes.dense_weights // _BUCKET)
    tables = {"touched": 4, "row": 4}[mode] * len(sizes.groups)
    norms = 4 * sizes.norm_layers
    others = 2 + (mode == "row")  # which weights were used, wishes of ranks; the norm
    return (buckets + tables + norms + others) * LATENCY[num_gpus > GPUS_A_NODE]
