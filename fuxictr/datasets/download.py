"""Downloads one file: resumed where it broke off, retried with back-off, checked for free disk.

huggingface_hub is not used: it discards a partial file when a process ends, starts an archive of
gigabytes again, retries no HTTP 503, and only warns of a full disk.
"""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import http.client
import json
import logging
import os
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from fuxictr.errors import DownloadError
from fuxictr.files import DiskFullError, sync_folder, write_atomically, write_errors
from fuxictr.progress import progress_bar

logger = logging.getLogger(__name__)

DEFAULT_ENDPOINT = "https://huggingface.co"
_CHUNK_BYTES = 1 << 20
_TRANSIENT_STATUS = (408, 425, 429, 500, 502, 503, 504)


class _ConnectionLost(Exception):
    """The network failed, not the local disk, so the download may be tried again."""


@dataclass(frozen=True)
class Retries:
    """When a broken download is tried again; ``sleep`` is how to wait.

    Attributes:
        attempts: attempts in a row that may bring no new byte.
        first_delay: seconds before the second attempt; doubled each time.
        max_delay: longest delay in seconds, also where the server asks for more.
        timeout: seconds without a byte after which a connection counts as lost.
    """

    attempts: int = 6
    first_delay: float = 1.0
    max_delay: float = 60.0
    timeout: float = 30.0
    sleep: Callable[[float], None] = time.sleep


def archive_url(name: str) -> str:
    """Returns the URL of a dataset's archive at Hugging Face, or at HF_ENDPOINT where it is set."""
    endpoint = os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT
    if not _is_web_address(endpoint):
        raise DownloadError(
            f"HF_ENDPOINT '{endpoint}': no web address; write it as {DEFAULT_ENDPOINT}, or unset it"
        )
    return f"{endpoint.rstrip('/')}/datasets/reczoo/{name}/resolve/main/{name}.zip"


def download(url: str, target: Path, retries: Retries | None = None) -> None:
    """Downloads ``url`` to ``target``; a partial ``target.part`` beside it is continued.

    A second file beside it holds the version that the server named (ETag and size), so that two
    versions are never joined. The partial file is kept if the download fails.

    Raises:
        DownloadError: the server refuses, the network stays lost, or the folder is not writable.
        DiskFullError: too little space.
    """
    with write_errors(target.parent, DownloadError):
        target.parent.mkdir(parents=True, exist_ok=True)
        _download(url, target, retries or Retries())


def _download(url: str, target: Path, retries: Retries) -> None:
    partial = target.with_name(target.name + ".part")
    failures = 0
    while True:
        before = _size(partial)
        try:
            _fetch(url, partial, retries.timeout)
            os.replace(partial, target)
            sync_folder(target.parent)
            _version_file(partial).unlink(missing_ok=True)
            return
        except urllib.error.HTTPError as error:
            if error.code not in _TRANSIENT_STATUS:
                raise DownloadError(_refusal(url, error)) from error
            problem, wait = f"HTTP status {error.code}", _retry_after(error)
        except _ConnectionLost as error:
            problem, wait = str(error), 0.0
        failures = 0 if _size(partial) > before else failures + 1
        if failures >= retries.attempts:
            raise DownloadError(
                f"{url}: {problem}, {failures} attempts; check the network, or set HF_ENDPOINT to "
                "a mirror, and run the command again: it continues where it stopped"
            )
        delay = min(max(retries.first_delay * 2 ** max(failures - 1, 0), wait), retries.max_delay)
        logger.warning("%s: %s; trying again in %.0f s", url, problem, delay)
        retries.sleep(delay)


def check_free_disk(folder: Path, needed: int) -> None:
    """Raises DiskFullError where ``folder``'s disk has less than ``needed`` bytes free."""
    if shutil.disk_usage(folder).free < needed:
        raise DiskFullError(folder, needed)


def _fetch(url: str, partial: Path, timeout: float) -> None:
    """Opens one connection and appends the missing bytes to ``partial``."""
    have, version = _size(partial), _read_version(partial)
    request = urllib.request.Request(url, headers={"User-Agent": "ge4rec"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        if version.get("etag"):
            request.add_header("If-Range", version["etag"])
    try:
        with _network_errors():
            response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            # The partial file is complete, or longer than another version of the file.
            size = (error.headers.get("Content-Range") or "").rpartition("/")[2]
            if size.isdigit() and int(size) == have:
                return
            _start_over(partial, error)
        raise
    with response:
        begin, total = _span(response)
        is_other = (
            begin > 0 and None not in (version.get("total"), total) and (version["total"] != total)
        )
        if is_other or begin not in (0, have):
            _start_over(partial)
        if total is not None:
            check_free_disk(partial.parent, total - begin)
        if begin == 0:
            partial.unlink(missing_ok=True)
            _write_version(partial, response, total)
        _copy(response, partial, begin, total)


def _span(response: http.client.HTTPResponse) -> tuple[int, int | None]:
    """Returns the first byte of a response, 0 if the range was ignored, and the file's size."""
    length = response.headers.get("Content-Length") or ""
    content_range = response.headers.get("Content-Range") or ""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", content_range)
    if response.status == 206 and found:
        begin, size = int(found[1]), found[2]
        if size.isdigit():
            return begin, int(size)
        return begin, begin + int(length) if length.isdigit() else None
    return 0, int(length) if length.isdigit() else None


def _copy(response: http.client.HTTPResponse, partial: Path, have: int, total: int | None) -> None:
    with (
        open(partial, "ab" if have else "wb") as file,
        progress_bar(total or 0, partial.stem, unit="B") as advance,
    ):
        advance(have)
        while chunk := _read(response):
            file.write(chunk)
            have += len(chunk)
            advance(len(chunk))
        file.flush()
        os.fsync(file.fileno())
    if total is not None and have < total:
        raise _ConnectionLost(f"the connection broke after {have} of {total} bytes")


def _read(response: http.client.HTTPResponse) -> bytes:
    with _network_errors():
        return response.read(_CHUNK_BYTES)


@contextlib.contextmanager
def _network_errors() -> Iterator[None]:
    """Tells errors of the network from those of the disk, which have the same classes."""
    try:
        yield
    except urllib.error.HTTPError:
        raise
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise _ConnectionLost(str(reason) or type(error).__name__) from error


def _start_over(partial: Path, cause: Exception | None = None) -> NoReturn:
    partial.unlink(missing_ok=True)
    raise _ConnectionLost("the file changed on the server; starting over") from cause


def _version_file(partial: Path) -> Path:
    return partial.with_name(partial.name + ".json")


def _read_version(partial: Path) -> dict[str, Any]:
    try:
        version = json.loads(_version_file(partial).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return version if isinstance(version, dict) else {}


def _write_version(partial: Path, response: http.client.HTTPResponse, total: int | None) -> None:
    etag = response.headers.get("ETag") or ""
    # A weak ETag (W/"...") does not promise equal bytes: If-Range takes strong ones only.
    version = {"etag": etag if etag.startswith('"') else None, "total": total}
    write_atomically(_version_file(partial), json.dumps(version))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _retry_after(error: urllib.error.HTTPError) -> float:
    """Returns the seconds that the server asks to wait, by a number or a date."""
    value = error.headers.get("Retry-After") or ""
    if value.isdigit():
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.timezone.utc)
    return max(0.0, moment.timestamp() - time.time())


def _is_web_address(text: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(text)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and not re.search(r"\s", text)
        )
    except ValueError:
        return False


def _refusal(url: str, error: urllib.error.HTTPError) -> str:
    if error.code == 404:
        return f"{url}: not found (HTTP status 404); check HF_ENDPOINT, or try without it"
    if error.code in (401, 403):
        return f"{url}: access refused (HTTP status {error.code}); set HF_ENDPOINT to a mirror"
    return f"{url}: the server answered with HTTP status {error.code}; try again later"
