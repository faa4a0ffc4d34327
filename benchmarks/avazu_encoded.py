"""Writes encoded splits in the shape of Avazu_x4: parquet of ids, and the feature map.

The values are those of avazu_shaped.py, drawn as ids at once: no csv, no encoding, so that tables
may have all 3.75 million features of Avazu_x4 however few the rows are. 24 fields, as the paper's
config has them: hour, weekday and is_weekend come of the raw hour.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import avazu_shaped
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DATASET = "avazu_shaped"
SEED = 2019
# Tokens that are no value: __PAD__ is id 0, __OOV__ the last id.
RESERVED = 2
_TIME = {"hour": 24, "weekday": 7, "is_weekend": 2}


def write_encoded(folder: str | Path, rows: int, full_vocab: bool) -> Path:
    """Writes <folder>/avazu_shaped/{train, valid, test}.parquet and feature_map.json.

    A finished folder of the same rows, vocabularies and code is used again.

    Args:
        folder: where to.
        rows: of all splits; valid and test hold a tenth each.
        full_vocab: Avazu_x4's vocabularies; otherwise they are scaled to the rows.

    Returns:
        The folder of the splits.
    """
    target = Path(folder) / DATASET
    sizes = avazu_shaped.CARDINALITIES if full_vocab else avazu_shaped.cardinalities(rows)
    sources = [Path(__file__), Path(avazu_shaped.__file__)]
    made = {
        "rows": rows,
        "sizes": sizes,
        "source": hashlib.sha256(b"".join(f.read_bytes() for f in sources)).hexdigest(),
    }
    mark = target / "generated.json"  # written last: one cut off midway does not count
    if mark.is_file() and json.loads(mark.read_text()) == made:
        return target
    target.mkdir(parents=True, exist_ok=True)
    mark.unlink(missing_ok=True)
    for number, (split, count) in enumerate(avazu_shaped.split_rows(rows).items()):
        _write_split(target / f"{split}.parquet", sizes, count, [SEED, number])
    (target / "feature_map.json").write_text(json.dumps(_feature_map(sizes), indent=2) + "\n")
    mark.write_text(json.dumps(made))
    return target


def _write_split(path: Path, sizes: dict[str, int], rows: int, seed: list[int]) -> None:
    writer = None
    for values, click in avazu_shaped.draw(sizes, rows, seed):
        columns = {name: pa.array((ids + 1).astype(np.int32)) for name, ids in _fields(values)}
        table = pa.table({**columns, "click": pa.array(click.astype(np.float32))})
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None, "a split has rows"
    writer.close()


def _fields(values: dict[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    weekday = values["hour"] // 24 % _TIME["weekday"]
    time = {"hour": values["hour"] % 24, "weekday": weekday, "is_weekend": weekday >= 5}
    return [*time.items(), *((name, ids) for name, ids in values.items() if name != "hour")]


def _feature_map(sizes: dict[str, int]) -> dict:
    fields = {**_TIME, **{name: size for name, size in sizes.items() if name != "hour"}}
    specs = [
        {
            name: {
                "source": "",
                "type": "categorical",
                "padding_idx": 0,
                "oov_idx": size + RESERVED - 1,
                "vocab_size": size + RESERVED,
            }
        }
        for name, size in fields.items()
    ]
    return {
        "dataset_id": DATASET,
        "num_fields": len(fields),
        "total_features": sum(fields.values()) + RESERVED * len(fields),
        "input_length": len(fields),
        "labels": ["click"],
        "features": specs,
    }
