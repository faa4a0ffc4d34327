"""Trains one expid of this folder's config; see python run_expid.py --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
try:
    from fuxictr.cli.run import main
except ModuleNotFoundError as error:
    if error.name != "fuxictr":
        raise
    sys.exit("fuxictr is not found: leave this folder in model_zoo/, or run pip install . there")

if __name__ == "__main__":
    main(Path(__file__).parent)
