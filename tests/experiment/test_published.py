"""Published figures beside ours: which are found, what is said where there is none."""

import csv

import pytest

from fuxictr.datasets.registry import DATASETS
from fuxictr.errors import DataError
from fuxictr.experiment.tables import published, to_markdown, write_average_lifts, write_tables
from fuxictr.experiment.tables.comparisons import compare_backbones
from fuxictr.experiment.tables.published import (
    NOT_PUBLISHED,
    average_lifts,
    beside_published,
    has_published,
    lift_table,
    published_table,
    published_value,
    read_published,
)
from fuxictr.experiment.zoo.models import backbones
from tests.experiment.result_rows import make_pair, records

AVAZU, CRITEO = "avazu_x4_3bbbc4c9", "criteo_x1_7b681156"
# Known by their dataset_id: of the raw files of Avazu_x4 and Criteo_x4, encoded otherwise.
OTHER_PROTOCOLS = ("avazu_x4_001_d45ad60e", "criteo_x4_001_be98441d")
HEAD = ("source", "dataset", "model", "variant", "metric", "value", "note", "reference")
FIGURES = [
    dict(zip(HEAD, (*values, "a link"), strict=True))
    for values in (
        ("one", "avazu_x4", "FM", "DIS", "AUC", "0.5", "a page"),
        ("two", "avazu_x4", "FM", "DIS", "AUC", "0.6", "another page"),
        ("one", "avazu_x4", "IPNN", "GEN", "AUC", "0.75", "a page"),
        ("one", "criteo_x1", "FM", "GEN", "AUC", "0.8", "a page"),
        ("paper", "all", "average", "lift", "AUC_percent", "2.5", "relative"),
        ("paper", "all", "explicit_average", "lift", "AUC_percent", "3.5", "relative"),
    )
]


@pytest.fixture
def figures(monkeypatch):
    monkeypatch.setattr(published, "_shipped", lambda: tuple(FIGURES))


def compare(names, alias="avazu", dataset_id=AVAZU, dis=0.70, gen=0.75):
    rows = [r for n in names for r in make_pair(n, [dis], [gen], alias, dataset_id=dataset_id)]
    return compare_backbones(records(rows), names, alias)


def test_the_shipped_figures_name_known_datasets_and_say_where_they_are_from():
    figures = read_published()
    names = {d.name.lower() for d in DATASETS} | {"all", *OTHER_PROTOCOLS}
    assert {figure["dataset"] for figure in figures} <= names
    assert all(float(f["value"]) and f["note"] and f["source"] for f in figures)
    assert all(f["reference"] for f in figures)
    keys = [
        tuple(f[key] for key in ("source", "dataset", "model", "variant", "metric"))
        for f in figures
    ]
    assert len(keys) == len(set(keys)), "one figure a source"


@pytest.mark.parametrize(
    ("dataset", "model", "variant", "source", "metric", "value"),
    [
        ("criteo", "DeepFM", "activation=silu", "ge4rec_figures", "AUC", 0.814080),
        ("criteo", "CrossNet", "activation=tanh", "ge4rec_figures", "AUC", 0.813176),
        ("movielens", "CrossNet", "DIS", "bars", "AUC", 0.960600),
        ("movielens", "PNN", "DIS", "bars", "logloss", 0.209455),
        ("frappe", "FmFM", "DIS", "bars", "logloss", 0.200439),
        ("criteo", "DeepFM", "DIS", "bars", "AUC", 0.813666),
        ("criteo", "DeepFM", "DIS", "bars_mean", "AUC", 0.813812),
        ("criteo_x4", "xDeepFM", "DIS", "bars", "AUC", 0.814331),
        ("avazu_x4_001_d45ad60e", "FM", "DIS", "bars", "AUC", 0.790887),
        ("avazu", "AutoInt", "DIS", "bars", "AUC", 0.789103),
        ("all", "CrossNet GEN over DCNv2 DIS", "lift", "ge4rec_readme", "AUC_percent", 0.106),
    ],
)
def test_figures_of_every_source_are_there(dataset, model, variant, source, metric, value):
    found = {r["source"]: r for r in published_value(dataset, model, variant, metric)}
    assert float(found[source]["value"]) == value
    assert found[source]["reference"]


def test_runs_and_their_mean_are_two_sources():
    for row in read_published():
        assert ("mean of" in row["note"]) == (row["source"] == "bars_mean")


def test_every_shipped_figure_is_found():
    for row in read_published():
        found = published_value(row["dataset"], row["model"], row["variant"], row["metric"])
        assert row in found
    assert published_value("avazu", "PNN", "DIS", "AUC") == published_value(
        "Avazu_x4", "IPNN", "DIS", "AUC"
    )
    assert has_published("frappe")
    assert not has_published("demo")
    assert not has_published("my_clicks")


def test_figures_are_found_by_our_names_and_theirs(figures):
    assert [f["source"] for f in published_value("avazu", "FM", "DIS", "AUC")] == ["one", "two"]
    assert published_value(AVAZU, "PNN", "GEN", "AUC") == [FIGURES[2]]
    assert published_value("avazu", "FM", "GEN", "AUC") == []
    assert published_value("avazu", "FM", "DIS", "logloss") == []
    published_value("avazu", "FM", "DIS", "AUC")[0]["value"] = "changed"
    assert published_value("avazu", "FM", "DIS", "AUC")[0]["value"] == "0.5"


def test_differences_stand_beside_ours_and_not_published_where_it_is_so(figures):
    comparisons = compare(["FM", "PNN"])
    sides = [(c.backbone, v, getattr(c, v.lower())) for c in comparisons for v in ("DIS", "GEN")]
    found = beside_published(sides, "avazu", ["AUC"])
    assert [(f.backbone, f.variant, f.published) for f in found] == [
        *(("FM", "DIS", 0.5), ("FM", "DIS", 0.6), ("FM", "GEN", None)),
        *(("PNN", "DIS", None), ("PNN", "GEN", 0.75)),
    ]
    assert [f.difference for f in found] == pytest.approx([0.2, 0.1, None, None, 0.0])
    assert published_table(found).rows == [
        ["FM", "DIS", "AUC", "one", "a page", "0.700000", "0.500000", "+0.200000"],
        ["FM", "DIS", "AUC", "two", "another page", "0.700000", "0.600000", "+0.100000"],
        ["FM", "GEN", "AUC", "", "", "0.750000", "not published", ""],
        ["PNN", "DIS", "AUC", "", "", "0.700000", "not published", ""],
        ["PNN", "GEN", "AUC", "one", "a page", "0.750000", "0.750000", "+0.000000"],
    ]


def test_a_side_without_a_mean_has_no_difference(figures):
    comparisons = compare_backbones([], ["FM"], "avazu", [2019, 2020])
    (first, *_) = beside_published([("FM", "DIS", comparisons[0].dis)], "avazu")
    assert first.difference is None
    assert published_table([first]).rows[0][-3:] == ["not run", "0.500000", ""]


def test_published_csv_has_a_row_for_every_metric_of_every_side(figures, tmp_path):
    write_tables(compare(["FM", "PNN"]), "avazu", tmp_path)
    with open(tmp_path / "published.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 2 + 1
    assert {(r["backbone"], r["variant"], r["metric"]) for r in rows} == {
        (b, v, m) for b in ("FM", "PNN") for v in ("DIS", "GEN") for m in ("AUC", "logloss")
    }
    names = ("published", "source", "note", "reference")
    assert tuple(rows[1][name] for name in names) == ("0.6", "two", "another page", "a link")
    assert float(rows[1]["difference"]) == pytest.approx(0.1)
    assert [r["note"] for r in rows if not r["published"]] == [NOT_PUBLISHED] * 6


def test_a_dataset_without_figures_says_so_in_a_line():
    text = to_markdown(compare(["FM"], "demo", "demo_x1"), "demo")
    assert "not published" not in text
    assert text.splitlines()[-1] == "No figures are published for demo_x1."


def test_average_lifts_are_over_what_both_datasets_have(figures, tmp_path):
    names = ["FM", "DeepFM", "PNN"]
    avazu = compare(names)  # + 0.05 / 0.70 = 7.142857 %
    criteo = compare(names[:2], "criteo", CRITEO, 0.80, 0.82)  # + 2.5 %
    table = lift_table(average_lifts({"avazu": avazu, CRITEO: criteo}))
    mean = (100 * 0.05 / 0.70 + 2.5) / 2
    labels = ["all", "explicit", "paper", "paper explicit"]
    numbers = ["+7.143", "+2.500", f"{mean:+.3f}"]
    # Not all of the paper's backbones are there: the paper's averages are none of these.
    assert table.rows[::2] == [[label, "AUC", *numbers, "", ""] for label in labels]
    assert [row[1] for row in table.rows[1::2]] == ["logloss"] * 4
    out = sorted(set(backbones("avazu")) - {"FM", "DeepFM"})
    over, left = table.notes[0].split("; left out, for missing runs or not requested: ")
    assert over == "all: average over FM DeepFM"
    assert sorted(left.split()) == out
    text, paths = write_average_lifts({"avazu": avazu, "criteo": criteo}, tmp_path)
    assert [path.name for path in paths] == ["average_lifts.md", "average_lifts.csv"]
    assert paths[0].read_text() == text
    row = next(csv.DictReader(paths[1].read_text().splitlines()))
    assert (row["average"], row["metric"], row["paper"]) == ("all", "AUC", "")
    assert float(row["ours"]) == pytest.approx(mean, rel=1e-12)


def test_the_papers_averages_stand_beside_its_own_backbones_alone(figures):
    names = ["FM", "FwFM", "FmFM", "CrossNet", "DeepFM", "xDeepFM", "PNN", "DCNv2"]
    explicit = compare(["FM", "FmFM", "CrossNet"])
    criteo = compare(names, "criteo", CRITEO, 0.80, 0.82)
    records = average_lifts({"avazu": compare(names), "criteo": criteo})
    stated = {(r["average"], r["metric"]): r["paper"] for r in records if r["paper"] is not None}
    assert stated == {("paper", "AUC"): 2.5, ("paper explicit", "AUC"): 3.5}
    (row,) = [r for r in records if (r["average"], r["metric"]) == ("paper", "AUC")]
    assert row["difference"] == pytest.approx((100 * 0.05 / 0.70 + 2.5) / 2 - 2.5)
    assert row["averaged_over"].split() == [name for name in names if name != "FwFM"]
    # A table of the three alone has the one comparison that is over all its backbones.
    records = average_lifts({"avazu": explicit, "criteo": criteo})
    assert {r["average"] for r in records if r["paper"] is not None} == {"paper explicit"}


def test_average_lifts_of_nothing_complete_are_blank(figures):
    avazu = compare_backbones([], ["FM"], "avazu")
    criteo = compare(["FM"], "criteo", CRITEO)
    table = lift_table(average_lifts({"avazu": avazu, "criteo": criteo}))
    assert table.rows[0][2:5] == ["", "", ""]
    assert table.notes[0].startswith("all: average over no backbone")


def test_average_lifts_need_both_datasets():
    with pytest.raises(DataError, match="over avazu and criteo; without runs here: criteo"):
        average_lifts({"avazu": compare(["FM"])})


def test_no_file_of_figures_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"absent.csv: no such file of published figures"):
        read_published(tmp_path / "absent.csv")
