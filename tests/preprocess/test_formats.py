"""The same rows in every form and cut into files in any way give the same encoded rows."""

from __future__ import annotations

import gzip

import h5py
import numpy as np
import polars as pl
import pytest

from fuxictr.errors import ConfigError, DataError
from fuxictr.preprocess import prepare_dataset
from fuxictr.preprocess.sources import frames as sources
from tests.preprocess.tables import categorical, config, numeric, read, write_csv

COLUMNS = [
    categorical("c"),
    categorical("i", dtype="int"),
    numeric("x"),
    {"name": "h", "type": "sequence", "dtype": "int", "splitter": "|"},
    {"name": "v", "type": "embedding", "splitter": "|"},
    {"name": "u", "type": "meta"},
]


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(1)
    return pl.DataFrame(
        {
            "click": rng.integers(0, 2, 50),
            "c": rng.choice(["a", "b", "é|,;", "d"], 50),
            "i": rng.integers(0, 9, 50),
            "x": rng.normal(size=50).round(3),
            "h": ["|".join(map(str, rng.integers(0, 5, 3))) for _ in range(50)],
            "v": ["|".join(f"{x:.3f}" for x in rng.normal(size=2)) for _ in range(50)],
            "u": [f"user{i}" for i in rng.integers(0, 5, 50)],
        }
    )


@pytest.fixture(scope="module")
def expected(rows, tmp_path_factory):
    return encode(tmp_path_factory.mktemp("csv"), rows.write_csv, "train.csv")


def encode(folder, write, name, **keys):
    write(folder / name)
    keys = {"train_data": str(folder / name), **keys}
    built = prepare_dataset(config(folder, COLUMNS, **keys), verbose=0)
    return built.data_hash, read(built)


def lists(rows):
    split = pl.col("h").str.split("|").list.eval(pl.element().cast(pl.Int64))
    return rows.with_columns(split, pl.col("v").str.split("|").list.eval(pl.element().cast(float)))


def arrays(rows, as_lists):
    table = lists(rows) if as_lists else rows
    found = {}
    for name in table.columns:
        values = table[name].to_list()
        found[name] = np.array(values)
    return found


def write_gzip(rows, path):
    with gzip.open(path, "wb") as file:
        file.write(rows.write_csv().encode())


def write_h5(columns, path):
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            is_text = values.dtype.kind == "U"
            data = values.astype(object) if is_text else values
            file.create_dataset(name, data=data, dtype=h5py.string_dtype() if is_text else None)


WRITERS = {
    "semicolons": ("train.csv", lambda r, p: r.write_csv(p, separator=";"), {"separator": ";"}),
    "tabs": ("train.tsv", lambda r, p: r.write_csv(p, separator="\t"), {"separator": "\t"}),
    "quotes": (
        "train.csv",
        lambda r, p: r.write_csv(p, quote_char="'", quote_style="always"),
        {"quote_char": "'"},
    ),
    "no quotes": (
        "train.csv",
        lambda r, p: r.write_csv(p, separator="\t", quote_style="never"),
        {"separator": "\t", "quote_char": None},
    ),
    "gzip": ("train.csv.gz", write_gzip, {}),
    "parquet": ("train.parquet", lambda r, p: r.write_parquet(p), {"data_format": "parquet"}),
    "parquet lists": (
        "train.parquet",
        lambda r, p: lists(r).write_parquet(p),
        {"data_format": "parquet"},
    ),
    "parquet categories": (
        "train.parquet",
        lambda r, p: r.with_columns(pl.col("c", "h", "u").cast(pl.Categorical)).write_parquet(p),
        {"data_format": "parquet"},
    ),
    "npz": ("train.npz", lambda r, p: np.savez(p, **arrays(r, False)), {"data_format": "npz"}),
    "npz matrices": (
        "train.npz",
        lambda r, p: np.savez(p, **arrays(r, True)),
        {"data_format": "npz"},
    ),
    "h5": ("train.h5", lambda r, p: write_h5(arrays(r, False), p), {"data_format": "h5"}),
    "h5 matrices": ("train.h5", lambda r, p: write_h5(arrays(r, True), p), {"data_format": "h5"}),
}


@pytest.mark.parametrize("form", WRITERS)
def test_all_forms_encode_alike(form, rows, expected, tmp_path, monkeypatch):
    name, write, keys = WRITERS[form]
    found = encode(tmp_path, lambda path: write(rows, path), name, **keys)
    assert found == expected


@pytest.mark.parametrize("form", ["semicolons", "gzip", "parquet lists", "npz matrices", "h5"])
@pytest.mark.parametrize("how", ["folder", "glob"])
def test_many_files_encode_as_one(form, how, rows, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "FRAME_ROWS", 11)
    name, write, keys = WRITERS[form]
    suffix = name.removeprefix("train")

    def write_many(folder):
        folder.mkdir()
        for number, start in enumerate((0, 1, 20, 33)):
            stop = (1, 20, 33, 50)[number]
            write(rows[start:stop], folder / f"{number}{suffix}")

    given = str(tmp_path / "many" / ("" if how == "folder" else f"*{suffix}"))
    found = encode(tmp_path, write_many, "many", **keys, train_data=given)
    assert found[1] == expected[1]


def test_a_wrong_separator_says_which_one_it_may_be(tmp_path):
    write_csv(tmp_path / "train.csv", "click;c;i\n1;a;2\n")
    with pytest.raises(DataError) as error:
        prepare_dataset(config(tmp_path, COLUMNS[:2]), verbose=0)
    text = str(error.value)
    assert text.startswith(f"{tmp_path / 'train.csv'}: line 1: found no ',' in 'click;c;i'")
    assert "key 'separator': found ',', did you mean ';'?" in text


@pytest.mark.parametrize("separator", ["", ";;", "\n", "é"])
def test_a_separator_is_one_character(separator, tmp_path):
    with pytest.raises(ConfigError, match="key 'separator': found .* allowed: one character"):
        config(tmp_path, COLUMNS, separator=separator)


def test_a_truncated_gzip_file_names_the_last_whole_row(rows, tmp_path):
    write_gzip(rows, tmp_path / "train.csv.gz")
    data = (tmp_path / "train.csv.gz").read_bytes()
    (tmp_path / "train.csv.gz").write_bytes(data[:-30])
    keys = {"train_data": str(tmp_path / "train.csv.gz")}
    with pytest.raises(DataError, match=r"train.csv.gz: .*(damaged|cut off|not readable)"):
        prepare_dataset(config(tmp_path, COLUMNS, **keys), verbose=0)
    (tmp_path / "train.csv.gz").write_bytes(b"click,c\n1,a\n")
    with pytest.raises(DataError, match="damaged, or not a gzip file"):
        prepare_dataset(config(tmp_path, COLUMNS, **keys), verbose=0)


@pytest.mark.parametrize("form", ["parquet", "npz", "h5"])
def test_a_truncated_file_is_refused(form, rows, tmp_path):
    name, write, keys = WRITERS[form]
    write(rows, tmp_path / name)
    data = (tmp_path / name).read_bytes()
    for size in (len(data) - 9, len(data) // 2, 5):
        (tmp_path / name).write_bytes(data[:size])
        with pytest.raises(DataError, match=rf"{name}: (damaged|a damaged|column|not readable)"):
            encode(tmp_path, lambda path: None, name, **keys)


@pytest.mark.parametrize("form", ["npz", "h5"])
def test_columns_of_unequal_length_are_refused(form, rows, tmp_path):
    columns = arrays(rows, False)
    columns["x"] = columns["x"][:-1]
    path = tmp_path / f"train.{form}"
    (lambda p: np.savez(p, **columns) if form == "npz" else write_h5(columns, p))(path)
    with pytest.raises(DataError, match="column 'x': found 49 rows, allowed: 50, as in 'c'"):
        encode(tmp_path, lambda path: None, path.name, data_format=form)


def test_an_npz_of_python_objects_is_never_unpickled(tmp_path):
    np.savez(tmp_path / "train.npz", click=[1], c=np.array(["a"], dtype=object))
    built = config(tmp_path, COLUMNS[:1], train_data=str(tmp_path / "train.npz"), data_format="npz")
    with pytest.raises(DataError, match="column 'c': found an object array, allowed"):
        prepare_dataset(built, verbose=0)


@pytest.mark.parametrize("split", ["valid", "other file"])
def test_files_of_different_schemas_are_refused(split, tmp_path):
    frame = pl.DataFrame({"click": [1, 0], "c": [7, 8]})
    floats = frame.with_columns(pl.col("c").cast(pl.Float64))
    (tmp_path / "train").mkdir()
    frame.write_parquet(tmp_path / "train/a.parquet")
    keys = {"train_data": str(tmp_path / "train"), "data_format": "parquet"}
    if split == "valid":
        floats.write_parquet(tmp_path / "valid.parquet")
        keys["valid_data"] = str(tmp_path / "valid.parquet")
    else:
        floats.write_parquet(tmp_path / "train/b.parquet")
    message = r"column 'c': found float values, but int values in .*a.parquet.*set the column's"
    with pytest.raises(DataError, match=message):
        prepare_dataset(config(tmp_path, [categorical("c")], **keys), verbose=0)
    built = prepare_dataset(config(tmp_path, [categorical("c", dtype="int")], **keys), verbose=0)
    assert set(read(built)["c"]) == {1, 2}


def test_valid_lacking_a_column_names_file_and_column(tmp_path):
    write_csv(tmp_path / "train.csv", "click,c\n1,a\n")
    write_csv(tmp_path / "valid.csv", "click,C\n1,a\n")
    built = config(tmp_path, [categorical("c")], valid_data=str(tmp_path / "valid.csv"))
    with pytest.raises(DataError, match=r"valid.csv: column 'c' is missing; did you mean 'C'\?"):
        prepare_dataset(built, verbose=0)


@pytest.mark.parametrize("kind", [categorical, numeric])
def test_a_column_that_is_missing_throughout_is_refused(kind, tmp_path):
    write_csv(tmp_path / "train.csv", "click,c,x\n1,a,\n0,b,\n")
    message = "train.csv: column 'x': all cells of the training split are missing; set fill_na"
    with pytest.raises(DataError, match=message):
        prepare_dataset(config(tmp_path, [categorical("c"), kind("x")]), verbose=0)
    assert not (tmp_path / "encoded/tiny/cache_key.json").exists()
    columns = [categorical("c"), kind("x", fill_na="0" if kind is categorical else 0)]
    assert prepare_dataset(config(tmp_path, columns), verbose=0).rebuilt
