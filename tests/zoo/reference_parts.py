"""What the references of the backbones share: embeddings, linear parts, networks, the generator.

Plain loops in float64, one row at a time, written from the formulas of the paper. ``w`` holds the
weights by name, ``fields`` the fields in their order, ``p`` the config's keys. Nothing here calls a
layer of the package.
"""

from __future__ import annotations

import math

import numpy as np

Weights = dict[str, np.ndarray]
EPSILON = 1e-5  # of batch and layer normalisation


def relu(x: float) -> float:
    return max(x, 0.0)


ACTIVATIONS = {
    "relu": lambda x, slope: relu(x),
    "tanh": lambda x, slope: math.tanh(x),
    "sigmoid": lambda x, slope: 1 / (1 + math.exp(-x)),
    "silu": lambda x, slope: x / (1 + math.exp(-x)),
    "elu": lambda x, slope: x if x > 0 else math.exp(x) - 1,
    "prelu": lambda x, slope: x if x > 0 else slope * x,
    "linear": lambda x, slope: x,
}


def embed(w: Weights, prefix: str, fields: dict, row: dict) -> np.ndarray:
    """v (F, D) of one row: rows of the common table, or the value times the field's weight."""
    embeddings, offset, number = [], 0, 0
    for name, spec in fields.items():
        if spec["type"] == "categorical":
            embeddings.append(w[f"{prefix}.table"][offset + int(row[name])])
            offset += spec["vocab_size"]
        else:
            embeddings.append(float(row[name]) * w[f"{prefix}.numeric_weight"][number])
            number += 1
    return np.array(embeddings, dtype=np.float64)


def first_order(w: Weights, prefix: str, fields: dict, row: dict) -> float:
    """LR of one row: the bias and the sum of the fields' weights."""
    total = float(w[f"{prefix}.bias"][0])
    return total + sum(float(x[0]) for x in embed(w, f"{prefix}.embedding_layer", fields, row))


def linear(weight: np.ndarray, x: list[float], bias: np.ndarray | None = None) -> list[float]:
    rows = [sum(a * b for a, b in zip(row, x, strict=True)) for row in weight.tolist()]
    return rows if bias is None else [r + b for r, b in zip(rows, bias.tolist(), strict=True)]


def batch_norm(w: Weights, name: str, x: list[float]) -> list[float]:
    out = []
    for k, value in enumerate(x):
        scaled = (value - w[f"{name}.running_mean"][k]) / math.sqrt(
            w[f"{name}.running_var"][k] + EPSILON
        )
        out.append(scaled * w[f"{name}.weight"][k] + w[f"{name}.bias"][k])
    return out


def mlp(
    w: Weights,
    prefix: str,
    x: list[float],
    units: list[int],
    activations: str | list[str],
    has_norm: bool | str = False,
    ends_linear: bool = True,
) -> list[float]:
    """[Linear, BatchNorm where it has one, activation] a hidden layer, then a last Linear."""
    names = [n.split(".")[-2] for n in w if n.startswith(f"{prefix}.") and n.endswith(".weight")]
    linears = sorted(int(n) for n in names if w[f"{prefix}.{n}.weight"].ndim == 2)
    acts = [activations] * len(units) if isinstance(activations, str) else activations
    assert [len(w[f"{prefix}.{n}.weight"]) for n in linears] == [*units, *[1] * ends_linear]
    biases = [w.get(f"{prefix}.{n}.bias") for n in linears]
    assert [b is not None for b in biases] == [has_norm != "no_bias"] * len(units) + [
        True
    ] * ends_linear
    for n, act, bias in zip(linears, [*acts, *[None] * ends_linear], biases, strict=True):
        x = linear(w[f"{prefix}.{n}.weight"], x, bias)
        if act is not None:
            x = batch_norm(w, f"{prefix}.{n + 1}", x) if has_norm else x
            x = [ACTIVATIONS[act](value, 0.0) for value in x]
    return x


def fields_by_cardinality(fields: dict) -> list[int]:
    sizes = [spec.get("vocab_size", 1) for spec in fields.values()]
    return sorted(range(len(sizes)), key=lambda i: (-sizes[i], i))


def targets(fields: dict, p: dict) -> set[int]:
    """The fields that are predicted in evaluation."""
    if p["target"] == "all":
        return set(range(len(fields)))
    return set(fields_by_cardinality(fields)[: p["num_target"]])


def self_attention(w: Weights, prefix: str, v: np.ndarray) -> np.ndarray:
    """Four heads, scaled by the root of a head's width, no residual, then layer norm."""
    num_fields, width = v.shape
    size = width // 4
    q, k, u = (
        [linear(w[f"{prefix}.{name}.weight"], list(x)) for x in v]
        for name in ("query", "key", "value")
    )
    out = np.zeros_like(v)
    for head in range(4):
        part = range(head * size, (head + 1) * size)
        for i in range(num_fields):
            scores = [sum(q[i][d] * k[j][d] for d in part) / math.sqrt(size) for j in range(len(v))]
            shares = [math.exp(s - max(scores)) for s in scores]
            for d in part:
                total = sum(s * u[j][d] for j, s in enumerate(shares))
                out[i, d] = total / sum(shares)
    for i in range(num_fields):
        mean, variance = out[i].mean(), out[i].var()
        normed = (out[i] - mean) / math.sqrt(variance + EPSILON)
        out[i] = normed * w[f"{prefix}.norm.weight"] + w[f"{prefix}.norm.bias"]
    return out


def encode(
    w: Weights, prefix: str, v: np.ndarray, p: dict, num_generated: int, has_bias: bool
) -> np.ndarray:
    """The encoder's output (num_generated, D) before activation and gamma."""
    num_fields, width = v.shape
    flat = v.reshape(-1).tolist()
    if p["source"] == "own":
        matrices = w[f"{prefix}.weight"]
        return np.array([linear(matrices[i].T, v[i].tolist()) for i in range(num_fields)])
    if p["source"] is None:
        return v
    if p["encoder"] == "self_attention":
        return self_attention(w, prefix, v)
    if p["encoder"] == "field_shared":
        return np.array([linear(w[f"{prefix}.weight"], flat)] * num_generated)
    if p["encoder"] == "stacked":
        hidden = batch_norm(w, f"{prefix}.norm", linear(w[f"{prefix}.first.weight"], flat))
        flat_out = linear(w[f"{prefix}.second.weight"], [relu(x) for x in hidden])
    else:
        flat_out = linear(w[f"{prefix}.weight"], flat, w[f"{prefix}.bias"] if has_bias else None)
    return np.array(flat_out).reshape(num_generated, width)


def generate(
    w: Weights, prefix: str, v: np.ndarray, fields: dict, p: dict, has_bias: bool = False
) -> np.ndarray:
    """z (F, D): z_i = gamma * act(encoder(v)_i) [+ v_i] for generated fields, else v_i or 2 v_i."""
    num_fields = len(v)
    source = v.copy()
    for i in targets(fields, p):
        if p["target"] == "masked":
            source[i] = w[f"{prefix}.mask"][0]
        elif p["target"] == "field_masked":
            source[i] = w[f"{prefix}.mask"][i]
        elif p["target"] == "hard_masked":
            source[i] = 0.0
    chosen = list(range(num_fields))
    if p["source"] in ("high", "low"):
        ordered = fields_by_cardinality(fields)
        count = min(p["num_source"], num_fields)
        chosen = sorted(ordered[:count] if p["source"] == "high" else ordered[num_fields - count :])
    encoded = encode(w, f"{prefix}.encoder", source, p, len(chosen), has_bias)
    name = "linear" if p["encoder"] == "linear" else p["emb_activation"]
    slope = float(w[f"{prefix}.activation.weight"][0]) if name == "prelu" else 0.0
    z = v.copy()
    for position, i in enumerate(chosen):
        for d in range(v.shape[1]):
            value = p["gamma"] * ACTIVATIONS[name](float(encoded[position, d]), slope)
            z[i, d] = value + (v[i, d] if p["gen_residual"] else 0.0)
    if p["residual_fields"] == "all":  # 2 v_i where a field is not generated
        for i in set(range(num_fields)) - set(chosen):
            z[i] = v[i] + v[i]
    return z


def predicted(raw: np.ndarray, z: np.ndarray, fields: dict, p: dict) -> np.ndarray:
    """The side that z predicts: raw (or z where symmetric), zero where a field is no target."""
    side = (z if p["symmetric"] else raw).copy()
    for i in range(len(side)):
        if i not in targets(fields, p):
            side[i] = 0.0
    return side
