"""Loads encoded splits with the fuxictr that is found, and passes over their batches.

    python -I benchmarks/load_child.py PARAMS.json [ROOT]

PARAMS.json holds ``folder`` (train, valid and test.parquet, feature_map.json), ``dataset_id`` and
``batch_size``. With ROOT, this project's folder, its loader is used; without it the installed
package. The test split is loaded and passed over before, and dropped: what the first load of a
process costs whatever the rows is timed by it and is not in the rest. Two passes follow the load,
because a loader may read its rows only then. This file imports nothing else of ours, as it also
runs beside FuxiCTR 2.3.10.
"""

import gc
import json
import sys
import time
from pathlib import Path

SPLITS = ("train", "valid", "test")
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident_mb(line):
    """Returns VmRSS (now) or VmHWM (largest since it was reset), None off Linux."""
    if not _STATUS.is_file():
        return None
    found = [text for text in _STATUS.read_text().splitlines() if text.startswith(f"{line}:")]
    return int(found[0].split()[1]) * 1024 / 1e6


def own_loader(folder, dataset_id):
    """Returns stage -> iterators of this project."""
    from fuxictr.features import FeatureMap
    from fuxictr.pytorch.dataloaders import RankDataLoader

    feature_map = FeatureMap.load(folder / "feature_map.json")
    paths = {f"{split}_data": folder / f"{split}.parquet" for split in SPLITS}
    return lambda stage, batch_size: list(
        RankDataLoader(feature_map, stage, batch_size=batch_size, **paths)
    )


def peer_loader(folder, dataset_id):
    """Returns stage -> iterators of FuxiCTR."""
    from fuxictr.features import FeatureMap
    from fuxictr.pytorch.dataloaders import RankDataLoader

    feature_map = FeatureMap(dataset_id, str(folder))
    feature_map.load(str(folder / "feature_map.json"), {"embedding_dim": 16})
    paths = {f"{split}_data": str(folder / f"{split}.parquet") for split in SPLITS}
    paths |= {"data_format": "parquet", "num_workers": 1}

    def load(stage, batch_size):
        found = RankDataLoader(feature_map, stage, batch_size=batch_size, **paths)
        return list(found) if isinstance(found, tuple) else [found]

    return load


def seconds_of_pass(iterators):
    """Returns the seconds of a pass over all batches."""
    start = time.perf_counter()
    for iterator in iterators:
        for _ in iterator:
            pass
    return time.perf_counter() - start


def main():
    """Loads and passes over the test split, then all of them; prints the figures as JSON."""
    params = json.loads(Path(sys.argv[1]).read_text())
    if len(sys.argv) > 2:
        sys.path.insert(0, sys.argv[2])
    is_ours = len(sys.argv) > 2
    make = own_loader if is_ours else peer_loader
    load = make(Path(params["folder"]), params["dataset_id"])
    size = params["batch_size"]
    start = time.perf_counter()
    seconds_of_pass(load("test", size))
    first_seconds = time.perf_counter() - start
    gc.collect()
    before = resident_mb("VmRSS")
    if before is not None:
        _RESET.write_text("5")
    start = time.perf_counter()
    splits = [*load("train", size), *load("test", size)]
    load_seconds = time.perf_counter() - start
    peak = resident_mb("VmHWM")
    gc.collect()
    after = resident_mb("VmRSS")
    figures = {
        "first_seconds": first_seconds,
        "load_seconds": load_seconds,
        "pass_seconds": [seconds_of_pass(splits) for _ in range(2)],
        "grown_mb": None if before is None else after - before,
        "grown_peak_mb": None if before is None else peak - before,
        "data_bytes": sum(split.data.num_bytes for split in splits) if is_ours else None,
    }
    print("\n" + json.dumps(figures))


if __name__ == "__main__":
    main()
