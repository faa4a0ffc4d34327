#!/usr/bin/env bash
# Runs every check: ruff, the import contracts, the types and the tests.
#   bash tests/run.sh                          everything but the tests marked slow
#   bash tests/run.sh --all                    the slow ones as well
#   bash tests/run.sh tests/scripts -k venv    other arguments go to pytest
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

selection="not slow"
arguments=(--durations=5)
for argument in "$@"; do
    case $argument in
        --all) selection="slow or not slow" ;;
        *) arguments+=("$argument") ;;
    esac
done

use_environment dev
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
"$PYTHON" -c 'from importlinter.cli import lint_imports_command; lint_imports_command()' --no-logo
"$PYTHON" -m mypy
exec "$PYTHON" -m pytest -m "$selection" "${arguments[@]}"
