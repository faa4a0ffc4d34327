"""Reads h5 files, a path a line, raw and encoded: a process that must survive all of them."""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from pathlib import Path

import numpy as np

from fuxictr.array_files.h5_probe import PROBE
from fuxictr.errors import FuxiCTRError
from fuxictr.preprocess import FeatureProcessor
from fuxictr.pytorch.dataloaders import read_encoded
from tests.pytorch.encoded_rows import make_feature_map

COLUMNS = [
    {"name": "a", "type": "categorical", "dtype": "int"},
    {"name": "x", "type": "numeric", "dtype": "float"},
    {"name": "tags", "type": "sequence", "dtype": "int"},
    {"name": "vector", "type": "embedding"},
    {"name": "user", "type": "categorical"},
]


def read_raw(path: Path) -> int:
    processor = FeatureProcessor(COLUMNS, {"name": "click"}, "d", data_format="h5")
    rows = processor.fit([path]).transform([path])
    assert np.isfinite(rows["x"].to_numpy()).all()
    return len(rows)


def read_ids(path: Path) -> int:
    data = read_encoded(path, make_feature_map(), "user")
    ids, values = data.ids.numpy(), data.values.numpy()
    assert ((ids >= 0) & (ids < [1000, 1000, 50, 50, 50])).all()
    assert np.isfinite(values).all() and np.isin(values[:, -1], [0, 1]).all()
    return data.num_rows


def main() -> None:
    warnings.simplefilter("error")
    PROBE.timeout = float(sys.argv[1])
    print("ready", flush=True)
    for line in sys.stdin:
        answer = []
        for read in (read_raw, read_ids):
            try:
                answer.append(["read", read(Path(json.loads(line)))])
            except FuxiCTRError as error:
                answer.append(["refused", str(error)])
            except BaseException:
                answer.append(["failed", traceback.format_exc()])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
