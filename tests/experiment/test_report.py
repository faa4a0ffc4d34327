"""The sentences of the report, branch by branch, and the page that shows them."""

import base64
import io
import re

import pytest
from PIL import Image

from fuxictr.analysis.summary import RunSummary
from fuxictr.experiment.report import sentences as text
from fuxictr.experiment.report.page import (
    MAX_WIDTH,
    Commands,
    Gallery,
    Items,
    Page,
    Picture,
    Section,
    to_html,
    to_markdown,
)
from fuxictr.experiment.report.sentences import Pair
from fuxictr.text_tables import TextTable

FM = Pair("FM", 0.7, 0.71, 0.0123, 3)
PNN = Pair("PNN", 0.8, 0.79, 0.0004, 3)
DCN = Pair("DCNv2", 0.75, 0.7500004, 0.6, 3)
FLAT = Pair("FwFM", 0.5, 0.6, None, 3)


def summary(rankme: float, effective: int = 9) -> RunSummary:
    known = ("FM", "dis", "FM_demo", rankme, 2.0, effective, 16, 15, 0.1, 50, "valid", 1)
    more = {"condition_number": 9.0, "dimensions_of_98_percent": 7, "uniformity": -1.5}
    return RunSummary(*known, **more)


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([], "No backbone has both variants complete, so no test AUC is compared."),
        ([FM], "On FM GEN has the higher test AUC: 0.710000 against 0.700000."),
        ([PNN], "On PNN GEN has the lower test AUC: 0.790000 against 0.800000."),
        ([DCN], "On DCNv2 DIS and GEN have the same test AUC, 0.750000."),
        ([FM, FLAT], "Over 2 backbones, GEN has the higher test AUC on all 2."),
        (
            [FM, PNN, DCN, FLAT],
            "Over 4 backbones, GEN has the higher test AUC on 2 (FM and FwFM), the lower test AUC "
            "on 1 (PNN) and the same test AUC on 1 (DCNv2).",
        ),
    ],
)
def test_winners(pairs, expected):
    assert text.winners_sentence("test AUC", pairs, 6) == expected


def test_noise_of_the_seeds():
    def said(pairs, up=True):
        return text.noise_sentence(pairs, up, "DIS", "GEN")

    assert said([]) == ""
    assert said([Pair("FM", 0.7, 0.71)]).startswith("One seed: no test is possible")
    assert said([FM, Pair("PNN", 0.8, 0.79)]).startswith("Over 1 to 3 seeds, a paired t-test")
    assert said([FM]) == (
        "Over 3 seeds, a paired t-test gives p < 0.05 in favour of GEN on FM (p = 0.012)."
    )
    # A lower logloss is the better one.
    assert "in favour of DIS on FM (p = 0.012)" in said([FM], up=False)
    assert said([FM, PNN, DCN, FLAT]) == (
        "Over 3 seeds, a paired t-test gives p < 0.05 in favour of GEN on FM (p = 0.012) and in "
        "favour of DIS on PNN (p < 0.001); the difference is within the noise of the seeds on "
        "DCNv2 (p = 0.600); no test is defined on FwFM (one seed, or the same difference "
        "for every seed). "
        "The p-values are not corrected for the number of tests."
    )
    assert said([DCN]) == (
        "Over 3 seeds, the difference is within the noise of the seeds on DCNv2 (p = 0.600)."
    )


@pytest.mark.parametrize(
    ("metric", "lift", "published", "expected"),
    [
        ("AUC", None, 0.272, "No backbone (all) is complete, so there is no mean lift of AUC."),
        ("AUC", 0.12345, None, "AUC is +0.123 %: GEN is better on average."),
        ("AUC", -0.5, 0.272, "-0.500 %: GEN is worse on average; the paper states +0.272 % over"),
        ("logloss", -0.5, None, "logloss is -0.500 %: GEN is better on average."),
        ("logloss", 0.5, None, "GEN is worse on average."),
        ("logloss", 0.0001, None, "is +0.000 %: GEN is as good as DIS on average."),
    ],
)
def test_average(metric, lift, published, expected):
    assert expected in text.average_sentence(metric, lift, "all", 3, published)


def test_published():
    assert text.published_sentence({}, 4).startswith("Nothing can be compared")
    differences = {"FM DIS AUC": 0.001, "FM GEN AUC": -0.0025, "PNN DIS AUC": 0.0000001}
    assert text.published_sentence(differences, 0) == (
        "Ours is higher than 1 and lower than 1 of 3 published figures; the largest difference is "
        "-0.002500 (FM GEN AUC)."
    )
    assert "Of ours, 1 figure cannot be compared" in text.published_sentence(differences, 1)


def test_spectrum():
    assert text.spectrum_sentence(summary(3.14159), summary(9.5, 12)) == (
        "GEN has the higher RankMe, 9.50 against 3.14; 12 of 16 dimensions lie above 1e-6 of the "
        "largest against 9 of 16. The values of the fields in the sample allow at most 15 for GEN "
        "and 15 for DIS."
    )
    assert "the lower RankMe, 3.00 against 9.00" in text.spectrum_sentence(summary(9), summary(3))
    assert "the same RankMe, 3.00" in text.spectrum_sentence(summary(3.001), summary(3.002))
    assert text.spectrum_sentence(None, summary(3)) == ("Only GEN is recorded, its RankMe is 3.00.")
    assert text.spectrum_sentence(summary(4), None).startswith("Only DIS is recorded")
    assert text.spectrum_sentence(None, None) == "Neither side is recorded."


def test_fields():
    dis, gen = {"a": 3.0, "b": 1.25, "c": 2.0}, {"a": 4.0, "b": 1.0, "c": 2.001}
    assert text.fields_sentence(dis, gen) == (
        "Of 3 fields, GEN has the higher RankMe on 1 and the lower on 1. The lowest of DIS is "
        "1.25, of b. The lowest of GEN is 1.00, of b."
    )
    assert text.fields_sentence({}, gen) == "The lowest of GEN is 1.00, of b."
    assert text.fields_sentence({}, {}) == "Neither side is recorded."


def test_rank_correlation():
    def said(values):
        return text.correlation_sentence("test AUC", "redundancy", values, 16, "run")

    assert said({"": -0.421}) == (
        "Spearman's rank correlation of test AUC with redundancy is -0.42 over 16 runs."
    )
    assert "is +0.60 (DIS) and -0.10 (GEN) over 16 runs" in said({"DIS": 0.6, "GEN": -0.1})
    assert said({"": None}) == "Whether test AUC goes with redundancy cannot be said from 16 runs."


def test_redundancy_of_pairs():
    def said(*numbers):
        return text.redundancy_sentence(
            [Pair("x", dis, gen) for dis, gen, _, _ in numbers],
            [Pair("x", dis, gen) for _, _, dis, gen in numbers],
        )

    both, neither = (0.3, 0.2, 0.70, 0.71), (0.3, 0.2, 0.71, 0.70)
    worse, tied = (0.2, 0.3, 0.71, 0.70), (0.3, 0.2, 0.7, 0.7000001)
    assert said(both, worse, neither) == (
        "Over the seeds of both, the variant with the lower redundancy has the higher mean test "
        "AUC on 2 of 3 backbones."
    )
    assert said(both, tied, (0.3, 0.30001, 0.7, 0.8)).endswith(
        "on 1 of 1 backbone. On 2 backbones the two are equal in one of them."
    )
    assert said(tied) == "On 1 backbone the two are equal in one of them."
    assert said() == "No backbone has a seed of which both variants are recorded."


def test_ablation():
    arms = {"DIS": 0.7, "own field": 0.72, "linear": 0.7100001}
    assert text.ablation_sentence(0.71, arms, ["tanh", "SiLU"]) == (
        "The full GEN has test AUC 0.710000; higher: own field 0.720000; lower: DIS 0.700000; "
        "equal: linear 0.710000. Not complete: tanh and SiLU."
    )
    assert text.quote_name("masked, one vector") == '"masked, one vector"'
    assert text.quote_name("tanh") == "tanh"
    assert text.ablation_sentence(0.71, {}, []) == "The full GEN has test AUC 0.710000."
    assert text.ablation_sentence(None, arms, ["x"]).startswith("The full GEN is not complete")


def test_training():
    assert text.epochs_sentence({"DIS": [2, 4], "GEN": [1, 1]}) == (
        "By validation AUC the best epoch is between 2 and 4 for DIS and 1 for GEN."
    )
    assert "have no history" in text.epochs_sentence({"DIS": [], "GEN": []})
    assert text.change_sentence({"DIS": (9.0, 3.0), "GEN": (3.0, 9.0), "x": (1.0, 1.001)}) == (
        "While it trains, RankMe of DIS falls from 9.00 to 3.00, of GEN rises from 3.00 to 9.00 "
        "and of x stays from 1.00 to 1.00."
    )
    assert text.change_sentence({}) == ""


def test_cost():
    assert "not compared" in text.cost_sentence("training time", {}, None)
    assert text.cost_sentence("parameters", {"FM": 46.04}, None) == "parameters: +46.0 % (FM)."
    assert text.cost_sentence("parameters", {"FM": 46.04, "PNN": 10, "DCNv2": 20}, 25.35) == (
        "parameters: between +10.0 % (PNN) and +46.0 % (FM), +25.4 % on average."
    )
    assert "average" not in text.cost_sentence("memory", {"FM": 1.0, "PNN": 2.0}, None)


EVIL = '<script>alert("x")</script> & | [a](b) `c`'


@pytest.fixture
def page(tmp_path) -> Page:
    figures = tmp_path / "figure" / "d"
    figures.mkdir(parents=True)
    for name, size in (("small", (300, 150)), ("large", (2100, 1050))):
        Image.new("RGB", size, "white").save(figures / f"{name}.png")
    (figures / "small.csv").write_text("x\n")
    table = TextTable(
        "Accuracy", ["backbone", "AUC"], [[EVIL, "0.5"], ["all", "0.5"]], 1, 1, [EVIL]
    )
    blocks = [
        EVIL,
        table,
        Items((EVIL,)),
        Commands(("bash 2.reproduce.sh",)),
        Gallery((Picture(figures / "small", EVIL, EVIL), Picture(figures / "large", "two", "b"))),
    ]
    return Page(EVIL, EVIL, [Section("Spectra, and more", blocks), Section("Cost", [])])


def test_html_escapes_and_embeds(page):
    html = to_html(page)
    assert "<script" not in html
    assert html.count("&lt;script&gt;") == 9
    assert html.count('href="#') == html.count("<section id=") == 2
    assert '<a href="#spectra-and-more">' in html
    assert '<section id="spectra-and-more">' in html
    assert '<tr class="rule"><th scope="row">all</th>' in html
    images = re.findall(
        r'<img src="data:image/png;base64,([^"]+)" width="(\d+)" height="(\d+)"', html
    )
    sizes = [Image.open(io.BytesIO(base64.b64decode(content))).size for content, *_ in images]
    assert sizes == [(300, 150), (MAX_WIDTH, MAX_WIDTH // 2)]
    assert [(int(width), int(height)) for _, width, height in images] == sizes
    assert re.findall(r'(?:src|href)="(?!data:|#)', html) == []


def test_markdown_links_to_the_files(page, tmp_path):
    markdown = to_markdown(page, tmp_path / "results" / "d")
    assert "<script" not in markdown
    assert r"\[a\](b) \`c\`" in markdown
    links = re.findall(r"\]\((\.\./[^)]+)\)", markdown)
    assert links == [f"../../figure/d/{n}" for n in ("small.png", "small.csv", "large.png")]
    for link in links:
        assert (tmp_path / "results" / "d" / link).resolve().is_file()
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({line.replace(r"\|", "").count("|") for line in rows}) == 1
