"""The tables as Markdown, csv and LaTeX, and the command that writes them."""

import csv
import io
import json
import random
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from fuxictr.datasets import demo, registry
from fuxictr.experiment import tables
from fuxictr.experiment.tables import (
    COLUMNS,
    ablation_markdown,
    ablation_results,
    compare_backbones,
    find_ceiling,
    to_markdown,
    write_ablation_tables,
    write_tables,
)
from fuxictr.experiment.tables.backbones import accuracy_table, cost_table
from fuxictr.experiment.tables.published import read_published
from fuxictr.experiment.tables.text import format_p
from fuxictr.experiment.zoo.ablations import GROUPS, ablated_backbones, find_arms
from fuxictr.experiment.zoo.models import ROOT, backbones, load_experiment
from fuxictr.preprocess import prepare_dataset
from fuxictr.text_tables import SCREEN, TextTable, escape_latex
from tests.experiment.result_rows import (
    DEMO,
    SEEDS,
    make_failed,
    make_pair,
    make_row,
    present_hashes,
    records,
)
from tests.preloaded import python

AVAZU = "avazu_x4_3bbbc4c9"
DIS, GEN = [0.70, 0.72, 0.74], [0.75, 0.76, 0.80]
CEILING = {"AUC": 0.9, "logloss": 0.25}


def some_rows() -> list[dict]:
    rows = make_pair("FM", DIS, GEN) + make_pair("DeepFM", GEN, DIS)
    return rows + make_pair("PNN", DIS, GEN[:2]) + [make_failed("PNN_demo_gen", 2021, "a_b|c 5%")]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def find_line(text: str, start: str) -> list[str]:
    return next(cells(line) for line in text.splitlines() if line.startswith(f"| {start} "))


def test_accuracy_says_what_was_measured_and_what_is_missing():
    comparisons = compare_backbones(records(some_rows()), ["FM", "PNN", "DeepFM"], "demo")
    text = to_markdown(comparisons, "demo", CEILING)
    # The differences 0.05, 0.04, 0.06 give t = 0.05 / (0.01 / sqrt(3)) = sqrt(75); with 2 degrees
    # of freedom p = 1 - t / sqrt(t^2 + 2).
    p = "0.013"
    assert format_p(1 - (75 / 77) ** 0.5) == p
    assert find_line(text, "FM") == [
        *("FM", "0.720000 ± 0.020000", "0.770000 ± 0.026458", "+6.944", p),
        *("0.480000 ± 0.020000", "0.430000 ± 0.026458", "-10.417", p),
    ]
    assert find_line(text, "PNN")[1:5] == ["0.720000 ± 0.020000", "2 of 3 runs", "", ""]
    assert "- PNN GEN: seed 2021 failed: a_b|c 5%\n" in text
    assert find_line(text, "all, 2 of 8")[1:4] == ["0.745000", "0.745000", "+0.225"]
    assert find_line(text, "explicit, 1 of 4")[3] == "+6.944"
    left_out = ["left out for missing runs: PNN", "left out for missing runs: none"]
    assert f"- all: average over FM, DeepFM; {left_out[0]}; not in this table: " in text
    absent = "FwFM, FmFM, CrossNet"
    assert f"- explicit: average over FM; {left_out[1]}; not in this table: {absent}\n" in text
    assert find_line(text, "paper, 2 of 7")[1:4] == ["0.745000", "0.745000", "+0.225"]
    assert find_line(text, "paper explicit, 1 of 3")[3] == "+6.944"
    assert "- paper explicit: average over FM; " in text
    assert find_line(text, "Bayes ceiling")[1:6] == ["0.900000", "0.900000", "", "", "0.250000"]
    assert "demo_x1 (800 train, 100 valid, 100 test rows); seeds 2019, 2020, 2021." in text
    assert text.endswith("\nNo figures are published for demo_x1.\n")


def test_cost_says_what_gen_needs_more_of():
    table = cost_table(compare_backbones(records(some_rows()), ["FM", "PNN"], "demo"), "demo")
    assert table.rows[0] == [
        *("FM", "1,000", "1,500", "+50.0", "10.0", "12.0", "+20.0", "+25.0", "2", "3", "+50.0")
    ]
    assert table.rows[1] == ["PNN", "1,000", *[""] * 2, "10.0", *[""] * 3, "2", *[""] * 2]
    assert table.rows[2] == [
        "all, 1 of 8",
        "",
        "",
        "+50.0",
        "",
        "",
        "+20.0",
        "+25.0",
        "",
        "",
        "+50.0",
    ]


def test_a_single_seed_shows_the_value_alone():
    rows = make_pair("FM", DIS[:1], GEN[:1])
    line = find_line(to_markdown(compare_backbones(records(rows), ["FM"], "demo"), "demo"), "FM")
    assert line[1:5] == ["0.700000", "0.750000", "+7.143", ""]


def test_a_table_of_nothing_still_prints(tmp_path):
    comparisons = compare_backbones([], ["FM", "PNN"], "demo")
    text = to_markdown(comparisons, "demo")
    assert find_line(text, "FM")[1:5] == ["not run", "not run", "", ""]
    assert "- FM DIS: not run\n" in text
    assert find_line(text, "all, 0 of 8")[1:] == [""] * 8
    assert len(write_tables(comparisons, "demo", tmp_path)[1]) == 4


def test_backbones_on_unlike_data_are_named(monkeypatch):
    from fuxictr.experiment.results.identity import PresentData

    monkeypatch.setattr(PresentData, "data_hash", lambda self, config: None)  # as without data
    rows = make_pair("FM", DIS, GEN) + make_pair("PNN", DIS, GEN, data_hash="other")
    table = accuracy_table(compare_backbones(records(rows), ["FM", "PNN"], "demo"), "demo")
    assert any(
        "not all backbones ran on the same data (data_hash): FM on data; PNN on other" in note
        for note in table.notes
    )


def test_accuracy_is_the_same_bits_in_whatever_order_the_runs_were_done():
    draw = random.Random(7)
    rows = some_rows()
    for row in rows:
        if "test" in row:
            row["test"] = {"AUC": draw.random(), "logloss": draw.random()}
    names, texts = ["FM", "PNN", "DeepFM"], set()
    for _ in range(20):
        draw.shuffle(rows)
        for row in rows:
            row["train_seconds"] = draw.random()
        comparisons = compare_backbones(records(rows), names, "demo")
        table = accuracy_table(comparisons, "demo", CEILING)
        raw = [(c.lift(m), c.p_value(m), c.dis.std(m)) for c in comparisons for m in CEILING]
        texts.add((table.to_markdown(), table.to_latex("x", "y"), repr(raw)))
    assert len(texts) == 1


@pytest.mark.parametrize("dataset", ["demo", "avazu", "criteo", "frappe"])
def test_all_markdown_is_aligned_and_fits_a_screen(dataset):
    dataset_id = registry.dataset_id_of(dataset)
    rows = []
    for name in backbones(dataset):
        rows += make_pair(name, DIS, GEN, dataset, dataset_id=dataset_id, parameters=123_456_789)
    texts = [to_markdown(compare_backbones(records(rows), backbones(dataset), dataset), dataset)]
    for group in GROUPS:
        for name in ablated_backbones(dataset, group):
            arms = find_arms(name, dataset, group)
            rows += [make_row(a.expid, s, 0.7, dataset_id) for a in arms[1:-1] for s in SEEDS]
            results = ablation_results(records(rows), arms, dataset_id)
            texts.append(ablation_markdown(name, group, results, dataset))
    for text in texts:
        assert max(map(len, text.splitlines())) <= SCREEN
        blocks = re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE)
        assert blocks
        for block in blocks:
            lines = block.splitlines()
            assert len({len(line) for line in lines}) == 1
            assert len({len(cells(line)) for line in lines}) == 1


def test_csv_has_all_digits_and_its_columns_stay(tmp_path):
    comparisons = compare_backbones(records(some_rows()), ["FM", "PNN"], "demo")
    write_tables(comparisons, "demo", tmp_path, CEILING)
    with open(tmp_path / "table.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert ",".join(COLUMNS) == (
        "dataset_id,backbone,seeds,"
        "dis_AUC_mean,dis_AUC_std,gen_AUC_mean,gen_AUC_std,"
        "dis_logloss_mean,dis_logloss_std,gen_logloss_mean,gen_logloss_std,"
        "AUC_lift_percent,AUC_p,logloss_lift_percent,logloss_p,"
        "dis_parameters,gen_parameters,dis_train_seconds,gen_train_seconds,"
        "dis_seconds_per_row,gen_seconds_per_row,dis_peak_memory_bytes,gen_peak_memory_bytes,"
        "parameters_overhead_percent,train_seconds_overhead_percent,"
        "seconds_per_row_overhead_percent,peak_memory_overhead_percent,"
        "dis_expid,dis_config_hash,dis_data_hash,dis_code_hash,"
        "gen_expid,gen_config_hash,gen_data_hash,gen_code_hash,averaged_over,left_out,notes"
    )
    names = [
        *("FM", "PNN", "average of all", "average of explicit", "average of paper"),
        *("average of paper explicit", "Bayes ceiling"),
    ]
    assert [row["backbone"] for row in rows] == names
    fm, pnn, whole, explicit, of_paper, explicit_of_paper, ceiling = rows
    assert {row["dataset_id"] for row in rows} == {DEMO}
    assert float(fm["AUC_lift_percent"]) == comparisons[0].lift("AUC")
    assert float(fm["AUC_p"]) == comparisons[0].p_value("AUC")
    assert float(fm["dis_AUC_std"]) == comparisons[0].dis.std("AUC")
    assert fm["gen_config_hash"] == present_hashes("FM_demo_gen")["config_hash"]
    assert (pnn["gen_AUC_mean"], pnn["AUC_lift_percent"], pnn["gen_train_seconds"]) == ("", "", "")
    assert pnn["notes"] == "PNN GEN: seed 2021 failed: a_b|c 5%"
    averages = (whole, explicit, of_paper, explicit_of_paper)
    assert [row["averaged_over"] for row in averages] == ["FM"] * 4
    assert set(of_paper["left_out"].split()) == {*backbones("demo")} - {"FM", "FwFM"}
    assert whole["left_out"].split()[0] == "PNN"
    assert float(ceiling["gen_AUC_mean"]) == 0.9


def check_latex(text: str) -> list[int]:
    """Returns how many columns each table of a LaTeX file has, after a look at its structure."""
    assert text.startswith("% needs \\usepackage{booktabs,graphicx}")
    for name in ("table*", "tabular"):
        assert text.count(f"\\begin{{{name}}}") == text.count(f"\\end{{{name}}}") > 0
    body = text.split("\n", 1)[1]
    assert re.sub(r"\\[{}]", "", body).count("{") == re.sub(r"\\[{}]", "", body).count("}")
    assert not re.search(r"(?<!\\)[#&%_](?!\n)", re.sub(r"\\label\{.*?\}| & |\{%", "", body))
    assert body.count("$") % 2 == 0
    assert body.isascii()
    widths = []
    for columns, inside in re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end", body, re.DOTALL):
        lines = [line for line in inside.splitlines() if line.endswith(r"\\")]
        assert {len(re.split(r"(?<!\\)&", line)) for line in lines} == {len(columns)}
        assert [inside.count(rf"\{rule}rule") for rule in ("top", "bottom")] == [1, 1]
        widths.append(len(columns))
    labels = re.findall(r"\\label\{(.*?)\}", body)
    assert len(labels) == len(set(labels)) == len(widths)
    return widths


def test_latex_is_escaped_and_whole(tmp_path):
    comparisons = compare_backbones(records(some_rows()), ["FM", "PNN"], "demo")
    write_tables(comparisons, "demo", tmp_path, CEILING)
    text = (tmp_path / "table.tex").read_text()
    assert check_latex(text) == [9, 11]
    assert r"a\_b$|$c 5\%" in text
    assert r"FM & 0.720000 $\pm$ 0.020000 & 0.770000 $\pm$ 0.026458 & $+$6.944 & 0.013" in text
    caption = re.search(r"\\caption\{Accuracy on the test split\. (.*)\}", text)[1]
    assert "800 train, 100 valid, 100 test rows" in caption
    assert "seeds 2019, 2020, 2021" in caption
    assert r"FM\_demo, FM\_demo\_gen" in caption
    assert escape_latex("é→") == "é?"
    assert escape_latex("{a}\\^~<>#$&µ") == (
        r"\{a\}\textbackslash{}\textasciicircum{}\textasciitilde{}$<$$>$\#\$\&$\mu$"
    )
    below = TextTable("t", "ab", [["x", "1"], ["mean", "-2"]], num_last=1).to_latex("c", "l")
    assert "x & 1 \\\\\n\\midrule\nmean & $-$2 \\\\\n\\bottomrule" in below


def test_markdown_cells_do_not_break_the_table():
    text = TextTable("t", ["a", "b"], [["x|y", "1"]]).to_markdown()
    assert text == "**t**\n\n| a    |   b |\n| ---- | --: |\n| x\\|y |   1 |\n"


def ablation_rows(dataset_id: str = AVAZU) -> list[dict]:
    arms = find_arms("DCNv2", "avazu", "source")
    return [
        make_row(arm.expid, seed, 0.7 + number / 100 + place * place / 1000, dataset_id)
        for number, arm in enumerate(arms)
        for place, seed in enumerate(SEEDS)
        if (arm.word, seed) != ("high", 2020)
    ]


def test_ablation_tables(tmp_path):
    arms = find_arms("DCNv2", "avazu", "source")
    rows = ablation_rows()
    rows[4]["test"]["AUC"] += 0.002  # own field, the second seed
    results = ablation_results(records(rows), arms, AVAZU)
    _, paths = write_ablation_tables("DCNv2", "source", results, "avazu", tmp_path)
    assert [p.name for p in paths] == [f"DCNv2_ablation_source.{s}" for s in ("md", "csv", "tex")]
    text = paths[0].read_text()
    assert text == ablation_markdown("DCNv2", "source", results, "avazu")
    # Own minus GEN: -0.06, -0.058, -0.06, so t = -0.0593333 / (0.0011547 / sqrt(3)) = -89.
    assert format_p(1 - 89 / (89**2 + 2) ** 0.5) == "<0.001"
    assert find_line(text, "own field")[1:5] == [
        *("0.712333 ± 0.002082", "-0.059333", "<0.001", "+0.010667")
    ]
    assert find_line(text, "high-cardinality fields")[1:5] == ["2 of 3 runs", "", "", ""]
    assert "- high-cardinality fields: seed 2020 not run\n" in text
    assert find_line(text, "DIS")[2:5] == ["-0.070000", "", ""], "all differences are equal"
    assert find_line(text, "all fields (GEN)")[2:5] == ["", "", "+0.070000"]
    own = next(row for row in read_published() if row["variant"] == "source=own")
    ours = results[2].side.mean("AUC")  # of the arm that is as the paper's code has it
    difference = f"{ours - float(own['value']):+.6f}"
    assert find_line(text, "source=own")[-3:] == [f"{ours:.6f}", own["value"], difference]
    assert find_line(text, "source=own_ours")[-2:] == ["not published", ""]
    assert find_line(text, "source=high_ours")[-3] == "2 of 3 runs"
    assert check_latex(paths[2].read_text()) == [9, 6]
    lines = list(csv.DictReader(io.StringIO(paths[1].read_text())))
    words = [w + of for w in ("own", "high", "low") for of in ("", "_reference")]
    assert [r["arm"] for r in lines] == ["dis", *words, "full"]
    assert float(lines[2]["AUC_minus_gen"]) == ours - results[-1].side.mean("AUC")
    assert [lines[i]["published_AUC"] for i in (1, 2)] == ["", str(float(own["value"]))]
    assert (lines[3]["AUC_mean"], lines[3]["published_AUC_difference"]) == ("", "")


def test_ceiling_is_of_the_data_that_the_runs_saw(tmp_path, monkeypatch):
    def load_here(expid, folder):
        config, model_class = load_experiment(expid, folder)
        return replace(config, data_dir=tmp_path / "model_zoo" / "FM"), model_class

    monkeypatch.setattr(tables.backbones, "ROOT", tmp_path)
    monkeypatch.setattr(tables.backbones, "load_experiment", load_here)
    none_ran = compare_backbones([], ["FM"], "demo")
    assert find_ceiling("demo", none_ran) is None, "no data"
    folder = tmp_path / "data" / "Demo" / DEMO
    demo.generate(folder, rows=1000)
    ceiling = demo.load_bayes_ceiling(folder)
    assert find_ceiling("demo", none_ran) == ceiling
    config, _ = load_here("FM_demo", ROOT / "model_zoo" / "FM")
    encoded = prepare_dataset(config.dataset, config.data_dir)

    def found(data_hash):
        rows = make_pair("FM", DIS, GEN, data_hash=data_hash)
        return find_ceiling("demo", compare_backbones(records(rows), ["FM"], "demo"))

    assert found(encoded.data_hash) == ceiling
    assert found("other") is None, "as many rows of another log"
    assert find_ceiling("avazu", none_ran) is None
    demo.generate(folder, rows=1000, seed=7)
    assert found(encoded.data_hash) is None, "the ground truth is another log's than the runs'"


def test_an_arm_that_ran_with_other_data_or_code_than_gen_says_so(tmp_path):
    arms = find_arms("DCNv2", "avazu", "source")
    rows = ablation_rows()
    for row in rows[3:6]:  # own field
        row["data_hash"] = "other"
    results = ablation_results(records(rows), arms, AVAZU)
    note = "own field: it and GEN ran with different data (data_hash other, data)"
    assert ablation_markdown("DCNv2", "source", results, "avazu").count(f"- {note}\n") == 1
    _, paths = write_ablation_tables("DCNv2", "source", results, "avazu", tmp_path)
    lines = list(csv.DictReader(io.StringIO(paths[1].read_text())))
    assert [r["missing"] for r in lines if "different" in r["missing"]] == [note]


def run_command(*options: object) -> subprocess.CompletedProcess:
    command = [python(), "-m", "fuxictr.experiment.tables", *map(str, options)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "results.jsonl"
    rows = some_rows() + ablation_rows()
    rows += make_pair("FM", [0.8], [0.81], "criteo", dataset_id="criteo_x1_7b681156")
    rows += [make_row("Mine_x", 1, 0.5, "my_clicks"), {"written": "by another program"}]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_command_writes_the_tables_of_all_datasets(store, tmp_path):
    out = tmp_path / "out"
    done = run_command("--results", store, "--out", out, "--ablation", "source")
    assert done.returncode == 0, done.stderr
    found = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    files = ("table.md", "table.csv", "table.tex", "published.csv")
    expected = {f"{d}/{f}" for d in (DEMO, AVAZU, "criteo_x1_7b681156") for f in files}
    assert expected | {"average_lifts.md", "average_lifts.csv"} <= found
    assert f"{AVAZU}/DCNv2_ablation_source.md" in found
    assert f"{DEMO}/DCNv2_ablation_source.md" not in found
    assert "No runs of the ablation source on demo.\n" in done.stdout
    text = (out / DEMO / "table.md").read_text()
    assert text in done.stdout
    assert [line for line in ("FM", "DeepFM", "PNN") if f"\n| {line} " not in text] == []
    assert "\n| xDeepFM " not in text, "it has no row"


def test_command_takes_datasets_models_and_seeds(store, tmp_path):
    options = ("--results", store, "--out", tmp_path / "out", "--dataset", "demo")
    done = run_command(*options, "--model", "FM,FwFM", "--seeds", "2")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == [DEMO]
    assert find_line(done.stdout, "FM")[1] == "0.710000 ± 0.014142"
    assert "- FwFM DIS: seeds 2019, 2020 not run\n" in done.stdout
    done = run_command(*options, "--model", "FM", "--seeds", "2019,7")
    assert "- FM GEN: seed 7 not run\n" in done.stdout


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--results", "absent.jsonl"), "absent.jsonl: no results yet"),
        (
            ("--dataset", "frappe"),
            "no runs on frappe_x1; run: bash 2.reproduce.sh --dataset frappe",
        ),
        (("--model", "FN"), "--model FN: allowed"),
        (("--ablation", "sauce"), "did you mean 'source'"),
        (("--seeds", "0"), "--seeds 0: allowed"),
    ],
)
def test_command_refuses_what_it_cannot_use_in_one_line(store, tmp_path, options, text):
    done = run_command("--results", store, "--out", tmp_path / "out", *options)
    assert done.returncode == 1
    *warnings, error = done.stderr.splitlines()
    assert text in error
    assert all("line 45 is no row of results" in warning for warning in warnings)


def test_command_imports_nothing_heavy():
    code = (
        "import sys, fuxictr.experiment.tables; "
        "print({'torch', 'polars', 'matplotlib', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def task_rows(metrics):
    """Rows of a DIS and a GEN expid, GEN better by a tenth of each metric."""
    return [
        make_row(expid, seed, 0.5, test={m: v * scale + seed % 3 / 1e3 for m, v in metrics.items()})
        for expid, scale in (("DeepFM_demo", 1.0), ("DeepFM_demo_gen", 0.9))
        for seed in SEEDS
    ]


@pytest.mark.parametrize(
    ("metrics", "shown"),
    [
        ({"RMSE": 0.4, "MAE": 0.3}, ["RMSE", "MAE"]),
        ({"click_AUC": 0.7, "AUC": 0.7, "RMSE": 0.3}, ["AUC", "click_AUC", "RMSE"]),
        ({"AUC": 0.7, "logloss": 0.4, "gAUC": 0.6, "own": 1.0}, ["AUC", "logloss"]),
    ],
)
def test_metrics_of_a_regression_and_of_single_labels_are_shown(metrics, shown, tmp_path):
    (comparison,) = compare_backbones(records(task_rows(metrics)), ["DeepFM"], "demo")
    table = accuracy_table([comparison], "demo")
    found = [name.removeprefix("DIS ") for name in table.columns if name.startswith("DIS ")]
    assert found == shown
    assert not [note for note in comparison.notes if "is not among" in note]
    markdown = to_markdown([comparison], "demo")
    for metric in shown:
        assert f"{comparison.dis.mean(metric):.6f}" in markdown
    losses = ", ".join(m for m in shown if m in ("logloss", "RMSE", "MAE"))
    assert f"for {losses} negative is better" in " ".join(markdown.split())
    write_tables([comparison], "demo", tmp_path)
    (row,) = csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text()))
    assert {n for n in row if n.startswith("gen_") and n.endswith("_mean")} == {
        f"gen_{metric}_mean" for metric in shown
    }
