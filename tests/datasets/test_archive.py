"""Archives that are damaged, or mean harm."""

import hashlib
import io
import os
import random
import shutil
import stat
import struct
import time
import tracemalloc
import zipfile

import pytest

from fuxictr.datasets import registry
from fuxictr.datasets.archive import unpack_csv
from fuxictr.errors import DownloadError
from fuxictr.files import DiskFullError
from tests.datasets.server import GOOD_ZIP, MD5, make_zip

SMALL = {f"{split}.csv": f"{split}\n".encode() for split in registry.SPLITS}
SMALL_MD5 = tuple(hashlib.md5(SMALL[f"{s}.csv"]).hexdigest() for s in registry.SPLITS)
ABOVE_THE_LIST = 10_000_000  # no archive of so few bytes may say that it has so many members


def special_zip(kind: int) -> bytes:
    """An archive whose train.csv is a link, a device or the like to a Unix system."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        info = zipfile.ZipInfo("train.csv")
        info.external_attr = (kind | 0o777) << 16
        file.writestr(info, "/etc/passwd")
        file.writestr("valid.csv", b"")
        file.writestr("test.csv", b"")
    return buffer.getvalue()


def edited(content: bytes, edit, marker: bytes = b"PK\x01\x02") -> bytes:
    """An archive in which each record of the marker is changed by ``edit(content, position)``."""
    changed, at = bytearray(content), -1
    while (at := changed.find(marker, at + 1)) >= 0:
        edit(changed, at)
    return bytes(changed)


def put(offset: int, form: str, value: int):
    """Returns an edit that writes a number into a record."""
    return lambda content, at: struct.pack_into(form, content, at + offset, value)


def encrypted_zip() -> bytes:
    """An archive whose members claim to need a password."""
    return edited(make_zip(SMALL), put(8, "<H", 1))


def bomb_zip(size: int = 5_000_000, declared: int = 10) -> bytes:
    """An archive whose train.csv is ``size`` bytes long and is declared to have others."""
    content = deflated_zip({"train.csv": b"0" * size, "valid.csv": b"", "test.csv": b""})
    return content.replace(struct.pack("<I", size), struct.pack("<I", declared))


def deflated_zip(members: dict[str, bytes], way: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", way) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


def overlapping_zip() -> bytes:
    """An archive whose three members are one and the same bytes, as in a bomb without layers."""
    content = make_zip(
        {"train.csv": b"0" * 1000, "valid.csv": b"0" * 1000, "test.csv": b"0" * 1000}
    )
    return edited(content, put(42, "<I", 0))


def zip64(size: int, offset: int = 0) -> bytes:
    """An archive that says in the zip64 way how long train.csv is, and where it begins."""
    extra = struct.pack("<HHQQQ", 1, 24, size, size, offset)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in SMALL.items():
            info = zipfile.ZipInfo(name)
            info.extra = extra if name == "train.csv" else b""
            file.writestr(info, data)
    content = bytearray(buffer.getvalue())
    at = content.find(b"PK\x01\x02")
    struct.pack_into("<IIH", content, at + 20, 0xFFFFFFFF, 0xFFFFFFFF, len("train.csv"))
    struct.pack_into("<I", content, at + 42, 0xFFFFFFFF)
    return bytes(content)


def last_member_too_long() -> bytes:
    content = bytearray(make_zip(SMALL))
    struct.pack_into("<I", content, content.rfind(b"PK\x01\x02") + 20, 0x7FFFFFFF)
    return bytes(content)


def long_list(declared: int) -> bytes:
    """The end of an archive that claims a list of so many bytes."""
    return struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, declared, 0, 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (make_zip({"../train.csv": b"", "valid.csv": b"", "test.csv": b""}), "unsafe member"),
        (make_zip({"/train.csv": b"", "valid.csv": b"", "test.csv": b""}), "unsafe member"),
        (make_zip({"a/../../train.csv": b"", "valid.csv": b"", "test.csv": b""}), "leaves the"),
        (
            special_zip(stat.S_IFLNK),
            "unsafe member 'train.csv': it is a link, a folder or a device",
        ),
        (
            special_zip(stat.S_IFIFO),
            "unsafe member 'train.csv': it is a link, a folder or a device",
        ),
        (
            special_zip(stat.S_IFCHR),
            "unsafe member 'train.csv': it is a link, a folder or a device",
        ),
        (
            special_zip(stat.S_IFDIR),
            "unsafe member 'train.csv': it is a link, a folder or a device",
        ),
        (
            make_zip({"train.csv/": b"", "valid.csv": b"", "test.csv": b""}),
            "it is a link, a folder",
        ),
        (encrypted_zip(), "unsafe member 'train.csv': it is encrypted"),
        (make_zip({"train.csv": b""}), "expected one valid.csv in the archive, found 0"),
        (make_zip({"a/train.csv": b"", "b/train.csv": b""}), "expected one train.csv .* found 2"),
        (make_zip({"train.csv": b"", "train.csv/": b""}), "expected one train.csv .* found 2"),
        (make_zip({**SMALL, "train.csv": make_zip(SMALL)}), r"train.csv: md5"),
        (
            deflated_zip(SMALL, zipfile.ZIP_LZMA),
            "compression method is 14; allowed: stored, deflated",
        ),
        (
            deflated_zip(SMALL, zipfile.ZIP_BZIP2),
            "compression method is 12; allowed: stored, deflated",
        ),
        (bomb_zip(20_000_000, 20_000_000), "declares .* times the bytes that it has; allowed: 100"),
        (bomb_zip(5_000_000, 3_999_999_999), "declares .* times the bytes that it has"),
        (
            bomb_zip(5_000_000, 5_000_001),
            "5000000 bytes long, the archive declares 5000001|damaged",
        ),
        (overlapping_zip(), "overlaps another"),
        (zip64(1 << 60), "overlaps another"),
        (zip64(6, 1 << 63), "bytes or more, the archive has"),
        (edited(make_zip(SMALL), put(42, "<I", 0xFFFFFFF0)), "overlaps another"),
        (edited(make_zip(SMALL), put(20, "<I", 0x7FFFFFFF)), "overlaps another"),
        (last_member_too_long(), "bytes or more, the archive has"),
        (
            edited(make_zip(SMALL), put(8, "<H", 0x800)).replace(b"train.csv", b"train.cs\xff"),
            "damag",
        ),
        (long_list(0xFFFFFFFE), "damaged archive"),
        (b"no zip at all", "damaged archive"),
        (b"", "damaged archive"),
        (GOOD_ZIP[: len(GOOD_ZIP) // 2], "damaged archive"),
    ],
)
def test_bad_archives(tmp_path, content, message):
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    with pytest.raises(DownloadError, match=message):
        unpack_csv(path, tmp_path / "out", SMALL_MD5)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("content", [make_zip(SMALL), deflated_zip(SMALL)])
def test_good_archives(tmp_path, content):
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    found = unpack_csv(path, tmp_path / "out", SMALL_MD5)
    assert {file.name: file.read_bytes() for file in found.values()} == SMALL


def test_names_that_are_no_text_and_other_members_do_no_harm(tmp_path):
    path = tmp_path / "a.zip"
    others = {
        "\u00e9\u4e2d.txt": b"x",
        "../../evil.py": b"x",
        "/etc/evil": b"x",
        "nested.zip": b"PK",
    }
    path.write_bytes(make_zip({**others, **SMALL}).replace(b"evil.py", b"ev\xff\xfe.py"))
    unpack_csv(path, tmp_path / "out", SMALL_MD5)
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["a.zip", *sorted(SMALL)]


def test_millions_of_members_cost_neither_memory_nor_time(tmp_path):
    path, entry = tmp_path / "a.zip", 46 + 1
    list_bytes = ABOVE_THE_LIST * entry
    with open(path, "wb") as file:
        file.truncate(list_bytes)  # a hole: it takes no disk
        file.seek(list_bytes)
        zip64_end = struct.pack(
            "<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, *[ABOVE_THE_LIST] * 2, list_bytes, 0
        )
        locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, list_bytes, 1)
        file.write(zip64_end + locator + long_list(0xFFFFFFFF))
    tracemalloc.start()
    start = time.monotonic()
    with pytest.raises(DownloadError, match="its list of members is longer than 1048576 bytes"):
        unpack_csv(path, tmp_path / "out", SMALL_MD5)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("count", [200, pytest.param(5000, marks=pytest.mark.slow)])
def test_any_bytes_give_the_files_or_one_error(tmp_path, count):
    rng, path = random.Random(count), tmp_path / "a.zip"
    originals = [make_zip(SMALL), deflated_zip(SMALL), zip64(6), overlapping_zip(), encrypted_zip()]
    num_good = 0
    for _ in range(count):
        content = bytearray(rng.choice(originals))
        for _ in range(rng.choice((1, 1, 2, 8))):
            at = rng.randrange(len(content))
            if rng.random() < 0.2:
                del content[at : at + rng.choice((1, 4, 100))]
                content = content or bytearray(1)
            else:
                content[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        path.write_bytes(content)
        try:
            found = unpack_csv(path, tmp_path / "out", SMALL_MD5)
        except DownloadError:
            continue
        assert {file.name: file.read_bytes() for file in found.values()} == SMALL
        shutil.rmtree(tmp_path / "out")
        num_good += 1
    assert 0 < num_good < count
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


def test_damaged_bytes_are_noticed(tmp_path):
    path = tmp_path / "a.zip"
    damaged = bytearray(GOOD_ZIP)
    damaged[len(damaged) // 2] ^= 0xFF
    path.write_bytes(bytes(damaged))
    with pytest.raises(DownloadError, match="damaged archive|md5"):
        unpack_csv(path, tmp_path / "out", MD5)


def test_unpacking_checks_the_disk(tmp_path, monkeypatch):
    path = tmp_path / "a.zip"
    path.write_bytes(GOOD_ZIP)
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DiskFullError, match="GB are needed"):
        unpack_csv(path, tmp_path / "out", MD5)


def test_no_more_is_written_than_declared(tmp_path, monkeypatch):
    path, written = tmp_path / "a.zip", []
    path.write_bytes(bomb_zip())
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda f: (written.append(os.fstat(f).st_size), fsync(f)))
    with pytest.raises(DownloadError, match="damaged archive|md5"):
        unpack_csv(path, tmp_path / "out", MD5)
    assert all(size <= 10 for size in written)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


def test_a_folder_that_exists_is_left_alone(tmp_path):
    path, folder = tmp_path / "a.zip", tmp_path / "mine"
    path.write_bytes(GOOD_ZIP)
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError):
        unpack_csv(path, folder, MD5)
    assert (folder / "notes.txt").read_text() == "mine"
