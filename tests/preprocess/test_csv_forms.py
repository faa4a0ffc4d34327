"""Csv as Hive, polars and Criteo write them: odd separators, no header, empty lines, no rows."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from fuxictr.config import DatasetConfig
from fuxictr.errors import ConfigError, DataError
from fuxictr.preprocess import FeatureProcessor, prepare_dataset
from fuxictr.preprocess.sources import csv_files as csv_source
from fuxictr.preprocess.sources import frames as sources
from fuxictr.preprocess.sources.csv_rows import CsvDialect
from tests.preprocess.tables import categorical, config, numeric, read, write_csv

COLUMNS = [numeric("I1"), categorical("C1"), categorical("C2")]
LABEL = {"label_col": {"name": "label", "dtype": "float"}}
CRITEO = "0\t1\t68fd\tx\n1\t\t68fd\t\n0\t3\t9a89\tx\n"


@pytest.mark.parametrize(
    ("written", "character"),
    [
        (r'"\x01"', "\x01"),
        (r"'\x01'", "\x01"),
        (r"\x01", "\x01"),
        (r'"\\x01"', "\x01"),
        (r"'\u0001'", "\x01"),
        (r"'\001'", "\x01"),
        (r'"\u0001"', "\x01"),
        (r'"\t"', "\t"),
        (r"'\t'", "\t"),
        (r"\t", "\t"),
        ("'|'", "|"),
        ("' '", " "),
    ],
)
def test_separators_as_yaml_has_them(tmp_path, written, character):
    assert yaml.safe_load(written) in (character, written.strip("'"), r"\x01")
    separator = yaml.safe_load(written)
    text = "click,a,h\n1,x,p;q\n0,y z,\n".replace(",", character).replace(";", "\x02")
    write_csv(tmp_path / "train.csv", text if character != " " else text.replace("y z", "y"))
    columns = [categorical("a"), {"name": "h", "type": "sequence", "splitter": r"\x02"}]
    keys = {"separator": separator, "quote_char": None}
    built = prepare_dataset(config(tmp_path, columns, **keys), verbose=0)
    assert read(built)["a"] == [1, 2]
    assert [list(row) for row in read(built)["h"]] == [[1, 2], [0, 0]]


@pytest.mark.parametrize("separator", ["\0", "\r", r"\x0a", r"\x011", "\x01\x01", r"\n", r"\xe9"])
def test_what_cannot_separate_is_refused(tmp_path, separator):
    with pytest.raises(ConfigError, match=r"'separator': found .* one character, as ',', '\\t'"):
        config(tmp_path, COLUMNS, separator=separator)


def test_hives_separator_is_suggested(tmp_path):
    write_csv(tmp_path / "train.csv", "click\x01a\n1\x01x\n")
    with pytest.raises(DataError, match=r"found ',', did you mean '\\x01'\?"):
        prepare_dataset(config(tmp_path, [categorical("a")]), verbose=0)


class TestNoHeader:
    @pytest.mark.parametrize("header", [False, ["label", "I1", "C1", "C2"]])
    def test_raw_criteo(self, tmp_path, header):
        write_csv(tmp_path / "train.txt", CRITEO)
        keys = {"train_data": str(tmp_path / "train.txt"), "separator": "\t", **LABEL}
        keys |= {"header": header, "feature_cols": COLUMNS}
        built = prepare_dataset(config(tmp_path, **keys), verbose=0)
        assert read(built) == {
            "I1": [1, 0, 3],
            "C1": [1, 1, 2],
            "C2": [1, 2, 1],
            "label": [0, 1, 0],
        }
        assert not prepare_dataset(config(tmp_path, **keys), verbose=0).rebuilt
        assert prepare_dataset(
            config(tmp_path, **{**keys, "header": ["label", "I1", "C2", "C1"]}), verbose=0
        ).rebuilt

    def test_the_example_of_the_docs(self, tmp_path):
        page = (Path(__file__).parents[2] / "docs/data.md").read_text(encoding="utf-8")
        block = page.partition("```yaml\ncriteo_raw:")[2].partition("```")[0]
        given = yaml.safe_load(f"criteo_raw:{block}")["criteo_raw"]
        row = [*"1234567890123", *(f"c{i}" for i in range(26))]
        rows = ["\t".join([label, *row[:-1], cell]) for label, cell in (("0", "z"), ("1", ""))]
        write_csv(tmp_path / "criteo/train.txt", "\n".join(rows) + "\n")
        params = {**given, "dataset_id": "criteo_raw", "data_root": str(tmp_path / "encoded")}
        built = prepare_dataset(DatasetConfig.from_params(params), tmp_path, verbose=0)
        assert read(built)["label"] == [0, 1]
        assert (read(built)["I13"], read(built)["C26"]) == ([3, 3], [1, 2])

    def test_inactive_columns_have_their_place_and_made_ones_have_none(self, tmp_path):
        write_csv(tmp_path / "train.csv", "1,r1,14102122,x\n0,r2,14102123,y\n")
        columns = [
            categorical("id", active=False),
            categorical("hour", preprocess="convert_hour"),
            categorical("weekday", preprocess="convert_weekday"),
            categorical("a"),
            categorical("b", preprocess="copy_from(a)"),
        ]
        built = prepare_dataset(config(tmp_path, columns, header=False), verbose=0)
        assert (read(built)["a"], read(built)["hour"]) == ([1, 2], [1, 2])
        columns[1] = categorical("h", preprocess="convert_hour")
        with pytest.raises(ConfigError, match="raw column 'hour' has no entry in feature_cols"):
            prepare_dataset(config(tmp_path, columns, header=False), verbose=0)

    @pytest.mark.parametrize("text", ["0\t1\tx\n", "0\t1\tx\ty\tz\n"])
    def test_the_numbers_of_fields_must_agree(self, tmp_path, text):
        write_csv(tmp_path / "train.csv", text)
        keys = {"separator": "\t", "header": False, **LABEL}
        message = rf"found {text.count(chr(9)) + 1} fields, but 4 columns are named"
        with pytest.raises(DataError, match=message):
            prepare_dataset(config(tmp_path, COLUMNS, **keys), verbose=0)

    def test_a_label_at_another_place_is_seen(self, tmp_path):
        write_csv(tmp_path / "train.csv", "7,1\n8,0\n")
        with pytest.raises(DataError, match="row 1, column 'click': found '7'.*header: .a, y."):
            prepare_dataset(config(tmp_path, [categorical("a")], header=False), verbose=0)
        with pytest.raises(DataError, match="column 'click' is missing; found: a, y"):
            prepare_dataset(config(tmp_path, [categorical("a")], header=["a", "y"]), verbose=0)
        keys = {"header": ["a", "click"]}
        built = prepare_dataset(config(tmp_path, [categorical("a")], **keys), verbose=0)
        assert read(built) == {"a": [1, 2], "click": [1, 0]}

    def test_rows_to_score_may_lack_the_label(self, tmp_path):
        write_csv(tmp_path / "train.csv", "\ufeff1,x\n0,y\n")
        processor = FeatureProcessor([categorical("a")], {"name": "click"}, "d", header=False)
        processor.fit(str(tmp_path / "train.csv"))
        for text in ("y\nz\n\n", "0,y\n1,z\n0,\n"):
            write_csv(tmp_path / "new.csv", text)
            (table,) = processor.encode(str(tmp_path / "new.csv"), "Score", fields=["a"])
            assert table["a"].to_pylist() == [2, 3, 3]

    def test_faults_count_rows_from_the_first_line(self, tmp_path):
        keys = {"header": False, "feature_cols": [numeric("x"), categorical("a")]}
        for text, message in {
            "1,2,a\n\n0,?,b\n": r"row 2 \(line 3\), column 'x': found '\?'",
            "1,2,a\n0,2\n": r"row 2 \(line 2\): found 2 cells, allowed: 3, as in the first row",
            '1,2,a\n0,2,"b\n': r"row 2: unexpected end",
        }.items():
            write_csv(tmp_path / "train.csv", text)
            with pytest.raises(DataError, match=message):
                prepare_dataset(config(tmp_path, **keys), verbose=0)

    @pytest.mark.parametrize("header", [False, ["click", "a"]])
    def test_a_header_that_is_there_after_all_is_no_row(self, tmp_path, header):
        write_csv(tmp_path / "train.csv", "click,a\n1,x\n")
        with pytest.raises(DataError, match="line 1: found the names of the columns; key 'header'"):
            prepare_dataset(config(tmp_path, [categorical("a")], header=header), verbose=0)

    def test_parts_of_no_bytes_have_no_rows(self, tmp_path):
        write_csv(tmp_path / "parts/000000_0", "1\x01x\n")
        write_csv(tmp_path / "parts/000001_0", "")
        write_csv(tmp_path / "parts/000002_0.csv.gz", gzip.compress(b""))
        keys = {"header": False, "separator": "\x01", "train_data": str(tmp_path / "parts/0*")}
        built = prepare_dataset(config(tmp_path, [categorical("a")], **keys), verbose=0)
        assert read(built) == {"a": [1], "click": [1]}
        (tmp_path / "parts/000000_0").unlink()
        with pytest.raises(DataError, match="000001_0 and 1 more: no rows"):
            prepare_dataset(config(tmp_path, [categorical("a")], **keys), verbose=0)

    def test_a_partition_stands_beside_named_columns(self, tmp_path):
        write_csv(tmp_path / "raw/dt=5/p.csv", "1,x\n0,y\n")
        columns = [categorical("a"), categorical("dt")]
        keys = {"train_data": str(tmp_path / "raw"), "header": ["click", "a"]}
        built = prepare_dataset(config(tmp_path, columns, **keys), verbose=0)
        assert read(built)["dt"] == [1, 1]

    @pytest.mark.parametrize("header", [[], ["a", "a"], ["a", ""], "yes", 0, ["a", 1]])
    def test_the_key_is_checked(self, tmp_path, header):
        with pytest.raises(ConfigError, match="key 'header': found"):
            config(tmp_path, COLUMNS, header=header)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("0,1,1,5\n1,2,3,4\n", True),
        ("0,68fd,9a89\n", True),
        ("x,,y\n", True),
        ("apple,pear\n", True),
        ("click,C3\n1,x\n", False),
        ("click,c1,C2,I1\n1,x,y,3\n", False),
    ],
)
def test_a_missing_column_hints_at_a_missing_header(tmp_path, text, hint):
    write_csv(tmp_path / "train.csv", text)
    with pytest.raises(DataError) as error:
        prepare_dataset(config(tmp_path, COLUMNS, **{"label_col": {"name": "click"}}), verbose=0)
    assert ("set header: false" in str(error.value)) is hint
    assert ("is missing" in str(error.value)) or ("more than once" in str(error.value))


class TestOneColumn:
    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    @pytest.mark.parametrize("quote_char", ['"', None])
    def test_an_empty_line_is_a_row(self, tmp_path, end, quote_char):
        write_csv(tmp_path / "new.csv", "a\nx\n\ny\n\n".replace("\n", end))
        dialect = CsvDialect(",", quote_char)
        tables = csv_source.read_csv(tmp_path / "new.csv", ["a"], dialect)
        assert [c for t in tables for c in t["a"].to_pylist()] == ["x", "", "y", ""]

    @pytest.mark.parametrize("block", range(5, 16))
    def test_wherever_a_block_ends(self, tmp_path, monkeypatch, block):
        monkeypatch.setattr(csv_source, "BLOCK", block)
        for end in ("\n", "\r\n"):
            write_csv(tmp_path / "new.csv", "a\nx\n\n\ny\n\nz\n".replace("\n", end))
            tables = csv_source.read_csv(tmp_path / "new.csv", ["a"], CsvDialect())
            assert [c for t in tables for c in t["a"].to_pylist()] == ["x", "", "", "y", "", "z"]

    def test_what_polars_and_pandas_write(self, tmp_path):
        rows = pl.DataFrame({"a": ["x", None, "", "y", None]})
        rows.write_csv(tmp_path / "polars.csv")
        rows.to_pandas().to_csv(tmp_path / "pandas.csv", index=False)
        processor = FeatureProcessor([categorical("a")], {"name": "click"}, "d")
        processor.fit(pl.DataFrame({"click": [1, 0], "a": ["x", "y"]}))
        for name in ("polars.csv", "pandas.csv"):
            (table,) = processor.encode(str(tmp_path / name), "Score", fields=["a"])
            assert table["a"].to_pylist() == [1, 3, 3, 2, 3]

    def test_in_training_too(self, tmp_path):
        write_csv(tmp_path / "raw/click=1/p.csv", "a\nx\n\n")
        write_csv(tmp_path / "raw/click=0/p.csv", "a\n\ny")
        keys = {"train_data": str(tmp_path / "raw"), "test_size": 2}
        built = prepare_dataset(config(tmp_path, [categorical("a")], **keys), verbose=0)
        assert (read(built)["a"], read(built, "test")["a"]) == ([2, 1], [2, 2])

    def test_a_wrong_cell_is_counted_with_them(self, tmp_path):
        write_csv(tmp_path / "new.csv", "x\n\n1\n?\n")
        processor = FeatureProcessor([numeric("x")], {"name": "click"}, "d")
        processor.fit(pl.DataFrame({"click": [1], "x": [1.0]}))
        with pytest.raises(DataError, match=r"row 3 \(line 4\), column 'x': found '\?'"):
            list(processor.encode(str(tmp_path / "new.csv"), "Score", fields=["x"]))

    def test_of_two_columns_it_is_none(self, tmp_path):
        write_csv(tmp_path / "train.csv", "click,a\n1,x\n\n\r\n0,y\n\n")
        built = prepare_dataset(config(tmp_path, [categorical("a")]), verbose=0)
        assert read(built)["click"] == [1, 0]


def write_part(path, form, frame):
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "csv":
        frame.write_csv(path)
    elif form == "parquet":
        frame.write_parquet(path)
    else:
        np.savez(path, **{name: frame[name].to_numpy() for name in frame.columns})


@pytest.mark.parametrize("form", ["csv", "parquet", "npz"])
@pytest.mark.parametrize("empty", [(0,), (1,), (3,), (0, 1, 3)])
@pytest.mark.parametrize("divided", [False, True])
def test_parts_without_rows(tmp_path, monkeypatch, form, empty, divided):
    monkeypatch.setattr(sources, "FRAME_ROWS", 2)
    frame = pl.DataFrame({"click": [1, 0], "a": [7, 8]})
    # What a tool makes of no rows is often of another type.
    none = pl.DataFrame({"click": [], "a": []}, schema={"click": pl.Float64, "a": pl.Float64})
    parts = [none if number in empty else frame for number in range(4)]
    for number, part in enumerate(parts):
        write_part(tmp_path / f"raw/{number}.{form}", form, part)
    keys = {"data_format": form, "train_data": str(tmp_path / "raw")}
    keys |= {"test_size": 1} if divided else {}
    built = prepare_dataset(config(tmp_path, [categorical("a")], **keys), verbose=0)
    rows = read(built)["a"] + (read(built, "test")["a"] if divided else [])
    assert rows == [1, 2] * (4 - len(empty))


@pytest.mark.parametrize("form", ["csv", "parquet", "npz"])
@pytest.mark.parametrize("split", ["train", "valid", "divided"])
def test_a_split_without_rows_is_an_error(tmp_path, form, split):
    frame = pl.DataFrame({"click": [1, 0], "a": [7, 8]})
    write_part(tmp_path / f"train.{form}", form, frame if split == "valid" else frame[:0])
    write_part(tmp_path / f"valid.{form}", form, frame[:0])
    keys = {"data_format": form, "train_data": str(tmp_path / f"train.{form}")}
    keys |= {"test_size": 0.5} if split == "divided" else {}
    keys |= {"valid_data": str(tmp_path / f"valid.{form}")} if split == "valid" else {}
    name = "valid" if split == "valid" else "train"
    with pytest.raises(DataError, match=rf"{name}.{form}: no rows"):
        prepare_dataset(config(tmp_path, [categorical("a")], **keys), verbose=0)
    assert [path.name for path in (tmp_path / "encoded/tiny").iterdir()] == [".lock"]


def test_a_header_without_a_line_end_has_no_rows(tmp_path):
    write_csv(tmp_path / "raw/a.csv", "click,a")
    write_csv(tmp_path / "raw/b.csv", "click,a\n1,x")
    keys = {"train_data": str(tmp_path / "raw")}
    built = prepare_dataset(config(tmp_path, [categorical("a")], **keys), verbose=0)
    assert read(built)["a"] == [1]
    write_csv(tmp_path / "raw/a.csv", "klick,b")
    with pytest.raises(DataError, match=r"a.csv: column 'a' is missing"):
        prepare_dataset(config(tmp_path, [categorical("a")], **keys), verbose=0)


def test_the_first_encoded_part_may_have_no_rows(tmp_path):
    folder = tmp_path / "encoded/tiny/train"
    frame = pl.DataFrame({"h": [[1, 2], [0, 1]], "click": [1.0, 0.0]})
    write_part(folder / "part_1.parquet", "parquet", frame[:0])
    write_part(folder / "part_2.parquet", "parquet", frame)
    columns = [{"name": "h", "type": "sequence", "vocab_size": 5}]
    keys = {"rebuild_dataset": False, "train_data": None}
    encoded = prepare_dataset(config(tmp_path, columns, **keys), verbose=0)
    assert encoded.feature_map.features["h"]["max_len"] == 2


def test_the_config_takes_both_forms_of_the_key():
    assert DatasetConfig.from_params({"dataset_id": "d"}).header is True
    assert DatasetConfig.from_params({"dataset_id": "d", "header": ["a"]}).header == ["a"]
