"""Trains one model with one library and prints its figures as the last line.

    python -I benchmarks/peer_child.py JOB.json

The library is that of the environment that runs it; JOB.json names the side, see peers.py.
"""

import importlib
import json
import logging
import sys
from pathlib import Path

SIDES = {
    "ours": "peer_fuxictr",
    "fuxictr": "peer_fuxictr",
    "recbole": "peer_recbole",
    "deepctr": "peer_deepctr",
    "rechub": "peer_rechub",
    "lightgbm": "peer_trees",
    "catboost": "peer_trees",
}


def main():
    """Reads the job and runs it."""
    job = json.loads(Path(sys.argv[1]).read_text())
    sys.path.append(str(Path(__file__).parent))  # last: no module of an environment is hidden
    logging.disable(logging.INFO)
    found = importlib.import_module(SIDES[job["side"]]).run(job)
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main()
