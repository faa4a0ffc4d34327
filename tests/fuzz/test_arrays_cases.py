"""Npz and h5 files that were read wrongly, or were deadly, once; each of them by hand."""

from __future__ import annotations

import base64
import os
import zipfile
import zlib

import h5py
import numpy as np
import pytest

from fuxictr.array_files import h5_probe, memory, open_arrays, read_whole
from fuxictr.errors import DataError
from fuxictr.features import FeatureMap
from fuxictr.preprocess.sources import typed_files
from fuxictr.pytorch.dataloaders import read_encoded
from tests.fuzz.h5_worker import COLUMNS
from tests.fuzz.mutations import no_hang
from tests.fuzz.test_arrays import ROWS, check_message, h5_bytes, read_raw
from tests.pytorch.encoded_rows import make_feature_map, write_encoded


def header(shape, kind="<i4"):
    text = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


BYTES = np.arange(25, dtype="<i4").tobytes()
NPZ_MEMBERS = {
    "rows": (header((25,)) + BYTES, None),
    "too short": (header((25,)) + BYTES[:-1], "99 bytes of data, but its shape is .25,. of int32"),
    "too long": (header((25,)) + BYTES + b"x", "101 bytes of data"),
    "a trillion rows": (header((10**12,)) + BYTES, "its shape is .1000000000000,."),
    "a trillion texts of no width": (header((10**12,), "<U0") + BYTES, "allowed: numbers or texts"),
    "a trillion rows of no width": (header((10**12, 0)), "shape .1000000000000, 0.|declares 8,000"),
    "rows below none": (header((-25,)) + BYTES, "its shape is .-25,."),
    "objects": (header((25,), "|O") + BYTES, "an object array"),
    "fields": (header((25,), [("x", "<i4")]) + BYTES, "allowed: numbers or texts"),
    "no values of a kind": (header((25,), "|V4") + BYTES, "(allowed: numbers or texts|dtype .V4)"),
    "complex": (
        header((25,), "<c8") + BYTES * 2,
        "(allowed: numbers or texts|found dtype complex)",
    ),
    "no array": (b"click", "not readable"),
    "nothing": (b"", "not readable"),
    "a header without end": (b"\x93NUMPY\x01\x00\xff\xff{", "not readable"),
    "code as a header": (b"\x93NUMPY\x01\x00\x0a\x00__import__", "not readable"),
    "another version": (b"\x93NUMPY\x09\x00" + header((25,))[8:] + BYTES, "another version"),
    "a single number": (
        header(()) + BYTES[:4],
        "found shape .., (allowed: one|expected)",
    ),
}


@pytest.mark.parametrize("name", NPZ_MEMBERS)
def test_members_of_an_npz(tmp_path, name):
    data, message = NPZ_MEMBERS[name]
    path = tmp_path / "rows.npz"
    np.savez(path, click=ROWS["click"])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a.npy", data)
    feature_map = FeatureMap("d")
    feature_map.features = {"a": {"type": "categorical", "vocab_size": 25}}
    feature_map.labels = ["click"]
    readers = [lambda: read_raw(path, COLUMNS[:1]), lambda: read_encoded(path, feature_map)]
    for read in readers:
        with no_hang():
            if message is None:
                read()
                continue
            with pytest.raises(DataError, match=message) as error:
                read()
        check_message(str(error.value), path)


@pytest.mark.parametrize("kind", [">i4", ">f8", ">u2", "<i8", "i1", "<f2"])
@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_numbers_of_any_byte_order_and_width(tmp_path, suffix, kind):
    columns = {**ROWS, "a": ROWS["a"].astype(kind), "tags": np.asfortranarray(ROWS["tags"])}
    path = write_encoded(tmp_path / f"rows{suffix}", columns)
    whole = write_encoded(tmp_path / f"whole{suffix}", ROWS)
    assert read_raw(path).equals(read_raw(whole))
    found, expected = (read_encoded(p, make_feature_map()) for p in (path, whole))
    assert found.ids.equal(expected.ids) and found.values.equal(expected.values)


def test_more_than_memory_is_not_believed(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 18_000_000)
    feature_map = FeatureMap("d")
    feature_map.features = {"a": {"type": "categorical", "vocab_size": 25}}
    feature_map.labels = ["click"]
    zeros = np.zeros(5_000_000, dtype=np.int32)
    np.savez_compressed(tmp_path / "bomb.npz", a=zeros, click=zeros)
    with h5py.File(tmp_path / "bomb.h5", "w") as file:
        for name in ("a", "click"):
            file.create_dataset(name, data=zeros, chunks=(1_000_000,), compression="gzip")
    for path in (tmp_path / "bomb.npz", tmp_path / "bomb.h5"):
        assert path.stat().st_size < 300_000
        with pytest.raises(
            DataError, match="declares 0.0[24] GB, allowed: the memory that is free"
        ):
            read_encoded(path, feature_map)
    small = {"a": zeros[:1_000_000].astype("i1"), "click": zeros[:1_000_000].astype("i1")}
    np.savez_compressed(tmp_path / "small.npz", **small)
    assert read_encoded(tmp_path / "small.npz", feature_map).num_rows == 1_000_000
    with pytest.raises(DataError, match="bomb.npz: column 'a': declares"):
        read_raw(tmp_path / "bomb.npz", COLUMNS[:1])
    slices = typed_files.read_typed(tmp_path / "bomb.h5", "h5", ["a", "click"], 1000)
    assert next(slices).num_rows == 1000  # the rest stays on disk
    slices.close()


# Files that ended, or never left, the process that read them (HDF5 2.0).
DEADLY = {
    "a text that is never read to its end": (
        "c-rliI}XAy42I(rq^J@CHeliixdNhv4hRr1F!DGEYq?2}!mXeowi>cB0OJ3azkbAt6vw?5*{qX}Qspp4wNy`q+!"
        ";G~wIzOFCDxL)(&DFQjF+oE*N^jdn>=^f_Xyd?w!9hz{*fY|tex)JmM*>N*SurYkHwq&l4|=}B)0ElBJW5zuhGF"
        "Xby&xHd`=2Fw_U5Vwf1hq^%9cSw$Ta7ueyira+SFkE$?ugpf>^dRooD=rkP>&FZUw0j^gfnK3y#+7{C<G+p}uchW"
        "=ADCn=iOLe<5c00000000000H5Xo=7}?P"
    ),
    "a number with another type": (
        "c-rlhO%8%E5QRGhl7_^HJ9Om{xPlRsg%P7JT>5hvya`9~GM)h~oeFg8LXGd+yv}rH+N9ID=ILS(PC}tkO86oYU1}"
        "zY`?lRbvJz{_T1o4tW{=awi0iv?`)!u#=-R=allVrJ0RKpy%{E#OY}+oq$$s3)>Bs!db4diI7FpYLGLdn39M@{xg"
        "pTjj+%bBkn$8WLs%<HaTX8*)Y-=aZ4a%>2huykJ^^dmyaO$Bq0r*w)5K2@#!@9O~Y`tF2ixqVSFgf$~BHG-p|Ln|"
        "3a^|(A8sbd=000000001hPxAo(tT5&"
    ),
    "chunks without a filter": (
        "c-rgqaB<`1lHy_j0S*oZ76t(ZWbhvf9`K{`Ve$!3nh{EOK<O1sFmXn(oCH){5NbZUx{x4OSCH!eXaHu90SkoYU>F"
        "4>5qP*d27u@YC?A$ePcWgXOGHbL9u(Tk$iN0MixI}xfY3}30WPRIm^0A%%s`idR0;qSE+h#nfJs(hN(PBDF+&XEW"
        "(WZD8JS`FIlwumIHNQzEhiPK7i2#~JS8<PC$R(}&I}C^pxTn;jMO4yBUpZc<UD33<_cB@sMQeXLA7d-6du8T{w|D"
        "QS3rOQ^Jv;62Y|{uMqo7HDDH5A4bXBJR-UrrP<MhKmCuTnE?GvSU=)mkQ7{Td!6+C7qhLsYin!#2l%%x8)a2(6QV"
        "wu4un9Bhoyfd@vLf#Bqh}AFJ{A`c5lRD!3x8yolyggs3jiXwU4H"
    ),
}


@pytest.mark.parametrize("name", DEADLY)
def test_h5_files_that_no_process_survives(tmp_path, monkeypatch, name):
    monkeypatch.setattr(h5_probe.PROBE, "timeout", 0.5)
    path = tmp_path / "deadly.h5"
    path.write_bytes(zlib.decompress(base64.b85decode(DEADLY[name])))
    message = (
        "deadly.h5: column 'a': (.*reading it (ended a process|did not go on)|found a dataset of)"
    )
    for _ in range(2):  # what was deadly once is not believed later
        with pytest.raises(DataError, match=message), open_arrays(path) as (_, find):
            read_whole(path, "a", find("a"))


def test_a_reader_that_waits_for_ever_is_ended(tmp_path):
    os.mkfifo(tmp_path / "rows.h5")
    probe = h5_probe.Probe(timeout=0.3)
    with no_hang(), pytest.raises(DataError, match="reading it did not go on for 0.3 s"):
        probe.check(tmp_path / "rows.h5")
    probe.check(write_encoded(tmp_path / "whole.h5", ROWS), "a")  # another child is started
    probe.close()


def make_links(file, folder):
    (folder / "secret.h5").write_bytes(h5_bytes())
    (folder / "secret.raw").write_bytes(bytes(100))
    layout = h5py.VirtualLayout((25,), "<i4")
    layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "a", (25,))
    return {
        "external link": lambda: file.__setitem__("a", h5py.ExternalLink("secret.h5", "/a")),
        "soft link": lambda: file.__setitem__("a", h5py.SoftLink("/b")),
        "broken link": lambda: file.__setitem__("a", h5py.SoftLink("/nowhere")),
        "virtual": lambda: file.create_virtual_dataset("a", layout),
        "external data": lambda: file.create_dataset(
            "a", (25,), "<i4", external=[(str(folder / "secret.raw"), 0, 100)]
        ),
        "group": lambda: file.create_group("a"),
        "no values": lambda: file.create_dataset("a", data=h5py.Empty("<i4")),
        "objects": lambda: file.create_dataset("a", (25,), h5py.vlen_dtype(np.int32)),
        "references": lambda: file.create_dataset("a", (25,), h5py.ref_dtype),
        "a trillion rows": lambda: file.create_dataset("a", (10**12,), "<i4", chunks=(1000,)),
        "nothing stored": lambda: file.create_dataset("a", (25,), "<i4", chunks=(5,)),
        "named type": lambda: file.__setitem__("a", np.dtype("<i4")),
        "no rows": lambda: file.create_dataset("a", (0,), "<i4"),
        "a single number": lambda: file.create_dataset("a", data=3),
        "fields": lambda: file.create_dataset("a", data=np.zeros(25, [("x", "<i4")])),
    }


LINKED = {
    "external link": "found a link",
    "soft link": "found a link",
    "broken link": "found a link",
    "virtual": "whose values lie in other files",
    "external data": "whose values lie in other files",
    "group": "found a group",
    "no values": "found a dataset without values",
    "objects": "found a dataset of objects",
    "references": "found a dataset of objects",
    "a trillion rows": "declares 4,000,000,000,000 bytes .* but 0 are stored",
    "nothing stored": "declares 100 bytes in shape .25,., but 0 are stored",
    "named type": "found",
    "no rows": "found 25 rows, allowed: 0|found shape .25,., expected .0,.",
    "a single number": "found shape ..",
    "fields": "allowed: numbers or texts|found dtype",
}


@pytest.mark.parametrize("name", LINKED)
def test_h5_items_that_lead_elsewhere_or_lie(tmp_path, name):
    path = tmp_path / "rows.h5"
    path.write_bytes(h5_bytes())
    with h5py.File(path, "r+") as file:
        del file["a"]
        make_links(file, tmp_path)[name]()
    for read in (read_raw, lambda path: read_encoded(path, make_feature_map())):
        with no_hang(), pytest.raises(DataError, match=f"column '.*': .*({LINKED[name]})") as error:
            read(path)
        check_message(str(error.value), path)


def test_what_was_readable_is_not_read_twice(tmp_path, monkeypatch):
    path = write_encoded(tmp_path / "rows.h5", ROWS)
    read_encoded(path, make_feature_map())
    questions = []
    ask = h5_probe.PROBE._ask
    monkeypatch.setattr(h5_probe.PROBE, "_ask", lambda q: questions.append(q) or ask(q))
    read_encoded(path, make_feature_map())
    assert not questions
    os.utime(path, (1, 1))
    read_encoded(path, make_feature_map())
    assert len(questions) == 1 + 6


def test_a_name_that_is_not_utf8(tmp_path):
    path = tmp_path / "rows.h5"
    path.write_bytes(h5_bytes().replace(b"vector\0", b"v\xffctor\0"))
    with pytest.raises(DataError, match=r"column 'vector' is missing.*v\\xffctor"):
        read_raw(path)
    with pytest.raises(DataError, match="column 'vector' is missing"):
        read_encoded(path, make_feature_map())


def test_a_damaged_name_makes_a_message_of_one_line(tmp_path):
    arrays = {name: np.zeros(3, "<i4") for name in ("us\ner", "item", "click")}
    np.savez(tmp_path / "a.npz", **arrays)
    feature_map = FeatureMap("d")
    feature_map.features = {name: {"type": "categorical", "vocab_size": 9} for name in ("user",)}
    feature_map.labels = ["click"]
    with pytest.raises(DataError, match=r"did you mean 'us\\ner'\?$"):
        read_encoded(tmp_path / "a.npz", feature_map)
