"""1.prepare.sh: whole or not, never twice, one line for each error."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fuxictr.datasets import prepare, registry
from fuxictr.errors import ConfigError, DownloadError
from fuxictr.files import DiskFullError
from tests.datasets.server import CONTENT, DATASET, GOOD_ZIP, make_zip

ROOT = Path(__file__).resolve().parents[2]


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
    with pytest.raises(DownloadError, match="test.csv: md5 .* expected .* for a new download"):
        prepare.prepare_download(tmp_path, DATASET)
    assert prepared(tmp_path) == {}
    server.body = GOOD_ZIP
    prepare.prepare_download(tmp_path, DATASET)
    assert len(prepared(tmp_path)) == 3


def test_one_own_file_is_an_error_before_anything_is_downloaded(server, tmp_path):
    folder = tmp_path / "data" / "Tiny" / "tiny_x1"
    folder.mkdir(parents=True)
    (folder / "train.csv").write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"train.csv: md5 .* not the published file"):
        prepare.prepare_download(tmp_path, DATASET)
    assert not server.requests
    assert prepared(tmp_path) == {"train.csv": b"mine"}


def test_a_command_killed_between_two_moves_is_completed(server, tmp_path):
    folder = tmp_path / "data" / "Tiny" / "tiny_x1"
    folder.mkdir(parents=True)
    (folder / "train.csv").write_bytes(CONTENT["train"])
    before = (folder / "train.csv").stat().st_ino
    prepare.prepare_download(tmp_path, DATASET)
    assert prepared(tmp_path) == {f"{s}.csv": c for s, c in CONTENT.items()}
    assert (folder / "train.csv").stat().st_ino == before


@pytest.mark.parametrize(
    ("failure", "seen"),
    [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(errno.ENOSPC, "no space"), DiskFullError)],
)
def test_broken_off_unpacking_leaves_the_archive_only(server, tmp_path, monkeypatch, failure, seen):
    fsync = os.fsync

    def fail_on_the_first_csv(handle):
        if os.readlink(f"/proc/self/fd/{handle}").endswith("/csv/train.csv"):
            raise failure
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail_on_the_first_csv)
        with pytest.raises(seen):
            prepare.prepare_download(tmp_path, DATASET)
    staging = tmp_path / "data" / "Tiny" / ".tiny_x1.download"
    assert [p.name for p in staging.iterdir()] == ["Tiny_x1.zip"]
    assert prepared(tmp_path) == {}
    (staging / "csv").mkdir()  # as a killed command leaves it
    prepare.prepare_download(tmp_path, DATASET)
    assert len(server.requests) == 1
    assert len(prepared(tmp_path)) == 3


def test_two_commands_at_once_download_once(server, tmp_path, capsys):
    threads = [
        threading.Thread(target=prepare.prepare_download, args=(tmp_path, DATASET))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.requests) == 1
    assert len(prepared(tmp_path)) == 3
    assert "all in place" in capsys.readouterr().out


def test_is_prepared(tmp_path):
    demo, avazu = registry.resolve("demo"), registry.resolve("AVAZU_X4")
    for dataset in (demo, avazu):
        folder = registry.raw_dir(tmp_path, dataset)
        folder.mkdir(parents=True)
        for split in registry.SPLITS:
            assert not registry.is_prepared(tmp_path, dataset)
            (folder / f"{split}.csv").write_text("id\n")
    assert registry.is_prepared(tmp_path, avazu)
    assert not registry.is_prepared(tmp_path, demo), "its ground truth is written last"
    (registry.raw_dir(tmp_path, demo) / registry.GROUND_TRUTH).write_text("{}")
    assert registry.is_prepared(tmp_path, demo)
    (registry.raw_dir(tmp_path, avazu) / "test.csv").write_text("")
    assert not registry.is_prepared(tmp_path, avazu)


def test_names_and_their_ids():
    assert registry.dataset_id_of("Avazu") == "avazu_x4_3bbbc4c9"
    assert registry.dataset_id_of("own_data") == "own_data"
    assert registry.alias_of("criteo_x1_7b681156") == "criteo"
    assert registry.resolve("MOVIELENSLATEST_X1").family == "Movielens"
    with pytest.raises(ConfigError, match=r"'avasu': allowed: .*criteo.*did you mean 'avazu'"):
        registry.resolve("avasu")


def run_command(*args: str, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "fuxictr.cli.prepare", *args],
        capture_output=True,
        text=True,
        cwd=ROOT,
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


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["demo", "--seed", "-1"], "--seed -1: allowed: >= 0"),
        (["frappe", "--rows", "5000"], "--rows and --seed are of the demo data only"),
        (["demo", "--root", "FILE"], "FILE/data/Demo: Not a directory; check that files"),
        (["frappe", "--root", "FILE"], "FILE/data/Frappe: Not a directory; check that files"),
    ],
)
def test_more_errors_of_one_line(tmp_path, args, message):
    (tmp_path / "FILE").write_text("")
    args = [str(tmp_path / "FILE") if a == "FILE" else a for a in args]
    done = run_command(*([] if "--root" in args else ["--root", str(tmp_path)]), *args)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_help_loads_nothing_heavy():
    code = "import sys; import fuxictr.datasets.prepare; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert not {"numpy", "polars", "pyarrow", "torch", "tqdm"} & set(done.stdout.split())
