"""Damaged and strange csv files: the rows that a plain reader finds, or one clear error."""

from __future__ import annotations

import gzip
import itertools
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuxictr.errors import ConfigError, FuxiCTRError
from fuxictr.preprocess import prepare_dataset
from fuxictr.preprocess.sources import csv_files as csv_source
from fuxictr.preprocess.sources import frames as sources
from tests.fuzz.mutations import case_counts, cases, mutated, no_hang
from tests.fuzz.plain_encoder import COLUMNS, TABLE, Refused, encode, read_rows
from tests.preprocess.tables import SAMPLES, categorical, config, read

REAL = {
    "avazu_sample": ("click", "id", "C14", "C20"),
    "criteo_sample": ("label", "I1", "C1", "C26"),
}


@pytest.fixture(autouse=True)
def no_sync(monkeypatch):
    # A disk that is asked for safety a thousand times is what would take the time here.
    monkeypatch.setattr("os.fsync", lambda handle: None)


class Builder:
    """Builds each case in a folder of its own and compares it with the plain reader."""

    def __init__(self, home, columns=COLUMNS, label="click", too_long=None):
        self.home, self.columns, self.label, self.too_long = home, columns, label, too_long
        self.numbers = itertools.count()
        self.outcomes = {"built": 0, "refused": 0}

    def check(self, data, suffix=".csv", **dialect):
        folder = self.home / str(next(self.numbers))
        folder.mkdir()
        path = folder / f"train{suffix}"
        path.write_bytes(data)
        expected = self.expected(path, **dialect)
        keys = {"train_data": str(path), "label_col": {"name": self.label, "dtype": "float"}}
        error = None
        try:
            with no_hang():
                built = prepare_dataset(
                    config(folder, self.columns, **keys, **dialect), folder, verbose=0
                )
        except FuxiCTRError as found:
            error = found
        if error is None:
            assert expected is not None, "built from a file that a strict reader refuses"
            assert read(built) == expected
            self.outcomes["built"] += 1
        else:
            assert expected is None or self.may_refuse(str(error)), f"refused: {error}"
            assert str(path) in str(error) or "column '" in str(error)
            assert len(str(error).splitlines()) == 1 and len(str(error)) < 10_000
            left = {p.name for p in (folder / "encoded/tiny").rglob("*")}
            assert left <= {".lock"}, "something half-written is left"
            self.outcomes["refused"] += 1
        return error

    def may_refuse(self, text):
        """Whether only this project refuses it: rows over a block, a lone CR, odd gzip files."""
        is_long = self.too_long is not None and self.too_long in text
        odd = ("ends in a carriage return alone", "zlib inflate failed", "Truncated compressed")
        return is_long or any(words in text for words in odd)

    def expected(self, path, **dialect):
        names = {self.label, *(column["name"] for column in self.columns)}
        try:
            return encode(read_rows(path, names, **dialect), self.columns, self.label)
        except Refused:
            return None


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
@pytest.mark.parametrize("count", case_counts)
def test_mutated_tables(tmp_path, count, suffix):
    table = TABLE.encode()
    real = gzip.compress(table, mtime=0) if suffix == ".csv.gz" else table
    builder = Builder(tmp_path)

    @cases(count // 2)
    @given(mutated(real, [b'""', b",,", b"1e400", b"\xd9\xa3", b"|", b"\n\n"], max_mutations=3))
    def check(data):
        builder.check(data, suffix)

    check()
    assert min(builder.outcomes.values()) > 0, builder.outcomes


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("count", [20, pytest.param(1000, marks=pytest.mark.slow)])
def test_mutated_excerpts_of_real_logs(tmp_path, count, name):
    path = SAMPLES / name / "train.csv"
    if not path.is_file():
        pytest.skip("no excerpt of the real data")
    label, *fields = REAL[name]
    builder = Builder(tmp_path, [categorical(field) for field in fields], label)
    excerpt = b"".join(path.read_bytes().splitlines(keepends=True)[:60])

    @cases(count)
    @given(mutated(excerpt))
    def check(data):
        builder.check(data)

    check()
    assert min(builder.outcomes.values()) > 0, builder.outcomes


@st.composite
def strange_tables(draw):
    """A csv that may be well-formed, of cells that are hard to read, in some dialect."""
    separator = draw(st.sampled_from([",", "\t", ";"]))
    quote = draw(st.sampled_from(['"', '"', "'", None]))
    mark = quote or '"'
    texts = ["a", "", "é", " a", f"{mark}x{separator}y{mark}", f"{mark}1\r\n2{mark}", "a\0b"]
    texts += [f"{mark}a{mark}{mark}b{mark}", f"a{mark}b", f"{mark}a{mark}b", f"{mark}{mark}", mark]
    texts += ["__PAD__", "__OOV__", "nan", "\ufeff", "\u2028", "x\x85", "\x1c", "l" * 3000]
    integers = ["7", "-0", "+7", "007", "", " 7 ", "٣", "７", "7.0", "1_0", "nan", "\x1c7", "7\0"]
    integers += ["9223372036854775807", "9223372036854775808", "-9223372036854775808"]
    floats = ["1", "", "1e3", "-1.5E-3", ".5", "5.", "1e400", "-1e39", "3.4028235e38", "1e-400"]
    floats += ["inf", "NaN", "+nan", "0x1", "1,5", "1d2", "\xa01", "1_0", "٣", "1e", "3.5e38"]
    lists = ["a|b", "", "|", "a||b", "a", "b|a|c|d", "\ufeff|a", f"{mark}a|b{mark}"]
    kinds = {"click": ["0", "1", "1", "1.0", " 0"], "c": texts, "u": texts}
    kinds |= {"i": integers, "x": floats, "h": lists}
    names = draw(st.permutations(list(kinds)))
    # Mostly easy cells: a single hard one decides each case.
    cells = {
        n: st.sampled_from(k[:1] * 6 + k[:2]) | st.sampled_from(k[:3] + k) for n, k in kinds.items()
    }
    rows = draw(st.lists(st.tuples(*(cells[name] for name in names)), min_size=1, max_size=6))
    end = draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"]))
    lines = [separator.join(row) for row in rows]
    text = separator.join(names) + draw(st.sampled_from(["\n", "\r\n"])) + end.join(lines)
    text += draw(st.sampled_from(["", end]))
    bom = draw(st.sampled_from([b"", b"", b"\xef\xbb\xbf"]))
    return bom + text.encode(), {"separator": separator, "quote_char": quote}


@pytest.mark.parametrize("block", [4 << 20, 64])
@pytest.mark.parametrize("count", case_counts)
def test_strange_tables(tmp_path, monkeypatch, count, block):
    monkeypatch.setattr(csv_source, "BLOCK", block)  # cells lie across the bounds of blocks
    builder = Builder(tmp_path, too_long="bytes in one row" if block == 64 else None)

    @cases(count // 4)
    @given(strange_tables())
    def check(case):
        data, dialect = case
        builder.check(data, **dialect)

    check()
    assert min(builder.outcomes.values()) > 0, builder.outcomes


@pytest.mark.parametrize("count", case_counts)
def test_random_bytes(tmp_path, count):
    builder = Builder(tmp_path)
    tail = st.binary(max_size=60) | st.text('01,"\n\r|.', max_size=40).map(str.encode)

    @cases(count // 4)
    @given(st.sampled_from([b"", b"click,c,i,x,h,u\n"]), tail, st.sampled_from([".csv", ".csv.gz"]))
    def check(head, data, suffix):
        builder.check(head + data, suffix)

    check()


HEAD = b"click,c,i,x,h,u\n"
ROW = b"1,a,7,1,a|b,u\n"
# What was found, and what each of them is now; null = the rows of the plain reader.
FOUND = {
    "a quote that is never closed": (HEAD + ROW + b'0,"a,7,1,a,u\n' + ROW, "row 2: unexpected end"),
    "a quote that is closed within a cell": (HEAD + ROW + b'0,"a"b,7,1,a,u\n', "row 2: ',' expec"),
    "quotes twice around a cell": (HEAD + b'0,""a"",7,1,a,u\n' + ROW, "'quote_char': null where"),
    "a quote within a cell": (HEAD + b'0,5",7,1,a,u\n' + ROW, None),
    "all cells in quotes": (b'"click","c",i,x,h,u\n"1","a","7","1","a|b","u"\n', None),
    "a BOM before a quote": (b'\xef\xbb\xbf"click",c,i,x,h,u\n' + ROW, None),
    "a header over two lines": (b'click,c,i,x,h,u,"a\nb"\n1,a,7,1,a|b,u,\n', None),
    "a strange name": (b'"\nclick",c,i,x,h,u\n' + ROW, r"did you mean '\\nclick'"),
    "a long wrong cell": (HEAD + b"1,a,7," + b"z" * 10**6 + b",a,u\n", "column 'x': found 'zzz"),
    "many columns": (b",".join(b"%d" % i for i in range(10**5)) + b"\n", "and 99,950 more"),
    "gzip under another name": (gzip.compress(HEAD + ROW), r"name must end in .gz"),
    "lines that end in a carriage return": ((HEAD + ROW).replace(b"\n", b"\r"), "carriage return"),
    "nothing behind a BOM": (b"\xef\xbb\xbf", "train.csv: "),
}


@pytest.mark.parametrize("name", FOUND)
def test_found_once(tmp_path, name):
    data, message = FOUND[name]
    error = Builder(tmp_path).check(data)
    assert (error is None) == (message is None), error
    if message is not None:
        with pytest.raises(FuxiCTRError, match=message):
            raise error


@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r"])
@pytest.mark.parametrize("block", range(24, 60))
def test_line_ends_between_quotes_survive_the_bounds_of_blocks(tmp_path, monkeypatch, block, end):
    """The fast reader drops a line feed that begins a block: the cell was another one."""
    monkeypatch.setattr(csv_source, "BLOCK", block)
    path = tmp_path / "train.csv"
    path.write_bytes(HEAD + (b'1,"a\r\nb",7,1,a,u' + end) * 3)
    tables = csv_source.read_csv(path, ["c", "u"], csv_source.CsvDialect())
    assert [row["c"] for table in tables for row in table.to_pylist()] == ["a\r\nb"] * 3


GZIPPED = gzip.compress(HEAD + ROW * 3, mtime=0)
GZIPS = {
    "two members": (GZIPPED + gzip.compress(ROW), True),
    "an empty member": (gzip.compress(b"") + GZIPPED, True),
    "nothing": (gzip.compress(b""), False),
    "no end": (GZIPPED[:-9], False),
    "no length": (GZIPPED[:-1], False),
    "another checksum": (GZIPPED[:-8] + bytes([GZIPPED[-8] ^ 1]) + GZIPPED[-7:], False),
    "another length": (GZIPPED[:-1] + b"\1", False),
    "a second member without end": (GZIPPED + gzip.compress(ROW)[:-3], False),
    "something behind it": (GZIPPED + b"PK", False),
    "no gzip": (HEAD + ROW, False),
}


@pytest.mark.parametrize("name", GZIPS)
def test_gzip_files(tmp_path, name):
    data, is_whole = GZIPS[name]
    error = Builder(tmp_path).check(data, ".csv.gz")
    assert (error is None) == is_whole, error


def test_rows_that_would_fill_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_FRAME_BYTES", 1 << 20)
    data = HEAD + b"1,%s,7,1,a,u\n" % (b"z" * 2000) * 1000
    with pytest.raises(FuxiCTRError, match="have more than 1,048,576 bytes, which is allowed"):
        raise Builder(tmp_path, too_long="have more than").check(data)


BOMB = """
import resource, sys
from pathlib import Path
from fuxictr.errors import DataError
from fuxictr.preprocess import prepare_dataset
from tests.preprocess.tables import categorical, config

for path in map(Path, sys.argv[1:]):
    try:
        prepare_dataset(config(path.parent, [categorical("c")], train_data=str(path)), verbose=0)
    except DataError as error:
        print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
"""


def test_small_gzip_files_that_expand_a_lot(tmp_path):
    """Lines, cells and quotes of 4 GB take the memory of a block."""
    zeros = gzip.compress(b"0" * (4 << 20)) * 1000
    begins = {"header": b"click,c", "cell": b"click,c\n1,a\n1,", "quote": b'click,c\n1,a\n1,"'}
    for name, begin in begins.items():
        (tmp_path / f"{name}.csv.gz").write_bytes(gzip.compress(begin) + zeros)
    command = [sys.executable, "-c", BOMB, *(f"{tmp_path}/{name}.csv.gz" for name in begins)]
    lines = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    *errors, megabytes = lines.splitlines()
    assert len(errors) == 3
    message = re.compile("found more than 4,194,30[24] bytes in one row")
    assert all(map(message.search, errors)), errors
    assert int(megabytes) < 1000


def test_one_character_cannot_separate_and_quote(tmp_path):
    settings = config(tmp_path, COLUMNS, separator=";", quote_char=";")
    (tmp_path / "train.csv").write_bytes(HEAD + ROW)
    with pytest.raises(ConfigError, match="keys 'separator' and 'quote_char': found ';' for both"):
        prepare_dataset(settings, verbose=0)
