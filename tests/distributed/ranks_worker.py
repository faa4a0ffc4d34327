"""One process of a launch: checks what ranks tell one another; FOLDER/ok.<rank> = it went well."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest
import torch

from fuxictr.errors import DataError
from fuxictr.pytorch.distributed.ranks import (
    RankError,
    Ranks,
    StopFlags,
    current_ranks,
    exit_now,
    joined,
)


def check_sums(ranks: Ranks) -> None:
    values = torch.tensor([1.0, float(ranks.rank)])
    assert ranks.sum(values) is values
    assert values.tolist() == [ranks.size, sum(range(ranks.size))]
    assert ranks.broadcast(torch.tensor([ranks.rank + 5])).item() == 5


def check_rows(ranks: Ranks) -> None:
    for dtype in (torch.int32, torch.float32):
        rows = torch.full((ranks.rank, 3), ranks.rank, dtype=dtype)  # the first one has none
        for rank, part in enumerate(ranks.gather_rows(rows)):
            assert torch.equal(part, torch.full((rank, 3), rank, dtype=dtype))
        found = ranks.gather_to_first(rows)
        assert len(found) == (ranks.size if ranks.is_first else 0)
        assert [len(part) for part in found] == list(range(len(found)))
    wholes = [torch.arange(2 * rank) for rank in range(ranks.size)]
    own = torch.zeros(2 * ranks.rank, dtype=torch.int64)
    ranks.scatter_from_first(wholes if ranks.is_first else [], own)
    assert torch.equal(own, wholes[ranks.rank])
    counts = [ranks.rank + other for other in range(ranks.size)]  # to each
    received = ranks.exchange_counts(counts)
    assert received == counts  # it is symmetric
    sent = torch.full((sum(counts), 2), float(ranks.rank))
    by_rank = ranks.exchange_rows(sent, counts, received).split(received)
    assert all(bool((part == rank).all()) for rank, part in enumerate(by_rank))


def check_texts(ranks: Ranks) -> None:
    texts = ["", "ä", "three\nlines\n", "x" * 100_000]
    found = ranks.gather_texts(texts[ranks.rank])
    assert found == texts[: ranks.size]


def check_flags(ranks: Ranks) -> None:
    flags = StopFlags(ranks)
    is_last = ranks.rank == ranks.size - 1
    assert flags.reduce(is_last, False) == [False, False]
    assert flags.reduce(False, ranks.is_first) == [True, False]  # of the call before
    assert flags.reduce(False, False) == [False, True]
    assert flags.reduce(False, False) == [False, False]


def check_rank_zero(ranks: Ranks) -> None:
    calls = []

    def make() -> dict:
        calls.append(ranks.rank)
        return {"rank": ranks.rank, "ä": [1.5, None]}

    assert ranks.from_rank_zero(make) == {"rank": 0, "ä": [1.5, None]}
    assert calls == ([0] if ranks.is_first else [])
    assert ranks.from_rank_zero(lambda: None) is None

    def fail() -> None:
        raise DataError("its own")

    with pytest.raises(DataError if ranks.is_first else SystemExit):
        ranks.from_rank_zero(fail)


def check_errors(ranks: Ranks) -> None:
    with ranks.raise_on_any_rank():
        pass
    expected = RankError if ranks.is_first else SystemExit
    with pytest.raises(expected, match="rank 1: DataError: row 7" if ranks.is_first else "1"):
        with ranks.raise_on_any_rank():
            if ranks.rank > 0:
                raise DataError(f"row {7 * ranks.rank}")
    with pytest.raises(DataError if ranks.is_first else SystemExit):
        ranks.raise_if_any(DataError("its own") if ranks.is_first else None)
    ranks.barrier()


def main(folder: Path) -> None:
    warnings.simplefilter("error")
    assert current_ranks().size == 1
    with joined("cpu") as ranks:
        assert current_ranks() is ranks
        for check in (
            check_sums,
            check_rows,
            check_texts,
            check_flags,
            check_rank_zero,
            check_errors,
        ):
            check(ranks)
    assert current_ranks().size == 1 and not torch.distributed.is_initialized()
    (folder / f"ok.{ranks.rank}").touch()
    exit_now(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
