"""The scripts of benchmarks/, imported and run."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    """Imports a script by its name."""
    monkeypatch.syspath_prepend(BENCHMARKS)

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


@pytest.fixture
def run_script(tmp_path):
    """Runs a script as a user does; returns what it printed, and what it stored."""

    def call(name: str, *options: str) -> tuple[str, dict[str, Any]]:
        command = [sys.executable, BENCHMARKS / f"{name}.py", *options]
        done = subprocess.run(
            [*command, "--results", tmp_path / "results"],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        (stored,) = (tmp_path / "results").glob(f"{Path(name).name}_*.json")
        return done.stdout, json.loads(stored.read_text())

    return call
