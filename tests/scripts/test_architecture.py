"""docs/architecture.md: its map is that of the imports, and what it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from scripts import draw_architecture

ROOT = Path(__file__).resolve().parents[2]
TEXT = draw_architecture.PAGE.read_text(encoding="utf-8")
# A file, and a function, class or method of it.
NAMED = re.findall(r"`(fuxictr/[\w/]+\.py)` `([\w.]+)`", TEXT)
PATHS = sorted(set(re.findall(r"`((?:fuxictr|model_zoo|tests|scripts)/[\w./]+)`", TEXT)))


def test_the_map_is_drawn_from_the_imports() -> None:
    assert draw_architecture.with_map(TEXT) == TEXT, "run: python scripts/draw_architecture.py"


def test_a_circle_is_refused() -> None:
    with pytest.raises(ValueError, match="cycle"):
        draw_architecture.floors_of({"a": {"b"}, "b": {"a"}})


def test_arrows_that_follow_from_others_are_left_out() -> None:
    imports = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert draw_architecture.floors_of(imports) == {"a": 2, "b": 1, "c": 0}
    assert draw_architecture.nearest(imports, imports["a"]) == {"b"}


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_what_the_ways_name_is_there(path: str, name: str) -> None:
    found = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    for part in name.split("."):
        nodes = [node for node in found.body if getattr(node, "name", None) == part]
        assert nodes, f"{path} has no {name}"
        (found,) = nodes


@pytest.mark.parametrize("path", PATHS)
def test_paths_are_there(path: str) -> None:
    assert (ROOT / path).exists()


def test_the_ways_are_found() -> None:
    assert len(NAMED) >= 15
    assert len(PATHS) >= 40
