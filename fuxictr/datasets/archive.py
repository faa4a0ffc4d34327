"""Unpacks the csv files of a downloaded archive and verifies their md5."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from fuxictr.datasets.download import check_free_disk
from fuxictr.datasets.registry import SPLITS
from fuxictr.errors import DownloadError
from fuxictr.progress import progress_bar

_CHUNK_BYTES = 1 << 20


def unpack_csv(archive: Path, folder: Path, md5: tuple[str, ...]) -> dict[str, Path]:
    """Unpacks train.csv, valid.csv and test.csv into ``folder``, verified.

    Only these members are read, wherever they lie in the archive; each is written under its plain
    name, so that no path of the archive leaves ``folder``. No more bytes are written than the
    archive declares, and no more than the disk has. On a failure ``folder`` is removed again.

    Args:
        archive: the zip file.
        folder: where the files go; it must not exist yet.
        md5: expected md5 of each split.

    Returns:
        split -> path.

    Raises:
        DownloadError: no zip; a missing, doubled, linked or damaged member; a wrong md5.
        DiskFullError: too little space.
    """
    folder.mkdir(parents=True)
    is_whole = False
    try:
        with zipfile.ZipFile(archive) as file:
            members = _find_members(archive, file)
            total = sum(member.file_size for member in members.values())
            check_free_disk(folder, total)
            with progress_bar(total, f"Unpacking {archive.stem}", unit="B") as advance:
                files = {
                    split: _unpack(file, member, folder / f"{split}.csv", expected, advance)
                    for (split, member), expected in zip(members.items(), md5, strict=True)
                }
        is_whole = True
        return files
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DownloadError(
            f"{archive}: damaged archive ({error}); run the command again to download it anew"
        ) from error
    finally:
        if not is_whole:
            shutil.rmtree(folder, ignore_errors=True)


def file_md5(path: Path) -> str:
    """Returns the md5 of a file, in hex."""
    digest = hashlib.md5(usedforsecurity=False)
    total = path.stat().st_size
    with open(path, "rb") as file, progress_bar(total, f"md5 {path.name}", unit="B") as advance:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            advance(len(chunk))
    return digest.hexdigest()


def _find_members(archive: Path, file: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    members = {}
    for split in SPLITS:
        name = f"{split}.csv"
        found = [m for m in file.infolist() if PurePosixPath(m.filename).name == name]
        if len(found) != 1:
            raise DownloadError(
                f"{archive}: expected one {name} in the archive, found {len(found)}"
            )
        path = PurePosixPath(found[0].filename)
        is_link = stat.S_ISLNK(found[0].external_attr >> 16)
        is_encrypted = found[0].flag_bits & 1
        if is_link or is_encrypted or path.is_absolute() or ".." in path.parts:
            raise DownloadError(
                f"{archive}: unsafe member '{found[0].filename}'; the archive is not trusted"
            )
        members[split] = found[0]
    return members


def _unpack(
    file: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    target: Path,
    expected: str,
    advance: Callable[[int], None],
) -> Path:
    digest = hashlib.md5(usedforsecurity=False)
    written = 0
    with file.open(member) as source, open(target, "wb") as out:
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
    if digest.hexdigest() != expected:
        raise DownloadError(
            f"{target.name}: md5 {digest.hexdigest()}, expected {expected}; the archive is damaged "
            "or another version; run the command again to download it anew"
        )
    return target
