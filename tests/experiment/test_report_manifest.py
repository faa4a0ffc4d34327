"""report.json: the commands, runs and files of a report."""

from pathlib import Path

import pytest

from fuxictr.experiment.report import manifest
from fuxictr.experiment.report.evidence import gather
from fuxictr.experiment.report.manifest import describe, train_commands
from fuxictr.experiment.zoo.ablations import GROUPS, ablated_backbones
from fuxictr.experiment.zoo.models import ROOT, backbones
from tests.experiment.result_rows import make_pair, make_row, present_hashes, records


def compared(names, seeds=(2019, 2020, 2021)):
    return [{"backbone": name, "seeds": list(seeds)} for name in names]


def test_the_commands_have_the_seeds_of_each_table():
    whole = compared(backbones("demo"))
    pairs = [(name, group) for group in GROUPS for name in ablated_backbones("demo", group)]
    ablations = [{"backbone": n, "group": g, "seeds": [2019, 2020]} for n, g in pairs]
    assert train_commands("demo", whole, ablations) == [
        "bash 2.reproduce.sh --paper --dataset demo --seeds 3",
        "bash 2.reproduce.sh --ablation all --dataset demo --seeds 2",
    ]
    assert train_commands("demo", compared(["FM", "PNN"], [7]), ablations[:2]) == [
        "bash 2.reproduce.sh --model FM,PNN --dataset demo --seeds 7,",
        f"bash 2.reproduce.sh --ablation {','.join(g for _, g in pairs[:2])} --model DCNv2 "
        "--dataset demo --seeds 2",
    ]
    # Seeds that do not follow the config's own are listed; each command leaves a table of its own.
    unlike = [*compared(["FM"], [2019, 2021]), *compared(["PNN"], [2019])]
    assert train_commands("demo", unlike, []) == [
        "bash 2.reproduce.sh --model FM --dataset demo --seeds 2019,2021",
        "bash 2.reproduce.sh --model PNN --dataset demo --seeds 1",
        "python -m fuxictr tables --dataset demo --model FM,PNN",
    ]


@pytest.fixture
def rows():
    hashes = {"config_hash": "config", "data_hash": "data"}
    rows = make_pair("FM", [0.7, 0.71], [0.72, 0.73], **hashes)
    rows += make_pair("DCNv2", [0.7, 0.71], [0.72, 0.73], **hashes)
    rows.append(make_row("DCNv2_demo_gen_source_own", 2019, 0.7, **hashes))
    for place, row in enumerate(rows):
        row["device"] = f"cuda:{place % 2} (a GPU)" if place else "cpu"
        row["versions"] = {"torch": "2" if place < 2 else "3"}
        row["run_id"] = f"run {place}"
    return rows


def test_it_holds_what_the_report_was_made_from(rows, monkeypatch):
    # Rows of made-up configs count as those of the configs at hand.
    monkeypatch.setattr("fuxictr.config.ExperimentConfig.config_hash", lambda self: "config")
    evidence = gather(records(rows), "demo", ["FM", "DCNv2"], None)
    drawn = {"FM_collapse": ROOT / "figure" / "final" / "demo_x1" / "FM_collapse"}
    summaries = [ROOT / "figure" / "final" / "demo_x1" / "FM_summary.csv"]
    found = describe(evidence, drawn, summaries, "bash 3.analyze.sh --report")
    assert found["command"] == "bash 3.analyze.sh --report"
    assert found["figures"] == ["figure/final/demo_x1/FM_collapse.png"]
    assert found["summaries"] == ["figure/final/demo_x1/FM_summary.csv"]
    assert [entry["backbone"] for entry in found["backbones"]] == ["FM", "DCNv2"]
    assert found["backbones"][0]["expids"] == ["FM_demo", "FM_demo_gen"]
    assert found["backbones"][0]["seeds"] == [2019, 2020]
    (ablation,) = found["ablations"]
    assert (ablation["backbone"], ablation["group"], ablation["seeds"]) == (
        *("DCNv2", "source"),
        [2019],
    )
    assert found["devices"] == ["cpu", "cuda (a GPU)"]
    assert found["versions"] == [{"torch": "2"}, {"torch": "3"}]
    codes = {present_hashes(row["expid"])["code_hash"] for row in rows}
    assert set(found["code_hashes"]) == codes
    assert found["sizes"] == [{"train": 800, "valid": 100, "test": 100}]
    assert {run["run_id"] for run in found["runs"]} == {row["run_id"] for row in rows}
    assert all(not Path(name).is_absolute() for name in found["figures"])
    assert found["train_commands"] == manifest.train_commands(
        "demo", found["backbones"], found["ablations"]
    )
