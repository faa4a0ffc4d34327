"""Writes csv splits in the shape of Avazu_x4, fast and in bounded memory.

    python benchmarks/avazu_shaped.py --rows 1000000 --out DIR

The columns are those of the raw files. A column's values follow Zipf's law, P(k) = log((k + 2) /
(k + 1)) / log(size + 1) of the k-th most frequent one, and every value is in the training split at
least twice, so that the vocabularies of a build with min_categr_count 2 have exactly the planned
sizes. The click follows a logistic model of eight columns and of two pairs of them.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import common
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

sys.path.insert(0, str(common.ROOT))
from fuxictr.datasets import registry

_AVAZU = registry.resolve("avazu")
FULL_ROWS = sum(_AVAZU.rows)
CHUNK_ROWS = 100_000
# Values of Avazu_x4 that occur at least twice in training. The raw hour has 240, of ten days.
CARDINALITIES = {
    name: size for name, size in _AVAZU.num_values.items() if name not in ("weekday", "weekend")
} | {"hour": 240}
# Columns of whole numbers, and the first of them; the others hold 8 hex digits.
FIRST_NUMBER = {
    "C1": 1001, "banner_pos": 0, "device_type": 0, "device_conn_type": 0, "C14": 375, "C15": 120,
    "C16": 20, "C17": 112, "C18": 0, "C19": 33, "C20": 100000, "C21": 13,
}  # fmt: skip
MAIN_EFFECTS = (
    "hour", "banner_pos", "site_id", "site_category", "app_id", "app_category", "C14", "C17",
)  # fmt: skip
PAIR_EFFECTS = (("site_category", "C14"), ("app_category", "banner_pos"))
# Columns with fewer values keep all of them on few rows.
SMALL = 1000
# The share of the training rows that may be spent on showing every value twice.
COVER_SHARE = 0.75
BIAS = -3.3
_ODD = 2654435761  # odd: k -> k * _ODD mod 2^32 meets every 32-bit number once
_HEX = np.array([f"{byte:02x}" for byte in range(256)], dtype="S2").view(np.uint16)


def cardinalities(rows: int, vocab_rows: int | None = None) -> dict[str, int]:
    """Returns column -> number of values: SMALL of them, or the paper's share of the rows.

    Args:
        rows: of all splits.
        vocab_rows: scale for this number of rows instead; FULL_ROWS gives the paper's sizes, or
            as many values as COVER_SHARE of the training rows holds twice.
    """
    limit = int(split_rows(rows)["train"] * COVER_SHARE / 2)
    share = min(1.0, (rows if vocab_rows is None else vocab_rows) / FULL_ROWS)
    scaled = {name: max(SMALL, math.ceil(size * share)) for name, size in CARDINALITIES.items()}
    return {name: min(size, scaled[name], limit) for name, size in CARDINALITIES.items()}


def split_rows(rows: int) -> dict[str, int]:
    """Returns split -> rows; valid and test hold a tenth each."""
    tenth = rows // 10
    return {"train": rows - 2 * tenth, "valid": tenth, "test": tenth}


def write_splits(
    folder: str | Path, rows: int, seed: int = 2019, vocab_rows: int | None = None
) -> dict[str, int]:
    """Writes train.csv, valid.csv and test.csv; equal arguments give equal files.

    Args:
        folder: where to.
        rows: of all splits.
        seed: of every draw.
        vocab_rows: see cardinalities.

    Returns:
        Column -> number of values.
    """
    sizes = cardinalities(rows, vocab_rows)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    options = pa_csv.WriteOptions(include_header=False, quoting_style="none")
    for number, (split, count) in enumerate(split_rows(rows).items()):
        with open(folder / f"{split}.csv", "wb") as file:
            file.write(",".join(["id", "click", *sizes]).encode() + b"\n")
            for table in _chunks(sizes, count, [seed, number], split == "train"):
                pa_csv.write_csv(table, file, options)
    return sizes


def _chunks(
    sizes: dict[str, int], rows: int, seed: list[int], is_train: bool
) -> Iterator[pa.Table]:
    start = 0
    for values, click in draw(sizes, rows, seed, is_covered=is_train):
        row = np.arange(start, start + len(click))
        start += len(click)
        columns = {"id": pa.array(10**18 * (seed[-1] + 1) + row), "click": pa.array(click * 1)}
        columns |= {name: _cells(name, column) for name, column in values.items()}
        yield pa.table(columns)


def draw(
    sizes: dict[str, int], rows: int, seed: list[int], is_covered: bool = False
) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    """Yields rows in chunks: column -> values 0..size-1, the most frequent first, and the clicks.

    Args:
        sizes: column -> number of values.
        rows: how many.
        seed: of every draw.
        is_covered: show every value at least twice, where the rows suffice.
    """
    for number, start in enumerate(range(0, rows, CHUNK_ROWS)):
        rng = np.random.default_rng([*seed, number])
        row = np.arange(start, min(start + CHUNK_ROWS, rows))
        values = {}
        for name, size in sizes.items():
            drawn = (size + 1) ** rng.random(len(row)) - 1
            values[name] = drawn.astype(np.int64).clip(0, size - 1)
            if is_covered:
                _cover(values[name], row, size, rows)
        yield values, rng.random(len(row)) < 1 / (1 + np.exp(-_logits(values)))


def _cover(values: np.ndarray, row: np.ndarray, size: int, rows: int) -> None:
    """Puts 0..size-1, twice, into 2 * size rows that lie evenly among all of them."""
    shown = min(2 * size, rows)
    before, after = row * shown // rows, (row + 1) * shown // rows
    values[:] = np.where(after > before, before % size, values)


def _logits(values: dict[str, np.ndarray]) -> np.ndarray:
    logits = np.full(len(values["hour"]), BIAS)
    for number, name in enumerate(MAIN_EFFECTS):
        logits += 1.2 * _effect(values[name], number)
    for number, (left, right) in enumerate(PAIR_EFFECTS, len(MAIN_EFFECTS)):
        logits += 2.0 * _effect(values[left] * 4096 + values[right], number)
    return logits


def _effect(values: np.ndarray, salt: int) -> np.ndarray:
    """Returns a fixed number in [-1, 1) for each value, spread like a draw."""
    mixed = (values.astype(np.uint64) + np.uint64(1 + (salt << 20))) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    return ((mixed * np.uint64(0xBF58476D1CE4E5B9)) >> np.uint64(40)) / 2**23 - 1


def _cells(name: str, values: np.ndarray) -> pa.Array:
    if name == "hour":
        return pa.array(14102100 + 100 * (values // 24) + values % 24)
    if name in FIRST_NUMBER:
        return pa.array(values + FIRST_NUMBER[name])
    salt = list(CARDINALITIES).index(name) * 40503
    codes = ((values + salt) * _ODD % 2**32).astype(">u4").view(np.uint8)
    digits = _HEX[codes]  # two digits a byte
    offsets = np.arange(0, 8 * len(values) + 1, 8, dtype=np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(digits)]
    return pa.Array.from_buffers(pa.string(), len(values), buffers)


def main() -> None:
    """Parses the command line, writes the splits and prints their size as JSON."""
    parser = argparse.ArgumentParser(description="Write csv splits in the shape of Avazu_x4.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of all three splits")
    parser.add_argument("--seed", type=int, default=2019)
    parser.add_argument("--out", required=True, help="folder of train.csv, valid.csv, test.csv")
    parser.add_argument(
        "--full-vocab", action="store_true", help="Avazu_x4's vocabularies, whatever the rows"
    )
    args = parser.parse_args()
    start = time.perf_counter()
    sizes = write_splits(args.out, args.rows, args.seed, FULL_ROWS if args.full_vocab else None)
    seconds = time.perf_counter() - start
    report = {"seconds": round(seconds, 2), "rows_per_second": round(args.rows / seconds)}
    print(json.dumps({"rows": args.rows, **report, "values": sizes}))


if __name__ == "__main__":
    main()
