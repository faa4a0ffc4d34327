"""The sections of the report, from made-up rows of results."""

from pathlib import Path

import pytest
import scipy.stats

from fuxictr.analysis.summary import RunSummary
from fuxictr.errors import DataError
from fuxictr.experiment.report.evidence import gather
from fuxictr.experiment.report.page import Commands, Gallery, Items, Section
from fuxictr.experiment.report.recorded import redundancy_section, spectra_section
from fuxictr.experiment.report.runs import missing_section, runs_section
from fuxictr.experiment.report.sections import (
    ablation_section,
    accuracy_section,
    cost_section,
    lifts_section,
    published_section,
    training_section,
)
from fuxictr.experiment.tables.published import published_value
from fuxictr.text_tables import TextTable
from tests.experiment.result_rows import SEEDS, make_failed, make_pair, make_row, records

AVAZU = "avazu_x4_3bbbc4c9"
DIS, GEN = [0.790, 0.791, 0.792], [0.793, 0.795, 0.794]


def words(section: Section) -> str:
    texts = [b for b in section.blocks if isinstance(b, str)]
    texts += [t for b in section.blocks if isinstance(b, Items) for t in b.texts]
    return "\n".join(texts)


def table(section: Section) -> TextTable:
    return next(block for block in section.blocks if isinstance(block, TextTable))


def commands(section: Section) -> list[str]:
    return [t for block in section.blocks if isinstance(block, Commands) for t in block.lines]


@pytest.fixture(scope="module")
def evidence():
    """FM complete over three seeds, DeepFM with a failed run, PNN without any."""
    rows = make_pair("FM", DIS, GEN, "avazu", dataset_id=AVAZU)
    rows += make_pair("DeepFM", DIS, GEN[:2], "avazu", dataset_id=AVAZU)
    rows.append(make_failed("DeepFM_avazu_gen", 2021, "out of memory", AVAZU))
    arms = {"": GEN[:2], "_source_own": [0.7905, 0.7906], "_source_high": [0.7930]}
    for arm, aucs in arms.items():
        rows += [make_row(f"DCNv2_avazu_gen{arm}", 2019 + i, a, AVAZU) for i, a in enumerate(aucs)]
    rows += [make_row("DCNv2_avazu", 2019 + i, auc, AVAZU) for i, auc in enumerate(DIS[:2])]
    return gather(records(rows), "avazu", ["FM", "DeepFM", "PNN", "DCNv2"], None)


def test_what_was_run(evidence):
    section = runs_section(evidence)
    cells = dict(table(section).rows)
    assert cells["data"] == AVAZU
    assert cells["rows"] == "800 train, 100 valid, 100 test"
    assert cells["seeds"] == "2019, 2020, 2021"
    assert cells["finished runs"] == "15 of 18"
    assert cells["recorded sample"] == "nothing is recorded"
    assert words(section).startswith("1 of 4 backbones have every run")


def test_only_complete_backbones_are_compared(evidence):
    text = words(accuracy_section(evidence, None))
    p = scipy.stats.ttest_rel(GEN, DIS).pvalue
    assert "On FM GEN has the higher test AUC: 0.794000 against 0.791000." in text
    assert f"(p = {p:.3f})" in text
    assert "DeepFM" not in text and "DCNv2" not in text
    rows = {row[0]: row for row in table(accuracy_section(evidence, None)).rows}
    assert rows["DeepFM"][2] == "2 of 3 runs"
    assert rows["FM"][1].startswith("0.791000 ±")


def test_lifts_are_beside_the_papers_over_its_own_backbones_alone(evidence):
    text = words(lifts_section(evidence))
    lift = 100 * (0.794 - 0.791) / 0.791
    for label in ("all", "explicit", "paper", "paper explicit"):
        assert f"Over 1 backbone ({label}) the mean relative lift of AUC is {lift:+.3f} %" in text
    assert "the paper states" not in text
    assert text.count("GEN is better on average") == 8


@pytest.mark.parametrize(
    ("dataset", "dataset_id", "stated"), [("avazu", AVAZU, True), ("demo", "demo_x1", False)]
)
def test_lifts_beside_the_paper(dataset, dataset_id, stated):
    names = ["FM", "FwFM", "FmFM", "CrossNet", "DeepFM"]
    rows = [r for n in names for r in make_pair(n, DIS, GEN, dataset, dataset_id=dataset_id)]
    section = lifts_section(gather(records(rows), dataset, names, None))
    value = float(published_value("all", "explicit_average", "lift", "AUC_percent")[0]["value"])
    found = [line for line in words(section).splitlines() if "the paper states" in line]
    assert len(found) == 2 * stated
    if stated:
        assert found[0].startswith("Over 3 backbones (paper explicit) the mean relative lift")
        assert f"the paper states {value:+.3f} % over Avazu and Criteo." in found[0]


def test_published_figures(evidence):
    section = published_section(evidence)
    # The other sides lack a run.
    complete = [("FM", "DIS", DIS), ("FM", "GEN", GEN), ("DeepFM", "DIS", DIS)]
    differences = [
        sum(aucs) / 3 - float(row["value"])
        for backbone, variant, aucs in complete
        for row in published_value("avazu", backbone, variant, "AUC")
    ]
    differences += [
        1.2 - sum(aucs) / 3 - float(row["value"])
        for backbone, variant, aucs in complete
        for row in published_value("avazu", backbone, variant, "logloss")
    ]
    assert (
        f"Ours is higher than {sum(d > 0 for d in differences)} and lower than "
        f"{sum(d < 0 for d in differences)} of {len(differences)} published figures"
    ) in words(section)
    largest = max(differences, key=abs)
    assert f"the largest difference is {largest:+.6f} (" in words(section)
    assert any(f"{largest:+.6f}" in row for row in table(section).rows)
    demo = gather(records(make_pair("FM", DIS, GEN)), "demo", ["FM"], None)
    assert words(published_section(demo)) == "No figures are published for demo_x1."


def test_what_is_missing(evidence):
    section = missing_section(evidence, ["a figure: too flat"], "bash 3.analyze.sh --report")
    text = words(section)
    assert "PNN: not trained" in text
    assert "DeepFM GEN: seed 2021 failed: out of memory" in text
    assert "DCNv2, source, high-cardinality fields: seed 2020 not run" in text
    assert "not drawn: a figure: too flat" in text
    assert commands(section) == [
        "bash 2.reproduce.sh --model PNN,DeepFM,DCNv2 --dataset avazu --seeds 2019,2020,2021",
        "bash 2.reproduce.sh --ablation source --model DCNv2 --dataset avazu --seeds 2019,2020",
        "bash 3.analyze.sh --report",
    ]
    whole = gather(records(make_pair("FM", DIS[:1], GEN[:1])), "demo", ["FM"], "7,")
    assert "--seeds 7,\n" in "\n".join(commands(missing_section(whole, [], "")))


def test_ablations_count_the_seeds_that_their_arms_have(evidence):
    (ablation,) = evidence.ablations
    assert ablation.results[0].side.seeds == (2019, 2020)
    text = words(ablation_section(evidence, {}))
    p = scipy.stats.ttest_rel([0.7905, 0.7906], GEN[:2]).pvalue
    assert "The full GEN has test AUC 0.794000; lower: DIS 0.790500, own field 0.790550." in text
    fields = [f"{of}-cardinality fields{how}" for of in ("high", "low") for how in ("", " (refer")]
    _, _, missing = text.partition("Not complete: own field (reference), ")
    assert all(name in missing for name in fields)
    assert f"own field (p = {p:.3f})" in text
    demo = gather(records(make_pair("FM", DIS, GEN)), "demo", ["FM"], None)
    section = ablation_section(demo, {})
    assert commands(section) == ["bash 2.reproduce.sh --ablation all --dataset demo"]


def test_an_ablation_that_failed_says_why():
    rows = make_pair("DCNv2", DIS, GEN)
    arms = ["linear", "sigmoid", "silu", "elu", "prelu", "tanh"]
    expids = [f"DCNv2_demo_gen_activation_{arm}" for arm in arms]
    rows += [make_failed(expid, 2019, "out of memory") for expid in expids]
    failed = gather(records(rows), "demo", ["DCNv2"], None)
    assert "No ablation was run" not in words(ablation_section(failed, {}))
    text = words(missing_section(failed, [], ""))
    assert "DCNv2, activation, tanh: seed 2019 failed: out of memory" in text
    # On one seed all arms failed.
    rows += [make_row(expid, 2020, 0.79) for expid in expids]
    (ablation,) = gather(records(rows), "demo", ["DCNv2"], None).ablations
    assert ablation.results[1].side.seeds == (2019, 2020)
    assert not ablation.results[1].side.is_complete


def test_a_backbone_whose_runs_failed_says_why():
    rows = make_pair("FM", DIS[:1], GEN[:1])
    rows += [make_failed(expid, 2019, "disk full") for expid in ("PNN_demo", "PNN_demo_gen")]
    found = gather(records(rows), "demo", ["FM", "PNN", "DeepFM"], None)
    assert found.untrained == ["DeepFM"]
    text = words(missing_section(found, [], ""))
    assert "PNN GEN: seed 2019 failed: disk full" in text
    assert "PNN: not trained" not in text


def test_an_arm_of_other_code_is_named():
    rows = make_pair("DCNv2", DIS, GEN)
    rows += [make_row("DCNv2_demo_gen_source_own", s, 0.7, code_hash="new") for s in SEEDS]
    text = words(missing_section(gather(records(rows), "demo", ["DCNv2"], None), [], ""))
    assert "DCNv2, source, own field: it and GEN ran with different code (code_hash new" in text


def number(rankme: float, redundancy: float) -> RunSummary:
    known = ("FM", "dis", "x", rankme, 2.0, 9, 16, 15, redundancy, 50, "valid", 1)
    more = {"condition_number": 1e17, "dimensions_of_98_percent": 7, "uniformity": -1.5}
    return RunSummary(*known, **more)


def test_recorded_numbers_are_compared_over_the_seeds_of_both():
    rows = make_pair("FM", [0.7, 0.9], [0.71, 0.72]) + make_pair("PNN", DIS[:2], GEN[:2])
    found = gather(records(rows), "demo", ["FM", "PNN"], None)
    # Of FM's DIS the second seed is recorded alone: its AUC would turn the order round.
    ranks = {("FM_demo", 2019): 3.0, ("FM_demo", 2020): 4.0, ("FM_demo_gen", 2019): 5.0}
    ranks |= {(f"PNN_demo{v}", s): 3.0 + s % 7 for v in ("", "_gen") for s in SEEDS[:2]}
    found.numbers = {key: number(rank, 1 / rank) for key, rank in ranks.items()}
    text = words(redundancy_section(found, {}))
    assert "on 1 of 1 backbone. On 1 backbone the two are equal" in text
    assert "over 7 runs" in text
    found.numbers["PNN_demo_gen", 2020] = number(9.0, 0.1)
    found.shown = {"FM_demo": 2020, "FM_demo_gen": 2021, "PNN_demo": 2019}
    section = spectra_section(found, {})
    assert "The figures show seeds 2019 and 2020." in words(section), "no recording is of 2021"
    assert "Over 1 to 2 seeds, " in words(section)
    row = dict(zip(table(section).columns, table(section).rows[0], strict=True))
    shown = (row["dimensions for 98 %"], row["condition number"], row["uniformity"])
    assert shown == ("7", "> 1e14", "-1.5000")


def test_training_and_cost():
    rows = make_pair("FM", DIS[:1], GEN[:1])
    for row in rows:
        row["history"] = [{"epoch": e, "metrics": {"AUC": a}} for e, a in ((1, 0.6), (2, 0.7))]
    evidence = gather(records(rows), "demo", ["FM"], None)
    assert "the best epoch is 2 for DIS and 2 for GEN" in words(training_section(evidence, {}))
    for row in rows:
        row["collapse"] = [{"epoch": 0, "rankme": 9.0}, {"epoch": 1, "rankme": 3.0}]
    evidence = gather(records(rows), "demo", ["FM"], None)
    evidence.shown = {"FM_demo": 2019, "FM_demo_gen": 2019}
    section = training_section(evidence, {"FM_collapse_curve": Path("FM_collapse_curve")})
    (gallery,) = [block for block in section.blocks if isinstance(block, Gallery)]
    assert gallery.pictures[0].caption == (
        "FM. While it trains, RankMe of DIS falls from 9.00 to 3.00 and of GEN falls from 9.00 to "
        "3.00."
    )
    text = words(cost_section(evidence))
    assert "Parameters: +50.0 % (FM)." in text
    assert "Training time per row: +25.0 % (FM)." in text


def test_nothing_to_report():
    failed = [make_failed("FM_demo", 2019, "out of memory")]
    with pytest.raises(DataError, match="bash 2.reproduce.sh --model FM,PNN --dataset demo"):
        gather(records(failed), "demo", ["FM", "PNN"], None)
