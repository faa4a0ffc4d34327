"""Every backbone once more: plain loops in float64, written from the formulas of the paper.

A reference takes the weights (name -> array), the fields, one row and the config's params, and
returns the row's logit as in evaluation. Nothing here calls a layer of the package.
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


def pairs(num_fields: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(num_fields) for j in range(i + 1, num_fields)]


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


def mlp(w: Weights, prefix: str, x: list[float], ends_linear: bool) -> list[float]:
    """[Linear, BatchNorm, ReLU] a hidden layer; a last Linear without ReLU where it ends so."""
    numbers = sorted(
        {int(n[len(prefix) + 1 :].split(".")[0]) for n in w if n.startswith(f"{prefix}.")}
    )
    linears = [n for n in numbers if w[f"{prefix}.{n}.weight"].ndim == 2]
    for n in linears:
        x = linear(w[f"{prefix}.{n}.weight"], x, w[f"{prefix}.{n}.bias"])
        if f"{prefix}.{n + 1}.running_mean" in w:
            x = batch_norm(w, f"{prefix}.{n + 1}", x)
        if n != linears[-1] or not ends_linear:
            x = [relu(value) for value in x]
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


def encode(w: Weights, prefix: str, v: np.ndarray, p: dict, num_generated: int) -> np.ndarray:
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
        flat_out = linear(w[f"{prefix}.weight"], flat, w.get(f"{prefix}.bias"))
    return np.array(flat_out).reshape(num_generated, width)


def generate(w: Weights, prefix: str, v: np.ndarray, fields: dict, p: dict) -> np.ndarray:
    """z (F, D): z_i = gamma * act(encoder(v)_i) [+ v_i] for generated fields, v_i for others."""
    if p["source"] is None and not p["gen_residual"] and p["gamma"] == 1:
        return v
    num_fields = len(v)
    source = v.copy()
    if p["target"] in ("masked", "field_masked", "hard_masked"):
        for i in targets(fields, p):
            mask = w.get(f"{prefix}.mask")
            source[i] = 0.0 if mask is None else mask[i if p["target"] == "field_masked" else 0]
    chosen = list(range(num_fields))
    if p["source"] in ("high", "low"):
        ordered = fields_by_cardinality(fields)
        count = min(p["num_source"], num_fields)
        chosen = sorted(ordered[:count] if p["source"] == "high" else ordered[num_fields - count :])
    encoded = encode(w, f"{prefix}.encoder", source, p, len(chosen))
    name = "linear" if p["encoder"] == "linear" else p["emb_activation"]
    slope = float(w[f"{prefix}.activation.weight"][0]) if name == "prelu" else 0.0
    z = v.copy()
    for position, i in enumerate(chosen):
        for d in range(v.shape[1]):
            value = p["gamma"] * ACTIVATIONS[name](float(encoded[position, d]), slope)
            z[i, d] = value + (v[i, d] if p["gen_residual"] else 0.0)
    return z


def predicted(raw: np.ndarray, z: np.ndarray, fields: dict, p: dict) -> np.ndarray:
    """The side that z predicts: raw (or z where symmetric), zero where a field is no target."""
    side = (z if p["symmetric"] else raw).copy()
    for i in range(len(side)):
        if i not in targets(fields, p):
            side[i] = 0.0
    return side


def raw_and_sides(w: Weights, fields: dict, row: dict, p: dict):
    v = embed(w, "embedding_layer", fields, row)
    z = generate(w, "generator", v, fields, p)
    return v, z, predicted(v, z, fields, p)


def dot(a: np.ndarray, b: np.ndarray) -> float:
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def fm(w: Weights, fields: dict, row: dict, p: dict) -> float:
    """LR + sum_{i<j} <z_i, v_j>."""
    v, z, right = raw_and_sides(w, fields, row, p)
    interaction = sum(dot(z[i], right[j]) for i, j in pairs(len(v)))
    return first_order(w, "lr_layer", fields, row) + interaction


def deep_fm(w: Weights, fields: dict, row: dict, p: dict) -> float:
    """FM + MLP(v)."""
    v = embed(w, "embedding_layer", fields, row)
    return fm(w, fields, row, p) + mlp(w, "mlp.mlp", v.reshape(-1).tolist(), True)[0]


def fwfm(w: Weights, fields: dict, row: dict, p: dict) -> float:
    """Linear part + sum_{i<j} r_ij <z_i, v_j>."""
    v, z, right = raw_and_sides(w, fields, row, p)
    weights = w["interaction.weight"].tolist()
    total = sum(r * dot(z[i], right[j]) for r, (i, j) in zip(weights, pairs(len(v)), strict=True))
    if p["linear_type"] == "LW":
        return total + first_order(w, "linear", fields, row)
    if p["linear_type"] == "FeLV":
        vectors = embed(w, "linear", fields, row)
        return total + float(w["bias"][0]) + sum(dot(a, b) for a, b in zip(v, vectors, strict=True))
    return total + linear(w["linear.weight"], v.reshape(-1).tolist(), w["linear.bias"])[0]


def fmfm(w: Weights, fields: dict, row: dict, p: dict) -> float:
    """LR + sum_{i<j} <v_i M_ij, z_j>: the higher index is generated."""
    v, z, left = raw_and_sides(w, fields, row, p)
    total = first_order(w, "lr_layer", fields, row)
    for matrix, (i, j) in zip(w["interaction.weight"], pairs(len(v)), strict=True):
        if matrix.ndim == 1:
            total += sum(left[i][d] * matrix[d] * z[j][d] for d in range(len(matrix)))
        else:
            for a in range(len(matrix)):
                total += sum(left[i][a] * matrix[a][b] * z[j][b] for b in range(len(matrix)))
    return float(total)


def pnn(w: Weights, fields: dict, row: dict, p: dict) -> float:
    """MLP([v ; <z_i, v_j> for i<j])."""
    v, z, right = raw_and_sides(w, fields, row, p)
    products = [dot(z[i], right[j]) for i, j in pairs(len(v))]
    return mlp(w, "mlp.mlp", v.reshape(-1).tolist() + products, True)[0]


def cross_net(w: Weights, v: np.ndarray, fields: dict, p: dict) -> np.ndarray:
    """X_{l+1} = X_l + Z_l * (W_l X_l), with Z_l = gamma act(G_l X_l) [+ X_l], or X_0 for DIS."""
    current = v
    for layer in range(p["num_cross_layers"]):
        prefix = f"cross_net.layers.{layer}"
        source = current if p["use_gen_rst"] else v
        z = generate(w, f"{prefix}.generator", source, fields, p)
        side = z if p["symmetric"] else current
        mapped = np.array(linear(w[f"{prefix}.weight.weight"], side.reshape(-1).tolist()))
        right = predicted(mapped.reshape(v.shape), mapped.reshape(v.shape), fields, p)
        current = current + z * right
    return current


def dcn_v2(w: Weights, fields: dict, row: dict, p: dict) -> float:
    """The head of the cross network, of DNNs on it or beside it."""
    v = embed(w, "embedding_layer", fields, row)
    final = cross_net(w, v, fields, p).reshape(-1).tolist()
    if p["model_structure"] in ("stacked", "stacked_parallel"):
        final = mlp(w, "stacked_dnn.mlp", final, False)
    if p["model_structure"] in ("parallel", "stacked_parallel"):
        final = final + mlp(w, "parallel_dnn.mlp", v.reshape(-1).tolist(), False)
    assert (len(w["head.mlp.0.weight"]) == 1) == (p["head"] == "linear")
    return mlp(w, "head.mlp", final, True)[0]


def xdeep_fm(w: Weights, fields: dict, row: dict, p: dict) -> float:
    """LR + Linear(sums over D of X_1, X_2, ...) + MLP(v), X_{l+1,h} = b_h + sum W (Z_i * X_l,j)."""
    v = embed(w, "embedding_layer", fields, row)
    current, pooled = v, []
    for layer in range(len(p["cin_hidden_units"])):
        prefix = f"cin.layers.{layer}"
        z = generate(w, f"{prefix}.generator", v, fields, p)
        weight, bias = w[f"{prefix}.weight"], w[f"{prefix}.bias"]
        maps = np.zeros((len(bias), v.shape[1]))
        for h in range(len(bias)):
            for d in range(v.shape[1]):
                maps[h, d] = bias[h] + sum(
                    weight[i, h, j] * z[i, d] * current[j, d]
                    for i in range(len(v))
                    for j in range(len(current))
                )
        current = maps
        pooled += maps.sum(axis=1).tolist()
    cin = linear(w["cin.fc.weight"], pooled, w["cin.fc.bias"])[0]
    deep = mlp(w, "mlp.mlp", v.reshape(-1).tolist(), True)[0]
    return first_order(w, "lr_layer", fields, row) + cin + deep


REFERENCES = {
    "DCNv2": dcn_v2,
    "DeepFM": deep_fm,
    "FM": fm,
    "FmFM": fmfm,
    "FwFM": fwfm,
    "PNN": pnn,
    "xDeepFM": xdeep_fm,
}
