#!/usr/bin/env bash
# Trains DIS and GEN, of one backbone or of the paper's whole table (--paper), and prints the results. Options: --help
set -euo pipefail
model_name=DeepFM # the backbone, unless --model names another

cd "$(dirname "${BASH_SOURCE[0]}")"
. scripts/environment.sh
use_environment
exec "$PYTHON" -m fuxictr.cli.reproduce --default-model "$model_name" "$@"
