"""--help is printed before anything heavy is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fuxictr.cli.main import COMMANDS as NAMES

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "numpy", "polars", "pyarrow", "pandas", "matplotlib", "sklearn", "scipy", "h5py"}
# Root scripts, the shim of every model, and what the shell scripts run.
COMMANDS = [
    *([path.name] for path in sorted(ROOT.glob("*.py"))),
    *([str(path.relative_to(ROOT))] for path in sorted(ROOT.glob("model_zoo/*/run_expid.py"))),
    *(["-m", f"fuxictr.cli.{name}"] for name in ("prepare", "reproduce", "analyze")),
    *(["-m", "fuxictr", name] for name in NAMES),
    ["-m", "fuxictr.experiment.show"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[-1])
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "usage:" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & HEAVY
