#!/usr/bin/env bash
# Downloads and verifies Avazu and Criteo (no argument), other datasets, or generates the demo data.
# Options: --help
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. scripts/environment.sh
use_environment
exec "$PYTHON" -m fuxictr.cli.prepare "$@"
