"""Tells whether the Python that runs this file meets requirements files; needs no packages."""

from __future__ import annotations

import argparse
import re
import sys
from importlib import metadata
from pathlib import Path

OLDEST_PYTHON = (3, 10)


def requirement_lines(path: Path) -> list[str]:
    """Returns the requirements of a file, without comments, blank lines and pip's options."""
    lines = [line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith("-")]


def unmet(line: str) -> str | None:
    """Returns what this Python lacks of one requirement such as ``numpy>=1.24``, or None."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        try:
            from pip._vendor.packaging.requirements import Requirement
        except ImportError:  # nothing here can read a version range, so nothing is known to be met
            return line
    requirement = Requirement(line)
    if requirement.marker is not None and not requirement.marker.evaluate():
        return None
    try:
        found = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return line
    if not found:  # the metadata of an installation that was cut off
        return line
    if requirement.specifier.contains(found, prereleases=True):
        return None
    return f"{line} (found {found})"


def what_is_missing(files: list[Path], package: str | None = None) -> list[str]:
    """Returns what this Python lacks of the files, of ``package`` alone if one is named."""
    if sys.version_info < OLDEST_PYTHON:
        return ["Python>={}.{} (found {}.{})".format(*OLDEST_PYTHON, *sys.version_info)]
    lines = [line for file in files for line in requirement_lines(file)]
    if package is not None:
        lines = [line for line in lines if re.split(r"[^\w.-]", line)[0] == package]
    return [problem for problem in map(unmet, lines) if problem]


def main() -> int:
    """Returns 0 when everything is there, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="requirements files")
    parser.add_argument("--only", metavar="PACKAGE", help="look at this package alone")
    parser.add_argument("--explain", action="store_true", help="print what is missing")
    options = parser.parse_args()
    missing = what_is_missing(options.files, options.only)
    if missing and options.explain:
        print(", ".join(missing))
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
