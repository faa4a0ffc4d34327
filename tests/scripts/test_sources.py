"""What holds for all sources: scripts parse, no string is run, nothing unpickled, light imports."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNVISITED = {"data", "checkpoints", "results", "figure", "__pycache__"}

BANNED_MODULES = {"pickle", "cPickle", "dill", "marshal", "shelve"}
BANNED_CALLS = {"eval", "exec", "os.system", "os.popen", "yaml.unsafe_load", "yaml.full_load"}
BANNED_IN_SHELL = re.compile(r"(^|[;&|(]|\bthen|\bdo)\s*eval\s")


def source_files(*suffixes: str) -> list[Path]:
    """Returns the project's own files, without what commands write and hidden folders but .ci."""
    files = []
    for folder, children, names in os.walk(ROOT):
        hidden = {child for child in children if child.startswith(".") and child != ".ci"}
        children[:] = sorted(set(children) - hidden - UNVISITED)
        files += [Path(folder, name) for name in sorted(names) if name.endswith(suffixes)]
    return files


def banned_call(call: ast.Call) -> str | None:
    """Returns what is wrong with a call, or None."""
    name = ast.unparse(call.func)
    arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if name in BANNED_CALLS:
        return f"{name}(...)"
    if arguments.get("shell") == "True":
        return f"{name}(..., shell=True)"
    if arguments.get("allow_pickle") == "True":
        return f"{name}(..., allow_pickle=True)"
    if name == "yaml.load":
        return "yaml.load(...); use yaml.safe_load"
    if name == "torch.load" and arguments.get("weights_only") != "True":
        return "torch.load(...) without weights_only=True"
    return None


def banned_in_python(source: str) -> Iterator[tuple[int, str]]:
    """Yields line and finding of everything that is banned in a Python source."""
    for node in ast.walk(ast.parse(source)):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        elif isinstance(node, ast.Call) and (finding := banned_call(node)):
            yield node.lineno, finding
        for module in modules:
            if module.split(".")[0] in BANNED_MODULES:
                yield node.lineno, f"import {module}"


def banned_in_shell(source: str) -> Iterator[tuple[int, str]]:
    """Yields line and finding of everything that is banned in a shell script."""
    for number, line in enumerate(source.splitlines(), start=1):
        if BANNED_IN_SHELL.search(line):
            yield number, "eval"


def test_no_source_runs_strings_or_loads_objects() -> None:
    findings = []
    for path in source_files(".py", ".sh"):
        scan = banned_in_python if path.suffix == ".py" else banned_in_shell
        for line, finding in scan(path.read_text(encoding="utf-8")):
            findings.append(f"{path.relative_to(ROOT)}:{line}: {finding} is banned")
    assert not findings, "\n" + "\n".join(findings)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1\neval('x')", [(2, "eval(...)")]),
        ("model.eval()", []),
        ("from pickle import load", [(1, "import pickle")]),
        ("np.load(f, allow_pickle=True)", [(1, "np.load(..., allow_pickle=True)")]),
        ("run(c,\n shell=True)", [(1, "run(..., shell=True)")]),
        ("torch.load(f)", [(1, "torch.load(...) without weights_only=True")]),
        ("torch.load(\n f,\n weights_only=True)", []),
        ("yaml.load(f, Loader)", [(1, "yaml.load(...); use yaml.safe_load")]),
    ],
)
def test_the_scan_of_python_finds(source: str, expected: list) -> None:
    assert list(banned_in_python(source)) == expected


def test_the_scan_of_shell_finds() -> None:
    assert list(banned_in_shell('x=1\nif y; then eval "$x"; fi\n"$P" evaluate')) == [(2, "eval")]


@pytest.mark.parametrize(
    "path",
    [*source_files(".sh"), ROOT / ".ci" / "run"],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_shell_scripts_parse(path: Path) -> None:
    result = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_every_module_has_a_floor() -> None:
    contracts = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = [*(ROOT / "fuxictr").glob("[!_]*"), *(ROOT / "fuxictr" / "pytorch").glob("[!_]*")]
    modules = [path.relative_to(ROOT).with_suffix("").parts for path in found]
    names = {".".join(parts) for parts in modules} - {"fuxictr.py", "fuxictr.pytorch"}
    missing = sorted(name for name in names if f"({name})" not in contracts)
    assert not missing, f"pyproject.toml, [tool.importlinter]: no layer names {missing}"


def modules_after(statement: str) -> set[str]:
    """Returns the top-level modules that a fresh Python has loaded after the statement."""
    code = f"import sys\n{statement}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_importing_the_package_is_light() -> None:
    loaded = modules_after("import fuxictr")
    heavy = {"torch", "numpy", "polars", "pyarrow", "pandas", "sklearn", "h5py", "matplotlib"}
    assert "fuxictr" in loaded and not loaded & heavy


def test_models_and_loaders_import_no_table_library() -> None:
    every_module = (
        "import importlib, pkgutil, fuxictr.pytorch as package\n"
        "for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "    importlib.import_module(module.name)"
    )
    loaded = modules_after(every_module)
    assert "torch" in loaded
    assert not loaded & {"polars", "pyarrow", "pandas", "matplotlib"}
