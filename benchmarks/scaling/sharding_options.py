"""Milliseconds and bytes of the ways to look up a table's rows on several ranks, and to learn them.

    python benchmarks/scaling/sharding_options.py --ranks 2,4

One table in the shape of Avazu_x4 (3,750,999 rows of width 16), ids by Zipf's law, 10,000 rows of
24 fields a batch that the ranks share evenly. A step is what an optimiser needs and no more: the
vectors of the rank's part of the batch, and, from gradients of these, the gradient of each row
where it will be updated. In a round all ways take turns; all give the same numbers, or it fails.

- dtensor: nn.Embedding under RowwiseParallel, torch's tensor-parallel building block;
- torchrec: EmbeddingCollection, row_wise, where torchrec is installed; torchrec_distinct
  gives it the distinct rows of the rank's batch only;
- rows: distinct rows of the rank's batch by all_to_all_single, row i at rank i % P;
- touched: the table on every rank, and the gradients of the rows that each read from all to all;
- dense: the table on every rank, and an all-reduce of its whole gradient.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import processes
from processes import common

# Way -> what the page calls it.
WAYS = {
    "dtensor": "DTensor, RowwiseParallel",
    "torchrec": "torchrec, row-wise",
    "torchrec_distinct": "torchrec, row-wise, of distinct rows",
    "rows": "all-to-all of distinct rows",
    "touched": "replicated, rows of the batch",
    "dense": "replicated, all-reduce",
}
NUM_BATCHES = 3
SEED = 2019


class Way(Protocol):
    """One way."""

    def look_up(self, rows: Any) -> Any:
        """Returns the vectors (B, F, D) of rows (B, F), with a gradient."""

    def gradient(self) -> tuple[Any, Any]:
        """Returns, after a backward pass, row numbers (U,) and their gradients (U, D).

        The rows are those that this rank updates.
        """


def draw_rows(num_rows: int, seed: int) -> tuple[Any, int]:
    """Returns rows of one table, int32 (B, F), for a batch of ids, and the table's size."""
    import avazu_shaped
    import torch

    sizes = avazu_shaped.CARDINALITIES | {"hour": 24}
    sizes |= {"weekday": 7, "is_weekend": 2}
    generator = torch.Generator().manual_seed(seed)
    columns, start = [], 0
    for size in sizes.values():
        share = torch.rand(num_rows, generator=generator, dtype=torch.float64)
        ids = ((size + 1.0) ** share - 1).long().clamp_(0, size - 1)
        columns.append(start + 1 + ids)
        start += size + 2  # padding and out-of-vocabulary
    return torch.stack(columns, dim=1).int(), start


def measure(ways: list[str], batch_size: int, dim: int, rounds: int) -> dict[str, Any]:
    """Measures the ways on the ranks of this job, one round after another."""
    sys.path.insert(0, str(common.ROOT))
    from fuxictr.pytorch.distributed.ranks import joined

    with joined("cpu") as ranks:
        return _measure(ranks, ways, batch_size, dim, rounds)


def _measure(ranks: Any, ways: list[str], batch_size: int, dim: int, rounds: int) -> dict[str, Any]:
    import torch
    from sharding_ways import MAKERS

    rank, size = ranks.rank, ranks.size
    batches = [draw_rows(batch_size, SEED + number) for number in range(NUM_BATCHES)]
    num_rows = batches[0][1]
    first, stop = batch_size * rank // size, batch_size * (rank + 1) // size
    parts = [rows[first:stop].contiguous() for rows, _ in batches]
    torch.manual_seed(SEED)
    table = torch.randn(num_rows, dim)
    upstream = torch.randn(batch_size, parts[0].shape[1], dim)[first:stop]
    made: dict[str, Way] = {way: MAKERS[way](table, ranks) for way in ways}
    expected = ranks.sum(_checksum(parts[0].view(-1), upstream.view(-1, dim)))
    for name, way in made.items():
        found = _check(way, name, parts[0], table, upstream)
        if name not in ("touched", "dense"):  # each rank has its own rows
            ranks.sum(found)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1.0, msg=f"{name}: gradients")
    seconds: dict[str, list[float]] = {name: [] for name in made}
    sent: dict[str, list[float | None]] = {name: [] for name in made}
    for _ in range(rounds):
        for name, way in made.items():
            spent, count = _time(way, parts, upstream, ranks)
            seconds[name].append(spent)
            sent[name].append(count)
    distinct = [len(part.unique()) for part in parts]
    ranks.barrier()
    return {"seconds": seconds, "bytes": sent, "table_rows": num_rows, "distinct": distinct}


def _time(way: Way, parts: list[Any], upstream: Any, ranks: Any) -> tuple[float, float | None]:
    """Returns the seconds of a step, and the bytes that all ranks together sent in it."""
    ranks.barrier()
    before, start = processes.bytes_sent(), time.perf_counter()
    for part in parts:
        way.look_up(part).backward(upstream)
        way.gradient()
    ranks.barrier()
    spent, after = time.perf_counter() - start, processes.bytes_sent()
    sent = None if before is None or after is None else (after - before) / len(parts)
    return spent / len(parts), sent


def _check(way: Way, name: str, rows: Any, table: Any, upstream: Any) -> Any:
    """Compares vectors and returns the checksum of the gradients of this rank's rows."""
    import torch

    found = way.look_up(rows)
    if not torch.equal(found.detach().view(upstream.shape), table[rows.long()]):
        raise SystemExit(f"{name}: other vectors")
    found.backward(upstream)
    return _checksum(*way.gradient())


def _checksum(rows: Any, gradients: Any) -> Any:
    """Returns a sum (D,) that tells gradients apart which belong to other rows."""
    weights = (rows.long() * 40_503 % 1_009).double()
    return weights @ gradients.double()


def summarize(ways: list[str], ranks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns medians over the rounds of what the first rank saw, one record per way."""
    found, num_ranks = ranks[0], len(ranks)
    lines = []
    for way in ways:
        each = [1e3 * seconds for seconds in found["seconds"][way]]
        counts = [count for count in found["bytes"][way] if count is not None]
        sent = statistics.median(counts) / num_ranks if counts else None
        line = {"way": way, "ranks": num_ranks, "milliseconds": round(statistics.median(each), 2)}
        line["milliseconds_each"] = [round(value, 2) for value in each]
        lines.append({**line, "bytes_sent_per_rank": sent and round(sent)})
    return lines


def main() -> None:
    """Parses the command line, measures, prints and stores the record."""
    if processes.run_step({"measure": measure}):
        return
    parser = argparse.ArgumentParser(description="Measure ways to share a table.")
    parser.add_argument("--ranks", default="2,4", help="numbers of processes, of one thread each")
    parser.add_argument("--batch-size", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--ways", default=",".join(WAYS), help=f"of: {', '.join(WAYS)}")
    parser.add_argument("--results", default=processes.RESULTS, help="folder of the record")
    args = parser.parse_args()
    ways = args.ways.split(",")
    if unknown := set(ways) - set(WAYS):
        parser.error(f"--ways: {', '.join(sorted(unknown))}: allowed: {', '.join(WAYS)}")
    if find_spec("torchrec") is None and any("torchrec" in way for way in ways):
        ways = [way for way in ways if "torchrec" not in way]
        print("torchrec is not installed: left out")
    machine = common.machine()
    common.warn_if_busy(machine)
    settings = {"batch_size": args.batch_size, "dim": args.dim}
    lines, found = [], {}
    for num_ranks in map(int, args.ranks.split(",")):
        ranks = processes.run_ranks(
            "measure", {**settings, "ways": ways, "rounds": args.rounds}, num_ranks
        )
        found = {"table_rows": ranks[0]["table_rows"]}
        for line in summarize(ways, ranks):
            lines.append({**line, "distinct_rows": round(statistics.mean(ranks[0]["distinct"]))})
            sent = line["bytes_sent_per_rank"]
            print(f"{num_ranks} ranks  {line['way']:17} {line['milliseconds']:9.2f} ms "
                  f"{'?' if sent is None else f'{sent / 1e6:9.3f}'} MB a rank and step",
                  flush=True)  # fmt: skip
    packages = (*common.PACKAGES, "torchrec", "fbgemm_gpu-cpu")
    record = {**settings, **found, "rounds": args.rounds, "machine": machine, "lines": lines}
    record["versions"] = common.versions(packages)
    print(f"wrote {common.store('sharding_options', record, Path(args.results))}")


if __name__ == "__main__":
    main()
