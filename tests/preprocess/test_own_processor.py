"""A dataset's own FeatureProcessor, and when what it made is stale."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fuxictr.errors import ConfigError, DataError
from fuxictr.preprocess import FeatureProcessor, load_encoders, prepare_dataset
from tests.preprocess.tables import categorical, config, read, write_csv

ROOT = Path(__file__).parents[2]
OWN = """
import polars as pl
from fuxictr.preprocess import FeatureProcessor as Base


class FeatureProcessor(Base):
    def first_letter(self, col_name=None):
        return pl.col("c").str.head(1)

    def by_loop(self, col_name=None):
        return pl.col("c").map_elements(lambda text: text[-1], return_dtype=pl.String)

    def fails(self, col_name=None):
        return pl.col("c").map_elements(lambda text: text[9], return_dtype=pl.String)

    def no_expression(self, col_name=None):
        return 3


class Other(Base):
    def first_letter(self, col_name=None):
        return pl.lit("z")
"""


@pytest.fixture
def folder(tmp_path):
    write_csv(tmp_path / "train.csv", "click,c\n1,ax\n0,ay\n1,bx\n")
    write_csv(tmp_path / "own.py", OWN)
    return tmp_path


def build(folder, *functions, processor="own.py"):
    columns = [categorical(name, preprocess=name) for name in functions]
    return prepare_dataset(config(folder, columns, processor=processor), folder, verbose=0)


def test_functions_are_found_by_name(folder):
    built = build(folder, "first_letter", "by_loop")
    assert read(built)["first_letter"] == [1, 1, 2]
    assert read(built)["by_loop"] == [1, 2, 1]
    assert set(read(build(folder, "first_letter", processor="own.py:Other"))["first_letter"]) == {1}


@pytest.mark.parametrize(
    ("function", "processor", "kind", "message"),
    [
        ("frist_letter", "own.py", ConfigError, "no function 'frist_letter'; did you mean 'first"),
        ("first_letter", "none.py", ConfigError, "key 'processor': found 'none.py': no such file"),
        ("first_letter", "own.py:Nobody", ConfigError, "found no class 'Nobody'"),
        ("first_letter", "own.py:pl", ConfigError, "found no class 'pl'"),
        ("no_expression", "own.py", ConfigError, "returned int, allowed: a polars expression"),
        (
            "fails",
            "own.py",
            DataError,
            "row 1 .*column 'fails': its preprocess function 'fails' failed",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(folder, function, processor, kind, message):
    with pytest.raises(kind, match=message):
        build(folder, function, processor=processor)


def test_a_file_that_cannot_be_imported_says_why(folder):
    write_csv(folder / "own.py", "import nothing_of_this_name\n")
    with pytest.raises(ConfigError, match="own.py: cannot be imported: ModuleNotFoundError"):
        build(folder, "first_letter")


def test_a_changed_function_is_a_reason_to_rebuild(folder, caplog):
    caplog.set_level("INFO")
    build(folder, "by_loop")
    assert not build(folder, "by_loop").rebuilt
    write_csv(folder / "own.py", OWN.replace("text[-1]", "text[0]"))
    built = build(folder, "by_loop")
    assert built.rebuilt
    assert "the config changed (processor)" in caplog.text
    assert read(built)["by_loop"] == [1, 1, 2]


def test_encoders_are_not_used_with_a_changed_function(folder):
    columns = [categorical("by_loop", preprocess="by_loop")]
    settings = config(folder, columns, processor="own.py")
    prepare_dataset(settings, folder, verbose=0)
    assert load_encoders(settings, folder)[0].feature_map is not None
    write_csv(folder / "own.py", OWN.replace("text[-1]", "text[0]"))
    with pytest.raises(DataError, match=r"another config \(processor\)"):
        load_encoders(settings, folder)


HELPED = """
import sys
import warnings
from pathlib import Path
import polars as pl
from fuxictr.preprocess import FeatureProcessor as Base
HERE = Path(__file__).parent
SEEN = {}
TABLE = dict(line.split() for line in (HERE / "table.txt").read_text().splitlines())


class FeatureProcessor(Base):
    def look_up(self, col_name=None):
        return pl.col("c").map_elements(lambda text: TABLE[text], return_dtype=pl.String)

    def by_hash(self, col_name=None):
        by_hash = lambda text: str(hash(text) % 1000003)
        return pl.col("c").map_elements(by_hash, return_dtype=pl.String)

    def in_order(self, col_name=None):
        number = lambda text: SEEN.setdefault(text, len(SEEN))
        return pl.col("c").map_elements(number, return_dtype=pl.Int64)

    def length(self, col_name=None):
        return pl.col("c").map_elements(lambda text: len(text), return_dtype=pl.Int64)
"""


def test_a_changed_table_of_a_function_is_seen(folder, caplog):
    caplog.set_level("INFO")
    write_csv(folder / "own.py", HELPED)
    write_csv(folder / "table.txt", "ax 1\nay 2\nbx 2\n")
    settings = config(folder, [categorical("look_up", preprocess="look_up")], processor="own.py")
    assert prepare_dataset(settings, folder, verbose=0).rebuilt
    assert not prepare_dataset(settings, folder, verbose=0).rebuilt
    assert load_encoders(settings, folder)[0].feature_map is not None
    write_csv(folder / "table.txt", "ax 1\nay 1\nbx 2\n")
    with pytest.raises(DataError, match="column 'look_up'.*gave '2' for a row and gives '1' now"):
        load_encoders(settings, folder)
    built = prepare_dataset(settings, folder, verbose=0)
    assert built.rebuilt
    assert read(built)["look_up"] == [1, 1, 2]
    assert "column 'look_up': its preprocess function gave '2' for a row" in caplog.text


def test_numbers_in_the_order_of_a_module_are_refused(folder):
    write_csv(folder / "own.py", HELPED)
    write_csv(folder / "table.txt", "")
    with pytest.raises(DataError, match="column 'in_order'.*allowed: what depends on its own row"):
        build(folder, "in_order")
    assert not (folder / "encoded" / "tiny" / "cache_key.json").exists()


def test_values_of_one_process_are_refused_in_the_next(folder):
    code = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from fuxictr.preprocess import load_encoders, prepare_dataset
from tests.preprocess.tables import categorical, config

columns = [categorical("by_hash", preprocess="by_hash")]
settings = config(Path(sys.argv[2]), columns, processor="own.py")
prepare_dataset(settings, sys.argv[2], verbose=0)
"""
    write_csv(folder / "own.py", HELPED)
    write_csv(folder / "table.txt", "")
    run = [sys.executable, "-c", code, str(ROOT), str(folder)]
    subprocess.run(run, check=True, env={**os.environ, "PYTHONHASHSEED": "5"})
    settings = config(folder, [categorical("by_hash", preprocess="by_hash")], processor="own.py")
    with pytest.raises(DataError, match="column 'by_hash'.*it depends on the process"):
        load_encoders(settings, folder)


@pytest.mark.filterwarnings("error")
def test_a_loop_over_cells_is_no_reason_to_warn(folder):
    write_csv(folder / "own.py", HELPED)
    write_csv(folder / "table.txt", "")
    assert read(build(folder, "length"))["length"] == [1, 1, 1]


def test_a_class_without_a_file_is_known_by_its_code(folder):
    code = """
import sys
sys.path.insert(0, sys.argv[1])
import polars as pl
from fuxictr.preprocess import FeatureProcessor, prepare_dataset
from tests.preprocess.tables import categorical, config
from pathlib import Path

class Mine(FeatureProcessor):
    def letter(self, col_name):
        return pl.col("c").map_elements(lambda text: text[PLACE], return_dtype=pl.String)

settings = config(Path(sys.argv[2]), [categorical("letter", preprocess="letter")])
print(prepare_dataset(settings, processor_class=Mine, verbose=0).rebuilt)
"""

    def rebuilt(place):
        run = [sys.executable, "-c", code.replace("PLACE", place), str(ROOT), str(folder)]
        return subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()

    assert [rebuilt("0"), rebuilt("0"), rebuilt("1")] == ["True", "False", "True"]


def test_a_full_hash_sees_what_a_sample_cannot(folder):
    rows = "".join(f"{i % 2},{'ab'[i % 2]}{'x' * 20}\n" for i in range(20_000))
    write_csv(folder / "train.csv", "click,c\n" + rows)
    stat = os.stat(folder / "train.csv")

    def build_with(source_hash):
        keys = {"source_hash": source_hash}
        return prepare_dataset(config(folder, [categorical("c")], **keys), folder, verbose=0)

    for source_hash, sees in (("full", True), ("sample", False)):
        build_with(source_hash)
        assert not build_with(source_hash).rebuilt
        text = (folder / "train.csv").read_bytes()
        place = len(text) // 4
        write_csv(folder / "train.csv", text[:place] + text[place:].replace(b"xa", b"xb", 1))
        text = text[:place] + text[place:].replace(b"x", b"w", 1)
        write_csv(folder / "train.csv", text)
        os.utime(folder / "train.csv", ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert build_with(source_hash).rebuilt is sees


def test_a_full_hash_does_not_mind_a_copy(folder):
    keys = {"source_hash": "full"}
    prepare_dataset(config(folder, [categorical("c")], **keys), folder, verbose=0)
    os.utime(folder / "train.csv")
    again = prepare_dataset(config(folder, [categorical("c")], **keys), folder, verbose=0)
    assert not again.rebuilt


class TestLoadedEncoders:
    columns = (
        categorical("c", min_categr_count=1),
        {"name": "h", "type": "sequence", "splitter": "|", "max_len": 3},
        {"name": "v", "type": "embedding", "splitter": "|"},
        {"name": "x", "type": "numeric", "dtype": "float", "normalizer": "MinMaxScaler"},
        {"name": "q", "dtype": "float", "category_processor": "quantile_bucket"},
        {"name": "own", "remap": False},
    )
    text = "click,c,h,v,x,q,own\n1,a,a|b,1|2,3,1,7\n0,b,c,3|4,5,2,2\n"

    def test_they_encode_as_the_fitted_ones_without_the_raw_files(self, tmp_path):
        write_csv(tmp_path / "train.csv", self.text)
        settings = config(tmp_path, list(self.columns))
        built = prepare_dataset(settings, verbose=0)
        rows = (tmp_path / "train.csv").rename(tmp_path / "gone.csv")
        processor, encoded = load_encoders(settings)
        assert processor.transform(str(rows)).to_dict(as_series=False) == read(built)
        assert encoded.encoders_hash == built.encoders_hash != ""

    def test_another_config_or_no_build_is_refused(self, tmp_path):
        settings = config(tmp_path, list(self.columns))
        with pytest.raises(DataError, match="no dataset that was encoded here"):
            load_encoders(settings)
        write_csv(tmp_path / "train.csv", self.text)
        prepare_dataset(settings, verbose=0)
        other = config(tmp_path, list(self.columns), min_categr_count=3)
        with pytest.raises(DataError, match=r"another config \(min_categr_count\); train the exp"):
            load_encoders(other)

    def test_labels_are_not_needed(self, tmp_path):
        write_csv(tmp_path / "train.csv", self.text)
        settings = config(tmp_path, list(self.columns))
        prepare_dataset(settings, verbose=0)
        processor: FeatureProcessor = load_encoders(settings)[0]
        write_csv(tmp_path / "new.csv", "own,c,h,v,x,q\n9,z,b|z,,,\n")
        fields = [column.name for column in processor.columns]
        (table,) = processor.encode(str(tmp_path / "new.csv"), "Score", fields=fields)
        row = {name: values[0] for name, values in table.to_pydict().items()}
        assert row["c"] == 3
        assert row["h"] == [2, 4, 0]
        assert row["v"] == [0, 0]
        assert row["own"] == 8
        assert row["q"] == 11
