"""The docs: generated pages are current, links lead somewhere, words and numbers are the code's."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import typing
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from fuxictr.config import GeneratorConfig, list_expids
from fuxictr.config.coercion import dataclass_annotations
from fuxictr.config.old_keys import REFERENCE_KEYS, RENAMED_MODEL_KEYS
from fuxictr.config.sections import IGNORED_KEYS, RENAMED_KEYS
from fuxictr.datasets import registry
from fuxictr.experiment.tables.published import read_published
from fuxictr.experiment.zoo.ablations import GROUPS
from fuxictr.experiment.zoo.models import backbones, find_folder
from scripts import build_page, measured, write_config_reference

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGE = DOCS / "index.html"
# What commands write: a link into it is dead in a fresh copy of the repository, but for one file.
WRITTEN = {"data", "results", "figure"}
DATA_README = ROOT / "data" / "README.md"
DATASET_BLOCKS = yaml.safe_load((ROOT / "model_zoo" / "dataset_config.yaml").read_text())
VOID = {"meta", "img", "source", "br", "link"}


class Page(HTMLParser):
    """The elements of a page, and whether they are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def named(self, *tags: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


def markdown_files() -> list[Path]:
    folders = [ROOT, DOCS, ROOT / "benchmarks", DATA_README.parent]
    files = [path for folder in folders for path in sorted(folder.glob("*.md"))]
    files += sorted((DOCS / "results").glob("*/README.md"))
    return files + sorted((ROOT / "model_zoo").glob("*/README.md"))


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M))


def links(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".html":
        elements = Page(text).elements
        return [a[name] for _, a in elements for name in ("href", "src", "srcset") if name in a]
    return re.findall(r"\]\(([^)\s]+)\)", without_code(text))


def anchors(path: Path) -> set[str]:
    """Returns the anchors of a file: ids in HTML; in Markdown the headings as GitHub names them."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".html":
        return {attributes["id"] for _, attributes in Page(text).elements if "id" in attributes}
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "path", [*markdown_files(), PAGE], ids=lambda path: str(path.relative_to(ROOT))
)
def test_links_lead_to_files_and_anchors_of_the_repository(path: Path) -> None:
    for link in links(path):
        if re.match(r"(https?|mailto):", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.is_relative_to(ROOT), link
        assert target.exists(), f"{link}: no such file"
        is_written = target.relative_to(ROOT).parts[0] in WRITTEN if target != ROOT else False
        assert not is_written or target == DATA_README, link
        if anchor:
            assert anchor in anchors(target), f"{link}: no such anchor"


def test_a_page_of_the_docs_is_reached_from_the_front() -> None:
    reached, left = set(), [ROOT / "README.md"]
    while left:
        path = left.pop()
        if path in reached or path.suffix not in (".md", ".html"):
            continue
        reached.add(path)
        relative = [link.partition("#")[0] for link in links(path) if "://" not in link]
        left += [(path.parent / link).resolve() for link in relative if link]
    assert {*DOCS.glob("*.md"), PAGE} <= reached


def test_the_config_reference_is_current() -> None:
    made, kept = write_config_reference.page(), (DOCS / "config.md").read_text(encoding="utf-8")
    assert kept == made, "run: python scripts/write_config_reference.py"
    words = (*IGNORED_KEYS, *RENAMED_KEYS, *REFERENCE_KEYS, *RENAMED_MODEL_KEYS)
    for name in ("analyze_every", "use_gen_rst", "share_embedding", *words):
        assert f"`{name}`" in made


def test_every_cell_of_the_config_reference_says_something() -> None:
    for line in (DOCS / "config.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            assert len(cells) == 4 and all(cells), line


def test_the_page_is_current() -> None:
    made = build_page.page(ROOT)
    assert PAGE.read_text(encoding="utf-8") == made, "run: python scripts/build_page.py"


def test_the_page_asks_for_nothing_but_its_own_files() -> None:
    text = PAGE.read_text(encoding="utf-8")
    page = Page(text)
    assert not page.open, "an element is not closed"
    assert not page.named("script", "link", "iframe", "object", "embed", "base")
    assert not re.search(r"url\(|@import|javascript:", text)
    assert not any(name.startswith("on") for _, a in page.elements for name in a)
    loaded = [a[name] for _, a in page.elements for name in ("src", "srcset") if name in a]
    assert loaded and all((DOCS / source).is_file() for source in loaded)


def test_the_page_can_be_read_without_seeing_it() -> None:
    page = Page(PAGE.read_text(encoding="utf-8"))
    assert page.named("html")[0]["lang"] == "en"
    assert all(len(a["alt"]) > 20 and {"width", "height"} <= set(a) for a in page.named("img"))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["aria-labelledby"] for _, a in page.elements if "aria-labelledby" in a} <= set(ids)
    assert all("scope" in attributes for attributes in page.named("th"))


def luminance(colour: str) -> float:
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_the_page_has_contrast(theme: int) -> None:
    """WCAG AA asks for 4.5 between a text and what it stands on."""
    text = PAGE.read_text(encoding="utf-8")
    themes = re.findall(r":root \{(.*?)\}", text, re.S)
    assert len(themes) == 2
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", themes[theme]))
    for ground in ("paper", "panel"):
        for ink in ("ink", "soft", "link", "raw", "made"):
            pair = sorted((luminance(colours[ground]), luminance(colours[ink])))
            assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, (ground, ink)


def table_words(text: str, section: str) -> list[str]:
    """Returns the words of the first column of the table under a bold heading."""
    _, _, rest = text.partition(f"**{section}")
    rows = re.findall(r"^\| (`.+?) \|", rest.partition("\n**")[0], flags=re.M)
    return [word for row in rows for word in re.findall(r"`(\w+)`", row)]


@pytest.mark.parametrize(("section", "key"), [("Source", "source"), ("Encoder", "encoder")])
def test_the_method_names_every_word(section: str, key: str) -> None:
    text = (DOCS / "method.md").read_text(encoding="utf-8")
    assert sorted(table_words(text, section)) == sorted(words_of(key))


def test_the_method_names_every_target_and_activation() -> None:
    text = (DOCS / "method.md").read_text(encoding="utf-8")
    assert set(words_of("target")) <= set(table_words(text, "Target"))
    _, _, line = text.partition("**Activation** (`emb_activation`): ")
    assert set(words_of("emb_activation")) == set(re.findall(r"`(\w+)`", line.partition("\n")[0]))
    assert all(f"**{group.capitalize()}" in text for group in GROUPS)


def words_of(key: str) -> Iterator[str]:
    annotation = dataclass_annotations(GeneratorConfig)[key]
    literals = [a for a in (annotation, *typing.get_args(annotation)) if typing.get_args(a)]
    return (word for word in typing.get_args(literals[-1]) if isinstance(word, str))


def test_the_method_states_the_gammas_of_the_configs() -> None:
    text = (DOCS / "method.md").read_text(encoding="utf-8")
    head = next(line for line in text.splitlines() if line.startswith("| | FM |"))
    names = [cell.strip() for cell in head.strip("|").split("|")][1:]
    assert sorted(names) == sorted(backbones("avazu"))
    for dataset in ("avazu", "criteo"):
        row = re.search(rf"^\| {dataset.capitalize()} (\|.*)\|$", text, flags=re.M)
        assert row
        stated = [float(cell) for cell in row[1].strip("|").split("|")]
        for name, gamma in zip(names, stated, strict=True):
            expids = list_expids(find_folder(name) / "config")
            assert expids[f"{name}_{dataset}_gen"]["gamma"] == gamma, (name, dataset)


def test_figures_md_knows_every_figure_and_script() -> None:
    text = (DOCS / "figures.md").read_text(encoding="utf-8")
    for script in ROOT.glob("plot_paper_*.py"):
        assert script.name in text
    for kind in measured.KINDS:
        stem = re.sub(r"\(\?P<(\w+)>[^)]*\)", r"<\1>", kind.pattern)
        assert f"`{stem}`" in text, stem


def section(path: Path, heading: str) -> str:
    return path.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def test_the_readme_states_the_papers_figures_as_they_are_kept() -> None:
    text = section(ROOT / "README.md", "What the paper reports")
    assert "not measured here" in text
    kept = [row for row in read_published() if row["dataset"] == "all"]
    assert len(kept) == 10
    for row in kept:
        assert f"{float(row['value']):+g}" in text, row
    stated = re.findall(r"[+-]\d+\.\d+", text)
    assert sorted(map(float, stated)) == sorted(float(row["value"]) for row in kept)


def test_the_citation_has_whole_names_and_the_links_of_the_paper() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    entry = re.search(r"```bibtex\n(.*?)```", text, re.S)
    assert entry
    authors = re.search(r"author\s*= \{(.*?)\}", entry[1], re.S)
    assert authors
    names = [name.split(", ") for name in " ".join(authors[1].split()).split(" and ")]
    surnames = ["Yin", "Pan", "Wang", "Wang", "Zhang", "Jiang", "Lian", "Chen"]
    assert [name[0] for name in names] == surnames
    assert all(len(name) == 2 and len(name[1]) > 1 for name in names)
    for link in ("https://arxiv.org/abs/2512.14041", "https://proceedings.mlr.press/v267/"):
        assert f"({link}" in text
    assert "open an issue" in section(ROOT / "README.md", "Contact")


def test_data_readme_says_where_each_dataset_goes() -> None:
    text = DATA_README.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == len(registry.DATASETS)
    for dataset, row in zip(
        sorted(registry.DATASETS, key=lambda d: d.name.lower()),
        sorted(rows, key=lambda r: r.lower()),
        strict=True,
    ):
        assert row.startswith(f"| {dataset.name}"), row
        folder = registry.raw_dir("", dataset).as_posix()
        assert f"| `{folder}/` |" in row
        alias = registry.alias_of(dataset.name)
        assert f"`bash 1.prepare.sh {alias}`" in row
        named = re.findall(r"^\| [^|]+ \| `?(\w+)`? \|", row)[0]
        assert named == (alias if backbones(alias) else "none")
        if dataset.dataset_id in DATASET_BLOCKS:
            block = DATASET_BLOCKS[dataset.dataset_id]
            assert block["train_data"] == f"../../{folder}/train.csv"


def test_git_keeps_the_readme_of_data_and_nothing_else_of_it(tmp_path: Path) -> None:
    shutil.copyfile(ROOT / ".gitignore", tmp_path / ".gitignore")
    kept, written = ("data/README.md",), ("data/Demo/demo_x1/train.csv", "data/README.md.1")
    for name in (*kept, *written):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    command = ["git", "ls-files", "--others", "--exclude-standard", "data"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == list(kept)


def test_inline_html_escapes_and_links() -> None:
    line = "**a < b** and `x_i`: [data](docs/data.md), [log](CHANGELOG.md), [web](https://a.b/c)"
    assert build_page.inline_html(line) == (
        "<strong>a &lt; b</strong> and <code>x_i</code>: "
        '<a href="data.md">data</a>, <a href="../CHANGELOG.md">log</a>, '
        '<a href="https://a.b/c">web</a>'
    )


def rendered(folder: Path) -> str:
    parts = build_page.TEMPLATES.get_template("page_parts.html").module
    return str(parts.results(build_page.read_dataset(folder)))


def test_tables_of_the_page_tolerate_absent_columns(tmp_path: Path) -> None:
    folder = tmp_path / "some_x1"
    folder.mkdir()
    (folder / "table.csv").write_text(
        "backbone,gen_expid,seeds,dis_AUC_mean,gen_AUC_mean,AUC_lift_percent\n"
        "A<B,A_gen,1 2,0.5,0.75,50\n"
        "C,C_gen,1 2,,0.25,\n"
        "average of all,,,0.5,0.75,50\n"
    )
    part = rendered(folder)
    cells = [html.unescape(cell) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", part)]
    auc = cells[: cells.index("average of all")]
    assert auc[5:] == ["A<B", "0.500000", "0.750000", "+50.000", "", "C", "", "0.250000", "", ""]
    assert "parameters" not in part and "On A&lt;B GEN has the higher test AUC" in part
    assert "No table" in rendered(tmp_path / "none")
