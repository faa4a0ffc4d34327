"""The results store and the table made from it."""

import json
import multiprocessing
import statistics

import pytest

from fuxictr.datasets.registry import DATASETS
from fuxictr.errors import ConfigError, DataError
from fuxictr.experiment.options import parse_models, parse_seeds, parse_variants
from fuxictr.experiment.published import compare_published, read_published
from fuxictr.experiment.results import append_result, read_results
from fuxictr.experiment.tables import Cell, build_table, to_csv, to_markdown, write_table


def row(expid: str, seed: int, auc: float, **changes) -> dict:
    return {
        "expid": expid,
        "dataset_id": "d",
        "seed": seed,
        "config_hash": "c",
        "data_hash": "h",
        "test": {"AUC": auc, "logloss": 1 - auc},
        "parameters": 1000,
        "train_rows_per_second": 10.0 * seed,
        "seconds": 2.0,
        **changes,
    }


def cells(*seeds: int) -> list[Cell]:
    return [Cell("FM", "gen", "FM_gen", seeds), Cell("FM", "dis", "FM", seeds)]


def _append_many(path: str, writer: int) -> None:
    for number in range(50):
        append_result(path, {"writer": writer, "number": number, "filler": "x" * 3000})


def test_concurrent_appends_lose_and_tear_nothing(tmp_path):
    path = tmp_path / "results" / "results.jsonl"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append_many, args=(str(path), i)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = {(r["writer"], r["number"]) for r in read_results(path)}
    assert found == {(w, n) for w in range(4) for n in range(50)}


def test_a_torn_line_costs_only_itself(tmp_path):
    path = tmp_path / "results.jsonl"
    append_result(path, {"number": 1})
    with open(path, "a") as file:
        file.write('{"number": 2, "te')
    append_result(path, {"number": 3})
    assert [r["number"] for r in read_results(path)] == [1, 3]
    assert json.loads(path.read_text().splitlines()[-1]) == {"number": 3}


def test_no_results_yet(tmp_path):
    with pytest.raises(
        DataError, match=r"results.jsonl: no results yet; run `bash 2.reproduce.sh`"
    ):
        read_results(tmp_path / "results.jsonl")


def test_table_means_deviations_and_lifts():
    aucs = {"FM": [0.70, 0.72, 0.74], "FM_gen": [0.75, 0.76, 0.80]}
    rows = [row(e, s, a) for e, values in aucs.items() for s, a in enumerate(values, start=1)]
    dis, gen, ceiling = build_table(rows, cells(1, 2, 3), "d", {"AUC": 0.9, "logloss": 0.3})
    assert (dis["variant"], gen["variant"]) == ("DIS", "GEN")
    assert dis["test AUC"] == pytest.approx(0.72)
    assert dis["AUC std"] == pytest.approx(statistics.stdev(aucs["FM"]))
    assert dis["AUC lift %"] is None
    assert gen["AUC lift %"] == pytest.approx(100 * (0.77 - 0.72) / 0.72)
    assert gen["logloss lift %"] == pytest.approx(100 * (0.23 - 0.28) / 0.28)
    assert (gen["seeds"], gen["parameters"], gen["train rows/s"]) == (3, 1000, 20.0)
    assert (ceiling["model"], ceiling["test AUC"]) == ("Bayes ceiling", 0.9)


def test_one_seed_has_no_deviation():
    rows = [row("FM", 1, 0.7), row("FM_gen", 1, 0.8)]
    assert [line["AUC std"] for line in build_table(rows, cells(1), "d")] == [None, None]


def test_newest_run_of_a_seed_counts_and_other_configs_do_not():
    rows = [
        row("FM", 2, 0.5, config_hash="old"),
        row("FM", 1, 0.1),
        row("FM", 1, 0.7),
        row("FM", 1, 0.9, dataset_id="other"),
    ]
    assert build_table(rows, cells(1)[1:], "d")[0]["test AUC"] == 0.7
    with pytest.raises(DataError, match="no run of expid 'FM' on 'd' .* for seed 2"):
        build_table(rows, cells(1, 2)[1:], "d")


def test_table_files(tmp_path):
    table = build_table([row("FM", 1, 0.7), row("FM_gen", 1, 0.8)], cells(1), "d")
    paths = write_table(table, tmp_path / "d")
    assert [path.name for path in paths] == ["table.md", "table.csv"]
    lines = to_markdown(table).splitlines()
    assert len({len(line) for line in lines}) == 1, "the columns are aligned"
    assert "+14.286" in lines[3]
    assert to_csv(table).splitlines()[1].startswith("FM,DIS,1,0.7,")
    assert paths[1].read_text() == to_csv(table)


def test_options():
    assert parse_seeds("3", first=2019) == [2019, 2020, 2021]
    assert parse_seeds("7,", first=2019) == [7]
    assert parse_seeds("5,3,5", first=2019) == [5, 3]
    assert parse_variants("GEN,dis") == ["dis", "gen"]
    assert parse_models("FM, DeepFM,FM") == ["FM", "DeepFM"]
    for wrong in ("0", "-1", "x", "1,x", ""):
        with pytest.raises(ConfigError, match="--seeds"):
            parse_seeds(wrong, first=1)
    with pytest.raises(ConfigError, match="--variants both: allowed"):
        parse_variants("both")


FIGURES = [
    {"dataset": d, "model": m, "variant": v, "metric": "AUC", "value": "0.5", "note": "a page"}
    for d, m, v in (("frappe_x1", "FM", "DIS"), ("frappe_x1", "IPNN", "GEN"), ("else", "FM", "GEN"))
]


def test_published_figures_stand_beside_ours():
    table = [
        {"model": model, "variant": variant, "test AUC": 0.75, "test logloss": None}
        for model in ("FM", "PNN")
        for variant in ("DIS", "GEN")
    ]
    assert compare_published(table, "frappe", FIGURES) == [
        "FM DIS AUC: 0.750000, published 0.5 (+0.250000; a page)",
        "FM GEN: not published here",
        "PNN DIS: not published here",
        "PNN GEN AUC: 0.750000, published 0.5 (+0.250000; a page)",
    ]
    assert compare_published(table, "demo", FIGURES) == []
    assert compare_published(table, "my_clicks", FIGURES) == []


def test_the_shipped_figures_name_known_datasets_and_say_where_they_are_from():
    figures = read_published()
    names = {d.name.lower() for d in DATASETS} | {"all"}
    assert {figure["dataset"] for figure in figures} <= names
    assert all(float(f["value"]) and f["note"] and f["source"] for f in figures)
    assert (
        len(compare_published([{"model": "FM", "variant": "DIS", "test AUC": 0.9}], "frappe")) == 1
    )
