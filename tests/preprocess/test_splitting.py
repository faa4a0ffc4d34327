from __future__ import annotations

from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuxictr.errors import ConfigError, DataError
from fuxictr.preprocess import prepare_dataset
from fuxictr.preprocess.dataset import writing
from fuxictr.preprocess.sources import frames as sources
from tests.preprocess.tables import categorical, config, numeric, read, write_csv

COLUMNS = [categorical("c"), numeric("x", normalizer="StandardScaler")]
SPLITS = ("train", "valid", "test")


def write(folder, num_rows):
    rows = [f"{i % 2},t{i % 7},{i}\n" for i in range(num_rows)]
    write_csv(folder / "train.csv", "click,c,x\n" + "".join(rows))


def numbers(folder, built):
    """Split -> the row numbers, which column x held before it was scaled."""
    saved = pl.read_json(folder / "encoded/tiny/normalizers.json")["x"][0]
    return {
        split: [round(x * saved["scale"] + saved["shift"]) for x in read(built, split)["x"]]
        for split in built.paths
    }


def prepare(folder, **keys):
    return prepare_dataset(config(folder, COLUMNS, **keys), verbose=0)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(4, 60),
    st.sampled_from([0, 0.1, 0.25, 3]),
    st.sampled_from([0, 0.2, 2]),
    st.sampled_from(["sequential", "random"]),
)
def test_every_row_goes_to_one_split_in_order(tmp_path_factory, num_rows, valid, test, kind):
    folder = tmp_path_factory.mktemp("d")
    write(folder, num_rows)
    keys = {"valid_size": valid, "test_size": test, "split_type": kind}

    def count(size):
        return int(size) if size >= 1 else int(Fraction(str(size)) * num_rows)

    counts = {"test": count(test), "valid": count(valid)}
    counts["train"] = num_rows - sum(counts.values())
    if counts["train"] < 1 or any(size and not count(size) for size in (valid, test)):
        with pytest.raises(DataError, match="_size'"):
            prepare(folder, **keys)
        return
    found = numbers(folder, prepare(folder, **keys))
    assert {s: len(rows) for s, rows in found.items()} == {s: n for s, n in counts.items() if n}
    assert sorted(row for rows in found.values() for row in rows) == list(range(num_rows))
    assert all(rows == sorted(rows) for rows in found.values())
    if kind == "sequential":
        assert [row for s in SPLITS for row in found.get(s, [])] == list(range(num_rows))


def test_encoders_are_fitted_to_the_training_rows_alone(tmp_path):
    write(tmp_path, 100)
    built = prepare(tmp_path, valid_size=20, split_type="random")
    found = numbers(tmp_path, built)
    saved = pl.read_json(tmp_path / "encoded/tiny/normalizers.json")["x"][0]
    assert saved["shift"] == pytest.approx(sum(found["train"]) / 80, abs=1e-9)
    write_csv(tmp_path / "train.csv", "click,c,x\n1,a,1\n0,a,2\n1,b,3\n")
    built = prepare(tmp_path, test_size=1)
    assert built.feature_map.features["c"]["vocab_size"] == 3
    assert read(built, "test")["c"] == [built.feature_map.features["c"]["oov_idx"]]


def test_the_seed_decides_a_random_split(tmp_path):
    write(tmp_path, 100)

    def valid_rows(**keys):
        built = prepare(tmp_path, valid_size=0.2, split_type="random", **keys)
        return numbers(tmp_path, built)["valid"]

    first = valid_rows()
    assert first == valid_rows(split_seed=2019)
    assert first != valid_rows(split_seed=1)
    assert first != list(range(80, 100))


def test_splits_do_not_depend_on_frames_files_or_parts(tmp_path, monkeypatch):
    write(tmp_path, 100)
    keys = {"valid_size": 0.2, "test_size": 0.1, "split_type": "random"}
    built = prepare(tmp_path, **keys)
    expected = {split: read(built, split) for split in SPLITS}
    lines = (tmp_path / "train.csv").read_text().splitlines(keepends=True)
    for name, part in (("a", lines[1:38]), ("b", lines[38:])):
        write_csv(tmp_path / f"many/{name}.csv", lines[0] + "".join(part))
    many = prepare(tmp_path, train_data=str(tmp_path / "many"), **keys)
    assert {split: read(many, split) for split in SPLITS} == expected
    assert many.data_hash == built.data_hash
    for module in (sources, writing):
        monkeypatch.setattr(module, "FRAME_ROWS", 7)
    parts = prepare(tmp_path, data_block_size=9, **keys)
    assert sorted(p.name for p in parts.paths["train"].iterdir())[:2] == [
        "part_00000.parquet",
        "part_00001.parquet",
    ]
    for split in SPLITS:
        pieces = [pl.read_parquet(p) for p in sorted(parts.paths[split].iterdir())]
        assert [len(piece) for piece in pieces[:-1]] == [9] * (len(pieces) - 1)
        table = pl.concat(pieces).to_dict(as_series=False)
        assert table["c"] == expected[split]["c"]
        assert table["x"] == pytest.approx(expected[split]["x"], abs=1e-6)


def test_blocks_come_and_go_without_leaving_rows_behind(tmp_path):
    write(tmp_path, 40)
    built = prepare(tmp_path, data_block_size=6)
    assert len(list(built.paths["train"].iterdir())) == 7
    built = prepare(tmp_path, data_block_size=15)
    assert len(list(built.paths["train"].iterdir())) == 3
    built = prepare(tmp_path)
    assert built.paths["train"].name == "train.parquet"
    assert not (tmp_path / "encoded/tiny/train").exists()


def test_a_split_cannot_come_from_two_places(tmp_path):
    both = config(tmp_path, COLUMNS, valid_size=0.1, valid_data="valid.csv")
    with pytest.raises(ConfigError, match="keys 'valid_data' and 'valid_size': both are set"):
        both.check_splits()


def test_sizes_are_shares_or_whole_numbers(tmp_path):
    with pytest.raises(ConfigError, match="'valid_size': found 1.5, allowed: a share below 1"):
        config(tmp_path, COLUMNS, valid_size=1.5)
    with pytest.raises(ConfigError, match="'test_size': found -1, allowed: >= 0"):
        config(tmp_path, COLUMNS, test_size=-1)
