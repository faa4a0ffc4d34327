#!/usr/bin/env bash
# Records the embeddings of trained models and draws their figures, or makes the report (--report). Options: --help
set -euo pipefail
model_name=DeepFM # the backbone, unless --model names another

cd "$(dirname "${BASH_SOURCE[0]}")"
. scripts/environment.sh
use_environment
exec "$PYTHON" -m fuxictr.cli.analyze --default-model "$model_name" "$@"
