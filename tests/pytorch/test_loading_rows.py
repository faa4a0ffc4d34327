"""Encoded rows: matrices, batches, order, errors."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from fuxictr.errors import ConfigError, DataError
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import BatchIterator, RankDataLoader, from_arrays, read_encoded


@pytest.fixture
def feature_map() -> FeatureMap:
    feature_map = FeatureMap("d")
    feature_map.features = {
        "a": {"type": "categorical", "vocab_size": 100},
        "x": {"type": "numeric"},
        "b": {"type": "categorical", "vocab_size": 100},
    }
    feature_map.labels = ["click"]
    return feature_map


def columns(num_rows: int = 25) -> dict[str, np.ndarray]:
    return {
        "a": np.arange(num_rows, dtype=np.int32),
        "b": np.arange(num_rows, dtype=np.int32)[::-1].copy(),
        "x": np.linspace(0, 1, num_rows, dtype=np.float32),
        "click": (np.arange(num_rows) % 2).astype(np.float32),
    }


def test_rows_survive_parquet(tmp_path, feature_map):
    path = tmp_path / "train.parquet"
    pq.write_table(pa.table(columns()), path, row_group_size=7)
    data = read_encoded(path, feature_map)
    assert data.num_rows == 25
    assert data.num_bytes == 4 * 4 * 25
    batch = data.rows(slice(None))
    for name, expected in columns().items():
        np.testing.assert_array_equal(batch[name].numpy(), expected)


def test_a_folder_of_parts_is_read_in_order(tmp_path, feature_map):
    parts = columns()
    for number, rows in enumerate((slice(0, 10), slice(10, 25))):
        table = pa.table({name: column[rows] for name, column in parts.items()})
        pq.write_table(table, tmp_path / f"part_{number:05d}.parquet")
    data = read_encoded(tmp_path, feature_map)
    np.testing.assert_array_equal(data.rows(slice(None))["a"].numpy(), parts["a"])


def test_order_follows_from_seed_and_epoch(feature_map):
    data = from_arrays(columns(), feature_map)

    def epochs(seed: int) -> list[list[int]]:
        iterator = BatchIterator(data, 10, shuffle=True, seed=seed)
        return [torch.cat([batch["a"] for batch in iterator]).tolist() for _ in range(2)]

    first, second = epochs(1)
    assert sorted(first) == sorted(second) == list(range(25))
    assert first != second
    assert epochs(1) == [first, second]
    assert epochs(2)[0] != first


def test_batches_cover_all_rows_in_order(feature_map):
    iterator = BatchIterator(from_arrays(columns(), feature_map), 10)
    assert len(iterator) == 3
    assert [batch.num_rows for batch in iterator] == [10, 10, 5]
    assert torch.cat([batch["a"] for batch in iterator]).tolist() == list(range(25))


def test_no_batch_of_a_single_row_is_left(feature_map):
    iterator = BatchIterator(from_arrays(columns(21), feature_map), 10)
    assert [batch.num_rows for batch in iterator] == [10, 11]
    assert len(iterator) == 2
    assert [b.num_rows for b in BatchIterator(from_arrays(columns(1), feature_map), 10)] == [1]


def test_rank_dataloader_stages(tmp_path, feature_map):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table(columns()), path)
    both = RankDataLoader(
        feature_map, "both", train_data=path, valid_data=path, test_data=path, batch_size=4
    )
    train, valid, test = both.make_iterator()
    assert (train.shuffle, valid.shuffle, test.shuffle) == (True, False, False)
    train, valid = RankDataLoader(feature_map, "train", train_data=path).make_iterator()
    assert (train.num_rows, valid) == (25, None)
    train, valid = RankDataLoader(feature_map, "train", train_data=path, valid_data=path)
    assert (train.num_rows, valid.num_rows) == (25, 25)
    test = RankDataLoader(feature_map, "test", test_data=path, streaming=False).make_iterator()
    assert test.num_rows == 25
    with pytest.raises(ConfigError, match="stage 'fit'"):
        RankDataLoader(feature_map, "fit")


def test_loading_does_not_import_pandas(tmp_path, feature_map):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({**columns(), "click": columns()["click"] > 0}), path)
    feature_map.save(tmp_path / "feature_map.json")
    code = (
        "import sys\n"
        "from fuxictr.features import FeatureMap\n"
        "from fuxictr.pytorch.dataloaders import read_encoded\n"
        f"feature_map = FeatureMap.load({str(tmp_path / 'feature_map.json')!r})\n"
        f"assert read_encoded({str(path)!r}, feature_map).num_rows == 25\n"
        "sys.exit('pandas' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_errors_name_file_column_and_row(tmp_path, feature_map):
    with pytest.raises(DataError, match="no such encoded data"):
        read_encoded(tmp_path / "none.parquet", feature_map)
    path = tmp_path / "bad.parquet"
    pq.write_table(pa.table({"a": [1], "b": [1], "click": [0.0]}), path)
    with pytest.raises(DataError, match=r"bad.parquet: column 'x' is missing"):
        read_encoded(path, feature_map)
    wrong = columns()
    wrong["b"][13] = 100
    pq.write_table(pa.table(wrong), path, row_group_size=5)
    with pytest.raises(
        DataError, match=r"bad.parquet: column 'b', row 14: id 100 is outside 0..99"
    ):
        read_encoded(path, feature_map)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="not readable as parquet"):
        read_encoded(path, feature_map)
