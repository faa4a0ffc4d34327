"""One process of a launch: ``--module tests.distributed.worker FOLDER NAME NAME ...``.

It does the cases of jobs.py by name, in this order, and writes what each of them gave.
"""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path

import torch

from fuxictr.pytorch.distributed.ranks import joined
from tests.distributed.jobs import JOBS
from tests.distributed.launcher import write_result


def main(folder: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    with joined("cpu") as ranks:
        for name in names:
            start = time.perf_counter()
            arrays = JOBS[name](folder)
            ranks.barrier()  # so that a rank that fails is seen to fail in this case
            write_result(folder, name, ranks.rank, arrays)
            if ranks.is_first:
                print(f"{name}: {time.perf_counter() - start:.2f} s", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
