#!/usr/bin/env bash
# Records the embeddings of trained models and draws their spectra and correlations. Options: --help
set -euo pipefail
model_name=DeepFM # the backbone, unless --model names another

cd "$(dirname "${BASH_SOURCE[0]}")"
. scripts/environment.sh
use_environment
"$PYTHON" -m fuxictr.experiment.analyze --model "$model_name" "$@"
