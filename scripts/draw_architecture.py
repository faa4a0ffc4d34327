"""Draws the map of docs/architecture.md from the imports and docstrings of fuxictr/.

    python scripts/draw_architecture.py

Only what lies between the marks of the page is written; the rest of it is written by hand.
"""

from __future__ import annotations

import ast
import re
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from fuxictr.cli.command import run_cli  # noqa: E402
from fuxictr.files import write_atomically  # noqa: E402

PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- map: begin -->", "<!-- map: end -->"
# The packages whose rooms are drawn, with what the drawing shows.
HOUSES = {
    "fuxictr": "The house",
    "fuxictr.experiment": "experiment/: runs, their results, and what is made from them",
    "fuxictr.pytorch": "pytorch/: models and how they are trained",
    "fuxictr.preprocess": "preprocess/: raw files in, encoded rows out",
}
# Earlier names of commands: they import upwards, which the import contracts except as well.
ALIASES = {"fuxictr.experiment.run_expid", "fuxictr.experiment.show"}
ALIASES |= {"fuxictr.experiment.tables.__main__", "fuxictr.__main__"}


def main() -> None:
    """Writes the page."""
    write_atomically(PAGE, with_map(PAGE.read_text(encoding="utf-8")))
    print(PAGE.relative_to(ROOT))


def with_map(page: str) -> str:
    """Returns the page with the map as the code has it now."""
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    graph = grimp.build_graph("fuxictr", exclude_type_checking_imports=True, cache_dir=None)
    parts = [house_part(graph, house, title) for house, title in HOUSES.items()]
    return "\n".join([before + BEGIN, *parts, END + after])


def house_part(graph: grimp.ImportGraph, house: str, title: str) -> str:
    """Returns the rooms of a package: a drawing of who imports whom, and a sentence a room."""
    imports = rooms_and_imports(graph, house)
    floors = floors_of(imports)
    lines = [f"### {title}", "", "```mermaid", "flowchart TD"]
    for floor in range(max(floors.values()), -1, -1):
        lines += [f"  {room}[{room}]" for room in sorted(imports) if floors[room] == floor]
    for room, below in sorted(imports.items()):
        lines += [f"  {room} --> {other}" for other in sorted(nearest(imports, below))]
    rows = [
        f"| `{_path(house, room)}` | {sentence(f'{house}.{room}')} |"
        for room in sorted(imports, key=lambda room: (-floors[room], room))
    ]
    return "\n".join([*lines, "```", "", "| room | holds |", "|---|---|", *rows, ""])


def rooms_and_imports(graph: grimp.ImportGraph, house: str) -> dict[str, set[str]]:
    """Returns room -> the rooms of the same package that it imports from."""
    depth = house.count(".") + 1
    rooms: dict[str, set[str]] = {}
    for module in graph.modules - ALIASES:
        if not module.startswith(f"{house}."):
            continue
        room = module.split(".")[depth]
        imported = graph.find_modules_directly_imported_by(module)
        others = {name.split(".")[depth] for name in imported if name.startswith(f"{house}.")}
        rooms.setdefault(room, set()).update(others - {room})
    return rooms


def floors_of(imports: dict[str, set[str]]) -> dict[str, int]:
    """Returns room -> its floor: one above the highest that it imports from.

    Raises:
        CycleError: rooms import from one another in a circle.
    """
    floors: dict[str, int] = {}
    for room in TopologicalSorter(imports).static_order():  # what is imported comes first
        floors[room] = 1 + max((floors[other] for other in imports[room]), default=-1)
    return floors


def nearest(imports: dict[str, set[str]], below: set[str]) -> set[str]:
    """Returns the rooms that are not reached through another one; the drawing shows only those."""

    def reached(room: str) -> set[str]:
        return imports[room].union(*(reached(other) for other in imports[room]))

    return below - set().union(*(reached(room) for room in below))


def sentence(module: str) -> str:
    """Returns the first sentence of a module's docstring."""
    path = ROOT / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return re.sub(r"\s+", " ", text.split("\n\n")[0]).replace("|", r"\|")


def _path(house: str, room: str) -> str:
    path = f"{house}.{room}".replace(".", "/")
    return f"{path}/" if (ROOT / path).is_dir() else f"{path}.py"


if __name__ == "__main__":
    run_cli(main)
