"""Rows of text read by the standard library and encoded by loops: what the fast path must equal."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from pathlib import Path

import numpy as np

from tests.preprocess.tables import categorical, numeric, plain_encode, plain_vocabulary

COLUMNS = [
    categorical("c"),
    categorical("i", dtype="int"),
    numeric("x"),
    {"name": "h", "type": "sequence", "splitter": "|"},
    {"name": "u", "type": "meta"},
]
TABLE = (
    "click,c,i,x,h,u\n"
    "1,red,7,0.5,a|b,u1\n"
    "0,blue,-3,1e3,b,u2\n"
    '1,"gr,ey",7,,a||c,"u ""3"""\n'
    "0,red,,-2.25,,u1\n"
    "1,é,12,0,c|a,\n"
)
# What is white space around a number: that of Unicode, of which Python's strip takes more.
SPACES = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
_NUMBER = re.compile(
    r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf(inity)?|nan)", re.IGNORECASE | re.ASCII
)
_INTEGER = re.compile(r"[+-]?\d+(\.0*)?", re.ASCII)
_WORDS = ({"true": 1.0, "false": 0.0}, {"yes": 1.0, "no": 0.0})
_LARGEST = float(np.finfo(np.float32).max)


class Refused(Exception):
    """The plain reader cannot read it either."""


def read_rows(path: Path, wanted, separator=",", quote_char='"') -> dict[str, list[str]]:
    """Column -> cells of the wanted columns of a csv, by the standard library."""
    raw = path.read_bytes()
    try:
        text = gzip.decompress(raw) if path.suffix == ".gz" else raw
        text = text.decode("utf-8-sig", "surrogateescape")
        quotes = {"quotechar": quote_char} if quote_char else {"quoting": csv.QUOTE_NONE}
        lines = io.StringIO(text, newline="")
        found = list(csv.reader(lines, delimiter=separator, strict=True, **quotes))
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise Refused from error
    if not found or not found[0]:
        raise Refused
    header, rows = found[0], [row for row in found[1:] if row]
    if len(set(header)) < len(header) or any(len(row) != len(header) for row in rows):
        raise Refused
    cells = {n: [row[i] for row in rows] for i, n in enumerate(header) if n in wanted}
    for text in [*header, *(cell for column in cells.values() for cell in column)]:
        if any("\udc80" <= char <= "\udcff" for char in text):  # bytes that are not UTF-8
            raise Refused
    return cells


def encode(cells: dict[str, list], columns=COLUMNS, label="click") -> dict[str, list]:
    """Column -> encoded rows of columns of texts, None or "" where missing."""
    names = [column["name"] for column in columns]
    if not set(names) | {label} <= set(cells) or not cells[label]:
        raise Refused
    encoded = {column["name"]: _encode(cells[column["name"]], column) for column in columns}
    labels = [(cell or "").strip(SPACES).lower() for cell in cells[label]]
    words = next((words for words in _WORDS if labels[0] in words), None)
    encoded[label] = [words.get(text) if words else number(text) for text in labels]
    if not set(encoded[label]) <= {0.0, 1.0}:
        raise Refused
    return encoded


def number(cell: str | None) -> float | None:
    text = (cell or "").strip(SPACES)
    if text and not _NUMBER.fullmatch(text):
        raise Refused
    value = float(text or "nan")
    return None if value != value else value


def integer(cell: str | None) -> str | None:
    text = (cell or "").strip(SPACES)
    if not text or text.lower() == "nan":
        return None
    if _INTEGER.fullmatch(text):
        value = int(text.partition(".")[0])
    else:
        found = number(text)
        if found is None or abs(found) >= 2**53 or found != int(found):
            raise Refused
        value = int(found)
    if not -(2**63) <= value < 2**64:
        raise Refused
    return str(value)


def _encode(cells: list, column: dict) -> list:
    if column["type"] == "meta":
        return [cell or None for cell in cells]
    if column["type"] == "sequence":
        lists = [[token or None for token in (cell or "").split("|")] for cell in cells]
        present = [token for tokens in lists for token in tokens]
        _require(present)
        vocabulary = plain_vocabulary(present)
        width = max(len(tokens) if cell else 0 for tokens, cell in zip(lists, cells, strict=True))
        rows = []
        for tokens in lists:
            known = [plain_encode([t], vocabulary)[0] if t else 0 for t in tokens]
            rows.append(known + [0] * (width - len(known)))
        return rows
    if column["type"] == "numeric":
        values = [number(cell) for cell in cells]
        _require(values)
        values = [0.0 if value is None else value for value in values]
        if any(abs(value) > _LARGEST for value in values):
            raise Refused
        return [float(np.float32(value)) for value in values]
    tokens = [integer(cell) if column["dtype"] == "int" else cell or None for cell in cells]
    _require(tokens)
    return plain_encode(tokens, plain_vocabulary(tokens))


def _require(values: list) -> None:
    if all(value is None for value in values):
        raise Refused
