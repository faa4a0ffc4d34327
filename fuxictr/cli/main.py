"""``ge4rec COMMAND``: one door to all commands; each has options of its own."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from fuxictr import ge4rec_version
from fuxictr.errors import did_you_mean

# Command -> module of this package, its function, which takes ``argv``, and what it does.
COMMANDS = {
    "prepare": ("prepare", "main", "fetch datasets, or generate the demo data (1.prepare.sh)"),
    "run": ("run", "main", "train one expid of a model (run_expid.py)"),
    "reproduce": ("reproduce", "main", "train DIS and GEN and compare them (2.reproduce.sh)"),
    "analyze": ("analyze", "main_all", "record embeddings and draw figures (3.analyze.sh)"),
    "predict": ("predict", "main", "score new raw rows (predict.py)"),
    "tune": ("tuner", "main", "grid search over a tuner file (run_param_tuner.py)"),
    "show": ("show", "main", "what a run was, and whether it repeats"),
    "tables": ("tables", "main", "the paper's tables from the results alone"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command that the first argument names with the arguments after it."""
    listed = "\n".join(f"  {name:<10} {text}" for name, (_, _, text) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="ge4rec",
        usage="%(prog)s [-h] [--version] COMMAND ...",
        description=f"commands (COMMAND --help shows the options of one):\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"GE4Rec {ge4rec_version}")
    parser.add_argument("command", help=argparse.SUPPRESS)
    given = list(sys.argv[1:] if argv is None else argv)
    name = parser.parse_args(given[:1]).command
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS) or f"; allowed: {', '.join(COMMANDS)}"
        parser.error(f"unknown command '{name}'{hint}")
    module, function, _ = COMMANDS[name]
    command = getattr(importlib.import_module(f"fuxictr.cli.{module}"), function)
    command(argv=given[1:])
