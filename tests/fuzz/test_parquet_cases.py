"""Parquet files that were read wrongly once, each of them by hand."""

from __future__ import annotations

import io
import itertools
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fuxictr.array_files import parquet
from fuxictr.errors import FuxiCTRError
from fuxictr.features import FeatureMap
from fuxictr.preprocess.columns.pretrained import read_pretrained
from fuxictr.preprocess.sources import frames as sources
from fuxictr.preprocess.sources import typed_files
from fuxictr.preprocess.sources.splitting import rows_of as rows_of_split
from fuxictr.pytorch.dataloaders import read_encoded
from tests.fuzz.mutations import no_hang
from tests.fuzz.test_parquet import (
    ENCODED,
    RAW,
    RawBuilder,
    as_bytes,
    assert_in_range,
    check_message,
    no_sync,
    rows_of,
    varint,
)
from tests.pytorch.encoded_rows import make_feature_map

__all__ = ["no_sync"]  # a fixture of all tests here


def footer_of(data):
    return len(data) - 8 - struct.unpack("<I", data[-8:-4])[0]


def with_footer(data, footer):
    return data[: footer_of(data)] + footer + struct.pack("<I", len(footer)) + data[-4:]


def test_counts_that_lie(tmp_path):
    """Every byte of the footer that may say 25 rows says others, all of which end in an error."""
    data = as_bytes(ENCODED, row_group_size=25)
    footer, count = data[footer_of(data) : -8], 2 * 25  # as thrift writes 25
    lies = (0, 2 * 24, 2 * 26, 2 * 10**12, 1)
    places = [place for place in range(len(footer)) if footer[place] == count]
    assert len(places) > 7  # of the file, the row group, and each column
    raw = RawBuilder(tmp_path)
    rows = as_bytes(RAW, row_group_size=25)
    for place, number in itertools.product(places, lies):
        path = tmp_path / f"{place}_{number}.parquet"
        path.write_bytes(with_footer(data, footer[:place] + varint(number) + footer[place + 1 :]))
        try:
            with no_hang():
                ids, values = rows_of(path)
        except FuxiCTRError as error:
            check_message(error, path)
        else:
            assert len(ids) == 25
            assert_in_range(ids, values)
    footer = rows[footer_of(rows) : -8]
    for place in [place for place in range(len(footer)) if footer[place] == 2 * 6]:
        for number in (2 * 5, 2 * 7, 2 * 10**12):
            lying = with_footer(rows, footer[:place] + varint(number) + footer[place + 1 :])
            raw.check(lying, valid_size=2)
    assert raw.outcomes["refused"] > 3


def test_a_page_that_declares_2_gb_takes_none_of_it(tmp_path):
    data = as_bytes(ENCODED, write_page_checksum=True, row_group_size=10, compression="lz4")
    assert data[4:9] == b"\x15\x04\x15\x50\x15"  # the header of the first page, then its size
    data = data[:9] + varint(2**32 - 2) + data[14:]
    path = tmp_path / "train.parquet"
    path.write_bytes(data)
    pool = pa.default_memory_pool()
    assert pool.max_memory() < 1 << 30, "another test took the memory"
    with pytest.raises(FuxiCTRError, match="Page was smaller"):
        read_encoded(path, make_feature_map())
    with pytest.raises(FuxiCTRError, match="train.parquet: a damaged parquet file"):
        list(typed_files.read_typed(path, "parquet", ["a", "b"], 10))
    assert pool.max_memory() < 1 << 30


def test_large_row_groups_are_read_through_a_buffer(tmp_path, monkeypatch):
    path = tmp_path / "train.parquet"
    path.write_bytes(as_bytes(ENCODED))
    metadata = pq.read_metadata(path)
    assert parquet.read_buffer(path, metadata) == 0
    monkeypatch.setattr(parquet, "_WHOLE_BYTES", 100)
    assert parquet.read_buffer(path, metadata) == 1 << 20
    rows_of(path)


@pytest.mark.parametrize("name", [b"spar\xff", b"\xed\xa0\x80re"])
def test_a_name_that_is_not_utf8(tmp_path, name):
    table = ENCODED.append_column("spare", ENCODED["a"])
    path = tmp_path / "train.parquet"
    path.write_bytes(as_bytes(table, store_schema=False).replace(b"spare", name))
    for reader in (
        lambda: rows_of(path),
        lambda: list(typed_files.read_typed(path, "parquet", ["a"], 10)),
        lambda: typed_files.count_rows(path, "parquet", "a"),
        lambda: read_pretrained(path, "c", None),
    ):
        with pytest.raises(FuxiCTRError, match="train.parquet.*(damaged|not readable)"):
            reader()


def test_every_flipped_byte_of_a_build_is_noticed(tmp_path):
    path = RawBuilder(tmp_path).build(as_bytes(pa.concat_tables([RAW] * 40)))
    data = path.read_bytes()
    feature_map = FeatureMap.load(path.parent / "feature_map.json")
    whole = read_encoded(path, feature_map)
    refused = 0
    flipped = tmp_path / "flipped.parquet"
    for place in range(4, footer_of(data), 3):
        flipped.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        try:
            found = read_encoded(flipped, feature_map)
        except FuxiCTRError:
            refused += 1
        else:  # in the statistics of a page, which nobody reads
            assert found.ids.equal(whole.ids) and found.values.equal(whole.values)
    assert refused > 0.5 * len(range(4, footer_of(data), 3))


def test_files_that_grow_while_they_are_read(tmp_path):
    frames = sources.table_frames(RAW, ["c"])
    codes = np.zeros(RAW.num_rows - 1, dtype=np.uint8)
    with pytest.raises(FuxiCTRError, match="changed while they were read: found more than 5 rows"):
        list(rows_of_split(frames, codes, "train"))


def test_no_rows_and_names_twice(tmp_path):
    raw = RawBuilder(tmp_path)
    assert "no rows" in str(raw.check(as_bytes(RAW.slice(0, 0))))
    twice = pa.Table.from_arrays([*RAW.columns, RAW["x"]], names=[*RAW.column_names, "x"])
    assert "'x' more than once" in str(raw.check(as_bytes(twice)))
    sink = io.BytesIO()
    pq.ParquetWriter(sink, RAW.schema).close()
    assert "no rows" in str(raw.check(sink.getvalue()))
