"""Downloads against a server on 127.0.0.1 that misbehaves on request."""

import email.utils
import errno
import os
import shutil
import time

import pytest

from fuxictr.datasets.download import Retries, archive_url, download
from fuxictr.errors import DownloadError
from fuxictr.files import DiskFullError
from tests.datasets.server import GOOD_ZIP


def quick(sleeps: list | None = None, timeout: float = 30.0) -> Retries:
    sleep = (sleeps if sleeps is not None else []).append
    return Retries(attempts=3, timeout=timeout, sleep=sleep)


def fetch(server, tmp_path, sleeps=None, timeout=30.0) -> bytes:
    target = tmp_path / "file.zip"
    download(archive_url("Tiny_x1"), target, quick(sleeps, timeout))
    assert [p.name for p in tmp_path.iterdir()] == ["file.zip"]
    return target.read_bytes()


def test_url_honours_the_mirror(server, monkeypatch):
    expected = "/datasets/reczoo/Tiny_x1/resolve/main/Tiny_x1.zip"
    assert archive_url("Tiny_x1") == server.endpoint + expected
    monkeypatch.delenv("HF_ENDPOINT")
    assert archive_url("Tiny_x1") == "https://huggingface.co" + expected


@pytest.mark.parametrize("text", ["a.mirror", "file:///etc", "http://a b", "http://a:x", "http://"])
def test_a_mirror_that_is_no_web_address(monkeypatch, text):
    monkeypatch.setenv("HF_ENDPOINT", text)
    with pytest.raises(DownloadError, match="no web address; write it as https://huggingface.co"):
        archive_url("Tiny_x1")


def test_plain_download(server, tmp_path):
    assert fetch(server, tmp_path) == GOOD_ZIP
    assert [p.name for p in tmp_path.iterdir()] == ["file.zip"]


def test_broken_download_is_resumed(server, tmp_path):
    server.plan = ["break", "break"]
    assert fetch(server, tmp_path) == GOOD_ZIP
    ranges = [asked for _, asked in server.requests]
    half = len(GOOD_ZIP) // 2
    assert ranges[0] is None
    assert ranges[1] == f"bytes={half}-"
    assert int(ranges[2].removeprefix("bytes=").rstrip("-")) > half


def test_a_later_command_resumes_what_an_earlier_one_left(server, tmp_path):
    (tmp_path / "file.zip.part").write_bytes(GOOD_ZIP[:1000])
    assert fetch(server, tmp_path) == GOOD_ZIP
    assert server.requests[0][1] == "bytes=1000-"


def test_server_without_ranges_starts_over(server, tmp_path):
    (tmp_path / "file.zip.part").write_bytes(b"x" * 1000)
    server.plan = ["no-range"]
    assert fetch(server, tmp_path) == GOOD_ZIP


def test_partial_file_that_is_already_whole(server, tmp_path):
    (tmp_path / "file.zip.part").write_bytes(GOOD_ZIP)
    assert fetch(server, tmp_path) == GOOD_ZIP


def test_partial_file_longer_than_the_file_starts_over(server, tmp_path):
    (tmp_path / "file.zip.part").write_bytes(GOOD_ZIP + b"more")
    assert fetch(server, tmp_path) == GOOD_ZIP


def test_transient_errors_are_retried_with_growing_delays(server, tmp_path):
    server.plan = [503, 429]
    sleeps = []
    assert fetch(server, tmp_path, sleeps) == GOOD_ZIP
    assert sleeps == [1.0, 2.0]


def test_attempts_end_with_advice(server, tmp_path):
    server.plan = [503] * 10
    with pytest.raises(DownloadError, match="HTTP status 503, 3 attempts; check the network"):
        fetch(server, tmp_path)


@pytest.mark.parametrize(
    ("status", "message"), [(404, "not found .* check HF_ENDPOINT"), (401, "access refused")]
)
def test_refusals_are_not_retried(server, tmp_path, status, message):
    server.plan = [status]
    with pytest.raises(DownloadError, match=message):
        fetch(server, tmp_path)
    assert len(server.requests) == 1


def test_lost_network(tmp_path):
    url = "http://127.0.0.1:9/none.zip"
    with pytest.raises(DownloadError, match="3 attempts; check the network, or set HF_ENDPOINT"):
        download(url, tmp_path / "file.zip", quick())


def test_a_silent_connection_counts_as_lost(server, tmp_path, caplog):
    server.plan = ["stall"]
    assert fetch(server, tmp_path, timeout=0.3) == GOOD_ZIP
    assert "timed out; trying again in 1 s" in caplog.text
    assert len(server.requests) == 2
    assert server.requests[1][1].startswith("bytes=")


@pytest.mark.parametrize("has_etag", [True, False])
def test_two_versions_of_a_file_are_never_joined(server, tmp_path, has_etag):
    server.etag = '"first"' if has_etag else None
    server.plan = ["break", 404]
    with pytest.raises(DownloadError):
        fetch(server, tmp_path)
    server.etag = '"second"' if has_etag else None
    # The same size where the ETag must tell the versions apart, another one where the size must.
    server.body = bytes(reversed(GOOD_ZIP)) + (b"" if has_etag else b"more")
    assert fetch(server, tmp_path) == server.body


def test_an_etag_that_stays_lets_a_download_go_on(server, tmp_path):
    server.etag, server.plan = '"first"', ["break"]
    assert fetch(server, tmp_path) == GOOD_ZIP
    assert server.requests[1][1] == f"bytes={len(GOOD_ZIP) // 2}-"


def test_the_server_says_how_long_to_wait(server, tmp_path):
    date = email.utils.formatdate(time.time() + 30, usegmt=True)
    server.plan = [(503, "7"), (429, date)]
    sleeps = []
    assert fetch(server, tmp_path, sleeps) == GOOD_ZIP
    assert sleeps[0] == 7.0
    assert 25 < sleeps[1] <= 31
    (tmp_path / "file.zip").unlink()
    server.plan = [(503, "99999"), (503, "soon")]
    sleeps.clear()
    assert fetch(server, tmp_path, sleeps) == GOOD_ZIP
    assert sleeps == [60.0, 2.0]


def test_disk_is_checked_before(server, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DiskFullError, match=r"0.00 GB free; \d.\d\d GB are needed\); free some"):
        fetch(server, tmp_path)


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (errno.ENOSPC, DiskFullError, "the disk is full"),
        (errno.EDQUOT, DiskFullError, "the disk is full"),
        (errno.EACCES, DownloadError, "Permission denied; check that files can be written"),
    ],
)
def test_trouble_of_the_local_disk_is_not_taken_for_the_network(
    server, tmp_path, monkeypatch, code, kind, message
):
    def fail(handle):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(kind, match=message):
        fetch(server, tmp_path)
    assert len(server.requests) == 1
    assert not (tmp_path / "file.zip").exists()
