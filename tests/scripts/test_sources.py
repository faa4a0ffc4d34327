"""What holds for all sources: scripts parse, no string is run, nothing unpickled, light imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.scripts import banned

ROOT = Path(__file__).resolve().parents[2]
UNVISITED = {"data", "checkpoints", "results", "figure", "__pycache__"}


def source_files(*suffixes: str) -> list[Path]:
    """Returns the project's own files, without what commands write and hidden folders but .ci."""
    files = []
    for folder, children, names in os.walk(ROOT):
        hidden = {child for child in children if child.startswith(".") and child != ".ci"}
        children[:] = sorted(set(children) - hidden - UNVISITED)
        files += [Path(folder, name) for name in sorted(names) if name.endswith(suffixes)]
    return files


def test_no_source_runs_strings_or_loads_objects() -> None:
    findings = []
    for path in [*source_files(".py", ".sh"), ROOT / ".ci" / "run"]:
        scan = banned.in_python if path.suffix == ".py" else banned.in_shell
        for line, finding in scan(path.read_text(encoding="utf-8")):
            findings.append(f"{path.relative_to(ROOT)}:{line}: {finding} is banned")
    assert not findings, "\n" + "\n".join(findings)


# A source that is banned -> one that looks like it and is allowed.
IN_PYTHON = {
    "eval('x')": "model.eval()",
    "exec('x')": "executor.exec_all()",
    "compile('x', 'f', 'exec')": "re.compile('x'); torch.compile(model); self.compile('adam')",
    "__import__(name)": "importlib.import_module('fuxictr.config')",
    "import builtins as b\nb.eval('x')": "import builtins as b\nb.print('x')",
    "import pickle": "import pickles",
    "from pickle import load": "from fuxictr import pickle_feature_encoder",
    "import cloudpickle as c": "import cloud",
    "import dill": "import dillweed",
    "import joblib": "from sklearn import utils",
    "import marshal": "import martial",
    "import shelve": "import shelves",
    "import xml.etree.ElementTree as ET": "import html",
    "from xml.dom import minidom": "from html import escape",
    "from lxml import etree": "from fuxictr import lxml_free",
    "import runpy": "import run",
    "import torch.hub": "import torch.nn",
    "from torch import hub": "from torch import nn",
    "from torch.package import PackageImporter": "from torch.nn import Module",
    "import torch\ntorch.hub.load('a', 'b')": "import torch\ntorch.nn.Linear(1, 1)",
    "os.system(c)": "os.cpu_count()",
    "from os import system\nsystem(c)": "from platform import system\nsystem()",
    "import os as o\no.popen(c)": "import os as o\no.open(c, 0)",
    "os.spawnlp(0, c)": "multiprocessing.get_context('spawn')",
    "os.execv(p, [p])": "os.execution = 1",
    "os.posix_spawn(p, [p], {})": "os.posix_fallocate(1, 0, 1)",
    "subprocess.run(c,\n shell=True)": "subprocess.run(c, shell=False)",
    "subprocess.run(c, shell=flag)": "subprocess.run([c])",
    "import subprocess as sp\nsp.Popen('ls -l')": "import subprocess as sp\nsp.Popen(['ls', '-l'])",
    "subprocess.check_output(f'ls {x}')": "subprocess.check_output(['ls', f'{x}'])",
    "subprocess.call('ls ' + x)": "subprocess.call(['ls', 'a' + x])",
    "subprocess.getoutput(c)": "subprocess.list2cmdline([c])",
    "tempfile.mktemp()": "tempfile.mkstemp()",
    "np.load(f, allow_pickle=True)": "np.load(f, allow_pickle=False)",
    "np.load(f, allow_pickle=flag)": "np.load(f)",
    "np.save(f, x, allow_pickle=True)": "np.save(f, x)",
    "pd.read_pickle(f)": "pd.read_csv(f)",
    "from pandas import read_pickle as r\nr(f)": "from pandas import read_csv as r\nr(f)",
    "frame.to_pickle(f)": "frame.to_parquet(f)",
    "pd.eval('a + b')": "pd.concat([a, b])",
    "frame.eval('a + b')": "frame.list.eval(pl.element())",
    "frame.query(f'a > {x}')": "database.query(q)",
    "pl.Expr.deserialize(f)": "pl.read_parquet(f)",
    "torch.load(f)": "torch.load(\n f,\n weights_only=True)",
    "torch.load(f, weights_only=False)": "torch.load(f, 'cpu', weights_only=True)",
    "torch.load(f, weights_only=flag)": "safetensors.torch.load(f)",
    "from torch import load as l\nl(f)": "from json import load as l\nl(f)",
    "torch.load(f, weights_only=True, pickle_module=p)": "torch.save(x, f)",
    "torch.jit.load(f)": "torch.jit.script(x)",
    "torch.serialization.add_safe_globals([X])": "torch.set_num_threads(1)",
    "yaml.load(f, Loader)": "yaml.safe_load(f)",
    "yaml.load(f, Loader=yaml.SafeLoader)": "class Loader(yaml.SafeLoader): pass",
    "from yaml import full_load\nfull_load(f)": "from yaml import safe_load\nsafe_load(f)",
    "class L(yaml.UnsafeLoader): pass": "class L(yaml.CSafeLoader): pass",
    "from yaml import Loader\nLoader(f)": "from fuxictr.pytorch import Loader\nLoader(f)",
    "yaml.YAML().unsafe_load(f)": "yaml.YAML().load(f)",
    "archive.extractall(folder)": "archive.open(member)",
    "import zipfile\nzipfile.ZipFile(f).extract('a')": "pl.col('a').str.extract('(a)')",
    "import tarfile as t\nt.open(f).extract('a')": "import tarfile as t\nt.open(f).getnames()",
    "shutil.unpack_archive(f)": "shutil.disk_usage(f)",
}


@pytest.mark.parametrize(("source", "other"), IN_PYTHON.items(), ids=range(len(IN_PYTHON)))
def test_the_scan_of_python_finds(source: str, other: str) -> None:
    (finding,) = {line for line, _ in banned.in_python(source)}
    assert finding == 1 + source.count("\n") * ("import" in source.split("\n")[0])
    assert list(banned.in_python(other)) == []


IN_SHELL = {
    'if y; then eval "$x"; fi': '"$P" evaluate; # eval x',
    "x=1; eval $y": "echo 'no evals'",
    "curl -s $url | bash": "cat a | bashful",
    "wget -qO- $url | sudo sh": "ls | shuf",
    "source <(curl $url)": ". scripts/environment.sh",
    'bash -c "$command"': "bash tests/run.sh --all",
    "sh -ec $command": "bash -euo pipefail x.sh",
}


@pytest.mark.parametrize(("source", "other"), IN_SHELL.items())
def test_the_scan_of_shell_finds(source: str, other: str) -> None:
    assert [line for line, _ in banned.in_shell(f"x=1\n{source}")] == [2]
    assert list(banned.in_shell(f"x=1\n{other}")) == []


@pytest.mark.parametrize(
    "path",
    [*source_files(".sh"), ROOT / ".ci" / "run"],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_shell_scripts_parse(path: Path) -> None:
    result = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("package", ["", ".experiment", ".preprocess", ".pytorch"])
def test_every_room_has_a_floor(package: str) -> None:
    contracts = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    # With it import-linter, which the suite runs, refuses a room that no layer names.
    assert f'type = "layers"\ncontainers = ["fuxictr{package}"]\nexhaustive = true\n' in contracts


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


def requirements(file: str) -> list[Requirement]:
    """Returns the requirements that a file names."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return [Requirement(line.split("#")[0]) for line in lines if line.split("#")[0].strip()]


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_every_requirement_has_one_exact_pin_within_its_range(python: str) -> None:
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    pins: dict[str, Requirement] = {}
    for pin in requirements("constraints.txt"):
        operators = [(s.operator, s.version.endswith("*")) for s in pin.specifier]
        assert operators == [("==", False)], f"constraints.txt: {pin} is no exact version"
        if pin.marker is None or pin.marker.evaluate(environment):
            name = canonicalize_name(pin.name)
            assert name not in pins, f"constraints.txt: {name} has two pins for Python {python}"
            pins[name] = pin
    for wanted in [*requirements("requirements.txt"), *requirements("requirements-dev.txt")]:
        pin = pins.get(canonicalize_name(wanted.name))
        assert pin is not None, f"{wanted.name} has no pin in constraints.txt"
        (exact,) = (specifier.version for specifier in pin.specifier)
        assert wanted.specifier.contains(exact), f"{pin} is not in the range {wanted}"


def test_it_is_said_how_pins_are_raised() -> None:
    text = " ".join((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split())
    part = text.partition("## Dependencies")[2]
    assert "To upgrade one, change its pin" in part and "-c constraints.txt" in part
