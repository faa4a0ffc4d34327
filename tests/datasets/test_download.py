"""Downloads against a server on 127.0.0.1 that misbehaves on request."""

import errno
import hashlib
import http.server
import io
import os
import shutil
import stat
import subprocess
import sys
import threading
import zipfile

import pytest

from fuxictr.datasets import archive as archive_module
from fuxictr.datasets import download as download_module
from fuxictr.datasets import prepare, registry
from fuxictr.datasets.archive import unpack_csv
from fuxictr.datasets.download import DiskFullError, Retries, archive_url, download
from fuxictr.errors import DownloadError

CONTENT = {split: (f"{split},1\n" * 200_000).encode() for split in registry.SPLITS}
MD5 = tuple(hashlib.md5(CONTENT[s], usedforsecurity=False).hexdigest() for s in registry.SPLITS)
DATASET = registry.RawDataset("Tiny_x1", "Tiny", "tiny_x1", MD5)


def make_zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


GOOD_ZIP = make_zip({f"Tiny_x1/{split}.csv": content for split, content in CONTENT.items()})


class Server(http.server.ThreadingHTTPServer):
    """Serves one file; ``plan`` says what the next answers are, then it behaves."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.plan, self.requests = GOOD_ZIP, [], []
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    """Knows ranges; an entry of the plan is a status, "break" or "no-range"."""

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Range")))
        step = self.server.plan.pop(0) if self.server.plan else "serve"
        if isinstance(step, int):
            self.send_response(step)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body, begin = self.server.body, 0
        asked = self.headers.get("Range")
        if asked and step != "no-range":
            begin = int(asked.removeprefix("bytes=").rstrip("-"))
            if begin >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        rest = body[begin:]
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: len(rest) // 2] if step == "break" else rest)

    def log_message(self, *args):
        """Keeps the test's output clean."""


@pytest.fixture
def server(monkeypatch):
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", server.endpoint + "/")
    yield server
    server.shutdown()
    server.server_close()


def quick(sleeps: list | None = None) -> Retries:
    return Retries(attempts=3, sleep=(sleeps if sleeps is not None else []).append)


def fetch(server, tmp_path, sleeps=None) -> bytes:
    target = tmp_path / "file.zip"
    download(archive_url("Tiny_x1"), target, quick(sleeps))
    return target.read_bytes()


def test_url_honours_the_mirror(server, monkeypatch):
    expected = "/datasets/reczoo/Tiny_x1/resolve/main/Tiny_x1.zip"
    assert archive_url("Tiny_x1") == server.endpoint + expected
    monkeypatch.delenv("HF_ENDPOINT")
    assert archive_url("Tiny_x1") == "https://huggingface.co" + expected


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


def test_disk_is_checked_before_and_watched_during(server, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage)
        with pytest.raises(
            DiskFullError, match=r"disk is full .* GB are needed\); free some space"
        ):
            fetch(server, tmp_path)

    def no_space(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download_module, "_copy", no_space)
    with pytest.raises(DiskFullError, match="the disk is full"):
        fetch(server, tmp_path)


def prepared(root) -> dict[str, bytes]:
    folder = root / "data" / "Tiny" / "tiny_x1"
    return {p.name: p.read_bytes() for p in folder.glob("*.csv")}


def test_prepare_whole_and_second_run_does_nothing(server, tmp_path, capsys):
    prepare.prepare_download(tmp_path, DATASET)
    assert prepared(tmp_path) == {f"{s}.csv": c for s, c in CONTENT.items()}
    hidden = [p.name for p in (tmp_path / "data" / "Tiny").iterdir()]
    assert sorted(hidden) == [".tiny_x1.lock", "tiny_x1"], "the archive and staging are gone"
    requests = len(server.requests)
    prepare.prepare_download(tmp_path, DATASET)
    assert len(server.requests) == requests
    assert "all in place" in capsys.readouterr().out


def test_prepare_keeps_other_files_of_the_folder(server, tmp_path):
    folder = tmp_path / "data" / "Tiny" / "tiny_x1"
    folder.mkdir(parents=True)
    (folder / "feature_map.json").write_text("{}")
    prepare.prepare_download(tmp_path, DATASET)
    assert (folder / "feature_map.json").read_text() == "{}"


def test_files_placed_by_hand_are_verified_and_never_deleted(server, tmp_path):
    folder = tmp_path / "data" / "Tiny" / "tiny_x1"
    folder.mkdir(parents=True)
    for split, content in CONTENT.items():
        (folder / f"{split}.csv").write_bytes(content)
    prepare.prepare_download(tmp_path, DATASET)
    assert not server.requests
    (folder / "valid.csv").write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"valid.csv: md5 .*, expected .*move it"):
        prepare.prepare_download(tmp_path, DATASET)
    assert (folder / "valid.csv").read_bytes() == b"mine"


def test_wrong_checksum_leaves_nothing_and_the_next_run_starts_anew(server, tmp_path):
    server.body = make_zip({**{f"{s}.csv": c for s, c in CONTENT.items()}, "test.csv": b"other"})
    with pytest.raises(DownloadError, match="test.csv: md5 .* expected .* download it anew"):
        prepare.prepare_download(tmp_path, DATASET)
    assert prepared(tmp_path) == {}
    server.body = GOOD_ZIP
    prepare.prepare_download(tmp_path, DATASET)
    assert len(prepared(tmp_path)) == 3


def link_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        info = zipfile.ZipInfo("train.csv")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(info, "/etc/passwd")
        file.writestr("valid.csv", b"")
        file.writestr("test.csv", b"")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (make_zip({"../train.csv": b"", "valid.csv": b"", "test.csv": b""}), "unsafe member"),
        (make_zip({"/train.csv": b"", "valid.csv": b"", "test.csv": b""}), "unsafe member"),
        (link_zip(), "unsafe member 'train.csv'"),
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
    assert sorted(p.name for p in tmp_path.iterdir()) in (["a.zip"], ["a.zip", "out"])


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
    monkeypatch.setattr(
        archive_module.check_free_disk.__globals__["shutil"], "disk_usage", lambda p: usage
    )
    with pytest.raises(DiskFullError, match="GB are needed"):
        unpack_csv(path, tmp_path / "out", MD5)


def run_command(*args: str, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "fuxictr.datasets.prepare", *args],
        capture_output=True,
        text=True,
        cwd=prepare.ROOT,
        env={**os.environ, **env},
        check=False,
    )


def test_command_line_errors_are_one_line_with_status_1(server, tmp_path):
    server.plan = [404]
    done = run_command("frappe_x1", "--root", str(tmp_path), HF_ENDPOINT=server.endpoint)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "not found (HTTP status 404)" in done.stderr
    done = run_command("avasu")
    assert done.returncode == 1
    assert "did you mean 'avazu'" in done.stderr
    assert run_command("demo", "--rows", "5", "--root", str(tmp_path)).returncode == 1


def test_demo_command(tmp_path):
    done = run_command("demo", "--rows", "2000", "--root", str(tmp_path))
    assert done.returncode == 0
    assert "Bayes ceiling of the test split: AUC 0." in done.stdout
    assert (tmp_path / "data" / "Demo" / "demo_x1" / "train.csv").is_file()
    assert "all in place" in run_command("demo", "--rows", "2000", "--root", str(tmp_path)).stdout
