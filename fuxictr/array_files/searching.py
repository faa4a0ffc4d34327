"""Files by path, folder or glob: which there are, in which order, and what their folders say."""

from __future__ import annotations

import itertools
import os
import re
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from fuxictr.errors import DataError

_DIGITS = re.compile(r"([0-9]+)")
_WILDCARDS = re.compile(r"[*?\[]")
_PARTITION = re.compile(r"([^=]+)=(.+)")
# What Hive and Spark name a folder of rows whose value is missing.
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_MOST_SHOWN = 5


@dataclass(frozen=True)
class Found:
    """The files that a path names, in natural order, and what is ``skipped``.

    ``skipped`` are files and folders seen there and not read, but for those that tools hide or
    write beside their data (``.name``, ``_SUCCESS``, ``name.crc``).
    """

    files: list[Path]
    skipped: list[Path]


def search(path: Path, suffixes: Sequence[str]) -> Found:
    """Returns the files that an absolute path, perhaps with wildcards, names.

    A folder stands for its files that end in ``suffixes``, and those of its data folders at any
    depth: partitions (``dt=2024-01-01/``), and folders that end in ``suffixes`` (``day.csv/``).

    In a glob, ``**`` is any number of folders; ``*``, ``?`` and ``[...]`` match within a name. A
    name that exists as written, such as ``br[1]``, is itself. A matched folder is read if it is a
    data folder, or if no file matches. A final ``*`` reads only files that end in ``suffixes``, if
    there are any. Names that begin with a dot or ``_`` are matched by their own beginning only. A
    file that is met twice, by links, is read once.

    Raises DataError if a folder cannot be listed.
    """
    matches = [Path(path.anchor)]
    folders_above = matches
    for part in path.parts[1:]:
        folders_above = matches
        matches = [match for folder in matches for match in _matches(folder, part)]
    files = [match for match in matches if match.is_file()]
    folders = [match for match in matches if match.is_dir()]
    skipped = _in_other_case(folders_above, path.name, matches)
    if path.name == "*" and any(_ends(file, suffixes) for file in files):
        skipped += [file for file in files if not _ends(file, suffixes)]
        files = [file for file in files if _ends(file, suffixes)]
    if files and path.name != "**":
        skipped += [folder for folder in folders if not _holds_data(folder, suffixes)]
        folders = [folder for folder in folders if _holds_data(folder, suffixes)]
    for folder in folders:
        found, left = _of_folder(folder, suffixes)
        files += found
        skipped += left
    files = sorted(set(files), key=natural_order)
    once = {file.resolve(): file for file in reversed(files)}
    skipped += [file for file in files if once[file.resolve()] != file]
    files = [file for file in files if once[file.resolve()] == file]
    above = {folder for file in files for folder in file.parents}
    unread = {entry for entry in skipped if not _is_marker(entry)} - {*files, *folders, *above}
    return Found(files, sorted(unread, key=natural_order))


def natural_order(path: Path) -> tuple[tuple[list[int | str], str], ...]:
    """Returns a key that sorts paths folder by folder, their numbers by value: 2 before 10."""
    return tuple(
        ([int(t) if i % 2 else t for i, t in enumerate(_DIGITS.split(part))], part)
        for part in path.parts
    )


def partitions(path: Path) -> dict[str, str | None]:
    """Returns column -> value of the partition folders that a file lies in; None = missing value.

    ``dt=2024-01-01/part.csv`` has the value 2024-01-01 of dt.
    """
    found = {}
    for folder in path.parent.parts:
        match = _PARTITION.fullmatch(folder)
        if match:
            name, value = map(urllib.parse.unquote, match.groups())
            found[name] = None if value == _NO_VALUE else value
    return found


def what_is_there(path: Path) -> str:
    """Returns what the first folder of a path that exists holds, for the end of a message."""
    folder = next(parent for parent in (path, *path.parents) if parent.is_dir())
    names = [f"{entry.name}{'/' * entry.is_dir()}" for entry in _listed(folder)]
    text = ", ".join(names[:_MOST_SHOWN]) or "nothing"
    more = len(names) - _MOST_SHOWN
    return f"in {folder} there is {text}{f' and {more} more' if more > 0 else ''}"


def span(files: Sequence[Path]) -> str:
    """Returns ``3 files, a.csv to c.csv``, or the name of a single file in its partitions."""
    if len(files) == 1:
        above = itertools.takewhile(_PARTITION.fullmatch, reversed(files[0].parent.parts))
        return "/".join([*reversed(list(above)), files[0].name])
    folder = Path(os.path.commonpath([files[0].parent, files[-1].parent]))
    first, last = (file.relative_to(folder).as_posix() for file in (files[0], files[-1]))
    return f"{len(files):,} files, {first} to {last}"


def has_wildcards(path: Path) -> bool:
    """Returns whether a path may be a glob."""
    return bool(_WILDCARDS.search(str(path)))


def _matches(folder: Path, part: str) -> Iterator[Path]:
    """Yields what a part of a path names in a folder."""
    is_literal = not _WILDCARDS.search(part) or not fnmatchcase(part, part)
    if is_literal and (folder / part).exists():
        yield folder / part
    elif part == "**":
        yield from _folders(folder)
    elif _WILDCARDS.search(part):
        for entry in _listed(folder):
            is_hidden = _is_hidden(entry.name) and entry.name[0] != part[0]
            if fnmatchcase(entry.name, part) and not is_hidden:
                yield entry


def _in_other_case(folders: Sequence[Path], part: str, matches: Sequence[Path]) -> list[Path]:
    """Returns what a glob would match but for small and capital letters, as ``*.csv`` A.CSV."""
    if not _WILDCARDS.search(part) or part in (match.name for match in matches):
        return []
    return [
        entry
        for folder in folders
        for entry in _listed(folder)
        if not fnmatchcase(entry.name, part) and fnmatchcase(entry.name.lower(), part.lower())
    ]


def _of_folder(
    folder: Path, suffixes: Sequence[str], above: frozenset[Path] = frozenset()
) -> tuple[list[Path], list[Path]]:
    """Returns a folder's data files, and what is skipped."""
    files, skipped = [], []
    above |= {folder.resolve()}
    for entry in _listed(folder):
        if entry.is_dir():
            if _holds_data(entry, suffixes) and entry.resolve() not in above:
                found, left = _of_folder(entry, suffixes, above)
                files += found
                skipped += left
                continue
        elif _ends(entry, suffixes) and not _is_hidden(entry.name):
            files.append(entry)
            continue
        skipped.append(entry)
    return files, skipped


def _folders(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Yields a folder and those below it; a link to a folder ``above`` it is not followed."""
    target = folder.resolve()
    if folder.is_dir() and target not in above:
        yield folder
        for entry in _listed(folder):
            if entry.is_dir() and not _is_hidden(entry.name):
                yield from _folders(entry, above | {target})


def _listed(folder: Path) -> list[Path]:
    try:
        if not folder.is_dir():
            return []
        return sorted(folder.iterdir(), key=natural_order)
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror})") from error


def _holds_data(folder: Path, suffixes: Sequence[str]) -> bool:
    is_named_so = bool(_PARTITION.fullmatch(folder.name)) or _ends(folder, suffixes)
    return is_named_so and not _is_hidden(folder.name)


def _ends(path: Path, suffixes: Sequence[str]) -> bool:
    return path.name.endswith(tuple(suffixes))


def _is_hidden(name: str) -> bool:
    return name[0] == "." or (name[0] == "_" and not _PARTITION.fullmatch(name))


def _is_marker(path: Path) -> bool:
    # What tools write beside their data, which holds no rows.
    name = path.name
    return name[0] == "." or name.endswith(".crc") or (name[0] == "_" and "." not in name)
