"""A row of results and its line: the same keys, in the same order, in older and newer versions."""

import dataclasses
import json

import pytest

from fuxictr.experiment.results.record import ConfigRecord, RunRecord

CONFIG = {"folder": None, "zoo": "/z", "overrides": ["a=1"], "keys": {"o": {"a": 1}}}
CONFIG |= {"as_default": []}
KEY = {"seed": 1, "expid": "FM_x", "dataset_id": "x", "config_hash": "c"}
# As earlier versions wrote them.
FINISHED = {
    **{"time": "2026-01-01T10:00:00+00:00", "model": "FM", "variant": "dis", **KEY},
    **{"data_hash": "d", "code_hash": "h", "config": CONFIG, "code_version": "1"},
    **{"encoded": {"train": "t"}, "run_id": "r", "jobs": 1, "resumes": [], "processes": 1},
    **{"device": "cpu", "valid": {"AUC": 0.7}, "test": {"AUC": float("nan")}, "parameters": 3},
    **{"epochs": 2, "rows": {"train": 4}, "history": [{"epoch": 1}], "collapse": []},
    **{"train_rows_per_second": 2.5, "train_seconds": 1, "peak_memory_bytes": 5},
    **{
        "peak_gpu_bytes": None,
        "threads": 1,
        "hooks": ["add_loss"],
        "versions": {"torch": "2"},
        "seconds": 1.5,
    },
    **{"checkpoint": "m", "checkpoint_sha256": "s"},
}
FAILED = {**KEY, "data_hash": None, "code_hash": "h", "run_id": "r", "failed": "why"}
FAILED |= {"command": "python x", "seconds": 2.0}


@pytest.mark.parametrize("line", [FINISHED, FAILED], ids=["finished", "failed"])
def test_a_row_is_written_as_it_was_read(line):
    row = RunRecord.from_json(line)
    assert json.dumps(row.to_json()) == json.dumps(line)
    assert row.is_finished == ("failed" not in line)


def test_every_field_is_written_and_read():
    fields = {field.name for field in dataclasses.fields(RunRecord)} - {"line"}
    assert fields == {*FINISHED, *FAILED, "environment"}
    config = RunRecord.from_json(FINISHED).config
    assert config == ConfigRecord(None, "/z", ["a=1"], {"o": {"a": 1}}, [])
    assert config.values() == {"a": 1}


def test_keys_of_newer_versions_are_kept_in_the_line_and_change_nothing():
    row = RunRecord.from_json({**FINISHED, "test": {"AUC": 0.5}, "newer": {"a": [1]}})
    assert row.line["newer"] == {"a": [1]}
    assert row == RunRecord.from_json({**FINISHED, "test": {"AUC": 0.5}})


def test_an_older_row_holds_what_it_holds():
    row = RunRecord.from_json({**KEY, "config": None, "peak_gpu_bytes": None})
    assert (row.config, row.test, row.processes) == (None, None, None)
    assert (row.num_processes, row.config_folder, row.config_values) == (1, None, {})
