"""Measured results go from results/ and figure/ into docs/, README.md and the project page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from fuxictr.errors import DataError
from scripts import build_page, measured, update_results

ROOT = Path(__file__).resolve().parents[2]
TABLE_MD = """demo_x1; seeds 1, 2. Mean over
  the seeds.

**Accuracy on the test split**

| backbone | DIS AUC |
| -------- | ------: |
| FM       |    0.25 |

**Cost of GEN**

| backbone | parameters |
| -------- | ---------: |
| FM       |         10 |
"""
TABLE_CSV = (
    "dataset_id,backbone,seeds,dis_AUC_mean,gen_AUC_mean,gen_expid\n"
    "demo_x1,FM,1 2,0.25,0.75,FM_demo_gen\n"
)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with two runs, their tables, and figures of several kinds."""
    tables, figures = tmp_path / "results" / "demo_x1", tmp_path / "figure" / "final" / "demo_x1"
    for folder in (tables, figures, tmp_path / "docs" / "results" / "demo_x1"):
        folder.mkdir(parents=True)
    (tables / "table.md").write_text(TABLE_MD)
    (tables / "table.csv").write_text(TABLE_CSV)
    for stem in ("FM_ablation_source", "FM_ablation_target"):  # the report shows the first alone
        (tables / f"{stem}.md").write_text(f"The arms of {stem}.\n")
        (tables / f"{stem}.csv").write_text("backbone,group,seeds\nFM,source,2 1\n")
        (tables / f"{stem}.tex").touch()
    (tables / "table.tex").touch()
    (tables / "report.md").write_text("A report.\n")
    names = ("FM_collapse", "FM_dis_correlation", "DCNv2_dis_correlation", "DCNv2_ab_source")
    names += ("redundancy", "FM_fields", "DeepFM_fields", "FM_collapse_curve")
    for name in (*names, "FM_layers", "PNN_collapse"):  # the report did not draw the last two
        Image.effect_noise((1600, 800), 60).save(figures / f"{name}.png")
    for name in ("FM_summary", "PNN_summary", "redundancy", "FM_fields"):
        (figures / f"{name}.csv").write_text("model\nFM\n")
    report = {
        "command": "bash 3.analyze.sh --report --dataset demo --rows 90",
        "train_commands": ["bash 2.reproduce.sh --model FM --dataset demo --seeds 1,2"],
        "dataset_id": "demo_x1",
        "backbones": [{"backbone": "FM", "seeds": [1, 2]}],
        "ablations": [{"backbone": "FM", "group": "source", "seeds": [1, 2]}],
        "figures": [f"figure/final/demo_x1/{name}.png" for name in names],
        "summaries": ["figure/final/demo_x1/FM_summary.csv"],
        "sizes": [{"train": 800, "valid": 100, "test": 100}],
        "devices": ["cpu (two threads)", "cuda (a GPU)"],
        "versions": [{"python": "3", "torch": "2"}, {"python": "4", "torch": "2"}, {"torch": "3"}],
    }
    (tables / "report.json").write_text(json.dumps(report))
    (tmp_path / "docs" / "results" / "demo_x1" / "Old_collapse.png").write_bytes(b"stale")
    (tmp_path / "docs" / "method.md").write_text("# The method\n")
    shutil.copytree(ROOT / "docs" / "assets", tmp_path / "docs" / "assets")
    (tmp_path / "README.md").write_text(
        "Before.\n\n```bash\nbash 2.reproduce.sh\n```\n\n## Highlights\n\n- **One** of\n  two lines"
        "\n\n## Results\n\n<!-- results: begin -->\nold\n<!-- results: end -->\n\nAfter.\n"
        "\n```bibtex\n@a{b}\n```\n"
    )
    return tmp_path


def test_what_was_measured_goes_into_the_docs(repository: Path) -> None:
    update_results.update(repository, "demo")
    folder = repository / "docs" / "results" / "demo_x1"
    assert {path.name for path in folder.iterdir()} == {
        *("table.md", "table.csv", "table.tex", "FM_summary.csv", "redundancy.csv", "README.md"),
        *(f"FM_ablation_source.{suffix}" for suffix in ("md", "csv", "tex")),
        *("FM_collapse.png", "DCNv2_dis_correlation.png", "DCNv2_ab_source.png"),
        *("redundancy.png", "DeepFM_fields.png"),
    }
    page = (folder / "README.md").read_text()
    assert "Measured on cpu (two threads); cuda (a GPU) with torch 2, 3." in page
    assert (
        "```bash\nbash 1.prepare.sh demo --rows 1000\n"
        "bash 2.reproduce.sh --model FM --dataset demo --seeds 1,2\n"
        "bash 3.analyze.sh --report --dataset demo --rows 90\n"
        "python scripts/update_results.py\n```"
    ) in page
    assert "Seeds: main table 1, 2; ablations 1, 2 (FM source)." in page
    assert "The arms of FM_ablation_source." in page and "A report." not in page
    assert page.index("## Spectra") < page.index("## Correlation") < page.index("## Ablations")
    assert page.count("![") == 5


def test_figures_are_small_and_say_how_they_were_made(repository: Path) -> None:
    update_results.update(repository, "demo")
    with Image.open(repository / "docs" / "results" / "demo_x1" / "FM_collapse.png") as image:
        assert image.size == (1000, 500) and image.mode == "P"
        assert image.info["Creator"] == "python scripts/update_results.py"


def test_the_readme_has_the_main_table_and_keeps_the_rest(repository: Path) -> None:
    update_results.update(repository, "demo")
    text = (repository / "README.md").read_text()
    assert text.startswith("Before.") and "\n\nAfter.\n" in text and "old" not in text
    assert "Mean over the seeds.\n\n| backbone | DIS AUC |" in text
    assert "Cost of GEN" not in text and "parameters" not in text
    assert "(docs/results/demo_x1/redundancy.png)" in text and "FM_collapse" not in text


def test_the_page_follows_and_a_second_run_changes_nothing(repository: Path) -> None:
    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}

    update_results.update(repository, "demo")
    first = content()
    page = (repository / "docs" / "index.html").read_text()
    assert page == build_page.page(repository)
    assert "0.250000" in page and "<strong>One</strong> of two lines" in page and "@a{b}" in page
    assert 'src="results/demo_x1/FM_collapse.png" width="1000" height="500"' in page
    update_results.update(repository, "demo")
    assert content() == first


def change_report(repository: Path, **changes: object) -> None:
    path = repository / "results" / "demo_x1" / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_missing_results_name_the_commands_and_change_nothing(repository: Path) -> None:
    folder = repository / "results" / "demo_x1"
    lost = {
        "report.json": "cannot be read .*; run: bash 3.analyze.sh --report --dataset demo",
        "table.csv": "is missing; run: bash 2.reproduce.sh --model FM --dataset demo --seeds 1,2",
        "FM_ablation_source.tex": "is missing; run: bash 2.reproduce.sh --model FM",
        "../../figure": "names missing figures, such as figure/final/.*; run: bash 3.analyze.sh",
    }
    for name, message in lost.items():
        shutil.move(folder / name, repository / "aside")
        with pytest.raises(DataError, match=message):
            update_results.update(repository, "demo")
        shutil.move(repository / "aside", folder / name)
    text = (repository / "README.md").read_text()
    (repository / "README.md").write_text("no marks")
    with pytest.raises(DataError, match="the marks .* are missing"):
        update_results.update(repository, "demo")
    (repository / "README.md").write_text(text)
    change_report(repository, figures=[])
    with pytest.raises(DataError, match="names no figures"):
        update_results.update(repository, "demo")
    assert (repository / "docs" / "results" / "demo_x1" / "Old_collapse.png").is_file()
    assert "old" in (repository / "README.md").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbones": [{"backbone": "FM", "seeds": [1, 2, 3]}]}, "table.csv lacks the seeds of"),
        (
            {"backbones": [{"backbone": name, "seeds": [1, 2]} for name in ("FM", "PNN", "DCNv2")]},
            "table.csv lacks the seeds of PNN, DCNv2 that the report shows; run: bash 2.reprod",
        ),
        (
            {"ablations": [{"backbone": "FM", "group": "source", "seeds": [1]}]},
            "FM_ablation_source.csv lacks the seeds of FM",
        ),
        ({"sizes": [{"train": 1}, {"train": 2}]}, "different sizes"),
    ],
)
def test_tables_of_other_runs_than_the_report_are_refused(
    repository: Path, changes: dict, message: str
) -> None:
    change_report(repository, **changes)
    with pytest.raises(DataError, match=message):
        update_results.update(repository, "demo")


def test_the_page_says_the_seeds_that_each_backbone_has(repository: Path) -> None:
    table = repository / "results" / "demo_x1" / "table.csv"
    table.write_text(TABLE_CSV + "demo_x1,PNN,1,0.25,0.75,PNN_demo_gen\n")
    update_results.update(repository, "demo")
    page = (repository / "docs" / "index.html").read_text()
    assert "over seeds 1, 2 (FM) and 1 (PNN), lift" in page
    text = (repository / "README.md").read_text()
    assert "main table 1, 2 (FM) and 1 (PNN); ablations 1, 2 (FM source)." in text


def test_a_colour_bar_keeps_its_colours(tmp_path: Path) -> None:
    picture = Image.effect_noise((900, 600), 60).convert("RGB")  # many greys, as of soft text
    bar = [(255 - 2 * i, abs(255 - 4 * i), 2 * i) for i in range(128)]
    for place, colour in enumerate(bar):
        picture.paste(colour, (880, 4 * place, 884, 4 * place + 4))
    picture.save(tmp_path / "a.png")
    update_results.shrink(tmp_path / "a.png", tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as image:
        small = image.convert("RGB")
    found = [small.getpixel((882, 4 * i + 2)) for i in range(128)]
    errors = [max(map(abs, map(int.__sub__, a, b))) for a, b in zip(found, bar, strict=True)]
    assert max(errors) < 30


def test_a_figure_of_an_unknown_kind_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "FM_new.png").touch()
    with pytest.raises(DataError, match=r"FM_new.png: .* knows no kind"):
        measured.find_figures(tmp_path)


def test_figures_say_what_they_show(tmp_path: Path) -> None:
    for name in ("PNN_gen_correlation", "DCNv2_ab_source", "redundancy", "my_FM_collapse_curve"):
        (tmp_path / f"{name}.png").touch()
    found = {figure.path.stem: figure for figure in measured.find_figures(tmp_path)}
    assert found["PNN_gen_correlation"].alt.endswith("interacting sides of GEN IPNN.")
    assert found["DCNv2_ab_source"].caption == "DCN V2, source"
    assert found["redundancy"].caption == "All backbones"
    assert found["my_FM_collapse_curve"].kind.heading == "Collapse during training"
