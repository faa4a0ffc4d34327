#!/usr/bin/env bash
# Checks and measures the project on one GPU: bash benchmarks/gpu.sh [OUT_FOLDER]. Options: --help
# PYTHON names another interpreter than python3; it needs torch and numpy.
set -euo pipefail
exec "${PYTHON:-python3}" "$(dirname "${BASH_SOURCE[0]}")/gpu.py" "$@"
