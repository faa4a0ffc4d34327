"""Every backbone once more: plain loops in float64, written from the formulas of the paper.

A reference takes the weights (name -> array) and one row's raw embeddings and first-order logit,
and returns the row's logit. Nothing here calls a layer of the package.
"""

from __future__ import annotations

import numpy as np


def relu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.0)


def embed(weights: dict, prefix: str, fields: dict, row: dict) -> np.ndarray:
    """v (F, D) of one row, from the common table with the fields' offsets."""
    embeddings, offset, number = [], 0, 0
    for name, spec in fields.items():
        if spec["type"] == "categorical":
            embeddings.append(weights[f"{prefix}.table"][offset + int(row[name])])
            offset += spec["vocab_size"]
        else:
            embeddings.append(float(row[name]) * weights[f"{prefix}.numeric_weight"][number])
            number += 1
    return np.array(embeddings, dtype=np.float64)


def first_order(weights: dict, prefix: str, fields: dict, row: dict) -> float:
    """LR of one row: bias + sum of the fields' weights."""
    embeddings = embed(weights, f"{prefix}.embedding_layer", fields, row)
    return float(embeddings.sum() + weights[f"{prefix}.bias"][0])


def generate(weights: dict, prefix: str, v: np.ndarray, params: dict) -> np.ndarray:
    """z (F, D) = gamma * act(v W), or v itself for DIS."""
    if not params.get("concat_emb"):
        return v
    assert params["emb_activation"] == "relu"
    num_fields, width = v.shape
    flat = [v[i, d] for i in range(num_fields) for d in range(width)]
    z = np.zeros_like(v)
    for i in range(num_fields):
        for d in range(width):
            row = weights[f"{prefix}.encoder.weight"][i * width + d]
            total = sum(row[k] * flat[k] for k in range(len(flat)))
            z[i, d] = params["gamma"] * max(total, 0.0)
    return z


def mlp(weights: dict, prefix: str, x: np.ndarray, batch_norm_eps: float = 1e-5) -> np.ndarray:
    """Linear [BatchNorm] ReLU ... Linear, in eval mode, from the names of nn.Sequential."""
    layers = sorted(
        {int(n[len(prefix) + 1 :].split(".")[0]) for n in weights if n.startswith(f"{prefix}.")}
    )
    for position, layer in enumerate(layers):
        name = f"{prefix}.{layer}"
        if f"{name}.running_mean" in weights:
            scale = np.sqrt(weights[f"{name}.running_var"] + batch_norm_eps)
            x = (x - weights[f"{name}.running_mean"]) / scale
            x = relu(x * weights[f"{name}.weight"] + weights[f"{name}.bias"])
            continue
        x = weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]
        following = layers[position + 1 :]
        is_last = not following
        feeds_batch_norm = following and f"{prefix}.{following[0]}.running_mean" in weights
        if not is_last and not feeds_batch_norm:
            x = relu(x)
    return x


def pairs(num_fields: int) -> list[tuple[int, int]]:
    return [(i, j) for j in range(num_fields) for i in range(j)]


def deep_fm(weights: dict, fields: dict, row: dict, params: dict) -> float:
    """LR + sum_{i<j} <z_i, v_j> + MLP(v)."""
    v = embed(weights, "embedding_layer", fields, row)
    z = generate(weights, "generator", v, params)
    interaction = sum(float(z[i] @ v[j]) for i, j in pairs(len(v)))
    deep = mlp(weights, "mlp.mlp", v.reshape(-1))[0]
    return first_order(weights, "lr_layer", fields, row) + interaction + deep


REFERENCES = {"DeepFM": deep_fm}
