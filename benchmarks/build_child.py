"""Builds an encoded dataset with the fuxictr that is found, and prints the seconds it took.

    python -I benchmarks/build_child.py PARAMS.json [FOLDER]

PARAMS.json holds a dataset config whose paths are absolute. FOLDER is put on the path for imports;
without it the installed package is used. This file imports nothing else of ours, as it also runs in
an environment that has FuxiCTR 2.3.10.
"""

import json
import sys
import time
from importlib import metadata
from pathlib import Path


def main() -> None:
    """Times FeatureProcessor and build_dataset, imports excluded."""
    params = json.loads(Path(sys.argv[1]).read_text())
    if len(sys.argv) > 2:
        sys.path.insert(0, sys.argv[2])
    import fuxictr
    from fuxictr.preprocess import FeatureProcessor, build_dataset

    start = time.perf_counter()
    build_dataset(FeatureProcessor(**params), **params)
    seconds = time.perf_counter() - start
    packages = {}
    for name in ("fuxictr", "numpy", "pandas", "polars", "pyarrow", "torch"):
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    packages["fuxictr"] = fuxictr.__version__
    packages["python"] = sys.version.split()[0]
    file = str(Path(fuxictr.__file__).resolve())
    print("\n" + json.dumps({"seconds": seconds, "file": file, "versions": packages}))


if __name__ == "__main__":
    main()
