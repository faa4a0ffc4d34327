"""Unpacks the csv files of a downloaded archive, which is not trusted, and verifies their md5.

The list of members, the declared bytes, the unpacked bytes and the memory are limited.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NoReturn

from fuxictr.datasets.download import check_free_disk
from fuxictr.datasets.registry import SPLITS
from fuxictr.errors import DownloadError
from fuxictr.files import DiskFullError, naming_full_disk
from fuxictr.progress import progress_bar

_CHUNK_BYTES = 1 << 20
_MAX_LIST_BYTES = 1 << 20  # of the list of members; each takes 46 bytes and more
# Click logs shrink to a tenth or so, text of one letter to a thousandth; small files may as well.
_MAX_RATIO, _SMALL_BYTES = 100, 10_000_000
# Other methods need up to 4 GB of memory to unpack a few bytes.
_METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}
_HEADER_BYTES = 30
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError),
    *(NotImplementedError, OverflowError, RuntimeError, ValueError),
)


def unpack_csv(archive: Path, folder: Path, md5: tuple[str, ...]) -> dict[str, Path]:
    """Unpacks train.csv, valid.csv and test.csv into the new ``folder``; returns split -> path.

    Only these members are read, wherever they are in the archive, and no path of it leaves
    ``folder``. No more bytes are written than it declares, and no more than the disk has. On a
    failure ``folder`` is removed again.

    Raises:
        DownloadError: no zip; a missing, doubled, unsafe or damaged member; a bomb; a wrong md5.
        DiskFullError: too little space.
    """
    folder.mkdir(parents=True)
    try:
        with naming_full_disk(folder), _open_archive(archive) as file:
            members = _find_members(archive, file)
            total = sum(member.file_size for member in members.values())
            check_free_disk(folder, total)
            with progress_bar(total, f"Unpacking {archive.stem}", unit="B") as advance:
                return {
                    split: _unpack(file, member, folder / f"{split}.csv", expected, advance)
                    for (split, member), expected in zip(members.items(), md5, strict=True)
                }
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def file_md5(path: Path) -> str:
    """Returns the md5 of a file, in hex."""
    digest = hashlib.md5(usedforsecurity=False)
    total = path.stat().st_size
    with open(path, "rb") as file, progress_bar(total, f"md5 {path.name}", unit="B") as advance:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            advance(len(chunk))
    return digest.hexdigest()


@contextlib.contextmanager
def _open_archive(archive: Path) -> Iterator[zipfile.ZipFile]:
    """Opens a zip file; any error of its bytes becomes a DownloadError."""
    try:
        with (
            open(archive, "rb", buffering=0) as raw,
            _Reader(raw) as reader,
            zipfile.ZipFile(reader) as file,
        ):
            yield file
    except _DAMAGE as error:
        if isinstance(error, DownloadError | DiskFullError):
            raise
        raise DownloadError(
            f"{archive}: damaged archive ({error}); run the command again for a new download"
        ) from error


class _Reader(io.BufferedReader):
    """A file that refuses reads larger than an honest archive needs."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Returns ``size`` bytes, or all that are left; BadZipFile beyond _MAX_LIST_BYTES."""
        wanted = _MAX_LIST_BYTES + 1 if size is None or size < 0 else size
        if wanted <= _MAX_LIST_BYTES + 1:
            found = super().read(wanted)
            if len(found) <= _MAX_LIST_BYTES:
                return found
        raise zipfile.BadZipFile(f"its list of members is longer than {_MAX_LIST_BYTES} bytes")


def _find_members(archive: Path, file: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Returns the member of each split; raises DownloadError if one is missing or unsafe."""

    def refuse(problem: str) -> NoReturn:
        raise DownloadError(f"{archive}: {problem}; the archive is not trusted")

    members = {}
    for split in SPLITS:
        name = f"{split}.csv"
        found = [m for m in file.infolist() if PurePosixPath(m.filename).name == name]
        if len(found) != 1:
            raise DownloadError(
                f"{archive}: expected one {name} in the archive, found {len(found)}"
            )
        if problem := _problem(found[0]):
            refuse(f"unsafe member '{found[0].filename}': {problem}")
        members[split] = found[0]
    num_bytes, end = archive.stat().st_size, 0
    for member in sorted(members.values(), key=lambda m: m.header_offset):
        if member.header_offset < end:
            refuse(f"member '{member.filename}' overlaps another")
        end = member.header_offset + _HEADER_BYTES + member.compress_size
    if end > num_bytes:
        refuse(f"its members have {end} bytes or more, the archive has {num_bytes}")
    return members


def _problem(member: zipfile.ZipInfo) -> str | None:
    """Returns why a member is unsafe, or None."""
    path = PurePosixPath(member.filename)
    kind = stat.S_IFMT(member.external_attr >> 16)
    ratio = member.file_size / max(member.compress_size, 1)
    if path.is_absolute() or ".." in path.parts:
        return "its path leaves the folder"
    if member.is_dir() or kind not in (0, stat.S_IFREG):
        return "it is a link, a folder or a device"
    if member.flag_bits & 1:
        return "it is encrypted"
    if member.compress_type not in _METHODS:
        allowed = ", ".join(_METHODS.values())
        return f"its compression method is {member.compress_type}; allowed: {allowed}"
    if member.file_size > _SMALL_BYTES and ratio > _MAX_RATIO:
        return f"it declares {ratio:.0f} times the bytes that it has; allowed: {_MAX_RATIO}"
    return None


def _unpack(
    file: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    target: Path,
    expected: str,
    advance: Callable[[int], None],
) -> Path:
    digest = hashlib.md5(usedforsecurity=False)
    written = 0
    with file.open(member) as source, open(target, "xb") as out:
        while chunk := source.read(_CHUNK_BYTES):
            written += len(chunk)
            if written > member.file_size:
                raise DownloadError(
                    f"{member.filename}: longer than the {member.file_size} bytes that the archive "
                    "declares; the archive is not trusted"
                )
            out.write(chunk)
            digest.update(chunk)
            advance(len(chunk))
        out.flush()
        os.fsync(out.fileno())
    if written != member.file_size:
        raise DownloadError(
            f"{member.filename}: {written} bytes long, the archive declares {member.file_size}; "
            "the archive is not trusted"
        )
    if digest.hexdigest() != expected:
        raise DownloadError(
            f"{target.name}: md5 {digest.hexdigest()}, expected {expected}; the archive is damaged "
            "or another version; run the command again for a new download"
        )
    return target
