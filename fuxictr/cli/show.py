"""``python -m fuxictr show RUN``: what a run was, and whether it repeats."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from fuxictr.cli.command import run_cli
from fuxictr.cli.job import end_process
from fuxictr.cli.options import RESULTS
from fuxictr.errors import ConfigError, DataError
from fuxictr.experiment.results.record import RunRecord

NUM_LISTED = 20
SHORTEST_PREFIX = 4
TOLERANCE = 1e-4


def main(argv: list[str] | None = None) -> None:
    """Parses the command line; prints a run, a list of runs, or the verdict on a run."""
    parser = argparse.ArgumentParser(
        prog="python -m fuxictr show",
        description="Print what a run of the results was: metrics, environment, config, data, "
        f"files, and the command that repeats it. Without RUN: the newest {NUM_LISTED} runs.",
    )
    parser.add_argument(
        "run",
        nargs="?",
        metavar="RUN",
        help=f"a run_id or its first {SHORTEST_PREFIX} or more characters, an expid (its newest "
        "finished run, of its present config, data and code where there is one), or last",
    )
    parser.add_argument(
        "--seed", type=int, help="among the runs that RUN names, those of this seed"
    )
    parser.add_argument(
        "--results", type=Path, help="the results store (default: results/results.jsonl)"
    )
    parser.add_argument("--json", action="store_true", help="print the row as JSON")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="repeat the run in a temporary folder (TMPDIR says where) and compare: exit status 0 "
        "if it gives the same, 2 if it does not, 1 if its config or data have changed",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        help="with --verify, where code, versions, device or threads differ: the largest "
        f"difference of a metric that counts as the same (default {TOLERANCE})",
    )
    parser.add_argument("--gpu", help="with --verify: where to repeat it (default: as the run)")
    args = parser.parse_args(argv)
    run_cli(lambda: _run(args), end_process)


def find_run(rows: Sequence[RunRecord], name: str, seed: int | None = None) -> RunRecord:
    """Returns the newest row that a name means; of an expid, the newest of its present config.

    ``name`` is a run_id, an expid, ``last``, or the beginning of one run_id; ``seed`` None = any.
    Raises ConfigError for no row, or the beginning of several.
    """
    found = _named(rows, name)
    if not found:
        raise ConfigError(_unknown(rows, name))
    if seed is not None:
        known = ", ".join(map(str, sorted({row.seed for row in found})))
        found = [row for row in found if row.seed == seed]
        if not found:
            raise ConfigError(f"--seed {seed}: '{name}' has no run of it; its seeds: {known}")
    is_prefix = name not in ("last", found[0].run_id, found[0].expid)
    if is_prefix and len({row.run_id for row in found}) > 1:
        from fuxictr.experiment.verify.describe import list_runs

        raise ConfigError(f"'{name}' is the beginning of several runs:\n{list_runs(found)}")
    finished = [row for row in found if row.is_finished]
    if not finished or name == "last":
        return found[-1]
    if finished[-1].expid != name:
        return finished[-1]
    from fuxictr.experiment.results.identity import newest_present

    row, others = newest_present(finished)
    for what in others:
        print(f"{name}: this run is of other {what}", file=sys.stderr)
    return row


def _named(rows: Sequence[RunRecord], name: str) -> list[RunRecord]:
    """Returns the rows of a run_id, or else of an expid, or else of run_ids with that prefix."""
    if name == "last":
        return list(rows)
    for key in ("run_id", "expid"):
        found = [row for row in rows if getattr(row, key) == name]
        if found:
            return found
    if len(name) < SHORTEST_PREFIX:
        return []
    return [row for row in rows if (row.run_id or "").startswith(name)]


def _unknown(rows: Sequence[RunRecord], name: str) -> str:
    names = {known for row in rows for known in (row.expid, row.run_id) if known}
    starts = [n for n in sorted(names) if n.startswith(name)]
    near = difflib.get_close_matches(name, sorted(names), n=3, cutoff=0.5)
    nearest = ", ".join(list(dict.fromkeys([*near, *starts]))[:3])
    hint = f"; nearest: {nearest}" if nearest else ""
    return (
        f"no run '{name}' in the results; allowed: a run_id or its first {SHORTEST_PREFIX} or more "
        f"characters, an expid, or last{hint}"
    )


def _run(args: argparse.Namespace) -> int:
    if not args.verify:
        row = _find(args)
        if row is not None:
            from fuxictr.experiment.verify.describe import describe_run

            print(describe_run(row))
        return 0
    from fuxictr.experiment.run.launch import report_errors_once_per_machine
    from fuxictr.experiment.verify.repeat import verify

    with report_errors_once_per_machine():
        row = _find(args)
        assert row is not None, "--verify without RUN is an error"
    return verify(row, args.gpu, args.tolerance)


def _find(args: argparse.Namespace) -> RunRecord | None:
    """Returns the requested run, or prints the requested list or JSON and returns None."""
    from fuxictr.experiment.results.store import read_results
    from fuxictr.experiment.verify.describe import list_runs

    if args.run is None and (args.verify or args.json):
        raise ConfigError("--json and --verify: a RUN is missing")
    if args.json and args.verify:
        raise ConfigError("--json and --verify: allowed: one of them")
    if not args.tolerance >= 0:
        raise ConfigError(f"--tolerance {args.tolerance}: allowed: >= 0")
    path = args.results or RESULTS
    rows = read_results(path)
    if not rows:
        raise DataError(f"{path}: no runs yet")
    if args.run is None:
        rows = [row for row in rows if args.seed in (None, row.seed)]
        print(list_runs(rows[: -NUM_LISTED - 1 : -1]))
        print(f"{min(len(rows), NUM_LISTED)} of {len(rows)} runs of {path}, the newest first")
        return None
    row = find_run(rows, args.run, args.seed)
    if args.json:
        print(json.dumps(row.line, indent=2, ensure_ascii=False))
        return None
    return row


if __name__ == "__main__":
    main()
