"""Downloads one file: resumed where it broke off, retried with back-off, checked for free disk."""

from __future__ import annotations

import errno
import http.client
import logging
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fuxictr.errors import DownloadError
from fuxictr.progress import progress_bar

logger = logging.getLogger(__name__)

DEFAULT_ENDPOINT = "https://huggingface.co"
_CHUNK_BYTES = 1 << 20
_TRANSIENT_STATUS = (408, 425, 429, 500, 502, 503, 504)
_NETWORK_ERRORS = (OSError, http.client.HTTPException)


class DiskFullError(DownloadError):
    """The disk of a folder has too little space, for ``needed`` bytes where that is known."""

    def __init__(self, folder: Path, needed: int | None = None) -> None:
        free = shutil.disk_usage(folder).free / 1e9
        wanted = f"; {needed / 1e9:.2f} GB are needed" if needed else ""
        super().__init__(
            f"{folder}: the disk is full ({free:.2f} GB free{wanted}); free some space and run "
            "the command again: it goes on where it stopped"
        )


@dataclass(frozen=True)
class Retries:
    """How often and how patiently a broken download is tried again.

    Attributes:
        attempts: attempts in a row that may bring no new byte.
        first_delay: seconds before the second one; doubled each time.
        max_delay: seconds that a delay is never longer than, also where the server asks for more.
        timeout: seconds without a byte after which a connection counts as lost.
        sleep: how to wait.
    """

    attempts: int = 6
    first_delay: float = 1.0
    max_delay: float = 60.0
    timeout: float = 30.0
    sleep: Callable[[float], None] = time.sleep


def archive_url(name: str) -> str:
    """Returns the URL of a dataset's archive at Hugging Face, or at HF_ENDPOINT where it is set."""
    endpoint = os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT
    return f"{endpoint.rstrip('/')}/datasets/reczoo/{name}/resolve/main/{name}.zip"


def download(url: str, target: Path, retries: Retries | None = None) -> None:
    """Downloads ``url`` to ``target``; a partial ``target.part`` beside it is continued.

    Raises:
        DownloadError: the server refuses, the network stays lost or the disk is full; says what to
            do. What was fetched so far is kept for the next attempt.
    """
    retries = retries or Retries()
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".part")
    failures = 0
    while True:
        before = _size(partial)
        try:
            _fetch(url, partial, retries.timeout)
            os.replace(partial, target)
            return
        except urllib.error.HTTPError as error:
            if error.code not in _TRANSIENT_STATUS:
                raise DownloadError(_refusal(url, error)) from error
            problem, wait = f"HTTP status {error.code}", _retry_after(error)
        except _NETWORK_ERRORS as error:
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFullError(partial.parent) from error
            problem, wait = str(error) or type(error).__name__, 0.0
        failures = 0 if _size(partial) > before else failures + 1
        if failures >= retries.attempts:
            raise DownloadError(
                f"{url}: {problem}, {failures} attempts; check the network, or set HF_ENDPOINT to "
                "a mirror, and run the command again: it goes on where it stopped"
            )
        delay = min(max(retries.first_delay * 2 ** max(failures - 1, 0), wait), retries.max_delay)
        logger.warning("%s: %s; trying again in %.0f s", url, problem, delay)
        retries.sleep(delay)


def check_free_disk(folder: Path, needed: int) -> None:
    """Raises DiskFullError where ``folder``'s disk has less than ``needed`` bytes free."""
    if shutil.disk_usage(folder).free < needed:
        raise DiskFullError(folder, needed)


def _fetch(url: str, partial: Path, timeout: float) -> None:
    """One connection: appends to ``partial`` what it lacks; raises where it ends too early."""
    have = _size(partial)
    request = urllib.request.Request(url, headers={"User-Agent": "ge4rec"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            # The partial file is as long as the file, or longer than another version of it.
            total = (error.headers.get("Content-Range") or "").rpartition("/")[2]
            if total.isdigit() and int(total) == have:
                return
            partial.unlink()
            raise ConnectionError("the file changed on the server; starting over") from error
        raise
    with response:
        if have and not _continues(response, have):
            have = 0
        length = response.headers.get("Content-Length")
        rest = int(length) if length and length.isdigit() else None
        if rest is not None:
            check_free_disk(partial.parent, rest)
        _copy(response, partial, have, rest)


def _continues(response: http.client.HTTPResponse, have: int) -> bool:
    """Returns whether the answer begins at byte ``have``; a server may ignore the range."""
    content_range = response.headers.get("Content-Range") or ""
    return response.status == 206 and content_range.startswith(f"bytes {have}-")


def _copy(response: http.client.HTTPResponse, partial: Path, have: int, rest: int | None) -> None:
    received = 0
    with (
        open(partial, "ab" if have else "wb") as file,
        progress_bar(have + (rest or 0), partial.stem, unit="B") as advance,
    ):
        advance(have)
        while chunk := response.read(_CHUNK_BYTES):
            file.write(chunk)
            received += len(chunk)
            advance(len(chunk))
        file.flush()
        os.fsync(file.fileno())
    if rest is not None and received < rest:
        raise ConnectionError(f"the connection broke after {have + received} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _retry_after(error: urllib.error.HTTPError) -> float:
    value = error.headers.get("Retry-After") or ""
    return float(value) if value.isdigit() else 0.0


def _refusal(url: str, error: urllib.error.HTTPError) -> str:
    if error.code == 404:
        return f"{url}: not found (HTTP status 404); check HF_ENDPOINT, or try without it"
    if error.code in (401, 403):
        return f"{url}: access refused (HTTP status {error.code}); set HF_ENDPOINT to a mirror"
    return f"{url}: the server answered with HTTP status {error.code}; try again later"
