"""Nobody has to read a sentence of README.md or docs/ twice: none has more than thirty words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST_WORDS = 30
# Generated from the classes' docstrings, or from results.
GENERATED = {"docs/config.md"}


def pages() -> list[str]:
    paths = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("model_zoo/*/README.md"),
        *(ROOT / name / "README.md" for name in ("benchmarks", "data")),
    ]
    names = {path.relative_to(ROOT).as_posix() for path in paths}
    return sorted(names - GENERATED - {"CHANGELOG.md"})


def sentences(text: str) -> list[str]:
    """Returns the sentences of a page; code, a formula, a path and a link count as one word."""
    text = re.sub(r"^```.*?^```$", "\n\n", text, flags=re.S | re.M)
    text = re.sub(r"<!-- results: begin -->.*<!-- results: end -->", "", text, flags=re.S)
    text = re.sub(r"^(\||#|!\[| {4}).*$", "\n", text, flags=re.M)  # tables, headings, formulas
    text = re.sub(r"`[^`]*`|\$[^$]*\$", "code", text)
    text = re.sub(r"!?\[[^\]/]*/[^\]]*\]\([^)]*\)", "code", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    paragraphs = re.split(r"\n\s*\n|\n(?=\s*(?:-|\d+\.) )", text)
    joined = (" ".join(paragraph.split()) for paragraph in paragraphs)
    return [
        part
        for text in joined
        for part in re.split(r"(?<=[.!?])[)*]* (?=[A-Z0-9*(\"`]|code)", text)
    ]


def words(sentence: str) -> int:
    return len(re.findall(r"[^\s]*\w[^\s]*", sentence))


@pytest.mark.parametrize("page", pages())
def test_no_sentence_is_long(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    long = [s for s in sentences(text) if words(s) > MOST_WORDS]
    assert not long, f"{len(long)} of more than {MOST_WORDS} words:\n" + "\n".join(long)
