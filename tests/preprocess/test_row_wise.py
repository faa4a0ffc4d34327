"""A preprocess function gives a row its value from that row alone, or is refused."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from fuxictr.errors import ConfigError, DataError
from fuxictr.preprocess import FeatureProcessor, prepare_dataset
from fuxictr.preprocess.sources import frames as sources
from tests.preprocess.tables import categorical, config, write_csv

X, N = pl.col("x"), pl.col("n")
COLUMNS = [{"name": "x", "dtype": "float", "active": False}, {"name": "n", "active": False}]


def own(expression):
    """A processor whose function ``f`` is an expression."""

    class Own(FeatureProcessor):
        def f(self, col_name):
            return expression

    columns = [*COLUMNS, categorical("made", preprocess="f", fill_na="none")]
    return Own(columns, {"name": "click", "dtype": "float"}, "d")


def table(x, n=None):
    n = n if n is not None else [f"n{i}" for i in range(len(x))]
    click = [i % 2 for i in range(len(x))]
    return pl.DataFrame({"click": click, "x": x, "n": n}, schema_overrides={"x": pl.Float64})


BEYOND = {
    "count of a value": pl.len().over("n"),
    "count of rows": X * 0 + pl.len(),
    "number of the row": pl.int_range(pl.len()),
    "above the mean": X > X.mean(),
    "scaled": (X - X.min()) / (X.max() - X.min()),
    "a mean of a group": X.mean().over("n"),
    "shift": X.shift(1),
    "shift, filled": X.shift(1).fill_null(X),
    "shift back": X.shift(-1),
    "diff": X.diff(),
    "rank": X.rank(),
    "dense rank": N.rank("dense"),
    "cum_count": X.cum_count(),
    "cum_sum": X.cum_sum(),
    "count so far of a value": N.cum_count().over("n"),
    "rolling": X.rolling_mean(2),
    "sort": X.sort(),
    "sorted by": N.sort_by("x", descending=True),
    "reverse": X.reverse(),
    "ids of values": N.rle_id(),
    "duplicated": N.is_duplicated(),
    "first of its value": N.is_first_distinct(),
    "most frequent": N == N.mode().first(),
    "shuffled": X.shuffle(seed=1),
    "sample": X.sample(fraction=1.0, with_replacement=True, seed=3),
    "a constant of the column": X.sum(),
    "only some rows": pl.when(X.len() > 1).then(X.sample(1)).otherwise(X.head(1)),
    "above a quantile": X > X.quantile(0.4),
    "filled forward": pl.when(X > 2).then(N).forward_fill().fill_null("none"),
    "a batch in Python": X.map_batches(lambda s: s - s.mean(), return_dtype=pl.Float64),
    "random": X.map_batches(lambda s: s * np.random.rand(len(s)), return_dtype=pl.Float64),
}


@pytest.mark.parametrize("name", BEYOND)
@pytest.mark.parametrize("size", [2, 3, 60, 3000])
def test_what_looks_beyond_its_row_is_refused(name, size):
    rng = np.random.default_rng(size)
    x = [1.0, 3.0, 2.0, 4.0, 4.0][:size] if size < 9 else rng.normal(size=size).round(2) * 3
    n = ["a", "b", "a", "c", "d"][:size] if size < 9 else rng.integers(0, size // 3, size)
    message = r"row \d+, column 'made': its preprocess function 'f' depends on other rows: it "
    with pytest.raises(DataError, match=message):
        own(BEYOND[name]).fit(table(x, [str(value) for value in n]))


@pytest.mark.parametrize(
    "name", ["count of a value", "rank", "cum_count", "shift", "diff", "scaled"]
)
def test_one_row_is_enough_for_most(name):
    with pytest.raises(DataError, match="depends on other rows"):
        own(BEYOND[name]).fit(table([2.0]))


NUMBER = N.cast(pl.Float64, strict=False)
OF_RARE_ROWS = {
    "filled with the mean": NUMBER.fill_null(NUMBER.mean()),
    "filled with the rounded mean": NUMBER.fill_null(NUMBER.mean().floor()),
    "filled with the median": NUMBER.fill_null(NUMBER.median()),
    "filled by strategy": NUMBER.fill_null(strategy="mean"),
    "filled with the mode": pl.when(N == "").then(X.mode().max()).otherwise(X),
    "interpolated": NUMBER.interpolate(),
    "filled forward": NUMBER.forward_fill(),
    "filled backward": NUMBER.backward_fill(),
    "clipped": NUMBER.clip(NUMBER.quantile(0.001), NUMBER.quantile(0.999)),
    "count where missing": pl.when(NUMBER.is_null()).then(pl.len()).otherwise(0),
}


@pytest.mark.parametrize("cell", ["", "oops", None])
@pytest.mark.parametrize("name", OF_RARE_ROWS)
def test_what_looks_beyond_rare_rows_only_is_refused(name, cell):
    n: list[str | None] = [str(i) for i in range(5000)]
    n[3123], n[3124], n[4001] = cell, cell, cell
    rows = table([float(i % 5) for i in range(5000)], n)
    with pytest.raises(DataError, match="depends on other rows"):
        own(OF_RARE_ROWS[name]).fit(rows)
    if "clipped" not in name:  # missing cells may come later
        with pytest.raises(DataError, match="depends on other rows"):
            own(OF_RARE_ROWS[name]).fit(table([2.0, 1.0, 3.0] * 20, ["1", "2", "3"] * 20))


def test_rare_rows_of_any_frame_are_looked_at(monkeypatch):
    monkeypatch.setattr(sources, "FRAME_ROWS", 1500)
    n = [f"n{i}" for i in range(6000)]
    n[4200] = "n8888888"
    forward = pl.when(N != "n8888888").then(N).forward_fill()
    with pytest.raises(DataError, match=r"row \d+, column 'made'.*depends on other rows"):
        own(forward).fit(table([1.0] * 6000, n))


def guess(value):
    return None if value < 0.1 else math.log(value)


ROW_WISE = {
    "arithmetic": (X * 3 + 1).sqrt() / 7,
    "log": X.abs().log(),
    "not a number": X / X * (X - X),
    "null": pl.when(X > 1).then(X),
    "text": N.str.slice(1) + "|" + X.cast(pl.String),
    "hash": N.hash(7) % 100,
    "number of a text": N.str.extract(r"(\d+)").cast(pl.Int64, strict=False),
    "two columns": pl.concat_str("n", "x", separator="_"),
    "literal": pl.lit("z"),
    "map": N.replace_strict({"n1": 1}, default=0),
    "by loop": N.map_elements(lambda text: text[-1], return_dtype=pl.String),
    "by loop, of a guessed type": X.abs().map_elements(guess),
    "by loop, fails on an empty text": N.map_elements(lambda t: t[0], return_dtype=pl.String),
    "a batch": X.map_batches(lambda s: np.log1p(np.abs(s)), return_dtype=pl.Float64),
    "float32": X.cast(pl.Float32) / 3,
    "list": pl.concat_list("x", "x").list.max(),
    "category": N.cast(pl.Categorical).cast(pl.String),
    "date": N.str.to_date("%Y", strict=False).dt.year(),
    "bool": X.is_between(0, 1),
    "filled with a constant": N.cast(pl.Float64, strict=False).fill_null(-1),
    "filled with another column": N.str.slice(1).cast(pl.Float64, strict=False).fill_null(X),
    "clipped at constants": X.clip(-1, 1),
    "where missing": pl.when(N == "").then(pl.lit("none")).otherwise(N),
    "coalesced": pl.coalesce(N.str.extract(r"(9)$"), pl.lit("no")),
    "parts": N.str.split("1").list.first(),
    "two numbers": pl.mean_horizontal("x", X * 2),
}


@pytest.mark.filterwarnings("ignore::polars.exceptions.PolarsInefficientMapWarning")
@pytest.mark.filterwarnings("ignore::polars.exceptions.MapWithoutReturnDtypeWarning")
@pytest.mark.parametrize("name", ROW_WISE)
@pytest.mark.parametrize("size", [1, 2, 3, 2000])
def test_a_function_of_the_row_is_not_refused(name, size, monkeypatch):
    monkeypatch.setattr(sources, "FRAME_ROWS", 700)
    x = np.random.default_rng(size).normal(size=size)
    x[::7] = 0
    rows = table(x, [f"n{i % 90}" for i in range(size)])
    processor = own(ROW_WISE[name]).fit(rows)
    assert processor.transform(rows).height == size


def test_what_shows_in_a_later_frame_only_is_refused_there(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "FRAME_ROWS", 20)
    for name, expression in {
        "above the mean": X > X.mean(),
        "filled forward": X.cast(pl.Int64).cast(pl.String).replace("2", None).forward_fill(),
    }.items():
        rows = table([0.0] * 25 + [2.0, 1.0] * 5, ["same"] * 35)
        with pytest.raises(DataError, match="row (2[1-9]|3[0-9]), column 'made'.*depends on other"):
            own(expression).fit(rows)
        assert own(expression).fit(rows[:20]).transform(rows[:20]).height == 20, name


def test_numbers_of_values_met_before_are_refused():
    class Own(FeatureProcessor):
        def f(self, col_name):
            ids = {}
            by_id = lambda text: ids.setdefault(text, len(ids))  # noqa: E731
            return N.map_elements(by_id, return_dtype=pl.Int64)

    columns = [*COLUMNS, categorical("made", preprocess="f")]
    with pytest.raises(DataError, match=r"row \d, column 'made'.*depends on other rows"):
        Own(columns, {"name": "click"}, "d").fit(table([1.0, 2.0, 3.0]))
    for expression in (
        N.cast(pl.Categorical).to_physical(),
        N.cast(pl.Categorical).fill_null("a").to_physical() % 7,
        N.cast(pl.Categorical).cast(pl.UInt32),
    ):
        with pytest.raises(ConfigError, match="column 'made'.*'f' takes the number of a category"):
            own(expression)
    of_enum = N.cast(pl.Enum(["n0", "n1"])).to_physical()
    assert own(of_enum).fit(table([1.0, 2.0])).feature_map is not None


def test_a_function_that_drops_rows_elsewhere_is_refused():
    with pytest.raises(DataError, match="'f' depends on other rows: it fails where other rows are"):
        own(X.unique(maintain_order=True)).fit(table([2.0, 1.0, 3.0]))
    with pytest.raises(DataError, match="function 'f' gave 2 values, allowed: 3, one a row"):
        own(X.unique(maintain_order=True)).fit(table([2.0, 1.0, 2.0]))


def test_rows_to_score_are_looked_at_too():
    processor = own(X > X.min()).fit(table([0.0, 0.0]))
    with pytest.raises(DataError, match="row 2, column 'made'.*gives True, but False alone"):
        processor.transform(table([0.0, 5.0]))


def test_the_message_names_file_row_function_and_values(tmp_path):
    class Own(FeatureProcessor):
        def popularity(self, col_name):
            return pl.len().over("n")

    write_csv(tmp_path / "train.csv", "click,n\n1,a\n0,a\n")
    dataset = config(tmp_path, [categorical("often", preprocess="popularity")])
    with pytest.raises(DataError) as error:
        prepare_dataset(dataset, verbose=0, processor_class=Own)
    assert str(error.value) == (
        f"{tmp_path / 'train.csv'}: row 1 (line 2), column 'often': its preprocess function "
        "'popularity' depends on other rows: it gives 2, but 1 alone; "
        "allowed: what depends on its own row alone (docs/data.md)"
    )


def test_functions_of_the_project_take_any_column():
    columns = [
        categorical("a", preprocess="convert_hour(ts)"),
        categorical("b", preprocess="convert_weekday( ts )"),
        categorical("c", preprocess="convert_weekend(ts)"),
        categorical("d", preprocess="convert_to_bucket(x)", dtype="float"),
        categorical("e", preprocess="copy_from(x)"),
        categorical("hour", preprocess="convert_hour"),
        {"name": "x", "dtype": "float", "active": False},
    ]
    processor = FeatureProcessor(columns, {"name": "click"}, "d")
    assert set(processor.raw_columns()) == {"click", "ts", "x", "hour"}
    rows = {
        "click": [1, 0],
        "ts": ["14102122", "14102500"],
        "x": ["3", "100"],
        "hour": ["14102107"] * 2,
    }
    encoded = processor.fit(pl.DataFrame(rows)).transform(pl.DataFrame(rows))
    made = {column.name: column.vocabulary.to_dict() for column in processor.columns}
    assert made["a"] == {"__PAD__": 0, "0": 1, "22": 2, "__OOV__": 3}
    assert made["b"] == {"__PAD__": 0, "2": 1, "6": 2, "__OOV__": 3}
    assert made["c"] == {"__PAD__": 0, "0": 1, "1": 2, "__OOV__": 3}
    assert made["d"] == {"__PAD__": 0, "1": 1, "21": 2, "__OOV__": 3}
    assert made["hour"] == {"__PAD__": 0, "7": 1, "__OOV__": 2}
    assert encoded["e"].n_unique() == 2


@pytest.mark.filterwarnings("ignore::polars.exceptions.MapWithoutReturnDtypeWarning")
@pytest.mark.parametrize("name", [*ROW_WISE, "enum", "day", "small", "category kept"])
def test_rows_that_are_kept_have_the_same_values_later(name, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "FRAME_ROWS", 700)
    more = {
        "enum": N.cast(pl.Enum([f"n{i}" for i in range(90)])),
        "day": N.str.replace("n", "200").str.head(4).str.to_date("%Y", strict=False),
        "small": N.str.len_chars().cast(pl.UInt8),
        "category kept": N.cast(pl.Categorical),
    }
    x = np.random.default_rng(1).normal(size=2000)
    expression = {**ROW_WISE, **more}[name]
    rows = table(x, [f"n{i % 90}" for i in range(2000)])
    own(expression).fit(rows).save(tmp_path)
    assert own(expression).load(tmp_path).transform(rows).height == 2000
