#!/usr/bin/env bash
# Runs every check: ruff, the import contracts, the types and the tests, one process a core.
#   bash tests/run.sh                          everything but the tests marked slow
#   bash tests/run.sh --all                    the slow ones as well
#   bash tests/run.sh tests/scripts -k venv    other arguments go to pytest
#   TEST_PROCESSES=0 bash tests/run.sh         all in one process, as a debugger needs it
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

selection="not slow"
arguments=(--durations=5)
for argument in "$@"; do
    case $argument in
        # Then each command is also a Python of its own, see tests/preloaded.py.
        --all) selection="slow or not slow"; export FRESH_PROCESSES=1 ;;
        *) arguments+=("$argument") ;;
    esac
done

use_environment dev
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
"$PYTHON" -c 'from importlinter.cli import lint_imports_command; lint_imports_command()' --no-logo
"$PYTHON" -m mypy
# A file's tests stay together, the longest files first (tests/conftest.py), and a process has one
# thread: more would only wait for one another.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
arguments+=(-n "${TEST_PROCESSES:-auto}" --maxprocesses 8 --dist loadfile --no-loadscope-reorder)
exec "$PYTHON" -m pytest -m "$selection" "${arguments[@]}"
