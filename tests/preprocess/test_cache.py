from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap
import time

import pytest

from fuxictr.errors import ConfigError, DataError
from fuxictr.preprocess import find_built, find_current, load_encoders, prepare_dataset
from fuxictr.preprocess.dataset import build
from fuxictr.preprocess.dataset.build import find_stale_reason
from fuxictr.preprocess.dataset.cache import read_key
from tests.preprocess.tables import categorical, config, read, write_csv

COLUMNS = [categorical("c"), categorical("d")]
TEXT = "click,c,d\n1,a,x\n0,b,y\n1,b,y\n"


@pytest.fixture
def folder(tmp_path):
    write_csv(tmp_path / "train.csv", TEXT)
    write_csv(tmp_path / "test.csv", TEXT)
    return tmp_path


def prepare(folder, columns=COLUMNS, rebuild=False, **keys):
    return prepare_dataset(config(folder, columns, **keys), rebuild=rebuild, verbose=0)


def test_unchanged_data_is_reused_without_encoding(folder, monkeypatch):
    first = prepare(folder)
    assert first.rebuilt

    def forbidden(*args):
        raise AssertionError("encoded again")

    monkeypatch.setattr(build, "encode_splits", forbidden)
    again = prepare(folder)
    assert not again.rebuilt
    assert (again.data_hash, again.paths) == (first.data_hash, first.paths)
    assert again.feature_map.to_json() == first.feature_map.to_json()
    with pytest.raises(AssertionError):
        prepare(folder, rebuild=True)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"min_categr_count": 2}, "the config changed (min_categr_count)"),
        ({"columns": [categorical("c", fill_na="b"), COLUMNS[1]]}, "changed (column 'c')"),
        ({"columns": COLUMNS[:1]}, "column 'd'"),
        ({"columns": COLUMNS[::-1]}, "the config changed (order)"),
        ({"test_data": "test.csv"}, "the config changed (splits)"),
        ({"train_data": "test.csv"}, "the raw files of the train split changed"),
        ({"label_col": {"name": "click", "dtype": "int"}}, "column 'click'"),
    ],
)
def test_a_changed_config_is_rebuilt_and_says_why(folder, caplog, keys, reason):
    caplog.set_level(logging.INFO, "fuxictr")
    prepare(folder)
    given = {k: str(folder / v) if k.endswith("_data") else v for k, v in keys.items()}
    assert prepare(folder, **given).rebuilt
    assert reason in caplog.text
    assert not prepare(folder, **given).rebuilt


def test_a_new_path_that_is_missing_says_why_it_is_needed(folder):
    prepare(folder)
    with pytest.raises(DataError, match="the config names other raw files for the train split"):
        prepare(folder, train_data=str(folder / "nowhere.csv"))


def test_changed_rows_are_rebuilt(folder, caplog):
    caplog.set_level(logging.INFO, "fuxictr")
    before = prepare(folder)
    status = (folder / "train.csv").stat()
    # As long and as old as before, but other text.
    write_csv(folder / "train.csv", TEXT.replace("a", "z"))
    os.utime(folder / "train.csv", ns=(status.st_atime_ns, status.st_mtime_ns))
    after = prepare(folder)
    assert after.rebuilt and after.data_hash != before.data_hash
    assert "the raw files of the train split changed" in caplog.text
    os.utime(folder / "train.csv", ns=(1, 1))
    same = prepare(folder)
    assert same.rebuilt and same.data_hash == after.data_hash


def test_raw_files_may_be_deleted_once_encoded(folder):
    first = prepare(folder)
    (folder / "train.csv").unlink()
    assert prepare(folder).data_hash == first.data_hash
    with pytest.raises(DataError, match=r"no such file.*config changed \(min_categr_count\)"):
        prepare(folder, min_categr_count=2)
    with pytest.raises(DataError, match=r"other.csv: no such file"):
        prepare(folder, train_data=str(folder / "other.csv"))
    assert prepare(folder).data_hash == first.data_hash


@pytest.mark.parametrize("name", ["train.parquet", "feature_map.json", "feature_vocab.json"])
def test_a_missing_or_cut_file_is_rebuilt(folder, name):
    first = prepare(folder)
    path = first.paths["train"].parent / name
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert prepare(folder).rebuilt
    path.unlink()
    again = prepare(folder)
    assert again.rebuilt and path.read_bytes() == whole


def test_a_split_that_is_gone_leaves_no_file(folder):
    with_test = prepare(folder, test_data=str(folder / "test.csv"))
    assert with_test.paths["test"].is_file()
    without = prepare(folder)
    assert list(without.paths) == ["train"] and not with_test.paths["test"].exists()


def test_bad_rows_leave_an_earlier_build_as_it_was(folder):
    first = prepare(folder)
    kept = {p.name: p.read_bytes() for p in first.paths["train"].parent.iterdir() if p.is_file()}
    write_csv(folder / "test.csv", "click,c,d\n1,a,x\n3,a,x\n")
    with pytest.raises(DataError, match="allowed: 0 or 1"):
        prepare(folder, test_data=str(folder / "test.csv"))
    left = {p.name: p.read_bytes() for p in first.paths["train"].parent.iterdir()}
    assert left == kept
    assert not prepare(folder).rebuilt


def test_raw_files_are_never_overwritten(folder):
    source = folder / "encoded/tiny/train.parquet"
    prepare(folder)
    (folder / "encoded/tiny/cache_key.json").unlink()
    before = source.read_bytes()
    with pytest.raises(ConfigError, match="choose another data_root or dataset_id"):
        prepare(folder, data_format="parquet", train_data=str(source))
    assert source.read_bytes() == before


def test_rebuild_dataset_false_takes_what_is_there(folder):
    with pytest.raises(DataError, match="'rebuild_dataset': found false, set true"):
        prepare(folder, rebuild_dataset=False)
    first = prepare(folder)
    write_csv(folder / "train.csv", TEXT * 2)
    assert prepare(folder, rebuild_dataset=False).data_hash == first.data_hash


def test_relative_paths_resolve_against_the_base_folder(folder):
    dataset = config(folder, COLUMNS, data_root="../out", train_data="../train.csv")
    (folder / "conf").mkdir()
    built = prepare_dataset(dataset, folder / "conf", verbose=0)
    assert built.paths["train"] == folder / "out/tiny/train.parquet"


SCRIPT = textwrap.dedent(
    """
    import logging, os, sys
    from pathlib import Path
    from fuxictr.preprocess import prepare_dataset
    from fuxictr.preprocess.dataset import build
    from tests.preprocess.tables import config
    from tests.preprocess.test_cache import COLUMNS

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    folder, mode = Path(sys.argv[1]), sys.argv[2]
    if mode == "killed":
        # Dies between the renaming of two files, when the build counts as made.
        replace, done = os.replace, []
        def dying(source, target):
            done.extend([target] if Path(target).parent.name == "tiny" else [])
            os._exit(9) if len(done) == 2 else replace(source, target)
        os.replace = dying
    if mode == "slow":
        encode = build.encode_splits
        def slow(*args):
            print("building", flush=True)
            sys.stdin.readline()
            return encode(*args)
        build.encode_splits = slow
    built = prepare_dataset(config(folder, COLUMNS), rebuild=mode == "killed", verbose=0)
    print("rebuilt" if built.rebuilt else "reused", built.data_hash)
    """
)


def start(folder, mode):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=os.getcwd(),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p or "." for p in sys.path)},
    )


@pytest.mark.parametrize("begin", [None, find_current, find_built, load_encoders])
def test_a_build_killed_while_its_files_get_their_names_is_finished_by_the_next_run(folder, begin):
    first = prepare(folder)
    process = start(folder, "killed")
    assert process.communicate(timeout=60) and process.returncode == 9
    data_dir = first.paths["train"].parent
    assert not (data_dir / "cache_key.json").exists()
    left = {path: path.stat().st_mtime_ns for path in data_dir.rglob("*")}
    dataset = config(folder, COLUMNS)
    assert read_key(data_dir) is None, "a part of its files is not used"
    assert find_stale_reason(dataset) == "there is no finished encoded dataset"
    assert {path: path.stat().st_mtime_ns for path in data_dir.rglob("*")} == left
    if begin is not None:
        assert begin(dataset) is not None
        assert not (data_dir / ".building").exists()
    again = prepare(folder)
    assert not again.rebuilt and again.data_hash == first.data_hash
    assert not (data_dir / ".building").exists()


def test_two_builds_at_once_the_second_waits_and_reuses(folder):
    first = start(folder, "slow")
    assert first.stdout.readline() == "building\n"
    second = start(folder, "plain")
    for line in second.stderr:
        if "Waiting for another process" in line:
            break
    time.sleep(0.1)
    assert second.poll() is None
    out_first, err_first = first.communicate("\n", timeout=60)
    out_second, _ = second.communicate(timeout=60)
    assert out_first.startswith("rebuilt"), err_first
    assert out_second.split() == ["reused", out_first.split()[1]]
    assert read(prepare(folder))["c"] == [2, 1, 1]


def test_the_key_file_names_the_rows_and_files(folder):
    built = prepare(folder, test_data=str(folder / "test.csv"))
    key = json.loads((built.paths["train"].parent / "cache_key.json").read_text())
    assert key["rows"] == {"train": 3, "test": 3}
    assert set(key["files"]) == {
        "feature_map.json",
        "feature_vocab.json",
        "normalizers.json",
        "raw_types.json",
        "test.parquet",
        "train.parquet",
    }


def test_files_that_are_not_of_the_build_are_never_read_with_it(folder):
    home = folder / "encoded/tiny"
    write_csv(home / "train/part-000000-0.parquet", "left by another program")
    write_csv(home / "train.parquet", "left by another program")
    with pytest.raises(DataError, match="part-000000-0.parquet: was not written by a build"):
        prepare(folder, data_block_size=2)
    assert prepare(folder).paths["train"].name == "train.parquet"
    (home / "train/part-000000-0.parquet").unlink()
    (home / "train.parquet").unlink()
    built = prepare(folder, data_block_size=2)
    assert built.paths["train"].is_dir()
    write_csv(home / "train.parquet", "came later")
    assert prepare(folder, data_block_size=2).paths == built.paths
    write_csv(home / "train/part_00009.parquet", "came later")
    with pytest.raises(DataError, match="part_00009.parquet: was not written by a build"):
        prepare(folder, data_block_size=2)


def test_a_build_of_another_version_is_no_error_but_not_reused(folder):
    built = prepare(folder)
    path = folder / "encoded/tiny/cache_key.json"
    key = json.loads(path.read_text())
    del key["encoders_hash"]
    path.write_text(json.dumps({**key, "encoder_version": 1}))
    assert prepare(folder, rebuild_dataset=False).data_hash == built.data_hash
    with pytest.raises(DataError, match="was encoded by another version"):
        load_encoders(config(folder, COLUMNS))
    assert prepare(folder).rebuilt


def test_rows_that_are_encoded_already_cannot_be_rebuilt(folder):
    prepare(folder)
    with pytest.raises(ConfigError, match="--rebuild: its rows are encoded already"):
        prepare(folder, rebuild=True, rebuild_dataset=False)


def test_encoded_rows_that_the_config_names_win_over_a_build(folder):
    built = prepare(folder)
    rows = folder / "mine.parquet"
    rows.write_bytes(built.paths["train"].read_bytes())
    encoded = prepare(folder, rebuild_dataset=False, train_data=str(rows))
    assert encoded.paths["train"] == rows
    assert prepare(folder, rebuild_dataset=False).paths == built.paths
