"""Keeps the weights and results of the layers of embedding_cases.py as FuxiCTR gives them.

    PEER/bin/python tests/fuxictr_facts/record_embeddings.py

PEER is an environment with FuxiCTR 2.3.10. It writes embeddings.npz beside this file.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from embedding_cases import CASES, build, make_map

FEATURE_MAP_FIELDS = ["user", "item", "age", "day", "clicks", "tags", "image", "wide"]


def record():
    """Returns case/state/KEY -> weight and case/NAME -> result."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            layer, results = build(case, Path(folder))
            torch.manual_seed(1)
            with torch.no_grad():
                for name, weight in layer.named_parameters():
                    weight.normal_()
                    if "encoders" not in name and "proj" not in name and weight.shape[1] != 1:
                        weight[0] = 0.0
                    if case == "width_1" and len(weight) > 1:
                        weight[0] = 0.0
            with torch.no_grad():
                for name, value in results().items():
                    found[f"{case}/{name}"] = value.numpy()
            for name, weight in layer.state_dict().items():
                found[f"{case}/state/{name}"] = weight.numpy()
        feature_map = make_map(Path(folder), FEATURE_MAP_FIELDS)
        for source in ("", "user", "item", "context"):
            found[f"map/{source}"] = np.array(
                [
                    feature_map.sum_emb_out_dim(source or []),
                    feature_map.get_num_fields(source or []),
                ]
            )
        feature_map.set_column_index()
        for name in FEATURE_MAP_FIELDS:
            found[f"map/column/{name}"] = np.array(feature_map.get_column_index(name))
    return found


if __name__ == "__main__":
    np.savez_compressed(Path(__file__).with_name("embeddings.npz"), **record())
