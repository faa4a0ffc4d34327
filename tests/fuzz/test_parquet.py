"""Damaged and strange parquet files, raw and encoded: the right rows, or one clear error."""

from __future__ import annotations

import datetime
import decimal
import io
import itertools
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuxictr.errors import FuxiCTRError
from fuxictr.preprocess import prepare_dataset
from fuxictr.pytorch.dataloaders import open_parquet, read_encoded
from fuxictr.pytorch.dataloaders.streaming import StreamingIterator
from tests.fuzz.mutations import case_counts, cases, mutated, no_hang
from tests.fuzz.plain_encoder import COLUMNS, Refused, encode
from tests.preprocess.tables import config, read
from tests.pytorch.encoded_rows import make_columns, make_feature_map, to_table

RAW = pa.table(
    {
        "click": pa.array([1, 0, 1, 0, 1, 0], pa.int8()),
        "c": pa.array(["red", "blue", "gr,ey", "red", "é", None]),
        "i": pa.array([7, -3, 7, None, 12, 2**40]),
        "x": pa.array([0.5, 1e3, None, -2.25, 0, 1e-7]),
        "h": pa.array(["a|b", "b", "a||c", None, "c|a", "a"]).dictionary_encode(),
        "u": pa.array(["u1", "u2", "u3", "u1", None, "u2"]),
    }
)
ENCODED = to_table({n: c for n, c in make_columns().items() if n != "user"})


@pytest.fixture(autouse=True)
def no_sync(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda handle: None)


def as_bytes(table, **options):
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


@st.composite
def wrong_footers(draw, data):
    """``data`` with another byte, or a large number for it, in the footer; its length fits."""
    length = struct.unpack("<I", data[-8:-4])[0]
    body, footer = data[: -8 - length], data[-8 - length : -8]
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.integers(0, len(footer) - 1))
        number = draw(st.sampled_from([0, 1, 3, 2**31, 2**32, 2**40, 2**63 - 1, 2**64 - 1]))
        footer = footer[:place] + varint(number) + footer[place + 1 :]
    return body + footer + struct.pack("<I", len(footer)) + data[-4:]


def varint(number):
    found = []
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def damaged(data):
    return mutated(data, max_mutations=2) | wrong_footers(data)


def check_message(error, path):
    assert path is None or str(path) in str(error)
    assert len(str(error).splitlines()) == 1 and len(str(error)) < 10_000, str(error)


class RawBuilder:
    """Builds each raw file in a folder of its own and compares it with loops over plain rows."""

    def __init__(self, home):
        self.home, self.numbers = home, itertools.count()
        self.outcomes = {"built": 0, "refused": 0}

    def write(self, data, **keys):
        folder = self.home / str(next(self.numbers))
        folder.mkdir()
        path = folder / "train.parquet"
        path.write_bytes(data)
        keys = {"train_data": str(path), "data_format": "parquet", **keys}
        return folder, path, config(folder, COLUMNS, **keys)

    def build(self, data):
        folder, _, settings = self.write(data)
        return prepare_dataset(settings, folder, verbose=0).paths["train"]

    def check(self, data, may_compare=False, **keys):
        folder, path, settings = self.write(data, **keys)
        try:
            with no_hang():
                built = prepare_dataset(settings, folder, verbose=0)
        except FuxiCTRError as error:
            check_message(error, None)
            if may_compare:
                assert plain_rows(path) in (None, "refused"), f"refused: {error}"
            left = {p.name for p in (folder / "encoded/tiny").rglob("*")}
            assert left <= {".lock"}, "something half-written is left"
            self.outcomes["refused"] += 1
            return error
        expected = plain_rows(path) if not keys else None
        assert expected != "refused", "built from rows that cannot be encoded"
        if expected is not None:
            assert read(built) == expected
        if "valid_size" in keys:
            sizes = [len(read(built, split)["click"]) for split in ("train", "valid")]
            assert sizes == [RAW.num_rows - keys["valid_size"], keys["valid_size"]]
        self.outcomes["built"] += 1
        return None


def plain_rows(path):
    """The encoded rows by loops, or "refused"; None where loops do not know a type."""
    table = pq.read_table(path, columns=["click", *(column["name"] for column in COLUMNS)])
    cells = {}
    for name in table.column_names:
        kind = table.schema.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        is_number = pa.types.is_integer(kind) or (pa.types.is_float64(kind) and name in "click x")
        if not (is_number or pa.types.is_string(kind)):
            return None
        cells[name] = [None if v is None else str(v) for v in table[name].to_pylist()]
    try:
        return encode(cells)
    except Refused:
        return "refused"


@pytest.mark.parametrize("count", case_counts)
def test_damaged_raw_files(tmp_path, count):
    builder = RawBuilder(tmp_path)
    options = {"row_group_size": 4, "compression": "snappy"}
    files = [as_bytes(RAW, **options), as_bytes(RAW, use_dictionary=False, compression="none")]

    @cases(count // 2)
    @given(st.one_of(*map(damaged, files)))
    def check(data):
        builder.check(data)

    check()
    assert min(builder.outcomes.values()) > 0, builder.outcomes


ODD = [
    pa.array([b"x", b"\xff"]),
    pa.array([[1, 2], []]),
    pa.array([["a"], None]),
    pa.array([[["a"]], []]),
    pa.array([{"x": 1}, None]),
    pa.array([0.1, float("nan")], pa.float32()),
    pa.array([float("inf"), -0.0]),
    pa.array([2**63, 2**64 - 1], pa.uint64()),
    pa.array([decimal.Decimal("1.50"), None]),
    pa.array([decimal.Decimal("1"), None], pa.decimal256(60, 3)),
    pa.array([datetime.datetime(2020, 1, 1), None], pa.timestamp("ns", "UTC")),
    pa.array([datetime.date(1, 1, 1), datetime.date(9999, 12, 31)]),
    pa.array([datetime.time(1), None]),
    pa.array([datetime.timedelta(1), None]),
    pa.array([True, None]),
    pa.nulls(2),
    pa.array([None, None], pa.string()),
    pa.array(["1", "x"]).dictionary_encode(),
    pa.array([1, 0]).dictionary_encode(),
    pa.array(["1", "__OOV__"], pa.large_string()),
    pa.array(["", " "]),
]


@st.composite
def strange_files(draw):
    """A parquet file of few rows in which one column may be of a type that surprises."""
    size = draw(st.integers(1, 7))
    pools = {
        "click": st.sampled_from([0, 1]),
        "c": st.sampled_from(["a", "b", "é", "", "a\0", "__PAD__", None]),
        "i": st.sampled_from([7, -7, 0, 2**63 - 1, -(2**63), None]),
        "x": st.sampled_from([0.5, 3.4e38, -1e-46, 1e39, float("nan"), None]) | st.just(2.0),
        "h": st.sampled_from(["a|b", "a", "", "|", None]),
        "u": st.sampled_from(["u", "v", None]),
    }
    columns = {
        n: pa.array(draw(st.lists(p, min_size=size, max_size=size))) for n, p in pools.items()
    }
    odd = draw(st.sampled_from([None, None, *pools]))
    if odd is not None:
        chosen = draw(st.sampled_from(ODD))
        columns[odd] = chosen.take(pa.array(draw(st.permutations([0, 1] * 4))[:size]))
    return as_bytes(
        pa.table(columns),
        row_group_size=draw(st.integers(1, 7)),
        use_dictionary=draw(st.booleans()),
        compression=draw(st.sampled_from(["none", "snappy", "zstd", "gzip", "lz4", "brotli"])),
        data_page_version=draw(st.sampled_from(["1.0", "2.0"])),
        store_schema=draw(st.booleans()),
        write_page_checksum=draw(st.booleans()),
    )


@pytest.mark.parametrize("count", case_counts)
def test_strange_raw_files(tmp_path, count):
    builder = RawBuilder(tmp_path)

    @cases(count // 2)
    @given(strange_files())
    def check(data):
        builder.check(data, may_compare=True)

    check()
    assert min(builder.outcomes.values()) > 0, builder.outcomes


def rows_of(path):
    """All ways to read encoded rows, which must agree: the matrices."""
    feature_map = make_feature_map()
    data = read_encoded(path, feature_map)
    ids, values = data.ids.numpy(), data.values.numpy()
    batches = list(StreamingIterator(open_parquet(path, feature_map), 7))
    if data.num_rows:
        np.testing.assert_array_equal(np.concatenate([b.ids for b in batches]), ids)
        np.testing.assert_array_equal(np.concatenate([b.values_matrix for b in batches]), values)
    return ids, values


def assert_in_range(ids, values):
    sizes = [1000, 1000, 50, 50, 50]
    assert ((ids >= 0) & (ids < sizes)).all()
    assert np.isfinite(values).all()
    assert np.isin(values[:, -1], [0, 1]).all()


@pytest.mark.parametrize("checksums", [True, False])
@pytest.mark.parametrize("count", case_counts)
def test_damaged_encoded_files(tmp_path, count, checksums):
    """A flipped byte of rows written here is noticed; of other files the rows are in range."""
    outcomes = {"read": 0, "refused": 0, "changed": 0}
    numbers = itertools.count()
    files = [
        as_bytes(ENCODED, write_page_checksum=checksums, row_group_size=10, compression="lz4"),
        as_bytes(ENCODED, write_page_checksum=checksums, use_dictionary=False, compression="none"),
    ]
    path = tmp_path / "whole.parquet"
    path.write_bytes(files[0])
    expected = rows_of(path)

    @cases(count // 2)
    @given(st.one_of(*map(damaged, files)))
    def check(data):
        path = tmp_path / f"{next(numbers)}.parquet"
        path.write_bytes(data)
        try:
            with no_hang():
                ids, values = rows_of(path)
        except FuxiCTRError as error:
            check_message(error, path)
            outcomes["refused"] += 1
            return
        assert_in_range(ids, values)
        assert len(ids) == pq.read_metadata(path).num_rows
        is_same = all(map(np.array_equal, (ids, values), expected))
        assert is_same or not checksums, "other rows than were written"
        outcomes["read" if is_same else "changed"] += 1

    check()
    assert outcomes["read"] > 0 and outcomes["refused"] > 0, outcomes
