"""Encoded files: formats, paths, types of cells, groups, and what is refused."""

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fuxictr.errors import ConfigError, DataError
from fuxictr.pytorch.batch import stack_columns
from fuxictr.pytorch.dataloaders import (
    from_arrays,
    make_layout,
    open_parquet,
    parquet,
    read_encoded,
)
from tests.pytorch.encoded_rows import (
    assert_holds,
    make_columns,
    make_feature_map,
    to_table,
    write_encoded,
    write_parts,
)

SUFFIXES = [".parquet", ".npz", ".h5"]


@pytest.fixture
def feature_map():
    return make_feature_map()


def changed(**cells):
    """Columns in which single cells are others: name=(row, value)."""
    columns = make_columns()
    for name, (row, value) in cells.items():
        columns[name][row] = value
    return columns


def test_layout_puts_fields_first_and_labels_last(feature_map):
    layout = make_layout(feature_map)
    assert layout.id_columns == ("a", "b", "tags")
    assert layout.value_columns == ("x", "vector", "click")
    assert layout.widths == {"tags": 3, "vector": 2}
    assert make_layout(feature_map, labels=False).value_columns == ("x", "vector")


def test_fields_are_looked_up_as_views(feature_map):
    batch = from_arrays(make_columns(), feature_map).rows(slice(None))
    assert batch["tags"].shape == (25, 3)
    ids = stack_columns(batch, ("a", "b", "tags"), integer=True)
    values = stack_columns(batch, ("x", "vector"), integer=False)
    assert (ids.shape, values.shape) == ((25, 5), (25, 3))
    assert ids.data_ptr() == batch.ids.data_ptr()
    assert values.data_ptr() == batch.values_matrix.data_ptr()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_same_rows(tmp_path, feature_map, suffix):
    columns = make_columns()
    data = read_encoded(write_encoded(tmp_path / f"rows{suffix}", columns), feature_map)
    assert (data.num_rows, data.num_bytes) == (25, 4 * 9 * 25)
    assert data.group_ids is None
    assert_holds(data.rows(slice(None)), columns)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_new_rows_need_no_label(tmp_path, feature_map, suffix):
    columns = make_columns()
    del columns["click"]
    path = write_encoded(tmp_path / f"rows{suffix}", columns)
    batch = read_encoded(path, feature_map, labels=False).rows(slice(None))
    assert "click" not in batch
    assert_holds(batch, columns)
    assert_holds(from_arrays(columns, feature_map, labels=False).rows(slice(None)), columns)
    with pytest.raises(DataError, match="column 'click' is missing"):
        read_encoded(path, feature_map)


@pytest.mark.parametrize("list_type", [pa.list_, pa.large_list, lambda t: pa.list_(t, 3)])
@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, np.float32, np.float64])
def test_lists_of_any_kind_and_number_type(tmp_path, feature_map, list_type, dtype):
    columns = make_columns()
    for name in ("a", "tags"):
        columns[name] = columns[name].astype(dtype)
    del columns["vector"], feature_map.features["vector"]
    pq.write_table(to_table(columns, list_type), tmp_path / "rows.parquet", row_group_size=7)
    assert_holds(read_encoded(tmp_path / "rows.parquet", feature_map).rows(slice(None)), columns)


@pytest.mark.parametrize("slice_rows", [1, 4, 7, 100])
def test_slices_and_row_groups_do_not_change_rows(tmp_path, feature_map, monkeypatch, slice_rows):
    monkeypatch.setattr(parquet, "SLICE_ROWS", slice_rows)
    columns = make_columns()
    path = write_encoded(tmp_path / "rows.parquet", columns, row_group_size=6)
    rows = open_parquet(path, feature_map, "user")
    assert sum(block.num_rows for block in rows.blocks) == 25
    slices = [data.num_rows for block in rows.blocks for data in rows.read(block)]
    assert max(slices) <= slice_rows
    data = rows.load()
    assert_holds(data.rows(slice(None)), columns)
    assert_same_groups(data.group_ids, columns["user"])


def test_wide_rows_make_slices_short(tmp_path, feature_map):
    feature_map.features["tags"]["max_len"] = 1 << 20
    columns = {**make_columns(2), "tags": np.ones((2, 1 << 20), dtype=np.int8)}
    rows = open_parquet(write_encoded(tmp_path / "rows.parquet", columns), feature_map)
    assert rows.slice_rows == 7


def test_paths_without_suffix_folders_and_globs(tmp_path, feature_map):
    columns = make_columns()
    folder = write_parts(tmp_path / "parts", columns, (10, 12))
    write_encoded(folder / "._part_00000.parquet", make_columns(3))
    (folder / "_SUCCESS").touch()
    write_encoded(tmp_path / "one.parquet", columns)
    write_encoded(tmp_path / "two.npz", columns)
    for path in ("parts", "parts/part_*.parquet", "one", "one.parquet", "two", "two.npz"):
        assert_holds(read_encoded(tmp_path / path, feature_map).rows(slice(None)), columns)
    assert_holds(read_encoded(folder, feature_map).rows(slice(None)), columns)


def test_paths_that_lead_to_no_single_split(tmp_path, feature_map):
    columns = make_columns()
    write_encoded(tmp_path / "train.parquet", columns)
    with pytest.raises(DataError, match=r"trian.*no such encoded data; did you mean 'train'"):
        read_encoded(tmp_path / "trian", feature_map)
    with pytest.raises(DataError, match="no such encoded data"):
        read_encoded(tmp_path / "nowhere" / "train", feature_map)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no such encoded data, no .parquet, .npz, .h5 file"):
        read_encoded(tmp_path / "empty", feature_map)
    write_encoded(tmp_path / "valid.npz", columns)
    with pytest.raises(DataError, match=r"found 2 files \(.npz, .parquet\), allowed: one file"):
        read_encoded(tmp_path, feature_map)
    (tmp_path / "rows.csv").touch()
    with pytest.raises(DataError, match=r"rows.csv: found .csv, allowed: .parquet, .npz, .h5"):
        read_encoded(tmp_path / "rows.csv", feature_map)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"b": (13, 1000)}, r"column 'b', row 14: id 1000 is outside 0..999"),
        ({"b": (0, -1)}, r"column 'b', row 1: id -1 is outside 0..999"),
        ({"tags": ((17, 2), 50)}, r"column 'tags', row 18: id 50 is outside 0..49"),
        ({"x": (24, np.nan)}, r"column 'x', row 25: found nan, expected a finite float32"),
        ({"vector": ((3, 1), -np.inf)}, r"column 'vector', row 4: found -inf"),
        ({"click": (5, np.nan)}, r"column 'click', row 6: found nan"),
    ],
)
def test_cells_that_are_refused(tmp_path, feature_map, monkeypatch, suffix, cells, message):
    monkeypatch.setattr(parquet, "SLICE_ROWS", 4)
    path = write_encoded(tmp_path / f"rows{suffix}", changed(**cells))
    with pytest.raises(DataError, match=rf"rows{suffix}: {message}"):
        read_encoded(path, feature_map)
    with pytest.raises(DataError, match=rf"the given arrays: {message}"):
        from_arrays(changed(**cells), feature_map)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        ("a", np.arange(25) + 0.5, r"column 'a', row 1: found 0.5, expected an integer id"),
        ("a", np.full(25, np.nan), r"column 'a', row 1: found nan, expected an integer id"),
        ("a", np.arange(25) > 4, r"column 'a': found dtype bool, expected integer ids"),
        ("x", np.full(25, 1e300), r"column 'x', row 1: found 1e\+300, expected a finite float32"),
        ("x", np.array(["1"] * 25), r"column 'x': found "),
        ("a", np.ones((25, 2), dtype=np.int32), r"column 'a': found "),
        ("tags", np.arange(25), r"column 'tags': found "),
        ("tags", np.ones((25, 4), dtype=np.int32), r"column 'tags'.*: found .*4.*, expected .*3"),
        ("vector", np.ones((25, 1)), r"column 'vector'.*: found .*1.*, expected .*2"),
    ],
)
def test_columns_of_another_type_or_shape(tmp_path, feature_map, suffix, name, column, message):
    columns = {**make_columns(), name: column}
    path = write_encoded(tmp_path / f"rows{suffix}", columns)
    with pytest.raises(DataError, match=rf"rows{suffix}: {message}"):
        read_encoded(path, feature_map)
    with pytest.raises(DataError, match=message):
        from_arrays(columns, feature_map)


def test_float_ids_and_truth_values_as_labels_are_taken(feature_map):
    columns = make_columns()
    given = {**columns, "a": columns["a"].astype(np.float64), "click": columns["click"] > 0}
    assert_holds(from_arrays(given, feature_map).rows(slice(None)), columns)


@pytest.mark.parametrize(
    ("name", "cells", "message"),
    [
        ("a", [1] * 11 + [None] + [1] * 13, r"'a', row 12: found no value"),
        ("x", [None] + [1.0] * 24, r"'x', row 1: found no value"),
        ("tags", [[1, 2, 3]] * 9 + [None] + [[1, 2, 3]] * 15, r"'tags', row 10: found no value"),
        (
            "tags",
            [[1, 2, 3]] * 9 + [[1, None, 3]] + [[1, 2, 3]] * 15,
            r"'tags', row 10: found a list with an empty element",
        ),
        (
            "tags",
            [[1, 2, 3]] * 6 + [[1, 2], [1, 2, 3, 4]] + [[1, 2, 3]] * 17,
            r"'tags', row 7: found a list of 2, expected a list of 3 numbers in every row",
        ),
        (
            "tags",
            [[]] + [[1, 2, 3]] * 24,
            r"'tags', row 1: found a list of 0, expected a list of 3",
        ),
        ("tags", ["1^2^3"] * 25, r"'tags': found string, expected a list of 3 numbers"),
        ("tags", [["1", "2", "3"]] * 25, r"'tags': found list<.*string>, expected a list of 3"),
        ("a", ["1"] * 25, r"'a': found string, expected a number in every row"),
    ],
)
def test_parquet_cells_that_are_refused(tmp_path, feature_map, monkeypatch, name, cells, message):
    monkeypatch.setattr(parquet, "SLICE_ROWS", 5)
    columns = {**make_columns(), name: pa.array(cells)}
    path = write_encoded(tmp_path / "rows.parquet", columns, row_group_size=10)
    with pytest.raises(DataError, match=rf"rows.parquet: column {message}"):
        read_encoded(path, feature_map)


def test_a_row_is_counted_in_its_own_part(tmp_path, feature_map):
    path = write_parts(tmp_path / "parts", changed(b=(13, 1000)), (10, 20))
    with pytest.raises(DataError, match=r"part_00001.parquet: column 'b', row 4: id 1000"):
        read_encoded(path, feature_map)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kept", [0, 1, 10, 0.2, 0.5, 0.9, 0.999])
def test_truncated_files(tmp_path, feature_map, suffix, kept):
    columns = make_columns(2000)
    columns["a"] = np.random.default_rng(0).integers(0, 1000, 2000)
    path = write_encoded(tmp_path / f"rows{suffix}", columns)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if kept < 1 else kept])
    with pytest.raises(DataError, match=rf"rows{suffix}: not readable as {suffix[1:]}"):
        read_encoded(path, feature_map)


def test_bytes_that_are_damaged_in_a_column(tmp_path, feature_map):
    columns = make_columns(2000)
    columns["a"] = np.random.default_rng(0).integers(0, 1000, 2000)
    path = tmp_path / "rows.npz"
    np.savez_compressed(path, **columns)
    content = bytearray(path.read_bytes())
    content[200:400] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"rows.npz: column 'a': not readable"):
        read_encoded(path, feature_map)
    path = write_encoded(tmp_path / "rows.parquet", columns)
    content = bytearray(path.read_bytes())
    content[4:1000] = bytes(996)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"rows.parquet: not readable as parquet"):
        read_encoded(path, feature_map)


def test_missing_and_repeated_columns(tmp_path, feature_map):
    for suffix in SUFFIXES:
        columns = make_columns()
        columns["tag"] = columns.pop("tags")
        path = write_encoded(tmp_path / f"rows{suffix}", columns)
        with pytest.raises(DataError, match=r"column 'tags' is missing; did you mean 'tag'\?"):
            read_encoded(path, feature_map)
    table = to_table(make_columns())
    twice = pa.Table.from_arrays([*table.columns, table["a"]], names=[*table.column_names, "a"])
    pq.write_table(twice, tmp_path / "rows.parquet")
    with pytest.raises(DataError, match="found 2 columns 'a', expected one"):
        read_encoded(tmp_path / "rows.parquet", feature_map)


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_columns_of_unequal_length(tmp_path, feature_map, suffix):
    columns = {**make_columns(), "x": np.ones(24)}
    path = write_encoded(tmp_path / f"rows{suffix}", columns)
    with pytest.raises(DataError, match=r"column 'x': found shape \(24,\), expected \(25,\)"):
        read_encoded(path, feature_map)


def test_objects_are_not_unpickled(tmp_path, feature_map):
    columns = {**make_columns(), "a": np.array([[1], [2, 3]] * 12 + [[1]], dtype=object)}
    np.savez(tmp_path / "rows.npz", **columns)
    with pytest.raises(DataError, match=r"rows.npz: column 'a': found an object array"):
        read_encoded(tmp_path / "rows.npz", feature_map)
    np.save(tmp_path / "rows.npy", np.array([{}], dtype=object))
    (tmp_path / "rows.npy").rename(tmp_path / "one.npz")
    with pytest.raises(DataError, match=r"one.npz: not readable as npz"):
        read_encoded(tmp_path / "one.npz", feature_map)
    np.save(tmp_path / "rows.npy", np.ones(25))
    (tmp_path / "rows.npy").rename(tmp_path / "two.npz")
    with pytest.raises(DataError, match=r"two.npz: found a single array"):
        read_encoded(tmp_path / "two.npz", feature_map)


def test_h5_items_that_are_no_columns_of_numbers(tmp_path, feature_map):
    path = write_encoded(tmp_path / "rows.h5", make_columns())
    with h5py.File(path, "r+") as file:
        del file["a"]
        file.create_group("a")
    with pytest.raises(DataError, match=r"column 'a': found a group, expected a dataset"):
        read_encoded(path, feature_map)
    with h5py.File(path, "r+") as file:
        del file["a"]
        file.create_dataset("a", (25,), dtype=h5py.vlen_dtype(np.int32))
    with pytest.raises(DataError, match=r"column 'a': found a dataset of objects"):
        read_encoded(path, feature_map)


def assert_same_groups(group_ids, values):
    assert (group_ids.dtype, group_ids.shape) == (np.int64, (len(values),))
    equal = np.asarray(values)[:, None] == np.asarray(values)[None, :]
    np.testing.assert_array_equal(group_ids[:, None] == group_ids[None, :], equal)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "values",
    [
        np.array([f"user {n}" for n in np.random.default_rng(0).integers(0, 6, 25)]),
        np.random.default_rng(0).integers(-(2**62), 2**62, 5).repeat(5),
        np.random.default_rng(0).integers(0, 4, 25) / 4,
    ],
)
def test_equal_groups_have_equal_codes(tmp_path, feature_map, monkeypatch, suffix, values):
    monkeypatch.setattr(parquet, "SLICE_ROWS", 4)
    columns = {**make_columns(), "user": values}
    path = write_encoded(tmp_path / f"rows{suffix}", columns)
    data = read_encoded(path, feature_map, "user")
    assert_same_groups(data.group_ids, values)
    assert_holds(data.rows(slice(None)), columns)
    data = read_encoded(path, feature_map, "a")
    assert_same_groups(data.group_ids, columns["a"])


def test_codes_are_the_same_in_all_parts(tmp_path, feature_map):
    columns = make_columns()
    path = write_parts(tmp_path / "parts", columns, (3, 11))
    assert_same_groups(read_encoded(path, feature_map, "user").group_ids, columns["user"])
    other = {**make_columns(2), "user": np.array([1, 2])}
    write_encoded(path / "part_00009.parquet", other)
    with pytest.raises(DataError, match=r"00009.*'user'.*: found int64, expected string"):
        read_encoded(path, feature_map, "user")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_groups_that_are_refused(tmp_path, feature_map, suffix):
    columns = {**make_columns(), "u": np.array([1.0] * 7 + [np.nan] + [1.0] * 17)}
    path = write_encoded(tmp_path / f"rows{suffix}", columns)
    with pytest.raises(ConfigError, match=r"key 'group_id': found 'usr'.*did you mean 'user'\?"):
        read_encoded(path, feature_map, "usr")
    with pytest.raises(DataError, match=r"column 'u' \(key 'group_id'\), row 8: found nan"):
        read_encoded(path, feature_map, "u")
    with pytest.raises(DataError, match=r"column 'tags' \(key 'group_id'\): found "):
        read_encoded(path, feature_map, "tags")


def test_a_missing_group_is_named(tmp_path, feature_map):
    columns = {**make_columns(), "user": pa.array(["u"] * 11 + [None] + ["u"] * 13)}
    path = write_encoded(tmp_path / "rows.parquet", columns, row_group_size=4)
    with pytest.raises(
        DataError, match=r"column 'user' \(key 'group_id'\), row 12: found no value"
    ):
        read_encoded(path, feature_map, "user")
    assert read_encoded(path, feature_map).num_rows == 25
