"""``python -m fuxictr show RUN``: what a run was, and whether it repeats."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from fuxictr.cli.command import run_cli
from fuxictr.errors import ConfigError, DataError

NUM_LISTED = 20
SHORTEST_PREFIX = 4
TOLERANCE = 1e-4
_OR_NONE = type(None)
# What a row keeps of a run: key -> type; [type] is a list of it, "*" any key.
_RECORD: dict[str, Any] = {
    "config": {
        "folder": (str, _OR_NONE),
        "zoo": str,
        "overrides": [str],
        "keys": {"*": dict},
        "as_default": [str],
    },
    "environment": {
        **dict.fromkeys(("packages", "platform", "threads", "variables", "numerics"), dict),
        **{"git": (dict, _OR_NONE), "device": (dict, _OR_NONE), "argv": [str], "cwd": str},
    },
    "encoded": {"*": str},
    "resumes": [dict],
}


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
        "if it gives the same, 2 if it does not, 1 if its config or data are others by now",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        help="with --verify, where code, versions, device or threads are others: the largest "
        f"difference of a metric that counts as the same (default {TOLERANCE})",
    )
    parser.add_argument("--gpu", help="with --verify: where to repeat it (default: as the run)")
    args = parser.parse_args(argv)
    run_cli(lambda: _run(args), _end)


def find_run(rows: Sequence[dict[str, Any]], name: str, seed: int | None = None) -> dict[str, Any]:
    """Returns the newest row that a name means; of an expid, the newest that is of it by now.

    Args:
        rows: the results store.
        name: a run_id, an expid, ``last``, or the beginning of one run_id.
        seed: among the rows of that name, those of this seed; null = any.

    Raises:
        ConfigError: no row, or the beginning of several; names the nearest, or lists them.
    """
    from fuxictr.experiment.results.store import is_finished

    found = _named(rows, name)
    if not found:
        raise ConfigError(_unknown(rows, name))
    if seed is not None:
        seeds = sorted({row.get("seed") for row in found}, key=str)
        found = [row for row in found if row.get("seed") == seed]
        if not found:
            known = ", ".join(map(str, seeds))
            raise ConfigError(f"--seed {seed}: '{name}' has no run of it; its seeds: {known}")
    is_prefix = name != "last" and name not in {found[0].get("run_id"), found[0].get("expid")}
    if is_prefix and len({row["run_id"] for row in found}) > 1:
        from fuxictr.experiment.verify.describe import list_runs

        raise ConfigError(f"'{name}' is the beginning of several runs:\n{list_runs(found)}")
    finished = [row for row in found if is_finished(row)]
    if not finished or name == "last":
        return found[-1]
    if is_prefix or finished[-1].get("expid") != name:
        return finished[-1]
    from fuxictr.experiment.results.identity import newest_present

    row, others = newest_present(finished)
    for what in others:
        print(f"{name}: this run is of other {what}", file=sys.stderr)
    return row


def check_record(row: dict[str, Any]) -> None:
    """Checks that a row holds its record in the form that a run leaves it in, or none.

    Raises:
        DataError: it was changed by another hand; names the key.
    """
    for part, shape in _RECORD.items():
        if row.get(part) is not None:  # a row of an older version has none
            _check_shape(row[part], shape, f"run {row.get('run_id')}: key '{part}")


def _check_shape(value: Any, shape: Any, name: str) -> None:
    kind = type(shape) if isinstance(shape, (dict, list)) else shape
    if not isinstance(value, kind):
        raise DataError(f"{name}' of its row: found {value!r}, which no run writes there")
    if isinstance(value, list):
        for place, item in enumerate(value):
            _check_shape(item, shape[0], f"{name}.{place}")
    elif isinstance(value, dict) and isinstance(shape, dict):
        for key in value if "*" in shape else shape:
            inner = shape["*"] if "*" in shape else shape[key]
            _check_shape(value.get(key), inner, f"{name}.{key}")


def _named(rows: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Returns the rows of a run_id, or else of an expid, or else of run_ids that begin so."""
    if name == "last":
        return list(rows)
    for key in ("run_id", "expid"):
        found = [row for row in rows if row.get(key) == name]
        if found:
            return found
    if len(name) < SHORTEST_PREFIX:
        return []
    return [row for row in rows if str(row.get("run_id") or "").startswith(name)]


def _unknown(rows: Sequence[dict[str, Any]], name: str) -> str:
    names = {str(row[key]) for row in rows for key in ("expid", "run_id") if row.get(key)}
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

            check_record(row)
            print(describe_run(row))
        return 0
    from fuxictr.experiment.run.launch import report_errors_once_per_machine
    from fuxictr.experiment.verify.repeat import verify

    with report_errors_once_per_machine():
        row = _find(args)
        assert row is not None, "what is to be verified is named"
        check_record(row)
    return verify(row, args.gpu, args.tolerance)


def _end(status: Any) -> NoReturn:
    if "WORLD_SIZE" not in os.environ:
        sys.exit(status)
    from fuxictr.experiment.run.launch import end  # needs torch

    end(status)


def _find(args: argparse.Namespace) -> dict[str, Any] | None:
    """Returns the run that is asked for; None where a list, or JSON, was, which it prints."""
    from fuxictr.experiment.results.store import read_results
    from fuxictr.experiment.verify.describe import list_runs
    from fuxictr.experiment.zoo.models import ROOT

    if args.run is None and (args.verify or args.json):
        raise ConfigError("--json and --verify: a RUN is missing")
    if args.json and args.verify:
        raise ConfigError("--json and --verify: allowed: one of them")
    if not args.tolerance >= 0:
        raise ConfigError(f"--tolerance {args.tolerance}: allowed: >= 0")
    path = args.results or ROOT / "results" / "results.jsonl"
    rows = read_results(path)
    if not rows:
        raise DataError(f"{path}: no runs yet")
    if args.run is None:
        rows = [row for row in rows if args.seed in (None, row.get("seed"))]
        print(list_runs(rows[: -NUM_LISTED - 1 : -1]))
        print(f"{min(len(rows), NUM_LISTED)} of {len(rows)} runs of {path}, the newest first")
        return None
    row = find_run(rows, args.run, args.seed)
    if args.json:
        print(json.dumps(row, indent=2, ensure_ascii=False))
        return None
    return row


if __name__ == "__main__":
    main()
