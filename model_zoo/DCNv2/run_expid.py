"""Trains one expid of this folder's config; see python run_expid.py --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from fuxictr.cli.run import main

if __name__ == "__main__":
    main(Path(__file__).parent)
