"""Measures how long a command takes before it does anything: imports and --help.

    python benchmarks/startup.py --peer PEER_ENVIRONMENT/bin/python

Each is its own process, timed from its start to its end, the interpreter included; all take
turns. One round before them is not counted: it brings the files into memory and compiles them. The
shell scripts get the Python that runs this file, so they find an environment at once.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import common

# Seconds within which the package is imported and every --help is printed.
LIMIT = 0.5
# These load torch, which is most of what they take.
UNLIMITED = ("import torch", "import fuxictr.pytorch.models")


def own_commands() -> dict[str, list[str]]:
    """Returns name -> command, run in the repository's folder; imports first, then every --help."""
    imports = ("import fuxictr", *UNLIMITED)
    scripts = ["model_zoo/FM/run_expid.py", "analyze.py", "predict.py"]
    scripts += sorted(path.name for path in common.ROOT.glob("plot_paper_*.py"))
    shell = sorted(path.name for path in common.ROOT.glob("[0-9].*.sh"))
    commands = {"an empty program": [sys.executable, "-c", ""]}
    commands |= {statement: [sys.executable, "-c", statement] for statement in imports}
    commands |= {f"python {name} --help": [sys.executable, name, "--help"] for name in scripts}
    commands |= {f"bash {name} --help": ["bash", name, "--help"] for name in shell}
    return commands


def peer_commands(python: str) -> dict[str, list[str]]:
    """Returns name -> command of the peer, which has no command lines; -I hides this repository."""
    statements = ("import torch", "import fuxictr", "import fuxictr.pytorch.models")
    return {statement: [python, "-I", "-c", statement] for statement in statements}


def seconds_of(command: list[str], folder: Path = common.ROOT) -> float:
    """Returns the wall time of a command that runs in a folder.

    Raises:
        ChildError: it failed.
    """
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise common.ChildError(f"exit status {done.returncode}: {command}\n{done.stderr}")
    return seconds


def measure(commands: dict[tuple[str, str], list[str]], repeats: int) -> list[dict[str, Any]]:
    """Runs all commands in turn.

    Args:
        commands: (``ours`` or ``peer``, name) -> command.
        repeats: rounds that count, beside the first.

    Returns:
        One record a command: whose, name, median seconds, those of each round, and whether the
        limit holds, None if there is none.
    """
    each: dict[tuple[str, str], list[float]] = {key: [] for key in commands}
    for number in range(repeats + 1):
        for key, command in commands.items():
            seconds = seconds_of(command)
            if number:
                each[key].append(round(seconds, 4))
    records = []
    for (side, name), seconds_each in each.items():
        median = statistics.median(seconds_each)
        is_limited = side == "ours" and name not in UNLIMITED
        record = {"side": side, "name": name, "seconds": round(median, 3)}
        is_within = median <= LIMIT if is_limited else None
        records.append({**record, "seconds_each": seconds_each, "within_limit": is_within})
    return records


def ratios(records: list[dict[str, Any]]) -> dict[str, float]:
    """Returns name -> the peer's seconds / ours, of what both have."""
    seconds = {(record["side"], record["name"]): record["seconds"] for record in records}
    return {
        name: round(peer / seconds["ours", name], 2)
        for (side, name), peer in seconds.items()
        if side == "peer"
    }


def report(records: list[dict[str, Any]], found_ratios: dict[str, float]) -> None:
    """Prints the table, and what is above the limit."""
    for record in records:
        print(f"{record['side']:4}  {record['seconds']:6.3f} s  {record['name']}")
    for name, ratio in found_ratios.items():
        print(f"ratio (peer / ours) {ratio:6.2f}  {name}")
    above = [record["name"] for record in records if record["within_limit"] is False]
    print(f"above {LIMIT} s: {', '.join(above) or 'none'}")


def main() -> None:
    """Parses the command line, measures, prints and stores."""
    parser = argparse.ArgumentParser(description="Seconds of imports and of every --help.")
    parser.add_argument("--peer", help="a Python that has fuxictr 2.3.10, see benchmarks/README.md")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--results", type=Path, default=common.RESULTS, help="where to store")
    args = parser.parse_args()
    machine = common.machine()
    common.warn_if_busy(machine)
    os.environ["PYTHON"] = sys.executable
    # Compiled modules are kept, as they are by default.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    commands = {("ours", name): command for name, command in own_commands().items()}
    if args.peer:
        peer_versions = common.peer_versions(args.peer)
        commands |= {("peer", name): command for name, command in peer_commands(args.peer).items()}
    records = measure(commands, args.repeats)
    found_ratios = ratios(records)
    report(records, found_ratios)
    record = {"machine": machine, "versions": common.versions(), "limit_seconds": LIMIT}
    if args.peer:
        record["peer_versions"] = peer_versions
    record |= {"repeats": args.repeats, "commands": records, "ratios": found_ratios}
    print(f"wrote {common.store('startup', record, args.results)}")


if __name__ == "__main__":
    main()
