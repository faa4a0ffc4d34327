"""Every code block of README.md and docs/ is known, and what can run offline runs as written."""

from __future__ import annotations

import csv
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fuxictr.preprocess import FeatureProcessor
from tests.preloaded import python

from .conftest import copy_tree
from .documented import NO_CODE, NOT_RUN, PYTHON, RUN, YAML, Block, find_blocks, reason_not_run

BASH = find_blocks("bash")
ROWS = 3000  # of the demo log; the commands take what lies in data/


@pytest.mark.parametrize("block", find_blocks(), ids=lambda block: block.name)
def test_every_block_is_known(block: Block) -> None:
    assert block.kind in (*NO_CODE, "bash", "python", "yaml"), f"{block.name}: a new kind"
    first = block.text.splitlines()[0]
    if block.kind == "python":
        assert first in PYTHON, f"{block.name}: '{first}' is not in documented.py"
    if block.kind == "yaml":
        assert first in YAML, f"{block.name}: '{first}' is not in documented.py"
    for command in block.commands if block.kind == "bash" else ():
        known = (command in RUN, reason_not_run(command) is not None)
        assert any(known), (
            f"{block.name}: '{command}' is not in documented.py: run it, or say why not"
        )
        assert not all(known), f"{block.name}: '{command}' is in RUN and in NOT_RUN"


def test_no_block_is_known_that_no_page_has() -> None:
    commands = {command for block in BASH for command in block.commands}
    firsts = {block.text.splitlines()[0] for block in find_blocks()}
    assert not set(RUN) - commands
    assert not {*PYTHON, *YAML} - firsts
    unused = [s for s in NOT_RUN if not any(c == s.strip() or c.startswith(s) for c in commands)]
    assert not unused


class Tree:
    """A copy of the tree in which commands run as a reader types them."""

    def __init__(self, path: Path, programs: Path) -> None:
        self.path, self.programs = path, programs
        self.environment = {
            **os.environ,
            "PYTHON": python(),
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        }
        self.done: set[str] = set()

    def run_documented(self, command: str) -> None:
        """Runs a command of RUN after what it needs, once."""
        if command not in self.done:
            for need in RUN[command].needs:
                self.prepare(need)
            self.run(command)
            self.done.add(command)

    def run(self, command: str) -> str:
        """Returns what a command printed; it must succeed and warn of nothing."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.path,
            capture_output=True,
            text=True,
            env=self.environment,
            check=False,
        )
        printed = done.stdout + done.stderr
        assert done.returncode == 0, f"{command}\n{printed[-3000:]}"
        assert "WARNING" not in printed and "Warning" not in printed, f"{command}\n{printed}"
        return printed

    def prepare(self, need: str) -> None:
        """Does what a command needs, once; see documented.Run."""
        if need in ("own", "new_rows") or need not in self.done:  # both write new.csv
            _PREPARATIONS[need](self)
            self.done.add(need)


def _make_demo(tree: Tree) -> None:
    tree.run(f"bash 1.prepare.sh demo --rows {ROWS}")


def _run_demo(tree: Tree) -> None:
    tree.run("python model_zoo/DeepFM/run_expid.py --expid DeepFM_demo_gen --gpu -1")


def _write_own_data(tree: Tree) -> None:
    for block in find_blocks("yaml"):
        name = block.text.splitlines()[0].removeprefix("# ")
        if block.page == "README.md":
            (tree.path / name).parent.mkdir(exist_ok=True)
            (tree.path / name).write_text(block.text, encoding="utf-8")
    rng = np.random.default_rng(0)
    for split, rows in (("train", 2000), ("valid", 400), ("test", 400), ("new", 50)):
        users, items, cities = (rng.integers(0, n, rows) for n in (30, 40, 6))
        price = rng.lognormal(3, 1, rows).round(2)
        chance = 1 / (1 + np.exp(-np.sin(users) - np.cos(items) + 0.01 * price))
        columns = {
            "user": [f"u{user}" for user in users],
            "item": [f"i{item}" for item in items],
            "city": [f"c{city}" for city in cities],
            "price": price.tolist(),
            "click": (rng.random(rows) < chance).astype(int).tolist(),
        }
        path = tree.path / ("new.csv" if split == "new" else f"my_config/{split}.csv")
        if split == "new":
            del columns["click"]
        with open(path, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([columns, *zip(*columns.values(), strict=True)])


def _write_my_model(tree: Tree) -> None:
    page = "docs/add_a_backbone.md"
    folder = tree.path / "model_zoo" / "MyModel"
    shutil.copytree(tree.path / "model_zoo" / "FM", folder)
    (folder / "src" / "FM.py").unlink()
    source = next(block.text for block in find_blocks("python") if block.page == page)
    (folder / "src" / "MyModel.py").write_text(source, encoding="utf-8")
    config = "".join(block.text for block in find_blocks("yaml") if block.page == page)
    (folder / "config" / "model_config.yaml").write_text(config, encoding="utf-8")


def _write_new_rows(tree: Tree) -> None:
    shutil.copyfile(tree.path / "data" / "Demo" / "demo_x1" / "test.csv", tree.path / "new.csv")


_PREPARATIONS: dict[str, Callable[[Tree], None]] = {
    "demo": _make_demo,
    "demo_run": _run_demo,
    "own": _write_own_data,
    "MyModel": _write_my_model,
    "new_rows": _write_new_rows,
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    programs = tmp_path_factory.mktemp("bin")
    (programs / "python").write_text(f'#!/bin/sh\nexec "{python()}" "$@"\n')
    (programs / "python").chmod(0o755)
    return Tree(copy_tree(tmp_path_factory.mktemp("documented") / "GE4Rec"), programs)


def chosen(slow: bool) -> list[tuple[str, str]]:
    """Returns (block, command) of those that are run, in the order of reading, each once."""
    found: dict[str, str] = {}
    for block in BASH:
        for command in block.commands:
            if command in RUN and RUN[command].slow == slow:
                found.setdefault(command, block.name)
    return [(name, command) for command, name in found.items()]


@pytest.mark.parametrize(("block", "command"), chosen(slow=False))
def test_a_command_runs_as_written(tree: Tree, block: str, command: str) -> None:
    tree.run_documented(command)


@pytest.mark.slow
@pytest.mark.parametrize(("block", "command"), chosen(slow=True))
def test_a_long_command_runs_as_written(tree: Tree, block: str, command: str) -> None:
    if "1000000" in command:  # this one writes another demo log
        tree = Tree(copy_tree(tree.path.parent / "million"), tree.programs)
    tree.run_documented(command)


def test_the_own_data_example_keeps_its_files_in_its_folder(tree: Tree) -> None:
    train, predict, *_ = (command for command, how in RUN.items() if how.needs == ("own",))
    tree.run_documented(train)
    tree.prepare("own")
    tree.run(predict)
    folder = tree.path / "my_config"
    assert (folder / "data" / "my_clicks" / "feature_map.json").is_file()
    assert (folder / "checkpoints" / "my_clicks" / "DeepFM_mine_gen.model").is_file()
    scores = pl.read_parquet(tree.path / "scores.parquet")
    assert scores.columns[-1] == "y_pred"
    assert len(scores) == 50 and scores["y_pred"].is_between(0, 1).all()


def python_block(first: str) -> str:
    return next(b.text for b in find_blocks("python") if b.text.splitlines()[0] == first)


def test_the_own_processor_of_the_docs_makes_a_column(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(python_block("# own.py, named by key processor: own.py"), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("own_of_the_docs", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    processor = module.FeatureProcessor(
        dataset_id="own",
        feature_cols=[{"name": "c", "dtype": "str", "type": "categorical"}],
        label_col={"name": "y", "dtype": "float"},
    )
    assert isinstance(processor, FeatureProcessor)
    made = pl.DataFrame({"c": ["red", "blue"]}).select(processor.first_letter("c"))
    assert made.to_series().to_list() == ["r", "b"]


def test_scoring_from_python_runs_as_written(tree: Tree) -> None:
    for need in ("demo", "demo_run", "new_rows"):
        tree.prepare(need)
    source = python_block("from fuxictr.experiment.scoring import score")
    frame = "import polars as pl\nframe = pl.read_csv('new.csv', infer_schema=False)\n"
    check = "print(scores.columns[-1], len(scores) == len(frame))\n"
    (tree.path / "score.py").write_text(frame + source + check, encoding="utf-8")
    assert "y_pred True" in tree.run("python score.py")
