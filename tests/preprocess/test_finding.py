"""Which files a path, a folder or a glob names, in which order, and what the log says of them."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fuxictr.array_files import find_encoded, natural_order, span
from fuxictr.errors import DataError
from fuxictr.preprocess import FeatureProcessor, load_encoders, prepare_dataset
from fuxictr.preprocess.sources.files import search_files
from tests.preprocess.tables import categorical, config, read, write_csv


def names(found, folder):
    return [path.relative_to(folder).as_posix() for path in found]


def find(folder, given, data_format="csv"):
    return names(search_files(given, "train_data", folder, data_format).files, folder)


def touch(folder, *paths):
    for path in paths:
        write_csv(folder / path, "click,c\n1,a\n")


def test_two_stars_are_any_number_of_folders(tmp_path):
    touch(tmp_path, "raw/a.csv", "raw/x/b.csv", "raw/x/y/c.csv", "raw/x/y/notes.txt")
    assert find(tmp_path, "./raw/**/*.csv") == ["raw/a.csv", "raw/x/b.csv", "raw/x/y/c.csv"]
    assert find(tmp_path, "raw/**") == ["raw/a.csv", "raw/x/b.csv", "raw/x/y/c.csv"]
    assert find(tmp_path, "**/y/*.csv") == ["raw/x/y/c.csv"]
    assert find(tmp_path, "raw/*.csv") == ["raw/a.csv"]


@pytest.mark.parametrize("given", ["b*.csv", "**/*.csv", "br[1]/b.csv", "br[1]/*.csv", "br[1]"])
def test_a_name_with_brackets_is_meant_itself_where_it_is_there(tmp_path, given):
    folder = tmp_path if given.startswith("br") else tmp_path / "br[1]"
    touch(tmp_path, "br[1]/b.csv", "br1/other.csv")
    assert names(search_files(given, "--data", folder, "csv").files, tmp_path) == ["br[1]/b.csv"]


def test_brackets_match_where_no_such_name_is_there(tmp_path):
    touch(tmp_path, "d1/a.csv", "d2/a.csv", "d3/a.csv")
    assert find(tmp_path, "d[12]/*.csv") == ["d1/a.csv", "d2/a.csv"]
    assert find(tmp_path, "d?/a.csv") == ["d1/a.csv", "d2/a.csv", "d3/a.csv"]


HIVE = ("dt=2024-01-01/part-0.csv", "dt=2024-01-02/h=9/p.csv", "dt=2024-01-02/h=10/p.csv")


@pytest.mark.parametrize("given", ["raw", "raw/", "raw/*", "raw/dt=*", "raw/**", "raw/*/**/*.csv"])
def test_partition_folders_are_read_at_any_depth(tmp_path, given):
    touch(tmp_path / "raw", *HIVE, "_SUCCESS", ".part-0.csv.crc", "_temporary/0/p.csv")
    assert find(tmp_path, given) == [f"raw/{name}" for name in HIVE]


@pytest.mark.parametrize("given", ["raw", "raw/*.csv", "raw/*"])
def test_a_folder_may_be_named_as_a_file(tmp_path, given):
    touch(tmp_path / "raw", "a.csv", "b.csv/part-0.csv", "b.csv/_SUCCESS", "c/d.csv")
    assert find(tmp_path, given) == ["raw/a.csv", "raw/b.csv/part-0.csv"]


@pytest.mark.parametrize("block_size", [0, 1])
@pytest.mark.parametrize("given", ["**/*.parquet", "**", "."])
def test_what_a_build_wrote_is_no_raw_file(tmp_path, caplog, block_size, given):
    caplog.set_level("INFO")
    pl.DataFrame({"click": [1, 0], "c": ["a", "b"]}).write_parquet(tmp_path / "raw.parquet")
    keys = {"data_format": "parquet", "data_root": ".", "train_data": given}
    keys |= {"data_block_size": block_size}
    for number in range(2):
        for dataset_id in ("tiny", "other"):
            keys["dataset_id"] = dataset_id
            built = prepare_dataset(
                config(tmp_path, [categorical("c")], **keys), tmp_path, verbose=0
            )
            assert built.rebuilt is (number == 0)
            assert "train: 2 rows of raw.parquet" == caplog.messages[-1]


def test_one_partition_is_a_path_as_any_other(tmp_path):
    touch(tmp_path / "raw", *HIVE)
    assert find(tmp_path, "raw/dt=2024-01-01") == ["raw/dt=2024-01-01/part-0.csv"]
    assert find(tmp_path, "raw/dt=2024-01-02/h=10/p.csv") == ["raw/dt=2024-01-02/h=10/p.csv"]
    with pytest.raises(DataError, match="dt=2024-02: no such file .*did you mean 'dt=2024-01-0"):
        find(tmp_path, "raw/dt=2024-02")


def test_what_is_skipped_is_said_but_for_what_tools_leave(tmp_path):
    touch(tmp_path / "raw", "a.csv", "a.csv.bz2", "old/b.csv", ".hidden.csv", "_SUCCESS", "a.crc")
    touch(tmp_path / "raw", "_part.csv")
    (tmp_path / "raw/z.csv").symlink_to("a.csv")
    found = search_files("raw", "train_data", tmp_path, "csv")
    assert names(found.files, tmp_path) == ["raw/a.csv"]
    assert names(found.skipped, tmp_path / "raw") == ["_part.csv", "a.csv.bz2", "old", "z.csv"]
    found = search_files("raw/*", "train_data", tmp_path, "csv")
    assert names(found.files, tmp_path) == ["raw/a.csv"]
    assert names(found.skipped, tmp_path / "raw") == ["a.csv.bz2", "old", "z.csv"]
    touch(tmp_path / "raw", "a.txt")
    assert find(tmp_path, "raw/a.*[tv]") == ["raw/a.csv", "raw/a.txt"]
    assert find(tmp_path, "raw/_*.csv") == ["raw/_part.csv"]
    assert find(tmp_path, "raw/.hidden.csv") == ["raw/.hidden.csv"]


def test_files_are_named_by_the_first_and_the_last_one():
    paths = [Path(f"/raw/x/dt={day}/h=1/p.csv") for day in (1, 2, 10)]
    assert span(paths) == "3 files, dt=1/h=1/p.csv to dt=10/h=1/p.csv"
    assert span(paths[2:]) == "dt=10/h=1/p.csv"
    assert span([Path("/raw/a=b/x/p.csv")]) == "p.csv"


def test_links_in_a_circle_end(tmp_path):
    touch(tmp_path, "raw/a/x.csv", "raw/b/y.csv")
    (tmp_path / "raw/a/up").symlink_to(tmp_path / "raw")
    (tmp_path / "raw/a/k=b").symlink_to(tmp_path / "raw/b")
    (tmp_path / "raw/b/k=a").symlink_to(tmp_path / "raw/a")
    found = search_files("raw/**/*.csv", "train_data", tmp_path, "csv").files
    assert sorted(path.resolve().name for path in found) == ["x.csv", "y.csv"]
    assert len(search_files("raw/a", "train_data", tmp_path, "csv").files) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("raw/*.tsv", r"raw/\*.tsv: no such file .*; in .*/raw there is a.csv, x/"),
        ("none/*.csv", r"none/\*.csv: no such file .*; in .* there is raw/"),
        ("raw/x", r"raw/x: no .csv file in this folder .*; in .*/x there is b.txt; other files"),
    ],
)
def test_an_error_says_what_is_there(tmp_path, given, message):
    touch(tmp_path, "raw/a.csv", "raw/x/b.txt")
    with pytest.raises(DataError, match=message):
        find(tmp_path, given)


def test_numbers_in_names_count_by_value(tmp_path):
    days = ["day_1.csv", "day_2.csv", "day_10.csv", "day_10_b.csv"]
    touch(tmp_path, *(f"raw/{day}" for day in reversed(days)))
    for given in ("raw", "raw/*", "raw/day_*.csv", "**/*.csv"):
        assert find(tmp_path, given) == [f"raw/{day}" for day in days]
    paths = [Path(name) for name in ("a2/x", "a10/x", "a10/x1", "a010/x", "b", "1", "x²")]
    assert sorted(reversed(paths), key=natural_order) == [paths[i] for i in (5, 0, 3, 1, 2, 4, 6)]


@pytest.mark.parametrize("given", ["train", "train/*.parquet", "train/part_*"])
def test_encoded_parts_are_in_natural_order(tmp_path, given):
    for number in (10, 9, 100_000, 2):
        path = tmp_path / f"br[1]/train/part_{number}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame({"c": [number]}).write_parquet(path)
    write_csv(tmp_path / "br[1]/train/_SUCCESS", "")
    found = find_encoded(tmp_path / "br[1]" / given)
    assert [path.stem for path in found] == ["part_2", "part_9", "part_10", "part_100000"]
    touch(tmp_path, "other/part_1.csv")
    with pytest.raises(DataError, match=r"no .parquet, .npz, .h5 file is in it; in .* there is pa"):
        find_encoded(tmp_path / "other")


@pytest.fixture
def days(tmp_path):
    for day in (1, 2, 10):
        write_csv(tmp_path / f"raw/day_{day}.csv", "click,c\n" + f"1,d{day}\n0,d{day}\n" * 2)
    return tmp_path


def test_the_last_day_is_tested_and_the_log_says_so(days, caplog):
    caplog.set_level("INFO")
    keys = {"train_data": str(days / "raw/*.csv"), "test_size": 4, "valid_size": 2}
    built = prepare_dataset(config(days, [categorical("c")], **keys), verbose=0)
    assert set(read(built, "test")["c"]) == {3}, "day_10 is what training has not seen"
    lines = [
        "train: 6 rows of 2 files, day_1.csv to day_2.csv",
        "valid: 2 rows of day_2.csv",
        "test: 4 rows of day_10.csv",
    ]
    assert [m for m in caplog.messages if " rows of " in m] == lines
    caplog.clear()
    again = prepare_dataset(config(days, [categorical("c")], **keys), verbose=0)
    assert not again.rebuilt
    assert [m for m in caplog.messages if " rows of " in m] == lines


def test_the_log_says_files_rows_and_what_is_skipped(days, caplog):
    caplog.set_level("INFO")
    touch(days, "raw/day_3.csv.zst", "valid/br[1]/v.csv")
    keys = {"train_data": str(days / "raw"), "valid_data": str(days / "valid/**/*.csv")}
    prepare_dataset(config(days, [categorical("c")], **keys), verbose=0)
    assert f"train_data {days / 'raw'}: skipped day_3.csv.zst" in caplog.messages
    assert "train: 12 rows of 3 files, day_1.csv to day_10.csv" in caplog.messages
    assert "valid: 1 rows of v.csv" in caplog.messages
    warned = [r.getMessage() for r in caplog.records if r.levelname != "INFO"]
    assert all("valid split: many cells are not known" in text for text in warned)


def test_the_log_speaks_of_rows_that_are_encoded_already(tmp_path, caplog):
    caplog.set_level("INFO")
    for number in (2, 10):
        path = tmp_path / f"encoded/tiny/train/part_{number}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame({"c": [1] * number, "click": [1.0] * number}).write_parquet(path)
    touch(tmp_path / "encoded/tiny/train", "_SUCCESS", "part_3.parquet.zst", "more/part_4.csv")
    columns = [{"name": "c", "vocab_size": 3}]
    prepare_dataset(config(tmp_path, columns, rebuild_dataset=False, train_data=None), verbose=0)
    train = tmp_path / "encoded/tiny/train"
    assert f"train: {train}: skipped more/, part_3.parquet.zst" in caplog.messages
    assert "train: 12 rows of 2 files, part_2.parquet to part_10.parquet" in caplog.messages


@pytest.fixture
def hive(tmp_path):
    write_csv(tmp_path / "raw/dt=2024-01-01/p.csv", "click,c\n1,a\n0,b\n")
    write_csv(tmp_path / "raw/dt=2024-01-02/p.csv", "click,c\n1,b\n")
    write_csv(tmp_path / "raw/dt=__HIVE_DEFAULT_PARTITION__/p.csv", "click,c\n1,c\n")
    write_csv(tmp_path / "raw/dt=a%3Db/p.csv", "click,c\n0,c\n")
    return tmp_path


def test_a_partition_is_a_column_where_the_config_names_it(hive):
    columns = [categorical("c"), categorical("dt")]
    built = prepare_dataset(config(hive, columns, train_data=str(hive / "raw")), verbose=0)
    assert read(built)["dt"] == [1, 1, 2, 4, 3], "two days, a missing one, and a=b"
    assert load_encoders(config(hive, columns))[0].columns[1].vocabulary.to_dict() == {
        "__PAD__": 0,
        "2024-01-01": 1,
        "2024-01-02": 2,
        "a=b": 3,
        "__OOV__": 4,
    }
    alone = [categorical("dt"), categorical("again", preprocess="copy_from(dt)")]
    keys = {"train_data": str(hive / "raw/dt=2024*"), "label_col": {"name": "click"}}
    built = prepare_dataset(config(hive, alone, **keys, test_size=1), verbose=0)
    assert (read(built)["dt"], read(built, "test")["again"]) == ([1, 1], [2])
    assert not prepare_dataset(config(hive, alone, **keys, test_size=1), verbose=0).rebuilt
    (hive / "raw/dt=2024-01-02").rename(hive / "raw/dt=2024-01-01a")
    assert prepare_dataset(config(hive, alone, **keys, test_size=1), verbose=0).rebuilt


@pytest.mark.parametrize("form", ["parquet", "npz"])
def test_partitions_of_other_forms(tmp_path, form):
    for day in (1, 2):
        folder = tmp_path / f"raw/day={day}"
        folder.mkdir(parents=True)
        frame = pl.DataFrame({"click": [1, 0], "c": [day, 9]})
        if form == "parquet":
            frame.write_parquet(folder / "p.parquet")
        else:
            np.savez(folder / "p.npz", **{n: frame[n].to_numpy() for n in frame.columns})
    columns = [categorical("day", dtype="int"), categorical("c")]
    keys = {"data_format": form, "train_data": str(tmp_path / "raw")}
    built = prepare_dataset(config(tmp_path, columns, **keys), verbose=0)
    assert read(built)["day"] == [1, 1, 2, 2]
    keys["test_size"] = 1
    built = prepare_dataset(config(tmp_path, columns, **keys), verbose=0)
    assert read(built, "test")["day"] == [2]


def test_a_column_of_the_file_comes_before_its_folder(hive):
    write_csv(hive / "raw/dt=2024-01-01/p.csv", "click,c,dt\n1,a,of the file\n")
    processor = FeatureProcessor([categorical("dt")], {"name": "click"}, "d")
    processor.fit(str(hive / "raw/dt=2024-01-01"))
    assert set(processor.columns[0].vocabulary.to_dict()) == {"__PAD__", "of the file", "__OOV__"}


def test_a_partition_that_a_file_does_not_have_is_a_missing_column(hive):
    write_csv(hive / "raw/more/p.csv", "click,c\n1,a\n")
    columns = [categorical("dt")]
    keys = {"train_data": str(hive / "raw/**/*.csv")}
    with pytest.raises(DataError, match=r"more/p.csv: column 'dt' is missing"):
        prepare_dataset(config(hive, columns, **keys), verbose=0)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    touch(tmp_path, "raw/closed/a.csv")
    listed = Path.iterdir

    def iterdir(path):
        if path.name == "closed":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(DataError, match=r"raw/closed: cannot be listed \(Permission denied\)"):
        find(tmp_path, "raw/**/*.csv")
    assert find(tmp_path, "raw/closed/a.csv") == ["raw/closed/a.csv"]


@pytest.mark.parametrize(
    ("valid", "test", "found"),
    [
        (None, "p/b.csv", ["test_data (b.csv)"]),
        ("p/link.csv", None, ["valid_data (b.csv)"]),
        ("p/a.csv", "p/*.csv", ["valid_data (a.csv) and in test_data (a.csv, b.csv)"]),
        ("q/c.csv", "q/c.csv", []),
    ],
)
def test_a_training_file_in_another_split_is_warned_of(tmp_path, caplog, valid, test, found):
    for name in ("p/a.csv", "p/b.csv", "q/c.csv"):
        write_csv(tmp_path / name, "click,a\n1,x\n0,y\n")
    (tmp_path / "p" / "link.csv").symlink_to(tmp_path / "p" / "b.csv")
    keys = {"train_data": "p/*.csv", "valid_data": valid, "test_data": test}
    settings = config(tmp_path, [categorical("a")], **keys)
    for _ in range(2):  # a build, and one that is used again
        caplog.clear()
        prepare_dataset(settings, tmp_path, verbose=0)
        warned = [r.message for r in caplog.records if r.levelname == "WARNING"]
        assert len(warned) == len(found)
        for text, part in zip(warned, found, strict=True):
            assert f"files of train_data are in {part} too" in text


def test_encoded_rows_that_are_trained_on_and_judged_are_warned_of(tmp_path, caplog):
    write_csv(tmp_path / "train.csv", "click,a\n1,x\n0,y\n")
    built = prepare_dataset(config(tmp_path, [categorical("a")]), verbose=0)
    keys = {"train_data": str(built.paths["train"]), "test_data": str(built.paths["train"])}
    caplog.clear()
    settings = config(tmp_path, [], **keys, rebuild_dataset=False, data_format="parquet")
    prepare_dataset(settings, verbose=0)
    assert "files of train_data are in test_data (train.parquet) too" in caplog.text


@pytest.mark.parametrize("empty", ["p/a.csv", "p/c.csv", "p/a.csv.gz"])
@pytest.mark.parametrize("keys", [{}, {"test_size": 0.5}])
def test_a_part_of_no_bytes_is_a_part_without_rows(tmp_path, empty, keys):
    write_csv(tmp_path / "p" / "b.csv", "click,a\n1,x\n0,y\n")
    write_csv(tmp_path / empty, gzip.compress(b"") if empty.endswith("gz") else "")
    settings = config(tmp_path, [categorical("a")], train_data=str(tmp_path / "p"), **keys)
    built = prepare_dataset(settings, verbose=0)
    assert len(read(built)["a"]) == 2 - len(keys)
    (tmp_path / "p" / "b.csv").write_text("")
    with pytest.raises(DataError, match="no rows"):
        prepare_dataset(settings, verbose=0)


def test_a_partition_column_has_no_place_in_a_file_without_a_header(tmp_path):
    for day in ("1", "2"):
        write_csv(tmp_path / "p" / f"dt={day}" / "part", f"1,x{day}\n0,y\n")
    columns = [categorical("a"), categorical("dt")]
    keys = {"train_data": str(tmp_path / "p" / "*" / "*"), "header": False}
    settings = config(tmp_path, columns, **keys)
    built = prepare_dataset(settings, verbose=0)
    assert read(built)["dt"] == [1, 1, 2, 2]
    processor = load_encoders(settings)[0]
    write_csv(tmp_path / "score" / "dt=2" / "part.csv", "y\nx1\n")
    files = str(tmp_path / "score")
    (table,) = processor.encode(files, "Score", fields=["a", "dt"])
    assert table.to_pydict()["dt"] == [2, 2]
    write_csv(tmp_path / "score" / "dt=2" / "part.csv", "y,2\nx1,2\n")  # its own, no label
    (table,) = processor.encode(files, "Score", fields=["a", "dt"])
    assert table.to_pydict()["dt"] == [2, 2]
    assert table.to_pydict()["a"] == [1, 2]


def test_folders_of_files_that_are_read_are_not_skipped(tmp_path):
    for name in ("raw/a.csv", "raw/x/y/b.csv", "raw/z/notes.md", "raw/readme.md"):
        write_csv(tmp_path / name, "click,a\n1,x\n")
    found = search_files("raw/**/*", "train_data", tmp_path, "csv")
    assert names(found.files, tmp_path) == ["raw/a.csv", "raw/x/y/b.csv"]
    assert names(found.skipped, tmp_path) == ["raw/readme.md", "raw/z", "raw/z/notes.md"]


def test_files_that_a_glob_misses_by_their_case_are_skipped(tmp_path):
    for name in ("raw/a.csv", "raw/A1.CSV", "raw/b.txt", "raw/.c.CSV"):
        write_csv(tmp_path / name, "click,a\n1,x\n")
    for given in ("raw/*.csv", "raw", "r*/*.csv", "**/*.csv"):
        found = search_files(given, "train_data", tmp_path, "csv")
        assert "raw/A1.CSV" in names(found.skipped, tmp_path), given
    found = search_files("raw/*.csv", "train_data", tmp_path, "csv")
    assert names(found.skipped, tmp_path) == ["raw/A1.CSV"]


@pytest.mark.parametrize("order", [("1", "2"), ("2", "1")])
def test_values_of_folders_and_other_ones_of_cells_are_not_mixed(tmp_path, order):
    own, other = order
    write_csv(tmp_path / "p" / f"dt={other}" / "a.csv", "click,a\n1,x\n0,y\n")
    settings = config(tmp_path, [categorical("dt")], train_data=str(tmp_path / "p"))
    path = write_csv(tmp_path / "p" / f"dt={own}" / "b.csv", f"click,a,dt\n1,x,{own}\n0,y,{own}\n")
    assert sorted(read(prepare_dataset(settings, verbose=0))["dt"]) == [1, 1, 2, 2]
    write_csv(path, "click,a,dt\n1,x,20240101\n0,y,20240102\n")
    message = r"b\.csv: column 'dt': found other values than its folder's .*a\.csv has no such"
    with pytest.raises(DataError, match=message):
        prepare_dataset(settings, verbose=0)
    (tmp_path / "p" / f"dt={other}" / "a.csv").unlink()
    assert read(prepare_dataset(settings, verbose=0))["dt"] == [1, 2]
