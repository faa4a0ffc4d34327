"""Columns that most rows of a split, or of a table to score, do not share with training."""

from __future__ import annotations

import datetime
import json
import logging

import numpy as np
import polars as pl
import pytest

from fuxictr.errors import DataError
from fuxictr.preprocess import FeatureProcessor, load_encoders, prepare_dataset
from fuxictr.preprocess.columns import parallel
from fuxictr.preprocess.columns.spellings import known_spellings
from fuxictr.preprocess.columns.tally import Counts, Tally
from fuxictr.preprocess.columns.unseen import lost_columns
from fuxictr.preprocess.sources import frames as sources
from tests.preprocess.tables import categorical, config, numeric, read

DAYS = [datetime.date(2024, 1, 1), datetime.date(2024, 1, 2)]
TIMES = [datetime.datetime(2024, 1, 1), datetime.datetime(2024, 1, 2)]


def table(values, dtype=None):
    return pl.DataFrame({"click": [1, 0] * (len(values) // 2), "a": pl.Series(values, dtype=dtype)})


def build(folder, columns, form="csv", **rows):
    """Builds a dataset of tables, each one a split; a list of tables is a folder of files."""
    keys = {key: value for key, value in rows.items() if not key.endswith("_rows")}
    for name in [key.removesuffix("_rows") for key in rows if key.endswith("_rows")]:
        (folder / name).mkdir()
        tables = rows[f"{name}_rows"]
        for number, rows_of_file in enumerate(tables if isinstance(tables, list) else [tables]):
            path = folder / name / f"{number}.{form}"
            rows_of_file.write_csv(path) if form == "csv" else rows_of_file.write_parquet(path)
        keys[f"{name}_data"] = str(folder / name)
    columns = columns if isinstance(columns, list) else [columns]
    settings = config(folder, columns, data_format=form, **keys)
    return prepare_dataset(settings, verbose=0), settings


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.INFO, "fuxictr")

    def found():
        return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]

    return found


WRITTEN_OTHERWISE = {
    "a float": (["7", "8"], ["7.0", "8.0"]),
    "an integer": (["7.0", "8.0"], ["7", "8"]),
    "zeros": (["7", "8"], ["07", "08"]),
    "no zeros": (["07", "08"], ["7", "8"]),
    "blanks": (["7", "x"], ["7 ", "x "]),
    "case": (["True", "False"], ["true", "false"]),
    "midnight": (["2024-01-01", "2024-01-02"], ["2024-01-01 00:00:00", "2024-01-02 00:00:00"]),
}


@pytest.mark.parametrize("how", WRITTEN_OTHERWISE)
def test_one_warning_names_column_split_share_and_tokens_of_both_sides(how, tmp_path, warnings):
    train, test = WRITTEN_OTHERWISE[how]
    columns = [categorical("a")]
    _, settings = build(tmp_path, columns, train_rows=table(train), test_rows=table(test))
    (text,) = warnings()
    assert "dataset 'tiny': test split: " in text
    unseen, known = (" and ".join(map(repr, tokens)) for tokens in (test, train))
    assert f"column 'a': 100 % of 2 cells unseen, as {unseen} (training: 0 %, as {known})" in text
    assert f"'{test[0]}' is '{train[0]}' in training: write them alike" in text
    # A later run that reuses the encoded rows is as wrong as the first one.
    assert not prepare_dataset(settings, verbose=0).rebuilt
    assert warnings() == [text, text]


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_in_int_columns_whole_floats_and_integers_are_one_token(form, order, tmp_path, warnings):
    both = [table([7, 8, 7, 9]), table([7.0, 8.0, 7.0, 9.0])][:: 1 - 2 * order]
    columns = [categorical("a", dtype="int"), categorical("b", dtype="int")]
    both = [rows.with_columns(b=pl.col("a")) for rows in both]
    columns[1]["share_embedding"] = "a"
    built, _ = build(tmp_path, columns, form, train_rows=both, test_rows=both[1])
    assert warnings() == []
    assert read(built)["a"] == [1, 2, 1, 3] * 2
    assert read(built, "test")["b"] == [1, 2, 1, 3]
    vocabulary = json.loads((built.paths["train"].parent / "feature_vocab.json").read_text())
    assert list(vocabulary["a"]) == ["__PAD__", "7", "8", "9", "__OOV__"]


@pytest.mark.parametrize(
    ("values", "twins"),
    [
        (["7", "8", "7.0", "8.0"], "'7.0' and '7'"),
        (["7", "8", "9.0", "11.0"], "'11.0' and '7'"),
        (["True", "False", "true", "False"], "'true' and 'True'"),
        (["x", "y", "x ", "y"], "'x ' and 'x'"),
        (["7", "8", "07", "08"], "'7' and '07'"),
        (["2024-01-01", "2024-01-02", "2024-01-01 00:00:00", "2024-01-02 00:00:00"], "-01 00:00"),
        (["Apple", "Pear", "apple", "pear"], "'apple' and 'Apple'"),
        (["True", "False", "1", "0"], "'False' and '0'"),
        (["1000", "2000", "1e3", "2e3"], "'1e3' and '1000'"),
        (["7", "8", "x", "y", "7.0", "8.0"], "'7.0' and '7'"),
    ],
)
def test_two_spellings_in_training_are_warned_of(values, twins, tmp_path, warnings):
    files = [table(values[:2]), table(values[2:])]
    build(tmp_path, categorical("a"), train_rows=files)
    (text,) = warnings()
    assert "column 'a': the training split has" in text and twins in text
    assert "dtype: int" in text


@pytest.mark.parametrize(
    "values",
    [
        ["7", "7.0", "7.0.1", "8", "8.1.2", "8.2.1", "9", "9.0"],  # versions
        ["1", "1.0", "1.1", "2", "2.0", "1"],  # versions too
        ["7", "8.0", "9.5", "10.25"],  # prices
        ["01234", "1234", "x", "y"],
        ["a b", "ab", "a", "b "],
        ["True", "true", "TRUE story", "x"],  # texts
    ],
)
def test_values_that_differ_are_no_spellings(values, tmp_path, warnings):
    build(tmp_path, categorical("a"), train_rows=table(values))
    assert warnings() == []


def test_two_spellings_in_columns_that_share_a_table_are_warned_of(tmp_path, warnings):
    columns = [categorical("a"), categorical("b", share_embedding="a")]
    rows = table(["7", "8"]).with_columns(b=pl.Series(["7.0", "8.0"]))
    build(tmp_path, columns, train_rows=rows)
    (text,) = warnings()
    assert "column 'a': the training split has '7.0' and '7'" in text


def test_minus_zero_is_zero(tmp_path, warnings):
    rows = table(["0.0", "-0.0", "1.5", "-0"])
    built, _ = build(tmp_path, categorical("a", dtype="float"), train_rows=rows)
    assert read(built)["a"] == [1, 1, 2, 1]


SPELLED = [
    ("1000", "1e3"),
    ("1000", "1,000"),
    ("x", '"x"'),
    ("x", "\ufeffx"),
    ("2024-01-01", "20240101"),
    ("2024-01-01", "2024/01/01"),
    ("2024-01-01", "2024-1-1"),
    *(("True", other) for other in ("1", "1.0", "t", "yes")),
]


@pytest.mark.parametrize(
    ("known", "other"), [*SPELLED, *((b, a) for a, b in SPELLED[1:3] + SPELLED[4:7])]
)
def test_other_spellings_of_known_tokens_are_found(known, other):
    found = known_spellings(
        pl.Series([other, "new"]), lambda texts: (texts == known).fill_null(False).to_numpy()
    )
    assert found.to_list() == [known, None]


def test_one_new_token_does_not_hide_those_written_otherwise(tmp_path, warnings):
    train = table(["7", "8"] * 200)
    test = table(["9.0", "7", *["7", "8"] * 29, *["7.0", "8.0"] * 20])
    build(tmp_path, categorical("a"), train_rows=train, test_rows=test)
    (text,) = warnings()
    assert "41 % of 100 cells unseen, as '7.0' and '8.0'" in text


@pytest.mark.parametrize(
    ("known", "others"),
    [(("Ab", "Cd"), ("ab", "cd")), (("x", "y"), ("x ", "y ")), (DAYS, TIMES)],
)
def test_a_part_of_texts_that_is_written_otherwise(known, others, tmp_path, warnings):
    train = table([str(v) for v in known] * 100)
    test = table([str(v) for v in [*[*known] * 30, *[*others] * 20]])
    build(tmp_path, categorical("a"), train_rows=train, test_rows=test)
    (text,) = warnings()
    assert "40 % of 100 cells unseen" in text and "write them alike" in text


@pytest.mark.parametrize(("share", "is_said"), [(10, False), (40, True)])
def test_a_part_of_a_split_that_is_written_otherwise(share, is_said, tmp_path, warnings):
    values = [str(number % 10) for number in range(200)]
    others = [f"{value}.0" for value in values[:share]] + values[share:]
    build(tmp_path, categorical("a"), train_rows=table(values), test_rows=table(others))
    assert [f"{share / 2:g} % of 200 cells unseen" in text for text in warnings()] == [
        True
    ] * is_said


def test_dates_and_moments_are_kinds_of_their_own(tmp_path, warnings):
    with pytest.raises(DataError, match="column 'a': found date and time values, but date values"):
        build(tmp_path, categorical("a"), "parquet", train_rows=table(DAYS), test_rows=table(TIMES))


@pytest.mark.parametrize("units", ["ms us", "us ns", "ns ms"])
def test_a_moment_is_one_token_in_all_units(units, tmp_path, warnings):
    train, test = (table(TIMES, pl.Datetime(unit)) for unit in units.split())
    built, _ = build(tmp_path, categorical("a"), "parquet", train_rows=train, test_rows=test)
    assert read(built, "test")["a"] == [1, 2]
    assert warnings() == []


@pytest.mark.parametrize(
    "column",
    [
        categorical("a"),
        numeric("a"),
        categorical("a", category_processor="hash_bucket"),
        categorical("a", category_processor="quantile_bucket", dtype="float"),
        {"name": "a", "type": "sequence", "splitter": "|"},
        {"name": "a", "type": "embedding", "splitter": "|"},
    ],
)
def test_an_empty_column_of_a_split_is_warned_of(column, tmp_path, warnings):
    rows = {"train_rows": table(["7", "8"]), "valid_rows": table(["7", "8"])}
    build(tmp_path, column, **rows, test_rows=table([None, None], pl.String))
    (text,) = warnings()
    assert "test split: " in text
    assert "column 'a': 100 % of 2 cells missing (training: 0 %)" in text


def test_sequences_and_shared_vocabularies_are_counted_by_element(tmp_path, warnings, caplog):
    columns = [
        categorical("a"),
        {"name": "h", "type": "sequence", "splitter": "|", "share_embedding": "a"},
    ]
    train = table(["7", "8"]).with_columns(h=pl.Series(["7|8", "9"]))
    test = table(["7", "9"]).with_columns(h=pl.Series(["7.0|8.0|9", ""]))
    build(tmp_path, columns, train_rows=train, test_rows=test)
    (text,) = warnings()
    assert "column 'h': 50 % of 4 cells unseen, as '7.0' and '8.0'" in text
    assert "and 25 % of 4 cells missing" in text
    lines = caplog.text.splitlines()
    start = next(i for i, line in enumerate(lines) if "Share of __OOV__ cells" in line)
    assert "train, test" in lines[start]
    assert [line.split() for line in lines[start + 1 : start + 3]] == [
        ["a", "0.00", "%", "0.00", "%"],
        ["h", "0.00", "%", "75.00", "%"],
    ]


class TestHashBuckets:
    """Buckets have no unseen tokens, but rows written otherwise than in training are as lost."""

    column = categorical("a", category_processor="hash_bucket", num_buckets=1000)

    @pytest.mark.parametrize("size", [4, 5000])
    def test_tokens_written_otherwise_are_warned_of(self, size, tmp_path, warnings):
        tokens = [str(number % size) for number in range(20_000)]
        test = table([*(f"{token}.0" for token in tokens[:750]), *tokens[:250]])
        _, settings = build(tmp_path, self.column, train_rows=table(tokens), test_rows=test)
        (text,) = warnings()
        assert ("as '0.0' and '1.0' (training: 0 %, as '0' and '1')" in text) == (size == 4)
        share = float(text.split("column 'a': ")[1].split(" %")[0])
        assert share == pytest.approx(75, abs=0 if size == 4 else 6)
        loaded, encoded = load_encoders(settings)
        assert encoded.trained["a"].unseen == 0
        tally = Tally(["rows"])
        list(loaded.encode(test.select("a"), "Score", fields=["a"], tallies={"a": tally}))
        found = {"a": tally.counts["rows"]}
        assert "column 'a'" in str(lost_columns(loaded.columns, encoded.trained, found, True))

    def test_of_sound_rows_none_is_said(self, tmp_path, warnings):
        rng = np.random.default_rng(0)
        for number, high in enumerate((20, 3000)):
            (tmp_path / str(number)).mkdir()
            tokens = [f"ip{value}" for value in rng.integers(0, high, 3000)]
            rows = {"train_rows": table(tokens[:2000]), "test_rows": table(tokens[2000:])}
            build(tmp_path / str(number), self.column, **rows)
        assert warnings() == []

    def test_the_value_for_missing_is_read_as_the_cells_are(self):
        column = {**self.column, "dtype": "float", "fill_na": 7}
        rows = pl.DataFrame({"click": [1, 0], "a": ["7.0", ""]})
        found = FeatureProcessor([column], {"name": "click"}, "d").fit(rows).transform(rows)["a"]
        assert found[0] == found[1]


@pytest.mark.parametrize(
    ("known", "other", "is_said"),
    [
        ("{:04}-x", "{:04}x", True),
        ("{}", "id{}", True),
        ("{}", "{}", False),  # new ids, one digit longer
        ("ip{}", "ip{}", False),
    ],
)
@pytest.mark.parametrize("processor", [None, "hash_bucket"])
def test_tokens_that_come_once_are_lost_where_they_look_otherwise(
    known, other, is_said, processor, tmp_path, warnings
):
    column = categorical("a", category_processor=processor)
    train = table([known.format(number) for number in range(900, 1020)])
    test = table([other.format(number) for number in range(9990, 10110)])
    build(tmp_path, column, train_rows=train, test_rows=test)
    assert len(warnings()) == is_said


def test_a_threshold_above_every_count_is_said(tmp_path, warnings):
    build(tmp_path, categorical("a"), train_rows=table(["7", "7", "8", "9"]), min_categr_count=3)
    (text,) = warnings()
    assert "column 'a': all 4 cells of the training split are OOV" in text
    assert "'min_categr_count': found 3, but no token occurs more than 2 times ('7')" in text


@pytest.mark.parametrize("how", ["sequential", "random"])
def test_rows_divided_by_share_are_counted_by_split(how, tmp_path, monkeypatch, warnings):
    monkeypatch.setattr(sources, "FRAME_ROWS", 7)
    values = [f"t{number % 5}" for number in range(40)]
    if how == "sequential":
        values[-10:] = [f"{value}.0" for value in values[-10:]]
    keys = {"valid_size": 10, "test_size": 10, "split_type": how, "train_rows": table(values)}
    built, _ = build(tmp_path, categorical("a"), **keys)
    cells = json.loads((built.paths["train"].parent / "cache_key.json").read_text())["cells"]
    unseen = {split: (found["a"]["cells"], found["a"]["unseen"]) for split, found in cells.items()}
    lost = 10 if how == "sequential" else 0
    assert unseen == {"train": (20, 0), "valid": (10, 0), "test": (10, lost)}
    assert len(warnings()) == (how == "sequential")


def test_counts_equal_a_plain_loop_whatever_the_frames_and_workers(tmp_path, monkeypatch):
    rng = np.random.default_rng(3)
    draw = [None if v == 3 else f"t{v}" for v in rng.zipf(1.5, 400) % 40]
    train, test = table(draw[:300]), table(draw[300:])
    found = []
    for number, (rows, workers) in enumerate([(1000, 1), (7, 1), (7, 4)]):
        monkeypatch.setattr(sources, "FRAME_ROWS", rows)
        monkeypatch.setattr(parallel, "usable_cpus", lambda workers=workers: workers)
        (tmp_path / str(number)).mkdir()
        split = {"train_rows": train, "test_rows": test, "min_categr_count": 2}
        built, settings = build(tmp_path / str(number), [categorical("a")], **split)
        key = json.loads((built.paths["train"].parent / "cache_key.json").read_text())
        found.append(key["cells"])
    assert found[0] == found[1] == found[2]
    ids = {split: read(built, split)["a"] for split in ("train", "test")}
    oov = built.feature_map.features["a"]["oov_idx"]
    for split, values in (("train", draw[:300]), ("test", draw[300:])):
        counts = Counts(**found[0][split]["a"])
        assert counts.cells == len(values)
        assert counts.missing == sum(value is None for value in values)
        assert counts.missing + counts.unseen == ids[split].count(oov)
    lasting = [v for v in draw[:300] if v is not None and draw[:300].count(v) > 2]
    assert found[0]["train"]["a"]["lasting"] == len(lasting)
    assert load_encoders(settings)[1].trained["a"] == Counts(**found[0]["train"]["a"])


class TestSoundRuns:
    """No warning where nothing is wrong."""

    def test_addresses_of_which_most_are_rare(self, tmp_path, warnings):
        rng = np.random.default_rng(0)
        for number, min_count in enumerate((1, 2)):
            folder = tmp_path / str(number)
            folder.mkdir()
            ips = [f"ip{value}" for value in rng.integers(0, 1500, 1600)]
            train, test = table(ips[:1200]), table(ips[1200:])
            keys = {"train_rows": train, "test_rows": test, "min_categr_count": min_count}
            _, settings = build(folder, categorical("a"), **keys)
            cells = load_encoders(settings)[1].trained["a"]
            assert (cells.known == 1) == (min_count == 1)
        assert warnings() == []

    @pytest.mark.parametrize("rows", [1, 5, 20])
    def test_few_rows_of_visitors_who_come_once(self, rows, tmp_path, warnings):
        visitors = [f"v{number}" for number in range(400)] + [f"w{n % 20}" for n in range(100)]
        test = table([f"x{number}" for number in range(2 * rows)])
        build(tmp_path, categorical("a"), train_rows=table(visitors), test_rows=test)
        assert len(warnings()) == (rows == 20)

    def test_a_few_new_ids_and_many_missing_cells(self, tmp_path, warnings):
        values = [str(v % 30) if v % 5 else None for v in range(100)]
        fresh = ["new1", "new2", *values[2:40]]
        train = table(values).with_columns(b=pl.Series([None, "x"] * 50))
        valid = table(fresh).with_columns(b=pl.Series([None, "x", None, None] * 10))
        columns = [categorical("a"), categorical("b")]
        build(tmp_path, columns, train_rows=train, valid_rows=valid)
        assert warnings() == []


def said_of_scored(values):
    """What is said of rows to score by a processor that was fitted to 7, 8 and 9."""
    trained = ["7", "8", "9", "7"] * 100
    processor = FeatureProcessor([categorical("a")], {"name": "click"}, "d").fit(table(trained))
    tally = Tally(["rows"])
    frame = pl.DataFrame({"a": pl.Series(values, dtype=pl.String)})
    list(processor.encode(frame, "Score", fields=["a"], tallies={"a": tally}))
    known = {"a": Counts(cells=len(trained), lasting=len(trained))}
    return lost_columns(processor.columns, known, {"a": tally.counts["rows"]}, is_scoring=True)


@pytest.mark.parametrize(
    ("values", "is_said"),
    [
        (["7.0"], True),  # a known one written otherwise, be it one row
        (["new"], False),
        (["new"] * 500, False),  # one new user and all items
        ([f"new{i}" for i in range(19)], False),
        ([f"new{i}" for i in range(20)], True),
        ([f"new{i}" for i in range(20)] + ["7"] * 20, False),
        ([None] * 999, False),
        ([None] * 1000, True),
    ],
)
def test_a_handful_of_rows_to_score_gives_no_false_alarm(values, is_said):
    assert (said_of_scored(values) is not None) == is_said
