"""Reads h5 datasets on demand: a line ``[path, name, timeout]`` in, a line (null or a fault) out.

It may crash, or its own watchdog may end it; ``h5_probe`` tells either from an answer.
"""

from __future__ import annotations

import faulthandler
import json
import resource
import sys
from pathlib import Path

import h5py

from fuxictr.array_files.damage import DAMAGE, brief
from fuxictr.array_files.h5 import find_dataset
from fuxictr.array_files.memory import available_memory
from fuxictr.errors import DataError

_SLICE_BYTES = 1 << 26
_MOST_ROWS = 100_000
_LEAST_MEMORY = 1 << 30


def main() -> None:
    """Answers until the input ends."""
    _limit(resource.RLIMIT_AS, max(available_memory(), _LEAST_MEMORY))
    _limit(resource.RLIMIT_CORE, 0)
    for line in sys.stdin:
        path, name, timeout = json.loads(line)
        fault = None
        try:
            _read(Path(path), name, timeout)
        except DataError:  # who asks comes to it too, and says it better
            pass
        except DAMAGE as error:
            fault = brief(error)
        finally:
            faulthandler.cancel_dump_traceback_later()
        print(json.dumps(fault), flush=True)


def _limit(kind: int, wanted: int) -> None:
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (wanted if hard < 0 else min(wanted, hard), hard))


def _read(path: Path, name: str | None, timeout: float) -> None:
    # The watchdog needs no lock of the interpreter, which a C library may hold for ever.
    faulthandler.dump_traceback_later(timeout, exit=True)
    with h5py.File(path, "r") as file:
        names = list(file)
        if name is None:
            return
        if name not in names:
            raise KeyError(name)
        item = find_dataset(file, path, name)
        if not item.shape:
            item[()]
            return
        row_bytes = max(item.nbytes // max(item.shape[0], 1), 1)
        step = max(1, min(_MOST_ROWS, _SLICE_BYTES // row_bytes))
        for start in range(0, item.shape[0], step):
            faulthandler.dump_traceback_later(timeout, exit=True)
            item[start : start + step]


if __name__ == "__main__":
    main()
