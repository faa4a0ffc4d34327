"""Every backbone once more: plain loops in float64, written from the formulas of the paper.

A reference takes the weights (name -> array), the fields, one row and the config's params, and
returns the row's logit as in evaluation. Nothing here calls a layer of the package.
"""

from __future__ import annotations

import numpy as np

from tests.zoo.reference_parts import (
    Weights,
    embed,
    first_order,
    generate,
    linear,
    mlp,
    predicted,
)


def pairs(num_fields: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(num_fields) for j in range(i + 1, num_fields)]


def dot(a: np.ndarray, b: np.ndarray) -> float:
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def raw_and_sides(w: Weights, fields: dict, row: dict, p: dict, has_bias: bool = False):
    v = embed(w, "embedding_layer", fields, row)
    z = generate(w, "generator", v, fields, p, has_bias)
    return v, z, predicted(v, z, fields, p)


def embed_widths(w: Weights, fields: dict, row: dict, width: int) -> np.ndarray:
    """v (1, sum of D_i) of one row where fields have widths of their own; a table a width."""
    pieces = []
    for name, spec in fields.items():
        own = spec.get("embedding_dim", width)
        equal = {n: s for n, s in fields.items() if s.get("embedding_dim", width) == own}
        v = embed(w, f"embedding_layer.tables.{own}", equal, row)
        pieces.append(v[list(equal).index(name)])
    return np.concatenate(pieces)[None]


def fm(w: Weights, fields: dict, row: dict, p: dict) -> float:
    """LR + sum_{i<j} <z_i, v_j>."""
    v, z, right = raw_and_sides(w, fields, row, p)
    interaction = sum(dot(z[i], right[j]) for i, j in pairs(len(v)))
    return first_order(w, "lr_layer", fields, row) + interaction


def deep_fm(w: Weights, fields: dict, row: dict, p: dict) -> float:
    """FM + MLP(v)."""
    v = embed(w, "embedding_layer", fields, row).reshape(-1).tolist()
    deep = mlp(w, "mlp.mlp", v, p["hidden_units"], p["hidden_activations"], p["batch_norm"])
    return fm(w, fields, row, p) + deep[0]


def fwfm(w: Weights, fields: dict, row: dict, p: dict) -> float:
    """Linear part + sum_{i<j} r_ij <z_i, v_j>; the encoder has a bias."""
    v, z, right = raw_and_sides(w, fields, row, p, has_bias=True)
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
        if p["field_interaction_type"] == "vectorized":
            total += sum(left[i][d] * matrix[d] * z[j][d] for d in range(len(matrix)))
        else:
            for a in range(len(matrix)):
                total += sum(left[i][a] * matrix[a][b] * z[j][b] for b in range(len(matrix)))
    return float(total)


def pnn(w: Weights, fields: dict, row: dict, p: dict) -> float:
    """MLP([v ; <z_i, v_j> for i<j])."""
    v, z, right = raw_and_sides(w, fields, row, p)
    products = [dot(z[i], right[j]) for i, j in pairs(len(v))]
    x = v.reshape(-1).tolist() + products
    return mlp(w, "mlp.mlp", x, p["hidden_units"], p["hidden_activations"], p["batch_norm"])[0]


def cross_net(w: Weights, v: np.ndarray, fields: dict, p: dict) -> np.ndarray:
    """X_{l+1} = X_l + Z_l * (W_l X_l), with Z_l = gamma act(G_l X_l) [+ X_l], or X_0 for DIS."""
    is_scaled = p["gamma"] != 1 or p["emb_activation"] != "linear"
    is_gen = p["source"] is not None or p["gen_residual"] or is_scaled
    current = v
    for layer in range(p["num_cross_layers"]):
        prefix = f"cross_net.layers.{layer}"
        source = current if p["use_gen_rst"] and is_gen else v
        z = generate(w, f"{prefix}.generator", source, fields, p)
        side = z if p["symmetric"] else current
        mapped = np.array(linear(w[f"{prefix}.weight.weight"], side.reshape(-1).tolist()))
        right = predicted(mapped.reshape(v.shape), mapped.reshape(v.shape), fields, p)
        current = current + z * right
    return current


def dcn_v2(w: Weights, fields: dict, row: dict, p: dict) -> float:
    """The head of the cross network, of DNNs on it or beside it."""
    if any("embedding_dim" in spec for spec in fields.values()):
        v = embed_widths(w, fields, row, p["embedding_dim"])
    else:
        v = embed(w, "embedding_layer", fields, row)

    def dnn(kind: str, x: list[float]) -> list[float]:
        units, activations = p[f"{kind}_dnn_hidden_units"], p["dnn_activations"]
        return mlp(w, f"{kind}_dnn.mlp", x, units, activations, p["batch_norm"], False)

    final = cross_net(w, v, fields, p).reshape(-1).tolist()
    if p["model_structure"] in ("stacked", "stacked_parallel"):
        final = dnn("stacked", final)
    if p["model_structure"] in ("parallel", "stacked_parallel"):
        final = final + dnn("parallel", v.reshape(-1).tolist())
    hidden = [2 * len(final)] if p["head"] == "mlp" else []
    return mlp(w, "head.mlp", final, hidden, "relu")[0]


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
    x = v.reshape(-1).tolist()
    deep = mlp(w, "mlp.mlp", x, p["dnn_hidden_units"], p["dnn_activations"], p["batch_norm"])
    return first_order(w, "lr_layer", fields, row) + cin + deep[0]


REFERENCES = {
    "DCNv2": dcn_v2,
    "DeepFM": deep_fm,
    "FM": fm,
    "FmFM": fmfm,
    "FwFM": fwfm,
    "PNN": pnn,
    "xDeepFM": xdeep_fm,
}
