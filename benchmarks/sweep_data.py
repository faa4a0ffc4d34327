"""The rows of sweep.py: MovieLens-100K's, or made in its shape; split once for both sides."""

from __future__ import annotations

import csv
import random
from pathlib import Path

SPLITS = {"train": 0.8, "valid": 0.1, "test": 0.1}
COLUMNS = ("user_id", "item_id", "label")
LIKED = 4  # stars from which on a rating is a click
_USERS, _ITEMS, _ROWS = 943, 1682, 100_000


def read_rows(path: Path) -> list[tuple[str, str, int]]:
    """Returns user, item and click of a file with user_id, item_id and rating (or label).

    It is a csv file with a header, or RecBole's .inter file, whose header has types and tabs.

    Raises:
        ValueError: a column is missing; names the file and the columns found.
    """
    with open(path, encoding="utf-8", newline="") as file:
        lines = csv.reader(file, delimiter="\t" if path.suffix == ".inter" else ",")
        header = [name.partition(":")[0] for name in next(lines)]
        target = "label" if "label" in header else "rating"
        missing = {"user_id", "item_id", target} - set(header)
        if missing:
            raise ValueError(f"{path}: no column {', '.join(sorted(missing))}; found {header}")
        user, item, value = (header.index(name) for name in ("user_id", "item_id", target))
        least = 0.5 if target == "label" else LIKED
        return [(line[user], line[item], int(float(line[value]) >= least)) for line in lines]


def make_rows(seed: int = 2019) -> list[tuple[str, str, int]]:
    """Returns rows of the shape of MovieLens-100K: as many users, items and ratings, by Zipf."""
    rng = random.Random(seed)
    users = rng.choices(range(_USERS), [1 / (5 + i) for i in range(_USERS)], k=_ROWS)
    items = rng.choices(range(_ITEMS), [1 / (5 + i) for i in range(_ITEMS)], k=_ROWS)
    taste = [rng.gauss(0, 1) for _ in range(_USERS + _ITEMS)]
    return [
        (str(u), str(i), int(taste[u] + taste[_USERS + i] + rng.gauss(0, 1) > 0))
        for u, i in zip(users, items, strict=True)
    ]


def write_splits(rows: list[tuple[str, str, int]], folder: Path, seed: int = 2019) -> None:
    """Writes the rows of each split twice: as <split>.csv, and as RecBole's atomic files.

    The latter are sweep/sweep.<split>.inter.
    """
    rows = random.Random(seed).sample(rows, len(rows))
    (folder / "sweep").mkdir(parents=True)
    start = 0
    for name, share in SPLITS.items():
        stop = len(rows) if name == "test" else start + round(share * len(rows))
        _write(folder / f"{name}.csv", COLUMNS, rows[start:stop], ",")
        header = ("user_id:token", "item_id:token", "label:float")
        _write(folder / "sweep" / f"sweep.{name}.inter", header, rows[start:stop], "\t")
        start = stop


def _write(path: Path, header: tuple[str, ...], rows: list[tuple[str, str, int]], by: str) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=by, lineterminator="\n").writerows([header, *rows])
