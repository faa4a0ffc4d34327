#!/usr/bin/env bash
# Trains the DIS and the GEN variant of a backbone and prints the results table. Options: --help
set -euo pipefail
model_name=DeepFM # the backbone, unless --model names another

cd "$(dirname "${BASH_SOURCE[0]}")"
. scripts/environment.sh
use_environment
"$PYTHON" -m fuxictr.experiment.reproduce --model "$model_name" "$@"
