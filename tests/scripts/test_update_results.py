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
    (tables / "FM_ablation_source.md").write_text("The arms.\n")
    (tables / "report.md").write_text("A report.\n")
    run = {"dataset_id": "demo_x1", "device": "cpu (two threads)", "versions": {"torch": "2"}}
    run["rows"] = {"train": 800, "valid": 100, "test": 100}
    rows = [run, {"dataset_id": "demo_x1", "failed": "no memory"}, {"dataset_id": "other"}]
    store = tmp_path / "results" / "results.jsonl"
    store.write_text("".join(json.dumps(row) + "\n" for row in rows))
    names = ("FM_collapse", "FM_dis_correlation", "DCNv2_dis_correlation", "DCNv2_ab_source")
    for name in (*names, "redundancy", "FM_fields", "DeepFM_fields", "FM_collapse_curve"):
        Image.effect_noise((1600, 800), 60).save(figures / f"{name}.png")
    (figures / "FM_summary.csv").write_text("model\nFM\n")
    (figures / "FM_fields.csv").write_text("field\na\n")
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
        *("table.md", "table.csv", "FM_ablation_source.md", "FM_summary.csv", "README.md"),
        *("FM_collapse.png", "DCNv2_dis_correlation.png", "DCNv2_ab_source.png"),
        *("redundancy.png", "DeepFM_fields.png"),
    }
    page = (folder / "README.md").read_text()
    assert "Measured on cpu (two threads) with torch 2." in page
    assert "bash 1.prepare.sh demo --rows 1000\nbash 2.reproduce.sh --paper" in page
    assert "--seeds 2 --ablation all" in page and "The arms." in page and "A report." not in page
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


def test_missing_results_name_the_commands_and_change_nothing(repository: Path) -> None:
    for lost in (repository / "results" / "demo_x1" / "table.csv", repository / "figure"):
        shutil.move(lost, repository / "aside")
        with pytest.raises(DataError, match="is missing; run: bash 1.* && bash 3.analyze.sh --rep"):
            update_results.update(repository, "demo")
        shutil.move(repository / "aside", lost)
    assert (repository / "docs" / "results" / "demo_x1" / "Old_collapse.png").is_file()
    assert "old" in (repository / "README.md").read_text()
    (repository / "README.md").write_text("no marks")
    with pytest.raises(DataError, match="the marks .* are missing"):
        update_results.update(repository, "demo")
    assert (repository / "docs" / "results" / "demo_x1" / "Old_collapse.png").is_file()


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
    assert found["my_FM_collapse_curve"].kind.heading == "Collapse while training"
