"""The check of requirements against the running Python."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from scripts import check_environment
from scripts.check_environment import requirement_lines, unmet, what_is_missing

SCRIPT = Path(check_environment.__file__)
INSTALLED = {"numpy": "1.26.4", "torch": "2.13.0+cpu", "polars": "2.0.0rc1", "broken": None}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for the packages of some Python."""

    def version(name: str) -> str | None:
        if name not in INSTALLED:
            raise metadata.PackageNotFoundError(name)
        return INSTALLED[name]

    monkeypatch.setattr(metadata, "version", version)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("numpy>=1.24", None),
        ("numpy>=1.24,<1.26", "numpy>=1.24,<1.26 (found 1.26.4)"),
        ("torch>=2.4", None),
        ("torch>=3", "torch>=3 (found 2.13.0+cpu)"),
        ("polars>=1.20", None),
        ("h5py", "h5py"),
        ("broken", "broken"),
        ('absent>=1 ; python_version < "3"', None),
        ('absent>=1 ; python_version > "3"', 'absent>=1 ; python_version > "3"'),
    ],
)
def test_unmet(installed: None, line: str, expected: str | None) -> None:
    assert unmet(line) == expected


# torch's compiler, where another test has used it, imports distutils before setuptools does.
@pytest.mark.filterwarnings("ignore:Setuptools is replacing distutils")
def test_pip_stands_in_for_packaging(installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)
    assert unmet("torch>=2.4") is None
    monkeypatch.setitem(sys.modules, "pip._vendor.packaging.requirements", None)
    assert unmet("torch>=2.4") == "torch>=2.4"


def test_comments_and_options_are_no_requirements(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("# a comment\n\n-r other.txt\n  numpy>=1.24  # why\ntorch\n", encoding="utf-8")
    assert requirement_lines(file) == ["numpy>=1.24", "torch"]


def test_one_package_alone(installed: None, tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("torch>=3\ntorchmetrics\nh5py\n", encoding="utf-8")
    assert what_is_missing([file], "torch") == ["torch>=3 (found 2.13.0+cpu)"]
    assert what_is_missing([file]) == ["torch>=3 (found 2.13.0+cpu)", "torchmetrics", "h5py"]


def test_an_old_python_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 8, 1))
    assert what_is_missing([tmp_path / "unread.txt"]) == ["Python>=3.10 (found 3.8)"]


def test_command_reports_by_exit_status_and_one_line(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.txt", tmp_path / "bad.txt"
    good.write_text("pytest\n", encoding="utf-8")
    bad.write_text("no-such-package-of-ours>=1\npytest>=9999\n", encoding="utf-8")

    def check(*arguments: str | Path) -> subprocess.CompletedProcess:
        command = [sys.executable, SCRIPT, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert (check(good).returncode, check(good, "--explain").stdout) == (0, "")
    assert (check(good, bad).returncode, check(good, bad).stdout) == (1, "")
    explained = check(good, bad, "--explain").stdout
    assert explained == (
        f"no-such-package-of-ours>=1, pytest>=9999 (found {metadata.version('pytest')})\n"
    )
