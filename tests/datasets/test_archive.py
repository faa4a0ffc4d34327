"""Archives that are damaged, or mean harm."""

import io
import os
import shutil
import stat
import struct
import zipfile

import pytest

from fuxictr.datasets import registry
from fuxictr.datasets.archive import unpack_csv
from fuxictr.datasets.download import DiskFullError
from fuxictr.errors import DownloadError
from tests.datasets.server import GOOD_ZIP, MD5, make_zip


def link_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        info = zipfile.ZipInfo("train.csv")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(info, "/etc/passwd")
        file.writestr("valid.csv", b"")
        file.writestr("test.csv", b"")
    return buffer.getvalue()


def encrypted_zip() -> bytes:
    """An archive whose members claim to need a password."""
    content = bytearray(make_zip({f"{split}.csv": b"" for split in registry.SPLITS}))
    at = -1
    while (at := content.find(b"PK\x01\x02", at + 1)) >= 0:
        content[at + 8] |= 1
    return bytes(content)


def bomb_zip() -> bytes:
    """An archive whose train.csv is 5 MB long and declared to have 10 bytes."""
    size = 5_000_000
    members = {"train.csv": b"0" * size, "valid.csv": b"", "test.csv": b""}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue().replace(struct.pack("<I", size), struct.pack("<I", 10))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (make_zip({"../train.csv": b"", "valid.csv": b"", "test.csv": b""}), "unsafe member"),
        (make_zip({"/train.csv": b"", "valid.csv": b"", "test.csv": b""}), "unsafe member"),
        (link_zip(), "unsafe member 'train.csv'"),
        (encrypted_zip(), "unsafe member 'train.csv'"),
        (make_zip({"train.csv": b""}), "expected one valid.csv in the archive, found 0"),
        (make_zip({"a/train.csv": b"", "b/train.csv": b""}), "expected one train.csv .* found 2"),
        (b"no zip at all", "damaged archive"),
        (GOOD_ZIP[: len(GOOD_ZIP) // 2], "damaged archive"),
    ],
)
def test_bad_archives(tmp_path, content, message):
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    with pytest.raises(DownloadError, match=message):
        unpack_csv(path, tmp_path / "out", MD5)
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
